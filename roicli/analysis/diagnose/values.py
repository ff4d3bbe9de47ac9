"""What a convention gives on a few RoIs of a few maps, in NumPy: float32 points, float64 values.

The operators' own graphs cannot be used here: ONNX's ``mode="max"`` is one of the candidates, and
hundreds of sessions would take longer than a sample of RoIs does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from roicli.analysis.diagnose.conventions import (
    AlignConvention,
    Convention,
    PoolConvention,
    Reduction,
)
from roicli.core.types import FloatArray, IntArray, Size
from roicli.operators.geometry import Neighbours, find_neighbours, operator_points, quantize_rois


@dataclass(frozen=True)
class SampledMap:
    """RoIs on one map: ``feature_map`` (C, H, W) float64, ``corners`` (k, 4) in image
    pixels in the operators' float type, ``spatial_scale`` in cells per pixel.
    """

    feature_map: FloatArray
    corners: FloatArray
    spatial_scale: float


@dataclass(frozen=True)
class Bins:
    """Which ``rows`` (r,) and ``columns`` (c,) of the ``output_size`` bins are looked at."""

    output_size: Size
    rows: IntArray
    columns: IntArray


def evaluate_conventions(
    conventions: Sequence[Convention], maps: Sequence[SampledMap], bins: Bins
) -> Iterator[tuple[Convention, FloatArray]]:
    """Each convention with its values (S, C, r, c) for the RoIs of all maps, one after another.

    Neighbours that differ in their reduction only share their samples. Values are NaN where a RoI
    does not survive the convention's dtype, and where a sample or a cell of the map is NaN.
    """
    for _, group in groupby(conventions, _sampling):
        alike = list(group)
        if isinstance(alike[0], PoolConvention):
            parts = [[_pool(alike[0], one, bins)] for one in maps]
        else:
            parts = [_align(alike, one, bins) for one in maps]
        for index, convention in enumerate(alike):
            yield convention, np.concatenate([part[index] for part in parts])


def _sampling(convention: Convention) -> object:
    """What two conventions share when they read the same samples."""
    if isinstance(convention, PoolConvention):
        return convention
    return (
        convention.coordinates,
        convention.sampling_ratio,
        convention.sampling_grid,
        convention.oddity,
    )


# RoI Align ------------------------------------------------------------------------------------


@np.errstate(over="ignore", invalid="ignore")
def _align(alike: Sequence[Convention], one: SampledMap, bins: Bins) -> list[FloatArray]:
    """(k, C, r, c) for each of several conventions with the same samples."""
    first = alike[0]
    assert isinstance(first, AlignConvention)
    corners, spec = first.corners(one.corners), first.spec(bins.output_size, one.spatial_scale)
    reductions = [c.reduction for c in alike if isinstance(c, AlignConvention)]
    shape = (len(corners), len(one.feature_map), len(bins.rows), len(bins.columns))
    out: list[FloatArray] = [np.zeros(shape) for _ in reductions]
    for row, box in enumerate(corners):
        if not np.isfinite(box).all():
            for values in out:
                values[row] = np.nan
            continue
        x_points, y_points = operator_points(box, spec)
        x_points, y_points = x_points[bins.columns], y_points[bins.rows]
        if x_points.size and y_points.size:
            for values, reduced in zip(
                out, _reduce_roi(one.feature_map, x_points, y_points, reductions), strict=True
            ):
                values[row] = reduced
    return out


def _reduce_roi(
    feature_map: FloatArray, x_points: FloatArray, y_points: FloatArray, wanted: Sequence[Reduction]
) -> list[FloatArray]:
    """Sample points (P, n) of each axis, and reduce the n x n samples of each bin (SEMANTICS)."""
    x = find_neighbours(x_points.reshape(-1), feature_map.shape[2])
    y = find_neighbours(y_points.reshape(-1), feature_map.shape[1])
    first, last = int(x.low.min()), int(x.high.max()) + 1
    here = feature_map[:, :, first:last]
    x = x._replace(low=x.low - first, high=x.high - first)
    grid = (*y_points.shape, *x_points.shape)
    samples = y.interpolate(here, x)
    bins = samples.reshape(-1, *grid)
    reduced: dict[Reduction, FloatArray] = {"max": bins.max(axis=(2, 4))}
    reduced["max-floored"] = np.maximum(reduced["max"], 0.0)
    if "avg" in wanted:
        with np.errstate(invalid="ignore"):  # infinities of both signs
            reduced["avg"] = bins.mean(axis=(2, 4))
    if "max-weighted-corners" in wanted:
        reduced["max-weighted-corners"] = (
            _corner_max(here, x, y).reshape(-1, *grid).max(axis=(2, 4))
        )
    return [reduced[name] for name in wanted]


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


# RoI Pool -------------------------------------------------------------------------------------


@np.errstate(over="ignore", invalid="ignore")
def _pool(convention: PoolConvention, one: SampledMap, bins: Bins) -> FloatArray:
    """(k, C, r, c) of one convention."""
    corners = convention.corners(one.corners)
    shape = (len(corners), len(one.feature_map), len(bins.rows), len(bins.columns))
    out = np.full(shape, np.nan)
    fine = np.flatnonzero(np.isfinite(corners).all(axis=1))
    spec = convention.spec(bins.output_size, one.spatial_scale)
    x_axis, y_axis = quantize_rois(corners[fine], spec)
    # One empty cell past each edge, so that a bin may end there.
    padded = np.pad(one.feature_map, ((0, 0), (0, 1), (0, 1)), constant_values=-np.inf)
    top, bottom = (edge[:, bins.rows] for edge in y_axis.clipped(one.feature_map.shape[1]))
    left, right = (edge[:, bins.columns] for edge in x_axis.clipped(one.feature_map.shape[2]))
    for place, row in enumerate(fine):
        rows = _window_max(padded, top[place], bottom[place], 1)
        out[row] = _window_max(rows, left[place], right[place], 2)
    empty = np.zeros(out.shape, bool)
    empty[fine] = (bottom <= top)[:, None, :, None] | (right <= left)[:, None, None, :]
    return np.where(empty, 0.0, out)


def _window_max(values: FloatArray, start: IntArray, end: IntArray, axis: int) -> FloatArray:
    """Maxima over windows [start, end), which may overlap, along one axis; -inf where empty."""
    edges = np.stack([start, end], axis=1).reshape(-1)
    found = np.maximum.reduceat(values, edges, axis=axis)
    found = found[:, ::2] if axis == 1 else found[:, :, ::2]
    empty = (end <= start).reshape([-1 if i == axis else 1 for i in range(3)])
    return np.where(empty, -np.inf, found)
