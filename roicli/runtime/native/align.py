"""RoI Align, compiled: ONNX Runtime's arithmetic in its own order, on 16 channels at a time.

Source of the order: RoiAlign-16 as ONNX Runtime's CPU provider computes it. A sample is
``w1*v1 + w2*v2 + w3*v3 + w4*v4`` from left to right, a bin adds its samples row by row and divides
by their number, and nothing is fused. The zeros of samples outside the map are not added, which
changes nothing but the sign of a zero.

The functions that a bin calls are inlined by force: a call would pass every field of every record.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from roicli.runtime.native.lanes import (
    add,
    divide,
    item,
    load,
    maximum,
    multiply,
    nan_or,
    spread,
    store,
)
from roicli.runtime.native.pack import COMPILE, pack, unpack
from roicli.runtime.native.signatures import (
    LANES,
    MAXIMUM,
    MAXIMUM_OR_NAN,
    ROW_SUMS,
    RUNNING_SUM,
    AxisBoxes,
    AxisPoints,
)


@njit(**COMPILE)
def _point_in_cells(axis: AxisBoxes, roi: int, number: int, sample: int) -> Any:
    """The coordinate of one sampling point of a bin, rounded step by step as RoiAlign does."""
    kind = axis.start.dtype.type
    start, extent, pieces = axis.start[roi], axis.extent[roi], axis.sub_bins[roi]
    if pieces:
        size = extent / kind(axis.bins * pieces)
        return start + kind(number * pieces + sample) * size + kind(0.5) * size / kind(1)
    size = extent / kind(axis.bins)
    inside = (kind(sample) + kind(0.5)) * size / kind(axis.counts[roi])
    return start + kind(number) * size + inside


@njit(**COMPILE)
def _place_points(axis: AxisBoxes, points: AxisPoints) -> None:
    """Fill the ``points`` of one axis."""
    kind = axis.start.dtype.type
    last, filled = axis.cells - 1, 0
    points.ends[0] = 0
    for roi in range(len(axis.start)):
        for number in range(axis.bins):
            for sample in range(axis.counts[roi]):
                place = _point_in_cells(axis, roi, number, sample)
                if place < kind(-1) or place > kind(axis.cells):
                    continue
                place = max(place, kind(0))
                low: Any = min(np.int64(place), last)
                share = place - kind(low) if low < last else kind(0)
                points.offsets[filled] = low * axis.cell_stride
                points.offsets[filled + 1] = min(low + 1, last) * axis.cell_stride
                points.weights[filled] = kind(1) - share
                points.weights[filled + 1] = share
                filled += 2
            points.ends[roi * axis.bins + number + 1] = filled // 2


@njit(**COMPILE)
def _cover(
    rois: Any, x_axis: AxisBoxes, x: AxisPoints, y_axis: AxisBoxes, y: AxisPoints, spans: Any
) -> None:
    """Widen ``spans`` (H, 2), the columns needed of each row, by the cells that the RoIs read."""
    for roi in rois:
        first, end = x_axis.cells, 0
        for point in range(x.ends[roi * x_axis.bins], x.ends[(roi + 1) * x_axis.bins]):
            first = min(first, x.offsets[2 * point] // x_axis.cell_stride)
            end = max(end, x.offsets[2 * point + 1] // x_axis.cell_stride + 1)
        for point in range(y.ends[roi * y_axis.bins], y.ends[(roi + 1) * y_axis.bins]):
            for side in range(2):
                row = y.offsets[2 * point + side] // y_axis.cell_stride
                spans[row, 0] = min(spans[row, 0], first)
                spans[row, 1] = max(spans[row, 1], end)


@njit(**COMPILE)
def plan_align(
    x_axis: AxisBoxes,
    x: AxisPoints,
    y_axis: AxisBoxes,
    y: AxisPoints,
    order: Any,
    part_ends: Any,
    spans: Any,
) -> None:
    """Fill the points of both axes, and what each part of the RoIs needs of the map.

    ``order`` (K,) the RoIs; part i is ``order[part_ends[i] : part_ends[i + 1]]`` and needs the
    columns ``spans[i]`` (H, 2), half-open, of each row.
    """
    _place_points(x_axis, x)
    _place_points(y_axis, y)
    for part in range(len(spans)):
        spans[part, :, 0] = x_axis.cells
        spans[part, :, 1] = 0
        _cover(order[part_ends[part] : part_ends[part + 1]], x_axis, x, y_axis, y, spans[part])


@njit(forceinline=True, **COMPILE)
def _sample(packed: Any, y: AxisPoints, row: int, x: AxisPoints, column: int) -> Any:
    """16 channels interpolated at one point: a corner counts by the area opposite to it."""
    upper, lower = item(y.offsets, 2 * row), item(y.offsets, 2 * row + 1)
    left, right = item(x.offsets, 2 * column), item(x.offsets, 2 * column + 1)
    above, below = item(y.weights, 2 * row), item(y.weights, 2 * row + 1)
    before, after = item(x.weights, 2 * column), item(x.weights, 2 * column + 1)
    value = multiply(spread(above * before), load(packed, upper + left))
    value = add(value, multiply(spread(above * after), load(packed, upper + right)))
    value = add(value, multiply(spread(below * before), load(packed, lower + left)))
    return add(value, multiply(spread(below * after), load(packed, lower + right)))


@njit(forceinline=True, **COMPILE)
def _running_sum(packed: Any, y: AxisPoints, rows: Any, x: AxisPoints, columns: Any) -> Any:
    """The samples of a bin added one by one."""
    total = spread(packed.dtype.type(0))
    for row in range(rows[0], rows[1]):
        for column in range(columns[0], columns[1]):
            total = add(total, _sample(packed, y, row, x, column))
    return total


@njit(forceinline=True, **COMPILE)
def _row_sums(packed: Any, y: AxisPoints, rows: Any, x: AxisPoints, columns: Any) -> Any:
    """The samples of a bin added along each row first."""
    total = spread(packed.dtype.type(0))
    for row in range(rows[0], rows[1]):
        line = spread(packed.dtype.type(0))
        for column in range(columns[0], columns[1]):
            line = add(line, _sample(packed, y, row, x, column))
        total = add(total, line)
    return total


@njit(forceinline=True, **COMPILE)
def _greatest(
    packed: Any, y: AxisPoints, rows: Any, x: AxisPoints, columns: Any, count: int
) -> Any:
    """The greatest sample of a bin of ``count``; those that lie outside the map are 0."""
    on_map = (rows[1] - rows[0]) * (columns[1] - columns[0])
    least = 0.0 if on_map < max(count, 1) else -np.inf
    value = spread(packed.dtype.type(least))
    for row in range(rows[0], rows[1]):
        for column in range(columns[0], columns[1]):
            value = maximum(_sample(packed, y, row, x, column), value)
    return value


@njit(forceinline=True, **COMPILE)
def _greatest_or_nan(
    packed: Any, y: AxisPoints, rows: Any, x: AxisPoints, columns: Any, count: int
) -> Any:
    """As ``_greatest``, and NaN where a sample is."""
    value = _greatest(packed, y, rows, x, columns, count)
    for row in range(rows[0], rows[1]):
        for column in range(columns[0], columns[1]):
            value = nan_or(_sample(packed, y, row, x, column), value)
    return value


@njit(**COMPILE)
def _align_roi(
    packed: Any,
    roi: int,
    count: int,
    how: int,
    y: AxisPoints,
    x: AxisPoints,
    shape: Any,
    block: Any,
) -> None:
    """RoI Align of one RoI on the packed channels, to ``block`` (P_h * P_w * 16,)."""
    bins_y, bins_x = shape
    divisor = spread(packed.dtype.type(max(count, 1)))
    for number_y in range(bins_y):
        at = roi * bins_y + number_y
        rows = item(y.ends, at), item(y.ends, at + 1)
        for number_x in range(bins_x):
            at = roi * bins_x + number_x
            columns = item(x.ends, at), item(x.ends, at + 1)
            if how == RUNNING_SUM:
                value = divide(_running_sum(packed, y, rows, x, columns), divisor)
            elif how == ROW_SUMS:
                value = divide(_row_sums(packed, y, rows, x, columns), divisor)
            elif how == MAXIMUM:
                value = _greatest(packed, y, rows, x, columns, count)
            else:
                value = _greatest_or_nan(packed, y, rows, x, columns, count)
            store(block, (number_y * bins_x + number_x) * LANES, value)


@njit(**COMPILE)
def align_blocks(
    feature_map: Any,
    channels: int,
    first_channel: int,
    end_channel: int,
    rois: Any,
    spans: Any,
    counts: Any,
    how: int,
    shape: tuple[int, int, int],
    x: AxisPoints,
    y: AxisPoints,
    packed: Any,
    block: Any,
    out: Any,
) -> None:
    """RoI Align of some of the RoIs on some of the channels, 16 at a time.

    ``feature_map`` (C * H * W,); ``channels`` C; ``rois`` (n,) row numbers; ``spans`` (H, 2) from
    ``plan_align``; ``counts`` (K,) samples a bin; ``how`` one of RUNNING_SUM, ROW_SUMS, MAXIMUM;
    ``shape`` (W, P_h, P_w); ``packed`` (H * W * 16,) and ``block`` (P_h * P_w * 16,) are room to
    work in; ``out`` is (K * C * P_h * P_w,).
    """
    bins, cells = shape[1] * shape[2], len(feature_map) // channels
    for channel in range(first_channel, end_channel, LANES):
        lanes = min(LANES, end_channel - channel)
        odd = pack(feature_map, cells, channel, 1, lanes, spans, shape[0], packed)
        # A mean of a NaN is NaN by itself.
        reduction = MAXIMUM_OR_NAN if odd and how == MAXIMUM else how
        for roi in rois:
            _align_roi(packed, roi, counts[roi], reduction, y, x, shape[1:], block)
            place = (roi * channels + channel) * bins
            unpack(block, bins, lanes, out, place)
