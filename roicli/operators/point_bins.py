"""Bins that are read at points: the values of many boxes on one map, whatever placed them.

Boxes with the same number of points a bin go together. What their bins read lies on a grid
(n_y, n_x, k, r, c), whose samples are taken once for all reductions.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, assert_never

import numpy as np

from roicli.core.types import Array, FloatArray, IntArray
from roicli.operators.convention import Convention, Reduction
from roicli.operators.geometry import (
    Neighbours,
    bin_points,
    clipped_points,
    find_neighbours,
    nearest_cell,
    rotated_points,
)
from roicli.operators.reference import channel_steps
from roicli.operators.rounding import as_cells
from roicli.operators.sampled_map import (
    Bins,
    BoxAxis,
    BoxValues,
    Placed,
    SampledMap,
    place_boxes,
    turn_corners,
)

# Points of the boxes of one step, and boxes of a step of means.
STEP_POINTS, STEP_MEANS = 1 << 15, 128
OF_CORNERS: tuple[Reduction, ...] = ("max-weighted-corners", "max-split-corners")


def read_points(
    placed: Placed, convention: Convention, wanted: Sequence[Reduction], bins: Bins
) -> BoxValues:
    """The boxes of all placements, one after another, read as a convention says and reduced in
    each way that is ``wanted``. Turned boxes have one placement.
    """
    plain = placed[0][0].feature_map
    if convention.border == "zero":
        plain = np.pad(plain, ((0, 0), (1, 1), (1, 1)))
    found = BoxValues.without_bins(len(wanted), placed, bins)
    if convention.box.turn != "none":
        ((one, _),) = placed
        for rows, grid in _turned_grids(one, convention, bins):
            found.put(rows, grid.reduce(plain, wanted, convention), grid.without_points)
        return found
    axes = place_boxes(placed, bins)
    # Products with weights of 0 are NaN where a cell is not finite.
    separable = convention.border != "value" and bool(np.isfinite(plain).all())
    if separable and set(wanted) == {"mean"}:
        for rows in _steps(np.arange(len(found.empty)), STEP_MEANS):
            found.put(rows, *_means(plain, [axis.take(rows) for axis in axes], convention))
        return found
    for rows, grid in _upright_grids(axes, convention):
        found.put(rows, grid.reduce(plain, wanted, convention), grid.without_points)
    return found


# Where the points lie -------------------------------------------------------------------------


def _upright_grids(
    axes: tuple[BoxAxis, BoxAxis], convention: Convention
) -> Iterator[tuple[IntArray, PointGrid]]:
    """Runs of upright boxes (their places) with as many points a bin."""
    counts = np.stack([_counts(axis, convention) for axis in axes], axis=1)
    bins = math.prod(len(axis.picked) for axis in axes)
    for (across, down), rows in _same_counts(counts):
        for part in _steps(rows, STEP_POINTS // (across * down * bins)):
            x, y = (
                _axis_points(axis.take(part), count, convention)
                for axis, count in zip(axes, (across, down), strict=True)
            )
            yield part, _cross(y, x)


def _cross(y: AxisPoints, x: AxisPoints) -> PointGrid:
    """The grid of each box's rows and columns of points."""
    (down, y_counted), (across, x_counted) = (
        (axis.found.at(i), axis.counted[i])
        for axis, i in ((y, np.s_[:, None, :, :, None]), (x, np.s_[None, :, :, None, :]))
    )
    return PointGrid(down, across, y_counted & x_counted)


class AxisPoints(NamedTuple):
    """The points of one axis of k boxes: all arrays (n, k, P); some of them may not count."""

    found: Neighbours
    counted: Array


def _counts(axis: BoxAxis, convention: Convention) -> IntArray:
    """(k,) points a bin of one axis; adaptive is ceil(extent / bins), which may be none."""
    extent = axis.extent
    if convention.cut == "clipped":
        return np.ones(len(extent), np.int64)
    if convention.sampling_ratio:
        return np.full(len(extent), convention.sampling_ratio, np.int64)
    count = np.ceil(extent / extent.dtype.type(axis.bins))
    return as_cells(np.maximum(count, convention.empty == "point"))


def _same_counts(counts: IntArray) -> Iterator[tuple[tuple[int, int], IntArray]]:
    """Each pair of counts (k, 2) without a 0, and the places where it stands."""
    kinds, kind_of = np.unique(counts, axis=0, return_inverse=True)
    for number, (one, other) in enumerate(kinds.tolist()):
        if one and other:
            yield (one, other), np.flatnonzero(kind_of.reshape(-1) == number)


def _steps(rows: IntArray, most: int) -> Iterator[IntArray]:
    for start in range(0, len(rows), max(most, 1)):
        yield rows[start : start + max(most, 1)]


def _axis_points(axis: BoxAxis, count: int, convention: Convention) -> AxisPoints:
    """The points of the picked bins of one axis."""
    start, extent, picked = axis.start, axis.extent, axis.picked
    if convention.cut == "clipped":
        points, counted = clipped_points(
            start, extent, axis.bins, convention.sampling_ratio, axis.cells
        )
        counted = counted[:, picked]
    else:
        points = bin_points(start, extent, axis.bins, count, convention.grid)
        counted = np.ones((len(start), len(picked), points.shape[2]), bool)
    counted = counted.transpose(2, 0, 1)
    found = _read_axis(points[:, picked].transpose(2, 0, 1), axis.cells, convention)
    if convention.border == "skip":
        counted = counted & found.on_map
    return AxisPoints(found._replace(on_map=found.on_map & counted), counted)


def _read_axis(points: FloatArray, cells: int, convention: Convention) -> Neighbours:
    found = find_neighbours(points, cells, convention.border, convention.reach)
    if convention.interpolation == "nearest":
        return nearest_cell(found, points, cells, convention.border)
    if convention.reduction == "max-split-corners":
        # MAX keeps the fraction past the last cell, where both neighbours are that cell.
        past = np.clip(points, 0, cells) - found.low.astype(points.dtype)
        return found._replace(share=past)
    return found


def _turned_grids(
    one: SampledMap, convention: Convention, bins: Bins
) -> Iterator[tuple[IntArray, PointGrid]]:
    """Runs of turned boxes (their places) with as many points a bin, whose points do not lie in
    rows and columns.
    """
    corners, box = one.usable_corners, convention.box
    if corners.shape[1] == 4:
        corners = turn_corners(corners, one.angle)
    kind = corners.dtype.type
    sides = corners[:, 3:1:-1] * kind(np.float32(one.spatial_scale))
    sides = np.maximum(sides, kind(box.minimum or 0))
    cells = one.feature_map.shape[1:]
    axes = [
        BoxAxis(side, side, *numbers)
        for side, *numbers in zip(
            sides.T, cells, bins.output_size, (bins.rows, bins.columns), strict=True
        )
    ]
    counts = np.stack([_counts(axis, convention) for axis in axes], axis=1)
    for (down, across), rows in _same_counts(counts):
        step = STEP_POINTS // (down * across * len(bins.rows) * len(bins.columns))
        for part in _steps(rows, step):
            points = rotated_points(
                corners[part], one.spatial_scale, bins.output_size, (down, across), convention
            )
            y, x = (
                _read_axis(
                    axis[:, bins.rows][:, :, :, bins.columns].transpose(2, 4, 0, 1, 3),
                    size,
                    convention,
                )
                for axis, size in zip(points, cells, strict=True)
            )
            on_map = y.on_map & x.on_map
            counted = on_map if convention.border == "skip" else np.ones(on_map.shape, bool)
            yield part, PointGrid(y, x, counted)


# What is read there ---------------------------------------------------------------------------


class PointGrid(NamedTuple):
    """The points of k boxes; all arrays broadcast to (n_y, n_x, k, r, c), ``counted`` is whole."""

    y: Neighbours
    x: Neighbours
    counted: Array

    @property
    def without_points(self) -> Array:
        """(k, r, c) whether a bin has no point that counts."""
        return np.asarray(~self.counted.any(axis=(0, 1)))

    def reduce(
        self, feature_map: FloatArray, wanted: Sequence[Reduction], convention: Convention
    ) -> list[FloatArray]:
        """(C, k, r, c) of a map (C, H, W) for each reduction."""
        n_y, n_x, *boxes = self.counted.shape
        count, bins = n_y * n_x, math.prod(boxes)

        def flat(part: Any) -> Any:
            return np.broadcast_to(part, self.counted.shape).reshape(count, bins)

        rows, columns = self.y.exact_sides, self.x.exact_sides
        width = feature_map.shape[2]
        corners = Corners(
            [[flat(row * width + column) for row, _ in rows] for column, _ in columns],
            [flat(weight) for _, weight in rows],
            [flat(weight) for _, weight in columns],
        )
        cells = feature_map.reshape(len(feature_map), -1)
        reads_outside = convention.border == "value" or not np.isfinite(cells).all()
        on_map = flat(self.y.on_map & self.x.on_map) if reads_outside else None
        counted = None if self.counted.all() else flat(self.counted)
        reduced = [np.empty((len(cells), bins)) for _ in wanted]
        for part in channel_steps(len(cells), count * bins):
            samples, largest = corners.read(cells[part])
            if on_map is not None:
                samples = np.where(on_map, samples, convention.border_value)
            for out, reduction in zip(reduced, wanted, strict=True):
                read = largest() if reduction in OF_CORNERS else samples
                out[part] = _reduce(read, counted, reduction)
        return [out.reshape(len(cells), *boxes) for out in reduced]


class Corners(NamedTuple):
    """The four cells around each of n points: ``places`` in the map of the left two and the right
    two, and the weights of the ``rows`` and the ``columns`` of cells; arrays (n,) of any shape.
    """

    places: list[list[IntArray]]
    rows: list[FloatArray]
    columns: list[FloatArray]

    def read(self, cells: FloatArray) -> tuple[FloatArray, Callable[[], FloatArray]]:
        """Samples of cells (C, H * W), added along y and then along x; and what gives the largest
        weighted corner of each, which ONNX takes the maximum of.
        """
        weighted = [
            [
                cells.take(place, axis=1) * weight
                for place, weight in zip(side, self.rows, strict=True)
            ]
            for side in self.places
        ]
        left, right = (
            (above + below) * weight
            for (above, below), weight in zip(weighted, self.columns, strict=True)
        )

        def largest() -> FloatArray:
            left, right = (
                [part * weight for part in side]
                for side, weight in zip(weighted, self.columns, strict=True)
            )
            return functools.reduce(np.maximum, (*left, *right))

        return left + right, largest


def _reduce(samples: FloatArray, counted: Array | None, reduction: Reduction) -> FloatArray:
    """Samples (C, n, bins) to (C, bins); where ``counted`` (n, bins) is None all count."""
    match reduction:
        case "mean":
            if counted is None:
                return np.asarray(samples.sum(axis=1) / samples.shape[1])
            total = np.where(counted, samples, 0.0).sum(axis=1)
            return np.asarray(total / np.maximum(counted.sum(axis=0), 1))
        case "max" | "max-weighted-corners" | "max-split-corners" | "max-floored":
            kept = samples if counted is None else np.where(counted, samples, -np.inf)
            most = kept.max(axis=1)
            return np.maximum(most, 0.0) if reduction == "max-floored" else np.asarray(most)
        case "cell-mean" | "cell-max" | "integral":
            raise ValueError(f"{reduction} takes no samples")
        case _:
            assert_never(reduction)


def _means(
    feature_map: FloatArray, axes: Sequence[BoxAxis], convention: Convention
) -> tuple[list[FloatArray], Array]:
    """Means (C, k, r, c), and empty bins (k, r, c): the mean over a grid is a mean over its rows of
    means over its columns.
    """
    (across, x_counted), (down, y_counted) = (
        _weights(axis, cells, convention)
        for axis, cells in zip(axes, feature_map.shape[:0:-1], strict=True)
    )
    count = y_counted[:, :, None] * x_counted[:, None]
    out = np.empty((len(feature_map), *count.shape))
    for k in np.flatnonzero(count.any(axis=(1, 2))):
        rows, columns = _used(down[k]), _used(across[k])
        part = down[k][:, rows] @ feature_map[:, rows, columns]
        out[:, k] = part @ across[k][:, columns].T
    return [out / np.maximum(count, 1)], count == 0


def _weights(axis: BoxAxis, cells: int, convention: Convention) -> tuple[FloatArray, IntArray]:
    """(k, P, cells) what each cell counts in the sum of a bin's points, and (k, P) the points."""
    bins = len(axis.picked)
    weights, counted = (
        np.zeros((len(axis.start), bins, cells)),
        np.zeros((len(axis.start), bins), np.int64),
    )
    counts = _counts(axis, convention)
    for count in np.unique(counts[counts > 0]):
        rows = np.flatnonzero(counts == count)
        points = _axis_points(axis.take(rows), count, convention)
        bin_start = np.arange(len(rows) * bins).reshape(len(rows), bins) * cells
        total = np.zeros(len(rows) * bins * cells)
        for places, weight in points.found.exact_sides:
            total += np.bincount((bin_start + places).reshape(-1), weight.reshape(-1), len(total))
        weights[rows], counted[rows] = (
            total.reshape(len(rows), bins, cells),
            points.counted.sum(axis=0),
        )
    return weights, counted


def _used(weights: FloatArray) -> slice:
    """The cells that have a weight in some bin, as a run."""
    cells = np.flatnonzero(weights.any(axis=0))
    return slice(int(cells[0]), int(cells[-1]) + 1) if len(cells) else slice(0, 0)
