"""The graphs that operators' runs share: a map on its device, and its cells as rows.

RoiAlign and MaxRoiPool at opset 22 and later are not implemented by ONNX Runtime 1.31, so graphs
are opset 18.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from roicli.core.types import FloatType
from roicli.operators.onnx_graph import Arithmetic, Graph, GraphBuilder, finish_graph
from roicli.operators.onnx_protobuf import ELEMENT_TYPES, Dimension


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


def add_nan_safe_maximum(math: Arithmetic, values: str, axes: Sequence[int] = (3, 4)) -> str:
    """Maxima over the cells (axes 3 and 4) of every bin; NaN where one of them is.

    What ReduceMax does with a NaN depends on the provider and on where its vectors end.
    """
    add, reduce = math.builder.add, math.builder.reduce
    marks = math.real(add("IsNaN", values))
    marked = add("Greater", reduce("ReduceMax", marks, axes), math.number(0))
    maxima = reduce("ReduceMax", values, axes)
    return add("Where", marked, math.number(np.nan), maxima)
