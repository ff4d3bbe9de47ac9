"""RoI Align: He et al. 2017, section 3; ONNX RoiAlign-16.

ONNX's own ``mode="max"`` takes the maximum over weighted corners, not over the interpolated samples
(microsoft/onnxruntime#6146); it is never emitted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, assert_never

import numpy as np
from numpy.typing import NDArray

from roicli.core.exceptions import ParameterError
from roicli.core.operator_table import Operator
from roicli.core.record import frozen
from roicli.core.types import (
    Array,
    FloatArray,
    FloatType,
    IntArray,
    Size,
    check_sampling,
    check_word,
)
from roicli.core.vocabulary import Mode, PixelModel, SamplingGrid
from roicli.operators.geometry import (
    align_boxes,
    dropped_samples,
    find_neighbours,
    operator_points,
    sampling_counts,
)
from roicli.operators.interface import Compiled, GraphWay, OperatorSpec, Sampling
from roicli.operators.onnx_graph import INT64, Arithmetic, Graph, GraphBuilder, finish_graph
from roicli.operators.onnx_protobuf import Dimension
from roicli.operators.reference import Expected, channel_steps, rounding_gamma

# What RoiAlign keeps for one sampling point: four positions and four weights.
SAMPLE_BYTES = 48
# Roundings of one interpolated value: 1 - l on both axes, their product, the product with the cell,
# and three additions.
SAMPLE_ROUNDINGS = 7


@frozen
class AlignSpec(OperatorSpec):
    """RoI Align: every parameter of the operator (docs/semantics.md, RoI Align; ONNX RoiAlign-16).

    ``output_size`` (height, width) in bins, ``spatial_scale`` in cells per image pixel,
    ``sampling_ratio`` points per axis and bin (0 = adaptive), ``aligned`` True for half-pixel and
    False for legacy. ``mode="max"`` is the maximum of the interpolated samples. Raises
    ParameterError.
    """

    operator: ClassVar[Operator] = "align"
    title: ClassVar[str] = "RoI Align"

    sampling_ratio: int = 2
    aligned: bool = True
    mode: Mode = "avg"
    sampling_grid: SamplingGrid = "quarters"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word("mode", self.mode, Mode)
        check_word("sampling grid", self.sampling_grid, SamplingGrid)
        check_sampling(self.sampling_ratio, self.aligned)

    @property
    def compiled(self) -> Compiled:
        """A kernel of its own."""
        return Compiled("run_roi_align", ("plan_align", "align_blocks"))

    @property
    def pixel_model(self) -> PixelModel:
        """The pixel model that ``aligned`` implies."""
        return "half-pixel" if self.aligned else "legacy"

    @property
    def native_to_roi_align(self) -> bool:
        """Whether one ONNX RoiAlign node computes this exactly (else a finer grid is pooled)."""
        return self.mode == "avg" and self.sampling_grid == "quarters"

    def counts(self, corners: FloatArray) -> IntArray:
        """(K, 2) sampling points a bin of RoIs (K, 4), as (x, y)."""
        return sampling_counts(align_boxes(corners, self)[1], self)

    def work(self, corners: FloatArray) -> FloatArray:
        """(k,) sampling points a bin; a bin without one counts as one value."""
        return np.asarray(np.maximum(self.counts(corners).prod(axis=1, dtype=np.float64), 1))

    def sampling(self, corners: FloatArray, channels: int, dtype: FloatType) -> Sampling:
        """What RoiAlign keeps of its points; and what one channel of a fine grid takes."""
        counts = self.counts(corners.astype(dtype))
        per_sample = SAMPLE_BYTES
        if not self.native_to_roi_align:
            per_sample += 2 * dtype.itemsize
        bins = self.output_size[0] * self.output_size[1]
        name = "sampling" if self.sampling_ratio else "adaptive sampling"
        return Sampling(np.prod(counts + 0.0, axis=1) * (bins * per_sample), counts, name)

    def expect(
        self, feature_map: FloatArray, corners: FloatArray, coordinate_ulp: float = 0.0
    ) -> Iterator[tuple[slice, Expected]]:
        """The mean or the maximum of interpolated samples."""
        return expect_align(feature_map, corners, self, coordinate_ulp)

    def graph_way(self, dtype: FloatType, resident: bool) -> GraphWay:
        """One RoiAlign node where that is the operator, else a finer grid of its samples."""
        return "one node" if self.native_to_roi_align else "fine grid"

    def add_export(self, builder: GraphBuilder, dtype: FloatType) -> str:
        """One node, or a fine grid that is pooled; an adaptive fine grid fits no graph."""
        return add_align(builder, self, dtype)


# Graphs ------------------------------------------------------------------------------------------


def fine_grid_steps(spec: AlignSpec, counts: Size) -> Size:
    """Sub-bins a bin (height, width) of the grid of single samples; thirds drop the last one."""
    extra = dropped_samples(spec.sampling_grid)
    return counts[0] + extra, counts[1] + extra


def add_roi_align(
    builder: GraphBuilder,
    spec: AlignSpec,
    corners: str,
    batch: str,
    dtype: FloatType,
    counts: Size | None = None,
    exact: bool = False,
    nan_safe: bool = False,
) -> str:
    """RoI Align of ``features`` at ``corners`` (k, 4): one node, or a fine grid that is pooled.

    ``counts`` (height, width) are the sampling points a bin of a fine grid; ``corners`` must then
    come from ``geometry.fine_grid_rois``. ``exact`` is for maps whose first cells are not finite
    (``add_exact_samples``), ``nan_safe`` makes a maximum over a NaN a NaN.
    """
    height, width = spec.output_size
    ratio, step = spec.sampling_ratio, (1, 1)
    if counts is not None:
        step, ratio = fine_grid_steps(spec, counts), 1

    def sample(features: str, name: str = "") -> str:
        return builder.add(
            "RoiAlign",
            features,
            corners,
            batch,
            name=name,
            mode="avg",
            output_height=height * step[0],
            output_width=width * step[1],
            sampling_ratio=ratio,
            spatial_scale=float(spec.spatial_scale),
            coordinate_transformation_mode="half_pixel" if spec.aligned else "output_half_pixel",
        )

    name = "roi_features" if counts is None else "samples"
    if exact:
        samples = add_exact_samples(builder, sample("features"), sample("first_cell_mark"), name)
    else:
        samples = sample("features", name)
    if counts is None:
        return samples
    match spec.mode:
        case "avg":
            return _add_ordered_mean(builder, samples, counts, step, dtype)
        case "max":
            if nan_safe:
                return _add_nan_safe_maximum(builder, samples, counts, step)
            return builder.add(
                "MaxPool", samples, name="roi_features", kernel_shape=counts, strides=step
            )
        case _:
            assert_never(spec.mode)


def add_exact_samples(builder: GraphBuilder, samples: str, read: str, name: str) -> str:
    """Samples that read nothing off the map, whatever its first cell holds.

    RoiAlign multiplies an image's first cell by 0 for a point off the map, which is NaN where that
    cell is. So ``samples`` come from a map whose first cells are 0 where they are not finite,
    ``read`` is positive where the first cell is really read, and ``first_cells`` (1, C, 1, 1) are
    added there: whatever its weight is, the product of it is the cell itself.
    """
    add, zero = builder.add, builder.constant(np.array(0, np.float32))
    zero = add("CastLike", zero, read)
    there = add("Where", add("Greater", read, zero), "first_cells", zero)
    return add("Add", samples, there, name=name)


def _add_nan_safe_maximum(builder: GraphBuilder, samples: str, counts: Size, step: Size) -> str:
    """Maximum of the first ``counts`` samples of each ``step``; NaN where one of them is.

    What MaxPool and Max do with a NaN is not specified; comparisons are.
    """
    add, found = builder.add, samples
    for axis in (3, 2):
        parts = [
            builder.strided(found, axis, first, step[axis - 2]) for first in range(counts[axis - 2])
        ]
        found = parts[0]
        for part in parts[1:]:
            keeps = add("Or", add("IsNaN", found), add("Greater", found, part))
            found = add("Where", keeps, found, part)
    return add("Identity", found, name="roi_features")


def _add_ordered_mean(
    builder: GraphBuilder, samples: str, counts: Size, step: Size, dtype: FloatType
) -> str:
    """Mean of the first ``counts`` samples of each ``step``: along x, then along y, then divided.

    A pooling or reduction node may add in any order; this chain fixes the bits.
    """
    total = samples
    for axis in (3, 2):
        count, stride = counts[axis - 2], step[axis - 2]
        parts = [builder.strided(total, axis, first, stride) for first in range(count)]
        total = parts[0]
        for part in parts[1:]:
            total = builder.add("Add", total, part)
    divisor = builder.constant(np.array(counts[0] * counts[1], dtype))
    return builder.add("Div", total, divisor, name="roi_features")


def build_align_graph(
    spec: AlignSpec, dtype: FloatType, counts: Size | None = None, exact: bool = False
) -> Graph:
    """RoI Align: ``features`` (N, C, H, W), ``corners`` (k, 4), ``batch_index`` (k,) int64.

    ``exact`` is for maps with NaN or infinities, of one image; it has two more inputs,
    ``first_cells`` (1, C, 1, 1) and ``first_cell_mark`` (1, 1, H, W), from
    ``PlacedMap.exact_feeds``.
    """
    builder = GraphBuilder()
    output = add_roi_align(
        builder, spec, "corners", "batch_index", dtype, counts, exact, nan_safe=exact
    )
    inputs: dict[str, tuple[np.dtype[np.generic], Sequence[Dimension]]] = {
        "features": (dtype, ("N", "C", "H", "W")),
        "corners": (dtype, ("K", 4)),
        "batch_index": (INT64, ("K",)),
    }
    if exact:
        inputs["first_cells"] = (dtype, (1, "C", 1, 1))
        inputs["first_cell_mark"] = (dtype, (1, 1, "H", "W"))
    return finish_graph(builder, inputs, output, dtype, ("K", "C", *spec.output_size))


def add_align(builder: GraphBuilder, spec: AlignSpec, dtype: FloatType) -> str:
    """RoI Align: one node, or a fine grid that is pooled."""
    if spec.sampling_ratio == 0 and not spec.native_to_roi_align:
        raise ParameterError(
            "an adaptive grid with mode max or thirds does not fit in one graph: its size depends "
            "on the RoI, and RoiAlign's output size is an attribute",
            "give --sampling-ratio",
        )
    math = Arithmetic(builder, dtype)
    axis = builder.integers(1)
    batch = builder.add("Squeeze", math.whole(math.column("rois", 0, 1)), axis)
    corners = math.column("rois", 1, 5)
    if spec.native_to_roi_align:
        return add_roi_align(builder, spec, corners, batch, dtype)
    counts = (spec.sampling_ratio, spec.sampling_ratio)
    if dropped_samples(spec.sampling_grid):
        corners = _add_thirds_shift(math, corners, spec)
    return add_roi_align(builder, spec, corners, batch, dtype, counts, nan_safe=True)


def _add_thirds_shift(math: Arithmetic, corners: str, spec: AlignSpec) -> str:
    """``geometry.fine_grid_rois``: the box moved by half a sub-bin."""
    add = math.builder.add
    scaled = math.scaled(corners, spec.spatial_scale)
    if spec.aligned:
        scaled = add("Sub", scaled, math.number(0.5))
    first, last = math.column(scaled, 0, 2), math.column(scaled, 2, 4)
    extent = add("Sub", last, first)
    if not spec.aligned:
        extent = add("Max", extent, math.number(1))
    height, width = spec.output_size
    sub_bins = (
        np.array([[width, height]], np.float64)
        * (spec.sampling_ratio + dropped_samples(spec.sampling_grid))
        * 2
    )
    shift = add("Div", extent, math.builder.constant(sub_bins.astype(math.dtype)))
    shift = add("Div", shift, math.number(float(np.float32(spec.spatial_scale))))
    return add("Add", corners, add("Concat", shift, shift, axis=1))


# What is expected --------------------------------------------------------------------------------


class AxisWeights(NamedTuple):
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
    feature_map: FloatArray, corners: FloatArray, spec: AlignSpec, coordinate_ulp: float
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


def _surely_counted(corners: FloatArray, spec: AlignSpec, coordinate_ulp: float) -> bool:
    """Whether the operator divides a bin into as many samples as ``geometry`` does."""
    _, extent = align_boxes(corners[None], spec)
    slack = corners.dtype.type(coordinate_ulp) * np.spacing(np.abs(corners).max(initial=1))
    less, more = (sampling_counts(extent + step, spec) for step in (-slack, slack))
    return bool((less == more).all())


def _expect_means(read: FloatArray, y: AxisWeights, x: AxisWeights, spec: AlignSpec) -> Expected:
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


def _reduce(cells: FloatArray, y: AxisWeights, x: AxisWeights, spec: AlignSpec) -> FloatArray:
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


def _reduce_literally(cells: FloatArray, y: AxisWeights, x: AxisWeights, spec: AlignSpec) -> Array:
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


def _rounding_bound(
    magnitude: FloatArray,
    cells: FloatArray,
    y: AxisWeights,
    x: AxisWeights,
    spec: AlignSpec,
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
