"""Where a bin lies: scaling, quantization rules, bin edges and sampling points, in pure NumPy.

This is the one place that decides it. The operators, the error columns and the figures all take
their edges from here, so they cannot disagree.

The ONNX operators compute coordinates in the floating type of the tensor (single precision for a
float32 map) and hold the scale as a float32 attribute. So does this module: a function computes in
the dtype of the coordinates that it is given. It matters: in single precision the end of the last
of 7 bins over 57 cells is ceil(7 * (57 / 7)) = 58, and the operators do read that 58th cell.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, assert_never

import numpy as np
from numpy.typing import NDArray

from roicli.core.types import FloatArray, IntArray, Size
from roicli.core.vocabulary import Mode, Partition, Quantization, SamplingGrid
from roicli.operators.rounding import (
    BOX_RULES,
    as_cells,
    hull_bins,
    partition_box,
    quantize_box,
    scale_to_cells,
)

# RoI Pool -------------------------------------------------------------------------------------


class PoolLike(Protocol):
    """What the geometry of RoI Pool reads of its spec (``roi_pool.PoolSpec``)."""

    @property
    def output_size(self) -> Size:
        """(height, width) in bins."""

    @property
    def spatial_scale(self) -> float:
        """Cells per image pixel."""

    @property
    def quantization(self) -> Quantization:
        """The rounding of the box."""

    @property
    def partition(self) -> Partition:
        """The rounding of the bins."""

    @property
    def native_to_max_roi_pool(self) -> bool:
        """Whether one MaxRoiPool node computes it."""


class AxisBins(NamedTuple):
    """One axis of K quantized RoIs, in cells where cell i covers [i, i + 1).

    ``box_start``, ``box_end`` (K,) float64: B, the box after quantization 1, half-open; real
    numbers under ``mmcv``, whole ones otherwise. ``start``, ``end`` (K, P) int64: the bins after
    quantization 2, half-open, before clipping to the map.
    """

    box_start: FloatArray
    box_end: FloatArray
    start: IntArray
    end: IntArray

    @property
    def region_start(self) -> IntArray:
        """(K,) lower edge of Q, the union of the bins."""
        return self.start[:, 0]

    @property
    def region_end(self) -> IntArray:
        """(K,) upper edge of Q, the union of the bins."""
        return self.end[:, -1]

    def clipped(self, cells: int | IntArray) -> tuple[IntArray, IntArray]:
        """(start, end), each (K, P), clipped to a map that is ``cells`` long, or to one of each."""
        return np.clip(self.start, 0, cells), np.clip(self.end, 0, cells)


def quantize_rois(corners: FloatArray, spec: PoolLike) -> tuple[AxisBins, AxisBins]:
    """Both quantizations of K RoIs.

    ``corners`` (K, 4): x1, y1, x2, y2 in image pixels, in the dtype that the operator computes in.
    Returns (x, y) AxisBins.
    """
    sides = [(corners[:, axis], corners[:, axis + 2]) for axis in (0, 1)]
    counts = spec.output_size[::-1]
    rule = BOX_RULES[spec.quantization]
    if rule.real_edges:
        boxes = [rule.numpy(low, high, spec.spatial_scale) for low, high in sides]
        bins = [hull_bins(*box, count) for box, count in zip(boxes, counts, strict=True)]
        empty = (boxes[0][1] <= boxes[0][0]) | (boxes[1][1] <= boxes[1][0])
        for first, last in bins:  # a box without positive size has no cell
            first[empty] = first[empty, :1]
            last[empty] = first[empty]
    else:
        boxes, bins = [], []
        for (low, high), count in zip(sides, counts, strict=True):
            start, size = quantize_box(low, high, spec.spatial_scale, spec.quantization)
            boxes.append((start.astype(np.float64), (start + size).astype(np.float64)))
            bins.append(partition_box(start, size, count, spec.partition, corners.dtype))
    x_axis, y_axis = (
        AxisBins(start.astype(np.float64), end.astype(np.float64), *edges)
        for (start, end), edges in zip(boxes, bins, strict=True)
    )
    return x_axis, y_axis


# RoI Align ------------------------------------------------------------------------------------


class AlignLike(Protocol):
    """What the geometry, the graphs and the reference of RoI Align read of its spec
    (``roi_align.AlignSpec``).
    """

    @property
    def output_size(self) -> Size:
        """(height, width) in bins."""

    @property
    def spatial_scale(self) -> float:
        """Cells per image pixel."""

    @property
    def sampling_ratio(self) -> int:
        """Points per axis and bin; 0 is adaptive."""

    @property
    def aligned(self) -> bool:
        """Half-pixel, or legacy."""

    @property
    def mode(self) -> Mode:
        """Mean or maximum."""

    @property
    def sampling_grid(self) -> SamplingGrid:
        """Where in a bin the points lie."""

    @property
    def native_to_roi_align(self) -> bool:
        """Whether one RoiAlign node computes it."""


def align_boxes(corners: FloatArray, spec: AlignLike) -> tuple[FloatArray, FloatArray]:
    """Where RoI Align starts and how far it reaches (He et al. 2017, section 3; ONNX RoiAlign).

    ``corners`` (K, 4) in image pixels. Returns ``start`` (K, 2) and ``extent`` (K, 2), both as
    (x, y) in cells, after the half-pixel step where ``aligned``, or with extents of at least one
    cell where not.
    """
    kind = corners.dtype.type
    scaled = scale_to_cells(corners, spec.spatial_scale)
    if spec.aligned:
        scaled = scaled - kind(0.5)
    start, extent = scaled[:, :2], scaled[:, 2:] - scaled[:, :2]
    return start, extent if spec.aligned else np.maximum(extent, kind(1))


def sampling_counts(extent: FloatArray, spec: AlignLike) -> IntArray:
    """(K, 2) sampling points per bin and axis (x, y); adaptive is ceil(extent / bins), maybe 0."""
    if spec.sampling_ratio:
        return np.full(extent.shape, spec.sampling_ratio, np.int64)
    height, width = spec.output_size
    bins = np.array([width, height], extent.dtype)
    return np.maximum(np.ceil(extent / bins), 0).astype(np.int64)


def sampling_points(
    start: float, extent: float, bins: int, count: int, spec: AlignLike
) -> FloatArray:
    """(bins, count) coordinates in cells where one axis of one RoI is interpolated, in float64.

    Quarters: ``start + p * bin + (i + 0.5) * bin / count``; thirds: the interior points
    ``(i + 1) / (count + 1)`` of the bin.
    """
    step = extent / bins
    index = np.arange(count)
    match spec.sampling_grid:
        case "quarters":
            inside = (index + 0.5) / count
        case "thirds":
            inside = (index + 1) / (count + 1)
        case _:
            assert_never(spec.sampling_grid)
    return start + step * (np.arange(bins)[:, None] + inside[None, :])


def dropped_samples(grid: SamplingGrid) -> int:
    """How many of a bin's single samples a fine grid drops on each axis."""
    match grid:
        case "quarters":
            return 0
        case "thirds":
            return 1
        case _:
            assert_never(grid)


def fine_grid_rois(corners: FloatArray, counts: IntArray, spec: AlignLike) -> FloatArray:
    """The RoIs (K, 4) whose grid of ``bins * step`` single samples holds the sampling points.

    Quarters: the RoI itself with ``count`` sub-bins a bin, whose centres are the points. Thirds:
    ``count + 1`` sub-bins a bin and the box moved by half a sub-bin; every (count + 1)-th point is
    to be dropped. ``counts`` (K, 2) as (x, y).
    """
    dropped = dropped_samples(spec.sampling_grid)
    if not dropped:
        return corners
    kind = corners.dtype.type
    height, width = spec.output_size
    _, extent = align_boxes(corners, spec)
    sub_bins = (np.array([width, height]) * (counts + dropped) * 2).astype(corners.dtype)
    shift = extent / sub_bins / kind(np.float32(spec.spatial_scale))
    return corners + np.tile(shift, 2)


def operator_points(corners: FloatArray, spec: AlignLike) -> tuple[FloatArray, FloatArray]:
    """The sampling points of one RoI as the operator itself rounds them, step by step.

    ``corners`` (4,) in image pixels; computes in their dtype, where ``sampling_points`` is the
    same in float64. Returns x (P_w, n_x) and y (P_h, n_y) in cells, cell i centred at i.
    """
    corners, (height, width) = corners[None], spec.output_size
    counts = sampling_counts(align_boxes(corners, spec)[1], spec)
    counts[counts.prod(axis=1) == 0] = 0
    pieces = counts + dropped_samples(spec.sampling_grid)
    if not spec.native_to_roi_align:
        corners = fine_grid_rois(corners, counts, spec)
    start, extent = align_boxes(corners, spec)
    kind, axes = corners.dtype.type, []
    for axis, bins in enumerate((width, height)):
        count, low = int(counts[0, axis]), start[0, axis]
        number, index = np.arange(bins)[:, None].astype(kind), np.arange(count).astype(kind)
        if spec.native_to_roi_align:
            size = extent[0, axis] / kind(bins)
            axes.append(low + number * size + (index + kind(0.5)) * size / kind(max(count, 1)))
        else:
            piece = kind(pieces[0, axis])
            size = extent[0, axis] / (kind(bins) * max(piece, kind(1)))
            axes.append(low + (number * piece + index) * size + kind(0.5) * size)
    return axes[0], axes[1]


class Neighbours(NamedTuple):
    """What bilinear interpolation reads along one axis: cells ``low`` and ``high`` (n,) int64.

    ``share`` (n,) is the weight of ``high``; ``on_map`` (n,) is False where the point counts as 0.
    """

    low: IntArray
    high: IntArray
    share: FloatArray
    on_map: NDArray[np.bool_]

    @property
    def sides(self) -> tuple[tuple[IntArray, FloatArray], tuple[IntArray, FloatArray]]:
        """Both neighbours with their weights, in the float type of the points, as operators do."""
        return (self.low, self.share.dtype.type(1) - self.share), (self.high, self.share)

    @property
    def exact_sides(self) -> tuple[tuple[IntArray, FloatArray], tuple[IntArray, FloatArray]]:
        """Both neighbours with their weights in float64, 0 off the map."""
        share = self.share.astype(np.float64)
        return (self.low, (1 - share) * self.on_map), (self.high, share * self.on_map)

    def matrix(self, cells: int) -> FloatArray:
        """(n, cells) float64: the weight of each cell of the axis at each point."""
        weights, rows = np.zeros((len(self.low), cells)), np.arange(len(self.low))
        for places, weight in self.exact_sides:
            weights[rows, places] += weight
        return weights

    def interpolate(self, feature_map: FloatArray, columns: Neighbours) -> FloatArray:
        """(C, n_y, n_x) float64 of a map (C, H, W), at the points of its rows (self) and columns.

        0 times infinity is NaN, but a point off the map reads nothing.
        """
        if np.isfinite(feature_map).all():
            (top, above), (bottom, below) = self.exact_sides
            (left, before), (right, after) = columns.exact_sides
            rows = feature_map[:, top] * above[:, None] + feature_map[:, bottom] * below[:, None]
            return np.asarray(rows[:, :, left] * before + rows[:, :, right] * after)
        samples = np.zeros((len(feature_map), len(self.low), len(columns.low)))
        with np.errstate(invalid="ignore"):
            for y, height in self.exact_sides:
                for x, width in columns.exact_sides:
                    samples += feature_map[:, y[:, None], x] * (height[:, None] * width)
        return np.where(self.on_map[:, None] & columns.on_map, samples, 0.0)


def find_neighbours(points: FloatArray, cells: int) -> Neighbours:
    """The neighbours of points (n,) on an axis of ``cells``, clamped as RoiAlign-16 clamps them."""
    on_map = (points >= -1) & (points <= cells)
    clamped = np.clip(points, 0, cells)
    low = np.minimum(as_cells(clamped), cells - 1)
    share = np.where(low < cells - 1, clamped - low.astype(points.dtype), points.dtype.type(0))
    return Neighbours(low, np.minimum(low + 1, cells - 1), share, on_map)
