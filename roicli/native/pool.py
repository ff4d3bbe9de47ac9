"""RoI Pool, compiled: the maximum of each bin, on 16 channels at a time.

A maximum is exact in any order, so each row of bins is first reduced to one line of cells, which
its bins then share.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import njit

from roicli.native.lanes import LANES, load, maximum, spread, store
from roicli.native.packing import COMPILE, pack, unpack


class AxisWindows(NamedTuple):
    """One axis of the bins, clipped to the map: ``start``, ``end`` (K, P) int64, half-open."""

    start: Any
    end: Any


@njit(**COMPILE)
def _cover(rois: Any, x: AxisWindows, y: AxisWindows, width: int, spans: Any) -> None:
    """Fill ``spans`` (H, 2), the columns that the bins need of each row."""
    spans[:, 0] = width
    spans[:, 1] = 0
    for roi in rois:
        first, end = x.start[roi].min(), x.end[roi].max()
        for row in range(y.start[roi].min(), y.end[roi].max()):
            spans[row, 0] = min(spans[row, 0], first)
            spans[row, 1] = max(spans[row, 1], end)


@njit(**COMPILE)
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


@njit(**COMPILE)
def _pool_line(line: Any, starts: Any, ends: Any, block: Any, place: int) -> None:
    """The maximum of each bin of a ``line`` to ``block[place:]``; an empty bin is 0."""
    for number in range(len(starts)):
        start, end = starts[number] * LANES, ends[number] * LANES
        if start < end:
            value = load(line, start)
            for cell in range(start + LANES, end, LANES):
                value = maximum(load(line, cell), value)
        else:
            value = spread(line.dtype.type(0))
        store(block, place + number * LANES, value)


@njit(**COMPILE)
def _pool_roi(
    packed: Any, width: int, roi: int, x: AxisWindows, y: AxisWindows, line: Any, block: Any
) -> None:
    """RoI Pool of one RoI on the packed channels, to ``block`` (P_h * P_w * 16,)."""
    bins_y, bins_x = y.start.shape[1], x.start.shape[1]
    columns = x.start[roi].min(), x.end[roi].max()
    for number in range(bins_y):
        rows = y.start[roi, number], y.end[roi, number]
        place = number * bins_x * LANES
        if rows[0] < rows[1]:
            _reduce_rows(packed, width, rows, columns, line)
            _pool_line(line, x.start[roi], x.end[roi], block, place)
        else:
            for cell in range(place, place + bins_x * LANES, LANES):
                store(block, cell, spread(packed.dtype.type(0)))


@njit(**COMPILE)
def pool_blocks(
    feature_map: Any,
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

    ``feature_map`` (C, H * W); ``rois`` (n,) row numbers; ``spans`` (H, 2), ``packed`` (H * W *
    16,), ``line`` (W * 16,) and ``block`` (P_h * P_w * 16,) are room to work in; ``out`` is (K * C
    * P_h * P_w,).
    """
    _cover(rois, x, y, width, spans)
    bins = y.start.shape[1] * x.start.shape[1]
    for channel in range(first_channel, end_channel, LANES):
        pack(feature_map, channel, spans, width, packed)
        for roi in rois:
            _pool_roi(packed, width, roi, x, y, line, block)
            place = (roi * len(feature_map) + channel) * bins
            unpack(block, bins, min(LANES, end_channel - channel), out, place)
