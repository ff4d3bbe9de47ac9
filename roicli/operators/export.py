"""Graphs for others to run: features (N, C, H, W) and rois (K, 5) in, (K, C, P_h, P_w) out.

The run-time graphs take their boxes and windows from ``geometry``; these do the same arithmetic,
operation by operation, inside the graph. Tests hold the two against each other bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.types import FloatType
from roicli.operators.geometry import AlignLike, PoolLike, dropped_samples
from roicli.operators.graphs import add_cell_table, add_max_roi_pool, add_roi_align
from roicli.operators.interface import OperatorSpec
from roicli.operators.onnx_graph import Arithmetic, Graph, GraphBuilder, finish_graph
from roicli.operators.onnx_protobuf import Dimension
from roicli.operators.rounding import BOX_RULES, PARTITIONS, hull_bins_onnx


def build_export_graph(spec: OperatorSpec, dtype: FloatType, metadata: dict[str, str]) -> Graph:
    """One graph that needs ONNX Runtime alone. Raises ParameterError where no graph can say it."""
    builder = GraphBuilder()
    output = spec.add_export(builder, dtype)
    inputs: dict[str, tuple[np.dtype[np.generic], Sequence[Dimension]]] = {
        "features": (dtype, ("N", "C", "H", "W")),
        "rois": (dtype, ("K", 5)),
    }
    shape = ("K", "C", *spec.output_size)
    return finish_graph(builder, inputs, output, dtype, shape, metadata)


def add_align(builder: GraphBuilder, spec: AlignLike, dtype: FloatType) -> str:
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


def add_pool(builder: GraphBuilder, spec: PoolLike, dtype: FloatType) -> str:
    """RoI Pool: one node, or index windows."""
    if spec.native_to_max_roi_pool and dtype == np.float32:
        return add_max_roi_pool(builder, spec)
    return _add_pool_windows(builder, spec, dtype)


def _add_thirds_shift(math: Arithmetic, corners: str, spec: AlignLike) -> str:
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


def _add_bins(math: Arithmetic, low: str, high: str, bins: int, spec: PoolLike) -> tuple[str, str]:
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
    longest = add("ReduceMax", lengths, keepdims=0)
    offsets = add(
        "Range", math.builder.constant(np.array(0)), longest, math.builder.constant(np.array(1))
    )
    deep_first, deep_last = (
        add("Unsqueeze", first, integers(2)),
        add("Unsqueeze", last, integers(2)),
    )
    window = add("Min", add("Add", deep_first, offsets), add("Sub", deep_last, one))
    return add("Max", window, zero), add("LessOrEqual", last, first)


def _add_pool_windows(builder: GraphBuilder, spec: PoolLike, dtype: FloatType) -> str:
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
    maxima = _add_nan_safe_maximum(math, values)
    empty = add(
        "Or", add("Unsqueeze", y_empty, integers(2)), add("Unsqueeze", x_empty, integers(1))
    )
    if BOX_RULES[spec.quantization].real_edges:
        empty = add("Or", empty, _add_no_size(math, (x1, y1, x2, y2), spec))
    filled = add("Where", add("Unsqueeze", empty, integers(3)), math.number(0), maxima)
    return add("Transpose", filled, name="roi_features", perm=(0, 3, 1, 2))


def _add_nan_safe_maximum(math: Arithmetic, values: str) -> str:
    """Maxima over the cells (axes 3 and 4) of every bin; NaN where one of them is.

    What ReduceMax does with a NaN depends on the provider and on where its vectors end.
    """
    add, axes = math.builder.add, math.builder.integers(3, 4)
    marks = math.real(add("IsNaN", values))
    marked = add("Greater", add("ReduceMax", marks, axes, keepdims=0), math.number(0))
    maxima = add("ReduceMax", values, axes, keepdims=0)
    return add("Where", marked, math.number(np.nan), maxima)


def _add_no_size(math: Arithmetic, corners: tuple[str, str, str, str], spec: PoolLike) -> str:
    """Real boxes without positive size, (K, 1, 1)."""
    add, rule, (x1, y1, x2, y2) = math.builder.add, BOX_RULES[spec.quantization], corners
    sides = [rule.onnx(math, *pair, spec.spatial_scale) for pair in ((x1, x2), (y1, y2))]
    none = add("Or", *(add("LessOrEqual", end, start) for start, end in sides))
    return add("Unsqueeze", none, math.builder.integers(2))
