"""Graphs for others to run: features (N, C, H, W) and rois (K, 5) in, (K, C, P_h, P_w) out.

The run-time graphs take their boxes and windows from ``geometry``; these do the same arithmetic,
operation by operation, inside the graph. Tests hold the two against each other bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.types import FloatType
from roicli.operators.interface import OperatorSpec
from roicli.operators.onnx_graph import Graph, GraphBuilder, finish_graph
from roicli.operators.onnx_protobuf import IR_VERSIONS, OPSET, Dimension

# What exported graphs are written in where nothing else is said, and all that they can be.
EXPORT_OPSET, EXPORT_OPSETS = OPSET, tuple(IR_VERSIONS)


def build_export_graph(
    spec: OperatorSpec, dtype: FloatType, metadata: dict[str, str], opset: int = EXPORT_OPSET
) -> Graph:
    """One graph that needs ONNX Runtime alone. Raises ParameterError where no graph can say it."""
    if opset not in IR_VERSIONS:
        raise ParameterError(
            f"opset is {opset!r}, expected {min(IR_VERSIONS)} to {max(IR_VERSIONS)}",
            "RoiAlign has half pixels from 16 on, and ONNX Runtime does not implement 22's",
        )
    builder = GraphBuilder(opset=opset)
    output = spec.add_export(builder, dtype)
    inputs: dict[str, tuple[np.dtype[np.generic], Sequence[Dimension]]] = {
        "features": (dtype, ("N", "C", "H", "W")),
        "rois": (dtype, ("K", 1 + len(spec.roi_columns))),
    }
    if spec.offset_shape:
        inputs["offsets"] = (dtype, ("K", *spec.offset_shape))
    shape = ("K", "C", *spec.output_size)
    return finish_graph(builder, inputs, output, dtype, shape, metadata)
