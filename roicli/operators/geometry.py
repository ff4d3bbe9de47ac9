"""Where a bin lies: scaling, quantization rules, bin edges and sampling points, in pure NumPy.

This is the one place that decides it. The operators, the error columns and the figures all take
their edges from here, so they cannot disagree.

The ONNX operators compute coordinates in the floating type of the tensor (single precision for a
float32 map) and hold the scale as a float32 attribute. So does this module: a function computes in
the dtype of the coordinates that it is given. It matters: in single precision the end of the last
of 7 bins over 57 cells is ceil(7 * (57 / 7)) = 58, and the operators do read that 58th cell.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, assert_never

import numpy as np
from numpy.typing import NDArray

from roicli.core.types import FloatArray, FloatType, IntArray, Size
from roicli.core.vocabulary import Mode, Partition, Quantization, SamplingGrid
from roicli.operators.convention import HALF_PIXEL, LEGACY, BorderRule, Convention, Cut, Grid
from roicli.operators.rounding import (
    BOX_RULES,
    MapAxis,
    accumulated_bins,
    as_cells,
    hull_bins,
    hull_parts,
    keep_minimum,
    partition_box,
    place_axis,
    quantize_box,
    round_half_away,
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
    axis, box = MapAxis(spec.spatial_scale), HALF_PIXEL if spec.aligned else LEGACY
    return place_axis(corners[:, :2], corners[:, 2:], axis, box)


def sampling_counts(extent: FloatArray, spec: AlignLike) -> IntArray:
    """(K, 2) sampling points per bin and axis (x, y); adaptive is ceil(extent / bins), maybe 0."""
    if spec.sampling_ratio:
        return np.full(extent.shape, spec.sampling_ratio, np.int64)
    height, width = spec.output_size
    bins = np.array([width, height], extent.dtype)
    return np.maximum(np.ceil(extent / bins), 0).astype(np.int64)


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

    ``corners`` (4,) in image pixels; computes in their dtype. Returns x (P_w, n_x) and
    y (P_h, n_y) in cells, cell i centred at i.
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
            axes.append(bin_points(start[:, axis], extent[:, axis], bins, count, "quarters")[0])
        else:
            piece = kind(pieces[0, axis])
            size = extent[0, axis] / (kind(bins) * max(piece, kind(1)))
            axes.append(low + (number * piece + index) * size + kind(0.5) * size)
    return axes[0], axes[1]


def bin_points(
    start: FloatArray, extent: FloatArray, bins: int, count: int, grid: Grid
) -> FloatArray:
    """(K, bins, count) points of one axis of K boxes, in cells, in the dtype of the boxes.

    Rounded step by step as the operators round them; cell i is centred at i.
    """
    kind = start.dtype.type
    number, index = np.arange(bins)[:, None].astype(kind), np.arange(count).astype(kind)
    low, reach = start[:, None, None], extent[:, None, None]
    parts = kind(max(count, 1))
    size, total = reach / kind(bins), bins * max(count, 1)
    edge, in_box = low + number * size, number * parts + index
    place: FloatArray
    match grid:
        case "quarters":
            place = edge + (index + kind(0.5)) * size / parts
        case "thirds":
            place = edge + (index + kind(1)) * size / (parts + kind(1))
        case "corners":
            place = edge + index * size / parts
        case "edges":
            place = edge + index * size / np.maximum(parts - kind(1), kind(1))
        case "even":
            place = low + (in_box + kind(0.5)) * (reach / kind(total))
        case "ends":
            middle = total == 1
            place = low + (kind(0.5) * reach if middle else in_box * (reach / kind(total - 1)))
        case "upsample":
            place = low + np.minimum(in_box * ((reach + kind(1)) / kind(total)), reach)
        case "unalign-corners":
            step = (reach + kind(1)) / kind(total)
            inside = np.maximum(in_box * step + kind(0.5) * step - kind(0.5), kind(0))
            place = low + np.minimum(inside, reach)
        case "offset-corners":
            step = np.maximum(reach, kind(1)) / kind(total)
            place = low + np.minimum(kind(0.5) * step + in_box * step, reach)
        case _:
            assert_never(grid)
    return np.asarray(place)


def clipped_points(
    start: FloatArray, extent: FloatArray, bins: int, ratio: int, cells: int
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Points of bins that are clipped to the map first (ncnn, roialign.cpp, version 0).

    Returns points (K, bins, n) and which of them there are: an adaptive count is that of the
    clipped bin, the distance of its points that of the whole one.
    """
    kind = start.dtype.type
    size = extent[:, None] / kind(bins)
    number = np.arange(bins).astype(kind)
    low, high = (
        np.clip(start[:, None] + step * size, 0, kind(cells)) for step in (number, number + kind(1))
    )
    counts = np.full(low.shape, ratio) if ratio else as_cells(np.ceil(high - low))
    counts = np.where(high > low, counts, 0)
    index = np.arange(max(int(counts.max(initial=0)), 1))
    parts = np.maximum(counts, 1).astype(kind)[:, :, None]
    points = low[:, :, None] + (index.astype(kind) + kind(0.5)) * (size[:, :, None] / parts)
    return np.clip(points, 0, kind(cells - 1)), index < counts[:, :, None]


def bin_windows(
    start: Any, extent: Any, bins: int, cut: Cut, dtype: FloatType
) -> tuple[IntArray, IntArray]:
    """(first, last), each (K, bins): the whole cells of each bin of one axis, half-open."""
    match cut:
        case "overlap" | "disjoint" | "floor-size":
            return partition_box(start, extent, bins, cut, dtype)
        case "accumulated":
            return accumulated_bins(start, extent, bins, dtype)
        case "hull":
            return hull_parts(start.astype(dtype), extent.astype(dtype), bins)
        case "equal" | "clipped":
            raise ValueError(f"cut {cut} has no whole cells")
        case _:
            assert_never(cut)


def rotated_points(
    boxes: FloatArray, spatial_scale: float, bins: Size, counts: Size, convention: Convention
) -> tuple[FloatArray, FloatArray]:
    """Y and x (K, P_h, n_y, P_w, n_x) of turned boxes (K, 5): cx, cy, w, h in image pixels and an
    angle in degrees (detectron2, ROIAlignRotated; mmcv, roi_align_rotated).
    """
    kind = boxes.dtype.type
    centre = scale_to_cells(boxes[:, :2], spatial_scale) + kind(convention.box.shift_cells)
    sides = scale_to_cells(boxes[:, 2:4], spatial_scale)
    angle = np.radians(boxes[:, 4]).astype(boxes.dtype)
    if convention.box.turn == "clockwise":
        angle = -angle
    local = []
    for axis, number, count in ((1, bins[0], counts[0]), (0, bins[1], counts[1])):
        _, side = keep_minimum(sides[:, axis], sides[:, axis], convention.box)
        local.append(bin_points(-side / kind(2), side, number, count, convention.grid))
    v, u = local[0][:, :, :, None, None], local[1][:, None, None]
    cos, sin = (f(angle)[:, None, None, None, None] for f in (np.cos, np.sin))
    at = centre[:, :, None, None, None, None]
    return v * cos - u * sin + at[:, 1], v * sin + u * cos + at[:, 0]


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

    def at(self, index: Any) -> Neighbours:
        """All parts indexed alike."""
        return Neighbours(self.low[index], self.high[index], self.share[index], self.on_map[index])


def find_neighbours(
    points: FloatArray, cells: int, border: BorderRule = "clamp", reach: float = 1.0
) -> Neighbours:
    """The neighbours of points on an axis of ``cells``: as RoiAlign-16 clamps them, or by another
    ``border`` (``convention``). Under "zero" the places are those of a map with a ring of zeros.
    """
    kind = points.dtype.type
    match border:
        case "clamp" | "skip" | "value":
            on_map = (points >= kind(-reach)) & (points <= kind(cells - 1 + reach))
            clamped = np.clip(points, 0, cells)
            low = np.minimum(as_cells(clamped), cells - 1)
            share = np.where(low < cells - 1, clamped - low.astype(points.dtype), kind(0))
            return Neighbours(low, np.minimum(low + 1, cells - 1), share, on_map)
        case "zero":
            on_map = (points > -1) & (points < cells)
            inside = np.where(on_map, points, 0)
            below = np.floor(inside)
            low = as_cells(below) + 1
            return Neighbours(low, low + 1, inside - below, on_map)
        case "extrapolate":
            low = as_cells(np.clip(np.floor(points), 0, cells - 1))
            share = points - low.astype(points.dtype)
            on_map = np.ones(points.shape, bool)
            return Neighbours(low, np.minimum(low + 1, cells - 1), share, on_map)
        case _:
            assert_never(border)


def nearest_cell(
    found: Neighbours, points: FloatArray, cells: int, border: BorderRule = "clamp"
) -> Neighbours:
    """The nearest cell alone, halves away from zero (TensorFlow's crop_and_resize)."""
    ring = 1 if border == "zero" else 0
    cell = as_cells(np.clip(round_half_away(points), -ring, cells - 1 + ring)) + ring
    return found._replace(low=cell, high=cell, share=np.zeros_like(found.share))
