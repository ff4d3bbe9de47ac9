"""What one RoI's result should be, in float64 and plain NumPy, and how far rounding may take it.

Nothing of ONNX Runtime or of the compiled kernels is used here: it is what they are checked with.
Where a bin or a sampling point lies comes from ``geometry``, in the operator's own floating type,
for a RoI that is rounded to another cell is another RoI; the values at these places are read,
weighted and added in float64.

The bounds are a priori ones. In floating point ``fl(a op b) = (a op b)(1 + d)`` with ``|d| <= u``,
so a sum of terms, each of which went through at most k roundings, is within
``gamma_k * sum(|terms|)`` of the exact one, ``gamma_k = k u / (1 - k u)``, in whatever order it is
added (Higham 2002, Accuracy and Stability of Numerical Algorithms, 2nd edition, lemma 3.1 and
equation 3.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from roicli.core.types import Array, FloatArray, IntArray
from roicli.operators.geometry import (
    AlignLike,
    PoolLike,
    align_boxes,
    find_neighbours,
    operator_points,
    quantize_rois,
    sampling_counts,
)
from roicli.operators.interface import OperatorSpec

# Values of one step; a RoI's channels are taken so many at a time.
STEP_VALUES = 1 << 16
# Roundings of one interpolated value: 1 - l on both axes, their product, the product with the cell,
# and three additions.
SAMPLE_ROUNDINGS = 7


@dataclass(frozen=True)
class Expected:
    """One RoI's result; all arrays (C, P_h, P_w) float64.

    ``values``; ``magnitude``, the size of what was added (the values with every cell replaced by
    its absolute value), which is what rounding is relative to; ``bound``, how far a right result
    can be from ``values``. A value that is NaN or infinite must be found as it is: its bound is 0.
    ``bound`` is infinite where nothing can be said: where the sum may overflow, where a point may
    lie on either side of the map's end, and where a cell is not finite and it is not certain which
    points read it.
    """

    values: FloatArray
    magnitude: FloatArray
    bound: FloatArray


def expect(
    feature_map: FloatArray, corners: FloatArray, spec: OperatorSpec, coordinate_ulp: float = 0.0
) -> Iterator[tuple[slice, Expected]]:
    """What an operator gives for one RoI, some channels at a time: (channels, their Expected).

    ``feature_map`` (C, H, W) and ``corners`` (4,) in image pixels, both in the dtype that the
    operator computes in. ``coordinate_ulp`` is how far, in units in the last place, the operator's
    own sampling points may be from ``geometry``'s: 0 where their arithmetic is the same.
    """
    return spec.expect(feature_map, corners, coordinate_ulp)


def channel_steps(channels: int, values: int) -> Iterator[slice]:
    """Runs of channels that take about STEP_VALUES, each of ``values``."""
    step = max(1, STEP_VALUES // max(values, 1))
    for first in range(0, channels, step):
        yield slice(first, min(first + step, channels))


# RoI Pool -------------------------------------------------------------------------------------


def expect_pool(
    feature_map: FloatArray, corners: FloatArray, spec: PoolLike
) -> Iterator[tuple[slice, Expected]]:
    """The maxima of one RoI's bins; an empty bin is 0. A maximum rounds nothing: the bound is 0."""
    height, width = feature_map.shape[1:]
    x_axis, y_axis = quantize_rois(corners[None], spec)
    rows = list(zip(*(edge[0].tolist() for edge in y_axis.clipped(height)), strict=True))
    columns = list(zip(*(edge[0].tolist() for edge in x_axis.clipped(width)), strict=True))
    left, right = min(start for start, _ in columns), max(end for _, end in columns)
    tallest = max(end - start for start, end in rows)
    for channels in channel_steps(len(feature_map), max(right - left, 0) * max(tallest, 1)):
        values = np.zeros((channels.stop - channels.start, *spec.output_size))
        for number_y, (top, bottom) in enumerate(rows):
            if bottom <= top or right <= left:
                continue
            line = feature_map[channels, top:bottom, left:right].max(axis=1)
            for number_x, (start, end) in enumerate(columns):
                if end > start:
                    values[:, number_y, number_x] = line[:, start - left : end - left].max(axis=1)
        magnitude = np.abs(np.where(np.isfinite(values), values, 0))
        yield channels, Expected(values, magnitude, np.zeros_like(values))


# RoI Align ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AxisWeights:
    """What the sampling points of one axis of one RoI read, bin by bin.

    ``cells`` (R,) the cells, in order; ``weights`` (P, n, R) float64 what each counts at each
    point; ``touched`` (P, n, R) which are read, with whatever weight. ``sides`` are the lower and
    the upper neighbour of the points, each as (numbers in ``cells``, weights in the operator's
    float type), both (P, n); ``on_map`` (P, n). ``unsure`` (P,) bins with a point that may lie on
    either side of the map's end; ``slack`` the uncertainty of a point, cells.
    """

    cells: IntArray
    weights: FloatArray
    touched: NDArray[np.bool_]
    sides: tuple[tuple[IntArray, FloatArray], tuple[IntArray, FloatArray]]
    on_map: NDArray[np.bool_]
    unsure: NDArray[np.bool_]
    slack: float


def _weigh_axis(points: FloatArray, size: int, coordinate_ulp: float) -> AxisWeights:
    """Linear interpolation at ``points`` (P, n) of an axis of ``size`` cells, cell i centred at i.

    A point below -1 or above ``size`` counts 0 and reads nothing; others are moved to the first or
    the last cell.
    """
    found = find_neighbours(points.reshape(-1), size)
    on_map = found.on_map.reshape(points.shape)
    # A point off the map reads nothing: any cell does for its place.
    low, high = (np.where(found.on_map, side, 0).reshape(points.shape) for side in found[:2])
    read = [low, high]
    if coordinate_ulp:
        # A point that is a hair away may be between the next two cells.
        read += [np.maximum(low - 1, 0), np.minimum(high + 1, size - 1)]
    cells, index = np.unique(np.stack(read), return_inverse=True)
    index = index.reshape(len(read), *points.shape)
    bins, number = np.arange(len(points))[:, None], np.arange(points.shape[1])
    weights = np.zeros((*points.shape, len(cells)))
    touched = np.zeros(weights.shape, bool)
    for side, (_, weight) in zip(index, found.exact_sides, strict=False):
        weights[bins, number, side] += weight.reshape(points.shape)
    for places in index:
        touched[bins, number, places] |= on_map
    own = (weight.reshape(points.shape) for _, weight in found.sides)
    sides = (index[0], next(own)), (index[1], next(own))
    exact = points.astype(np.float64)
    slack = coordinate_ulp * float(np.spacing(np.abs(points).max(initial=1)))
    near_end = np.minimum(np.abs(exact + 1), np.abs(exact - size)) <= slack
    unsure = np.asarray((near_end & (slack > 0)).any(axis=1))
    return AxisWeights(cells, weights, touched, sides, on_map, unsure, slack)


def expect_align(
    feature_map: FloatArray, corners: FloatArray, spec: AlignLike, coordinate_ulp: float
) -> Iterator[tuple[slice, Expected]]:
    """The mean or the maximum of one RoI's interpolated samples; a bin without samples is 0."""
    x_points, y_points = operator_points(corners, spec)
    across, down = x_points.shape[1], y_points.shape[1]
    if across == 0 or down == 0:
        zeros = np.zeros((len(feature_map), *spec.output_size))
        yield slice(0, len(feature_map)), Expected(zeros, zeros, zeros)
        return
    y = _weigh_axis(y_points, feature_map.shape[1], coordinate_ulp)
    x = _weigh_axis(x_points, feature_map.shape[2], coordinate_ulp)
    if not _surely_counted(corners, spec, coordinate_ulp):
        y.unsure[:] = True
    samples = y_points.size * x_points.size if spec.mode == "max" else 0
    for channels in channel_steps(len(feature_map), max(len(y.cells) * len(x.cells), samples)):
        read = feature_map[channels, y.cells[:, None], x.cells]
        yield channels, _expect_means(read, y, x, spec)


def _surely_counted(corners: FloatArray, spec: AlignLike, coordinate_ulp: float) -> bool:
    """Whether the operator divides a bin into as many samples as ``geometry`` does."""
    _, extent = align_boxes(corners[None], spec)
    slack = corners.dtype.type(coordinate_ulp) * np.spacing(np.abs(corners).max(initial=1))
    less, more = (sampling_counts(extent + step, spec) for step in (-slack, slack))
    return bool((less == more).all())


def _expect_means(read: FloatArray, y: AxisWeights, x: AxisWeights, spec: AlignLike) -> Expected:
    """``expect_align`` of some channels, of which ``read`` (C, R_y, R_x) holds the cells."""
    known = np.isfinite(read)
    all_known = bool(known.all())
    cells = (read if all_known else np.where(known, read, 0)).astype(np.float64)
    values, magnitude = (_reduce(part, y, x, spec) for part in (cells, np.abs(cells)))
    bound = _rounding_bound(magnitude, cells, y, x, spec, np.finfo(read.dtype))
    if not all_known:
        rows, columns = (np.asarray(axis.touched.any(axis=1), np.float64) for axis in (y, x))
        odd = _apply(rows, (~known).astype(np.float64), columns) > 0
        if y.slack or x.slack:
            bound[odd] = np.inf
        else:
            for channel in np.flatnonzero(odd.any(axis=(1, 2))):
                here = odd[channel]
                values[channel, here] = _reduce_literally(read[channel], y, x, spec)[here]
                bound[channel, here & ~np.isfinite(values[channel])] = 0
    bound[:, y.unsure, :] = np.inf
    bound[:, :, x.unsure] = np.inf
    return Expected(values, magnitude, bound)


def _apply(rows: FloatArray, cells: FloatArray, columns: FloatArray) -> FloatArray:
    """``rows`` (m, R_y) times ``cells`` (C, R_y, R_x) times ``columns`` (n, R_x) transposed."""
    return np.asarray(rows @ cells @ columns.T)


def _reduce(cells: FloatArray, y: AxisWeights, x: AxisWeights, spec: AlignLike) -> FloatArray:
    """(C, P_h, P_w) mean or maximum of the samples of each bin."""
    (height, down, _), (width, across, _) = y.weights.shape, x.weights.shape
    match spec.mode:
        case "avg":
            # The mean over a grid is a mean over its rows of means over its columns.
            total = _apply(y.weights.sum(axis=1), cells, x.weights.sum(axis=1))
            return np.asarray(total / (down * across))
        case "max":
            flat_y, flat_x = (axis.weights.reshape(-1, len(axis.cells)) for axis in (y, x))
            samples = _apply(flat_y, cells, flat_x).reshape(-1, height, down, width, across)
            return np.asarray(samples.max(axis=(2, 4)))
        case _:
            assert_never(spec.mode)


def _reduce_literally(cells: FloatArray, y: AxisWeights, x: AxisWeights, spec: AlignLike) -> Array:
    """(P_h, P_w) of one channel (R_y, R_x), product by product: what NaN and infinities become.

    A product is NaN where the cell is, and where an infinite cell has the weight 0.
    """
    samples: Any = 0.0
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        for rows, heights in y.sides:
            for columns, widths in x.sides:
                weight = heights[:, :, None, None] * widths
                read = cells[rows[:, :, None, None], columns].astype(np.float64)
                samples = samples + weight.astype(np.float64) * read
        samples = np.where(y.on_map[:, :, None, None] & x.on_map, samples, 0.0)
        return np.asarray(samples.mean(axis=(1, 3)) if spec.mode == "avg" else samples.max((1, 3)))


def rounding_gamma(roundings: int, unit: float) -> float:
    """Higham's gamma_k; infinite where so many roundings can give anything."""
    product = roundings * unit
    return product / (1 - product) if product < 1 else np.inf


def _rounding_bound(
    magnitude: FloatArray,
    cells: FloatArray,
    y: AxisWeights,
    x: AxisWeights,
    spec: AlignLike,
    kind: Any,
) -> FloatArray:
    """How far from the exact values the operator's can be, with this reference's own rounding.

    A mean adds ``n - 1`` samples and divides: gamma of ``SAMPLE_ROUNDINGS + n``. The maximum of
    values that are each within a bound is within the largest of these bounds. An underflow is at
    most the least normal number, in four weights (times a cell), four products and the quotient.
    """
    down, across = y.weights.shape[1], x.weights.shape[1]
    added = down * across if spec.mode == "avg" else 1
    own = 3 * (down + across) + 1 if spec.mode == "avg" else SAMPLE_ROUNDINGS
    gamma = rounding_gamma(SAMPLE_ROUNDINGS + added, kind.eps / 2) + rounding_gamma(
        own, np.finfo(float).eps / 2
    )
    largest = np.abs(cells).max(axis=(1, 2))[:, None, None]
    bound = gamma * magnitude + 9 * float(kind.smallest_normal) * (1 + largest)
    if y.slack or x.slack:
        # A point that is moved by a slack changes by no more than twice the largest cell over one.
        bound += 2 * largest * (y.slack + x.slack)
    return np.where(added * magnitude * (1 + gamma) <= float(kind.max), bound, np.inf)
