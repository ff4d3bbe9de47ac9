"""RoI Pool: Girshick 2015 (Fast R-CNN), section 2.1; ONNX MaxRoiPool-1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from roicli.core.operator_table import Operator
from roicli.core.record import frozen
from roicli.core.types import FloatArray, FloatType
from roicli.core.vocabulary import Partition, PixelModel, Quantization
from roicli.operators.geometry import quantize_rois
from roicli.operators.graphs import add_cell_table, add_nan_safe_maximum
from roicli.operators.interface import Compiled, GraphWay, OperatorSpec
from roicli.operators.onnx_graph import INT32, INT64, Arithmetic, Graph, GraphBuilder, finish_graph
from roicli.operators.onnx_protobuf import Dimension
from roicli.operators.reference import Expected, channel_steps
from roicli.operators.rounding import BOX_RULES, PARTITIONS, check_rule, hull_bins_onnx


@frozen
class PoolSpec(OperatorSpec):
    """RoI Pool: every parameter of the operator (docs/semantics.md, RoI Pool; ONNX MaxRoiPool-1).

    ``output_size`` (height, width) in bins, ``spatial_scale`` in cells per image pixel,
    ``quantization`` is the rounding of the box, ``partition`` the rounding of the bins inside it
    (``rounding``). Raises ParameterError.
    """

    operator: ClassVar[Operator] = "pool"
    title: ClassVar[str] = "RoI Pool"

    quantization: Quantization = "caffe"
    partition: Partition = "overlap"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rule(self.quantization, self.partition)

    @property
    def compiled(self) -> Compiled:
        """A kernel of its own."""
        return Compiled("run_roi_pool", ("pool_blocks",))

    @property
    def pixel_model(self) -> PixelModel:
        """RoI Pool's cell i covers [i, i + 1)."""
        return "half-pixel"

    @property
    def native_to_max_roi_pool(self) -> bool:
        """Whether one ONNX MaxRoiPool node computes this exactly (else index windows do)."""
        return self.quantization == "caffe" and self.partition == "overlap"

    def expect(
        self, feature_map: FloatArray, corners: FloatArray, coordinate_ulp: float = 0.0
    ) -> Iterator[tuple[slice, Expected]]:
        """The maxima of the bins."""
        return expect_pool(feature_map, corners, self)

    def graph_way(self, dtype: FloatType, resident: bool) -> GraphWay:
        """The MaxRoiPool node where it has this rule and type, else windows of cells."""
        node = self.native_to_max_roi_pool and dtype == np.float32 and not resident
        return "max roi pool node" if node else "index windows"

    def add_export(self, builder: GraphBuilder, dtype: FloatType) -> str:
        """One MaxRoiPool node, or index windows."""
        return add_pool(builder, self, dtype)


# Graphs ------------------------------------------------------------------------------------------


def build_max_roi_pool_graph(spec: PoolSpec) -> Graph:
    """RoI Pool by the default rule: ``features`` (N, C, H, W) and ``rois`` (k, 5), float32."""
    single = np.dtype(np.float32)
    builder = GraphBuilder()
    output = add_max_roi_pool(builder, spec)
    inputs: dict[str, tuple[np.dtype[np.generic], Sequence[Dimension]]] = {
        "features": (single, ("N", "C", "H", "W")),
        "rois": (single, ("K", 5)),
    }
    return finish_graph(builder, inputs, output, single, ("K", "C", *spec.output_size))


def add_max_roi_pool(builder: GraphBuilder, spec: PoolSpec) -> str:
    """One MaxRoiPool node over ``features`` and ``rois``."""
    return builder.add(
        "MaxRoiPool",
        "features",
        "rois",
        name="roi_features",
        pooled_shape=spec.output_size,
        spatial_scale=float(spec.spatial_scale),
    )


def build_window_pool_graph(dtype: FloatType, groups: int) -> Graph:
    """RoI Pool from ``cell_table`` (cells, C): maxima over windows of cells, in ``groups`` groups.

    ``windows`` (B, 4) int32, group by group: a window's first cell, the cells of one of its rows,
    its last place (cells - 1), and how many cells of the map stand between two of its rows.
    ``window_counts`` (groups,) int64 of them are in each group. ``places`` (sum of lengths,) int32
    is 0, 1, 2 ... for each group up to its length, and ``lengths`` (groups,) int64 says how far:
    places past a window's last stay on it, for a maximum does not mind a cell twice.
    ``number_of_bin`` (K, P_h, P_w) int32 says which window a bin is.
    """
    builder = GraphBuilder()
    add = builder.add
    windows = builder.split("windows", "window_counts", groups, axis=0)
    places = builder.split("places", "lengths", groups, axis=0)
    one_each = builder.integers(1, 1, 1, 1)
    maxima = []
    for window, place in zip(windows, places, strict=True):
        first, width, last, gap = builder.split(window, one_each, 4, axis=1)
        inside = add("Min", place, last)
        jumps = add("Mul", add("Div", inside, width), gap)
        values = add("Gather", "cell_table", add("Add", add("Add", first, inside), jumps), axis=0)
        maxima.append(builder.reduce("ReduceMax", values, (1,)))
    found = add("Gather", add("Concat", *maxima, axis=0), "number_of_bin", axis=0)
    output = add("Transpose", found, name="roi_features", perm=(0, 3, 1, 2))
    inputs: dict[str, tuple[np.dtype[np.generic], Sequence[Dimension]]] = {
        "cell_table": (dtype, ("cells", "C")),
        "windows": (INT32, ("B", 4)),
        "window_counts": (INT64, (groups,)),
        "places": (INT32, ("places",)),
        "lengths": (INT64, (groups,)),
        "number_of_bin": (INT32, ("K", "P_h", "P_w")),
    }
    return finish_graph(builder, inputs, output, dtype, ("K", "C", "P_h", "P_w"))


def add_pool(builder: GraphBuilder, spec: PoolSpec, dtype: FloatType) -> str:
    """RoI Pool: one node, or index windows."""
    if spec.native_to_max_roi_pool and dtype == np.float32:
        return add_max_roi_pool(builder, spec)
    return _add_pool_windows(builder, spec, dtype)


def _add_bins(math: Arithmetic, low: str, high: str, bins: int, spec: PoolSpec) -> tuple[str, str]:
    """``geometry.quantize_rois`` of one axis: (first, last), each (K, bins), before clipping."""
    rule, add = BOX_RULES[spec.quantization], math.builder.add
    start, size = rule.onnx(math, low, high, spec.spatial_scale)
    if rule.real_edges:
        return hull_bins_onnx(math, start, size, bins)
    size = add("Max", size, math.builder.integers(1))
    first, last = PARTITIONS[spec.partition].onnx(math, size, bins)
    return add("Add", start, first), add("Add", start, last)


def _add_axis_windows(math: Arithmetic, first: str, last: str, cells: str) -> tuple[str, str]:
    """Cells of every bin, (K, P, L), repeating the last one; and which bins are empty, (K, P)."""
    add, integers = math.builder.add, math.builder.integers
    zero, one = integers(0), integers(1)
    first = add("Min", add("Max", first, zero), cells)
    last = add("Min", add("Max", last, zero), cells)
    # Without RoIs there is no longest bin, so a 1 stands beside them.
    lengths = add("Concat", add("Reshape", add("Sub", last, first), integers(-1)), one, axis=0)
    longest = math.builder.reduce("ReduceMax", lengths)
    offsets = add(
        "Range", math.builder.constant(np.array(0)), longest, math.builder.constant(np.array(1))
    )
    deep_first, deep_last = (
        add("Unsqueeze", first, integers(2)),
        add("Unsqueeze", last, integers(2)),
    )
    window = add("Min", add("Add", deep_first, offsets), add("Sub", deep_last, one))
    return add("Max", window, zero), add("LessOrEqual", last, first)


def _add_pool_windows(builder: GraphBuilder, spec: PoolSpec, dtype: FloatType) -> str:
    """Index windows for every bin, looked up in the cell table, and their maximum."""
    math, add, integers = Arithmetic(builder, dtype), builder.add, builder.integers
    height, width = spec.output_size
    shape = add("Shape", "features")
    rows, across = (add("Gather", shape, integers(axis)) for axis in (2, 3))
    x1, y1, x2, y2 = (math.column("rois", k, k + 1) for k in (1, 2, 3, 4))
    y_cells, y_empty = _add_axis_windows(math, *_add_bins(math, y1, y2, height, spec), rows)
    x_cells, x_empty = _add_axis_windows(math, *_add_bins(math, x1, x2, width, spec), across)
    batch = add("Mul", math.whole(math.column("rois", 0, 1)), add("Mul", rows, across))
    batch = add("Unsqueeze", batch, integers(2, 3, 4))
    y_index = add("Unsqueeze", add("Mul", y_cells, across), integers(2, 4))
    x_index = add("Unsqueeze", x_cells, integers(1, 3))
    index = add("Add", add("Add", y_index, x_index), batch)
    values = add("Gather", add_cell_table(builder), index, axis=0)
    maxima = add_nan_safe_maximum(math, values)
    empty = add(
        "Or", add("Unsqueeze", y_empty, integers(2)), add("Unsqueeze", x_empty, integers(1))
    )
    if BOX_RULES[spec.quantization].real_edges:
        empty = add("Or", empty, _add_no_size(math, (x1, y1, x2, y2), spec))
    filled = add("Where", add("Unsqueeze", empty, integers(3)), math.number(0), maxima)
    return add("Transpose", filled, name="roi_features", perm=(0, 3, 1, 2))


def _add_no_size(math: Arithmetic, corners: tuple[str, str, str, str], spec: PoolSpec) -> str:
    """Real boxes without positive size, (K, 1, 1)."""
    add, rule, (x1, y1, x2, y2) = math.builder.add, BOX_RULES[spec.quantization], corners
    sides = [rule.onnx(math, *pair, spec.spatial_scale) for pair in ((x1, x2), (y1, y2))]
    none = add("Or", *(add("LessOrEqual", end, start) for start, end in sides))
    return add("Unsqueeze", none, math.builder.integers(2))


# What is expected --------------------------------------------------------------------------------


def expect_pool(
    feature_map: FloatArray, corners: FloatArray, spec: PoolSpec
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
