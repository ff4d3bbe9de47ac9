"""Specs to ONNX graphs. The only place that knows ONNX's spelling and opsets.

RoiAlign and MaxRoiPool at opset 22 and later are not implemented by ONNX Runtime 1.31, so graphs
are opset 18. ONNX's own ``mode="max"`` takes the maximum over weighted corners, not over the
interpolated samples (microsoft/onnxruntime#6146); it is never emitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import numpy as np

from roicli.core.types import FloatType, Size
from roicli.operators.geometry import AlignLike, PoolLike, dropped_samples
from roicli.operators.onnx_graph import INT32, INT64, Graph, GraphBuilder, finish_graph
from roicli.operators.onnx_protobuf import ELEMENT_TYPES, Dimension


def fine_grid_steps(spec: AlignLike, counts: Size) -> Size:
    """Sub-bins a bin (height, width) of the grid of single samples; thirds drop the last one."""
    extra = dropped_samples(spec.sampling_grid)
    return counts[0] + extra, counts[1] + extra


def add_roi_align(
    builder: GraphBuilder,
    spec: AlignLike,
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
    spec: AlignLike, dtype: FloatType, counts: Size | None = None, exact: bool = False
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


def build_max_roi_pool_graph(spec: PoolLike) -> Graph:
    """RoI Pool by the default rule: ``features`` (N, C, H, W) and ``rois`` (k, 5), float32."""
    single = np.dtype(np.float32)
    builder = GraphBuilder()
    output = add_max_roi_pool(builder, spec)
    inputs: dict[str, tuple[np.dtype[np.generic], Sequence[Dimension]]] = {
        "features": (single, ("N", "C", "H", "W")),
        "rois": (single, ("K", 5)),
    }
    return finish_graph(builder, inputs, output, single, ("K", "C", *spec.output_size))


def add_max_roi_pool(builder: GraphBuilder, spec: PoolLike) -> str:
    """One MaxRoiPool node over ``features`` and ``rois``."""
    return builder.add(
        "MaxRoiPool",
        "features",
        "rois",
        name="roi_features",
        pooled_shape=spec.output_size,
        spatial_scale=float(spec.spatial_scale),
    )


def add_cell_table(builder: GraphBuilder) -> str:
    """``features`` (N, C, H, W) to one row a cell, ``cell_table`` (N * H * W, C)."""
    cells = builder.add("Transpose", "features", perm=(0, 2, 3, 1))
    return builder.add("Flatten", cells, name="cell_table", axis=3)


def build_cell_table_graph(dtype: FloatType) -> Graph:
    """``features`` (N, C, H, W) to ``cell_table`` (N * H * W, C)."""
    builder = GraphBuilder()
    output = add_cell_table(builder)
    shapes: dict[str, tuple[np.dtype[np.generic], Sequence[Dimension]]] = {
        "features": (dtype, ("N", "C", "H", "W"))
    }
    return finish_graph(builder, shapes, output, dtype, ("cells", "C"))


def build_placing_graph(stored: FloatType, dtype: FloatType) -> Graph:
    """``features`` (N, C, H, W) as they are stored to ``placed``, the same in ``dtype``.

    What it gives stays on the session's device.
    """
    builder = GraphBuilder()
    if stored == dtype:
        output = builder.add("Identity", "features", name="placed")
    else:
        output = builder.add("Cast", "features", name="placed", to=ELEMENT_TYPES[dtype.name])
    sides = ("N", "C", "H", "W")
    return finish_graph(builder, {"features": (stored, sides)}, output, dtype, sides)


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
    one_each, axis = builder.integers(1, 1, 1, 1), builder.integers(1)
    maxima = []
    for window, place in zip(windows, places, strict=True):
        first, width, last, gap = builder.split(window, one_each, 4, axis=1)
        inside = add("Min", place, last)
        jumps = add("Mul", add("Div", inside, width), gap)
        values = add("Gather", "cell_table", add("Add", add("Add", first, inside), jumps), axis=0)
        maxima.append(add("ReduceMax", values, axis, keepdims=0))
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
