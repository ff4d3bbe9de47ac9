"""RoI Pool, compiled: the maximum of each bin, on 16 channels at a time.

A maximum is exact in any order, so each row of bins is first reduced to one line of cells, which
its bins then share.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from roicli.runtime.native.lanes import item, load, maximum, nan_or, spread, store
from roicli.runtime.native.pack import COMPILE, pack, unpack
from roicli.runtime.native.signatures import LANES, AxisWindows


@njit(forceinline=True, **COMPILE)
def _region(axis: AxisWindows, roi: int) -> tuple[int, int]:
    """The cells from the first to the last bin of a RoI."""
    first = roi * axis.bins
    return item(axis.start, first), item(axis.end, first + axis.bins - 1)


@njit(**COMPILE)
def _cover(rois: Any, x: AxisWindows, y: AxisWindows, width: int, spans: Any) -> None:
    """Fill ``spans`` (H, 2), the columns that the bins need of each row."""
    spans[:, 0] = width
    spans[:, 1] = 0
    for roi in rois:
        columns, rows = _region(x, roi), _region(y, roi)
        for row in range(rows[0], rows[1]):
            spans[row, 0] = min(spans[row, 0], columns[0])
            spans[row, 1] = max(spans[row, 1], columns[1])


@njit(forceinline=True, **COMPILE)
def _reduce_rows(packed: Any, width: int, rows: Any, columns: Any, line: Any) -> None:
    """The maximum over ``rows`` of each of ``columns`` (both half-open, in cells), to ``line``."""
    step = width * LANES
    top = rows[0] * step
    column = columns[0]
    while column + 4 <= columns[1]:
        place = top + column * LANES
        first, second = load(packed, place), load(packed, place + LANES)
        third, fourth = load(packed, place + 2 * LANES), load(packed, place + 3 * LANES)
        for _ in range(rows[0] + 1, rows[1]):
            place += step
            first = maximum(load(packed, place), first)
            second = maximum(load(packed, place + LANES), second)
            third = maximum(load(packed, place + 2 * LANES), third)
            fourth = maximum(load(packed, place + 3 * LANES), fourth)
        store(line, column * LANES, first)
        store(line, (column + 1) * LANES, second)
        store(line, (column + 2) * LANES, third)
        store(line, (column + 3) * LANES, fourth)
        column += 4
    while column < columns[1]:
        place = top + column * LANES
        first = load(packed, place)
        for _ in range(rows[0] + 1, rows[1]):
            place += step
            first = maximum(load(packed, place), first)
        store(line, column * LANES, first)
        column += 1


@njit(forceinline=True, **COMPILE)
def _pool_line(line: Any, x: AxisWindows, roi: int, block: Any, place: int) -> None:
    """The maximum of each bin of a ``line`` to ``block[place:]``; an empty bin is 0."""
    for number in range(x.bins):
        start = item(x.start, roi * x.bins + number) * LANES
        end = item(x.end, roi * x.bins + number) * LANES
        value = spread(line.dtype.type(0))
        if start < end:
            value = load(line, start)
            for cell in range(start + LANES, end, LANES):
                value = maximum(load(line, cell), value)
        store(block, place + number * LANES, value)


@njit(**COMPILE)
def _pool_roi(
    packed: Any, width: int, roi: int, x: AxisWindows, y: AxisWindows, line: Any, block: Any
) -> None:
    """RoI Pool of one RoI on the packed channels, to ``block`` (P_h * P_w * 16,)."""
    columns = _region(x, roi)
    for number in range(y.bins):
        rows = item(y.start, roi * y.bins + number), item(y.end, roi * y.bins + number)
        place = number * x.bins * LANES
        if rows[0] < rows[1]:
            _reduce_rows(packed, width, rows, columns, line)
            _pool_line(line, x, roi, block, place)
        else:
            for cell in range(place, place + x.bins * LANES, LANES):
                store(block, cell, spread(packed.dtype.type(0)))


@njit(**COMPILE)
def _keep_nans(
    packed: Any, width: int, roi: int, x: AxisWindows, y: AxisWindows, block: Any
) -> None:
    """Make the bins of ``block`` that have a NaN among their cells NaN."""
    for number_y in range(y.bins):
        top, bottom = item(y.start, roi * y.bins + number_y), item(y.end, roi * y.bins + number_y)
        for number_x in range(x.bins):
            left = item(x.start, roi * x.bins + number_x)
            right = item(x.end, roi * x.bins + number_x)
            place = (number_y * x.bins + number_x) * LANES
            value = load(block, place)
            for row in range(top, bottom):
                for column in range(left, right):
                    value = nan_or(load(packed, (row * width + column) * LANES), value)
            store(block, place, value)


@njit(**COMPILE)
def pool_blocks(
    feature_map: Any,
    channels: int,
    first_channel: int,
    end_channel: int,
    rois: Any,
    spans: Any,
    width: int,
    x: AxisWindows,
    y: AxisWindows,
    packed: Any,
    line: Any,
    block: Any,
    out: Any,
) -> None:
    """RoI Pool of some of the RoIs on some of the channels, 16 at a time.

    ``feature_map`` (C * H * W,); ``channels`` C; ``rois`` (n,) row numbers; ``spans`` (H, 2),
    ``packed`` (H * W * 16,), ``line`` (W * 16,) and ``block`` (P_h * P_w * 16,) are room to work
    in; ``out`` is (K * C * P_h * P_w,).
    """
    _cover(rois, x, y, width, spans)
    bins, cells = y.bins * x.bins, len(feature_map) // channels
    for channel in range(first_channel, end_channel, LANES):
        lanes = min(LANES, end_channel - channel)
        odd = pack(feature_map, cells, channel, 1, lanes, spans, width, packed)
        for roi in rois:
            _pool_roi(packed, width, roi, x, y, line, block)
            if odd:
                _keep_nans(packed, width, roi, x, y, block)
            place = (roi * channels + channel) * bins
            unpack(block, bins, lanes, out, place)
