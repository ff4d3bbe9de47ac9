"""What a convention gives, in NumPy: places in the operators' own type, values in float64.

The one evaluator of the whole space (``convention``); ``geometry`` says where the bins lie. The
operators' own graphs and kernels are not used: they compute some regions of the space only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from roicli.core.record import frozen
from roicli.core.types import FloatArray, IntArray, Size
from roicli.core.vocabulary import Border
from roicli.operators.convention import EMPTY_VALUES, Convention, Reduction
from roicli.operators.geometry import (
    Neighbours,
    bin_points,
    bin_windows,
    clipped_points,
    find_neighbours,
    nearest_cell,
    rotated_points,
)
from roicli.operators.precise_roi_pool import weigh_box
from roicli.operators.rounding import MapAxis, place_axis


@frozen
class SampledMap:
    """RoIs on one map: ``feature_map`` (C, H, W) float64, ``corners`` (k, 4) in image pixels in
    the operators' float type, or (k, 5) turned boxes; ``spatial_scale`` in cells per pixel.

    ``image_size`` (height, width) in pixels; None: that of the map over its scale. ``angle`` in
    degrees is what a rule for turned boxes takes of upright ones.
    """

    feature_map: FloatArray
    corners: FloatArray
    spatial_scale: float
    image_size: tuple[float, float] | None = None
    angle: float = 0.0

    @property
    def axes(self) -> tuple[MapAxis, MapAxis]:
        """(x, y)."""
        height, width = self.feature_map.shape[1:]
        pixels = self.image_size or (height / self.spatial_scale, width / self.spatial_scale)
        return (
            MapAxis(self.spatial_scale, width, pixels[1]),
            MapAxis(self.spatial_scale, height, pixels[0]),
        )


@frozen
class Bins:
    """Which ``rows`` (r,) and ``columns`` (c,) of the ``output_size`` bins are looked at."""

    output_size: Size
    rows: IntArray
    columns: IntArray


def all_bins(output_size: Size) -> Bins:
    """Every bin."""
    return Bins(output_size, np.arange(output_size[0]), np.arange(output_size[1]))


def evaluate(convention: Convention, one: SampledMap, bins: Bins) -> FloatArray:
    """(k, C', r, c) float64 of RoIs on one map; C' is C, or C over the bins' groups."""
    return evaluate_alike([convention], one, bins)[0]


def reading(convention: Convention) -> Convention:
    """What conventions share that read the same samples."""
    if convention.reads_cells or convention.reduction == "integral":
        return replace(convention, empty="0")
    split = convention.reduction == "max-split-corners"
    return replace(convention, reduction=convention.reduction if split else "mean", empty="0")


@np.errstate(over="ignore", invalid="ignore")
def evaluate_alike(alike: Sequence[Convention], one: SampledMap, bins: Bins) -> list[FloatArray]:
    """``evaluate`` of conventions that read the same samples. RoIs that are not finite are NaN."""
    first = alike[0]
    fine = np.asarray(np.isfinite(one.corners).all(axis=1))
    fine_map = replace(one, corners=one.corners[fine])
    reductions = [convention.reduction for convention in alike]
    if first.reads_cells:
        found = [_windows(convention, fine_map, bins) for convention in alike]
    elif first.reduction == "integral":
        found = [_integral(first, fine_map, bins)] * len(alike)
    elif first.box.turn != "none":
        found = _turned(first, reductions, fine_map, bins)
    else:
        found = _points(first, reductions, fine_map, bins)
    results = []
    for convention, (values, empty) in zip(alike, found, strict=True):
        filled = np.where(empty, EMPTY_VALUES[convention.empty], values)
        out = np.full((len(fine), *filled.shape[1:]), np.nan)
        out[fine] = filled
        results.append(_select_channels(out, convention, bins))
    return results


def _select_channels(values: FloatArray, convention: Convention, bins: Bins) -> FloatArray:
    """Of (k, C, r, c) what each bin reads: its group's channels."""
    if convention.channels == "all":
        return values
    height, width = bins.output_size
    down, across = (convention.group_size or n for n in (height, width))
    count = values.shape[1] // (across * down)
    group = (bins.rows * down // height)[:, None] * across + bins.columns * across // width
    number = np.arange(count)[:, None, None]
    match convention.channels:
        case "class-major":
            channel = number * (across * down) + group
        case "position-major":
            channel = group * count + number
        case _:
            assert_never(convention.channels)
    rows, columns = np.arange(len(bins.rows))[:, None], np.arange(len(bins.columns))
    return values[:, channel, rows, columns]


# Bins that are read at points -----------------------------------------------------------------


@frozen
class AxisPoints:
    """The points of one axis of k boxes: ``found`` of shape (k, P, n), ``counted`` the same."""

    found: Neighbours
    counted: NDArray[np.bool_]

    def of(self, box: int) -> AxisPoints:
        """Those of one box, (P * n,)."""
        flat = Neighbours(*(part[box].reshape(-1) for part in self.found))
        return AxisPoints(flat, self.counted[box])


def _points(
    convention: Convention, wanted: Sequence[Reduction], one: SampledMap, bins: Bins
) -> list[tuple[FloatArray, NDArray[np.bool_]]]:
    """(values, empty) of each reduction; boxes with the same number of points go together."""
    k = len(one.corners)
    places = [
        place_axis(one.corners[:, i], one.corners[:, i + 2], axis, convention.box)
        for i, axis in enumerate(one.axes)
    ]
    shape = (k, len(one.feature_map), len(bins.rows), len(bins.columns))
    values = [np.zeros(shape) for _ in wanted]
    empty = np.zeros((k, 1, *shape[2:]), bool)
    plain = _padded(one.feature_map, convention)
    # Products with weights of 0 are NaN where a cell is not finite.
    separable = bool(np.isfinite(plain).all()) and convention.border != "value"
    sizes = bins.output_size[::-1]
    counts = np.stack(
        [
            _counts(extent, size, convention)
            for (_, extent), size in zip(places, sizes, strict=True)
        ],
        axis=1,
    )
    counts[counts.prod(axis=1) == 0] = 0
    kinds, group_of = np.unique(counts, axis=0, return_inverse=True)
    for group, count in enumerate(kinds.tolist()):
        rows = np.flatnonzero(group_of.reshape(-1) == group)
        if not count[0]:
            empty[rows] = True
            continue
        x, y = (
            _axis_points(start[rows], extent[rows], size, number, picked, axis.cells, convention)
            for (start, extent), size, number, picked, axis in zip(
                places, sizes, count, (bins.columns, bins.rows), one.axes, strict=True
            )
        )
        total = y.counted.sum(axis=2)[:, :, None] * x.counted.sum(axis=2)[:, None, :]
        empty[rows] = (total == 0)[:, None]
        rest = [i for i, reduction in enumerate(wanted) if reduction != "mean" or not separable]
        for i in range(len(wanted)):
            if i not in rest:
                values[i][rows] = _means(plain, y, x, np.maximum(total, 1))
        for box, row in enumerate(rows.tolist() if rest else ()):
            reduced = _reduce(plain, y.of(box), x.of(box), [wanted[i] for i in rest], convention)
            for i, part in zip(rest, reduced, strict=True):
                values[i][row] = part
    return [(part, empty) for part in values]


def _padded(feature_map: FloatArray, convention: Convention) -> FloatArray:
    """With a ring of zeros where the border is one."""
    if convention.border != "zero":
        return feature_map
    return np.pad(feature_map, ((0, 0), (1, 1), (1, 1)))


def _counts(extent: FloatArray, bins: int, convention: Convention) -> IntArray:
    """(k,) points a bin of one axis; adaptive is ceil(extent / bins), maybe 0."""
    if convention.cut == "clipped":
        return np.ones(len(extent), np.int64)
    if convention.sampling_ratio:
        return np.full(len(extent), convention.sampling_ratio, np.int64)
    return np.maximum(np.ceil(extent / extent.dtype.type(bins)), 0).astype(np.int64)


def _axis_points(
    start: FloatArray,
    extent: FloatArray,
    bins: int,
    count: int,
    picked: IntArray,
    cells: int,
    convention: Convention,
) -> AxisPoints:
    """The points of the ``picked`` bins of one axis."""
    if convention.cut == "clipped":
        points, counted = clipped_points(start, extent, bins, convention.sampling_ratio, cells)
        points, counted = points[:, picked], counted[:, picked]
    else:
        points = bin_points(start, extent, bins, count, convention.grid)[:, picked]
        counted = np.ones(points.shape, bool)
    found = _read_axis(points, cells, convention)
    if convention.border == "skip":
        counted = counted & found.on_map
    return AxisPoints(found._replace(on_map=found.on_map & counted), counted)


def _read_axis(points: FloatArray, cells: int, convention: Convention) -> Neighbours:
    found = find_neighbours(points, cells, convention.border, convention.reach)
    if convention.interpolation == "nearest":
        return nearest_cell(found, points, cells)
    if convention.reduction == "max-split-corners":
        # MAX keeps the fraction past the last cell, where both neighbours are that cell.
        past = np.clip(points, 0, cells) - found.low.astype(points.dtype)
        return found._replace(share=past)
    return found


def _means(feature_map: FloatArray, y: AxisPoints, x: AxisPoints, total: IntArray) -> FloatArray:
    """(k, C, r, c): the mean over a grid is a mean over its rows of means over its columns."""
    down, across = (
        _weights(axis.found, cells)
        for axis, cells in zip((y, x), feature_map.shape[1:], strict=True)
    )
    out = np.empty((len(down), len(feature_map), down.shape[1], across.shape[1]))
    (top, bottom), (left, right) = _range(y.found), _range(x.found)
    for k in range(len(out)):
        rows, columns = slice(top[k], bottom[k]), slice(left[k], right[k])
        part = down[k][:, rows] @ feature_map[:, rows, columns]
        np.matmul(part, across[k][:, columns].T, out=out[k])
    return np.asarray(out / total[:, None])


def _weights(found: Neighbours, cells: int) -> FloatArray:
    """(k, P, cells) what each cell counts in the sum of a bin's points."""
    k, bins, count = found.low.shape
    row = np.arange(k * bins)[:, None] * cells
    total = np.zeros(k * bins * cells)
    for places, weight in found.exact_sides:
        flat = (row + places.reshape(k * bins, count)).reshape(-1)
        total += np.bincount(flat, weight.reshape(-1), len(total))
    return total.reshape(k, bins, cells)


def _range(found: Neighbours) -> tuple[list[int], list[int]]:
    """The first cell that each box reads, and the one after its last."""
    return (
        found.low.min(axis=(1, 2)).tolist(),
        (found.high.max(axis=(1, 2)) + 1).tolist(),
    )


def _reduce(
    feature_map: FloatArray,
    y: AxisPoints,
    x: AxisPoints,
    wanted: Sequence[Reduction],
    convention: Convention,
) -> list[FloatArray]:
    """(C, r, c) of one box for each reduction."""
    first, last = int(x.found.low.min()), int(x.found.high.max()) + 1
    here = feature_map[:, :, first:last]
    columns = x.found._replace(low=x.found.low - first, high=x.found.high - first)
    grid = (*y.counted.shape, *x.counted.shape)
    counted = y.counted[:, :, None, None] & x.counted
    samples = y.found.interpolate(here, columns).reshape(-1, *grid)
    if convention.border == "value":
        on_map = (y.found.on_map[:, None] & x.found.on_map).reshape(grid)
        samples = np.where(on_map, samples, convention.border_value)
    reduced = []
    for reduction in wanted:
        if reduction in ("max-weighted-corners", "max-split-corners"):
            values = _corner_max(here, columns, y.found).reshape(-1, *grid)
        else:
            values = samples
        reduced.append(_reduce_samples(values, counted, reduction, (2, 4)))
    return reduced


def _reduce_samples(
    samples: FloatArray, counted: NDArray[np.bool_], reduction: Reduction, axes: tuple[int, int]
) -> FloatArray:
    """Samples of each bin to one value; the sample axes are ``axes`` of an array with C first."""
    match reduction:
        case "mean":
            count = np.maximum(counted.sum(axis=tuple(a - 1 for a in axes)), 1)
            return np.asarray(np.where(counted, samples, 0.0).sum(axis=axes) / count)
        case "max" | "max-weighted-corners" | "max-split-corners":
            return np.asarray(np.where(counted, samples, -np.inf).max(axis=axes))
        case "max-floored":
            most = np.where(counted, samples, -np.inf).max(axis=axes)
            return np.asarray(np.maximum(most, 0.0))
        case "cell-mean" | "cell-max" | "integral":
            raise ValueError(f"{reduction} takes no samples")
        case _:
            assert_never(reduction)


def _corner_max(feature_map: FloatArray, x: Neighbours, y: Neighbours) -> FloatArray:
    """The largest of a sample's four weighted corners, what ONNX takes the maximum of."""
    largest: FloatArray | None = None
    for y_cells, y_weight in y.exact_sides:
        rows = feature_map[:, y_cells] * y_weight[:, None]
        for x_cells, x_weight in x.exact_sides:
            corner = rows[:, :, x_cells] * x_weight
            largest = corner if largest is None else np.maximum(largest, corner)
    assert largest is not None
    return largest


def _turned(
    convention: Convention, wanted: Sequence[Reduction], one: SampledMap, bins: Bins
) -> list[tuple[FloatArray, NDArray[np.bool_]]]:
    """Turned boxes, whose points do not lie in rows and columns: one by one."""
    height, width = one.feature_map.shape[1:]
    shape = (len(one.corners), len(one.feature_map), len(bins.rows), len(bins.columns))
    values = [np.zeros(shape) for _ in wanted]
    empty = np.zeros((shape[0], 1, *shape[2:]), bool)
    plain = _padded(one.feature_map, convention)
    corners = one.corners
    if corners.shape[1] == 4:
        corners = turn_corners(corners, one.angle)
    for row in range(len(corners)):
        box = corners[row : row + 1]
        kind = box.dtype.type
        sides = np.maximum(
            box[0, 3:1:-1] * kind(np.float32(one.spatial_scale)), kind(convention.box.minimum or 0)
        )
        count = [
            int(_counts(side[None], size, convention)[0])
            for side, size in zip(sides, bins.output_size, strict=True)
        ]
        if not all(count):
            empty[row] = True
            continue
        y, x = (
            np.ascontiguousarray(part[0][bins.rows][:, :, bins.columns])
            for part in rotated_points(
                box, one.spatial_scale, bins.output_size, (count[0], count[1]), convention
            )
        )
        down, across = _read_axis(y, height, convention), _read_axis(x, width, convention)
        on_map = down.on_map & across.on_map
        samples = np.zeros((len(plain), *y.shape))
        for rows, y_weight in down.exact_sides:
            for columns, x_weight in across.exact_sides:
                samples += plain[:, rows, columns] * (y_weight * x_weight)
        samples = np.where(on_map, samples, convention.border_value)
        counted = on_map if convention.border == "skip" else np.ones(on_map.shape, bool)
        for out, reduction in zip(values, wanted, strict=True):
            out[row] = _reduce_samples(samples, counted, reduction, (2, 4))
    return [(part, empty) for part in values]


# Bins of whole cells, and exact ones ----------------------------------------------------------


def _windows(
    convention: Convention, one: SampledMap, bins: Bins
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """(values, empty) of bins that are windows of cells."""
    dtype = one.corners.dtype
    edges, box_empty = [], np.zeros(len(one.corners), bool)
    for i, (axis, picked) in enumerate(zip(one.axes, (bins.columns, bins.rows), strict=True)):
        start, extent = place_axis(one.corners[:, i], one.corners[:, i + 2], axis, convention.box)
        box_empty |= extent <= 0
        number = bins.output_size[1 - i]
        first, last = bin_windows(start, extent, number, convention.cut, dtype)
        most = axis.cells if convention.last_cell else axis.cells - 1
        edges.append([np.clip(edge[:, picked], 0, most) for edge in (first, last)])
    (left, right), (top, bottom) = edges
    empty = (bottom <= top)[:, :, None] | (right <= left)[:, None] | box_empty[:, None, None]
    out = np.zeros((len(one.corners), len(one.feature_map), len(bins.rows), len(bins.columns)))
    for k in np.flatnonzero(~empty.all(axis=(1, 2))):
        here = one.feature_map[:, :, int(left[k].min()) : int(right[k].max())]
        first = left[k] - int(left[k].min())
        if convention.reduction == "cell-max":
            rows = _window(np.maximum, -np.inf, here, top[k], bottom[k], 1)
            out[k] = _window(np.maximum, -np.inf, rows, first, first + right[k] - left[k], 2)
        else:
            rows = _window(np.add, 0.0, here, top[k], bottom[k], 1)
            out[k] = _window(np.add, 0.0, rows, first, first + right[k] - left[k], 2)
            size = (bottom[k] - top[k])[:, None] * (right[k] - left[k])
            out[k] /= np.where(size > 0, size, 1)
    return out, empty[:, None]


def _window(
    join: np.ufunc, nothing: float, values: FloatArray, start: IntArray, end: IntArray, axis: int
) -> FloatArray:
    """Windows [start, end), which may overlap, joined along one axis; ``nothing`` where empty."""
    # One more cell, so that a window may end at the edge.
    edge = np.full([1 if i == axis else side for i, side in enumerate(values.shape)], nothing)
    padded = np.concatenate([values, edge], axis=axis)
    edges = np.stack([start, np.maximum(start, end)], axis=1).reshape(-1)
    found = join.reduceat(padded, edges, axis=axis)
    found = found[:, ::2] if axis == 1 else found[:, :, ::2]
    gone = (end <= start).reshape([-1 if i == axis else 1 for i in range(3)])
    return np.where(gone, nothing, found)


def _integral(
    convention: Convention, one: SampledMap, bins: Bins
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """The exact mean of the surface over each bin (``precise_roi_pool``)."""
    height, width = one.feature_map.shape[1:]
    shape = (len(one.corners), len(one.feature_map), len(bins.rows), len(bins.columns))
    out, empty = np.zeros(shape), np.zeros((shape[0], 1, *shape[2:]), bool)
    (x, w), (y, h) = (
        place_axis(one.corners[:, i], one.corners[:, i + 2], axis, convention.box)
        for i, axis in enumerate(one.axes)
    )
    border: Border = "zero" if convention.border == "zero" else "clamp"
    for k in range(len(out)):
        start, extent = (np.array([a[k], b[k]], np.float64) for a, b in ((x, y), (w, h)))
        if not (extent > 0).all():
            empty[k] = True
            continue
        box = weigh_box(start, extent, bins.output_size, (height, width), border)
        if box.y.size and box.x.size:
            box = replace(box, y=box.y[bins.rows], x=box.x[bins.columns])
            out[k] = box.mean(one.feature_map)
    return out, empty


def turn_corners(corners: FloatArray, angle: float) -> FloatArray:
    """Upright RoIs (K, 4) as (K, 5): cx, cy, w, h and ``angle`` in degrees, about their centres."""
    half = corners.dtype.type(2)
    centre, sides = (corners[:, :2] + corners[:, 2:]) / half, corners[:, 2:] - corners[:, :2]
    angles = np.full((len(corners), 1), angle, corners.dtype)
    return np.concatenate([centre, sides, angles], axis=1)
