"""ONNX graphs, built node by node: bytes in protobuf's wire format, arithmetic by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from roicli.core.types import Array, FloatType
from roicli.operators.onnx_protobuf import (
    OPSET,
    Attribute,
    Dimension,
    encode_model,
    encode_node,
    encode_tensor,
    encode_value,
)

INT32, INT64 = np.dtype(np.int32), np.dtype(np.int64)
AXES_ARE_INPUTS_FROM = 18
TO_THE_END = np.iinfo(np.int64).max


class Graph(NamedTuple):
    """A serialized model, and the names of its inputs and its one output."""

    model: bytes
    inputs: tuple[str, ...]
    output: str


@dataclass(eq=False, repr=False)
class GraphBuilder:
    """Collects nodes and constants; every call returns the name of the value it made."""

    nodes: list[bytes] = field(default_factory=list)
    constants: list[bytes] = field(default_factory=list)
    count: int = 0
    opset: int = OPSET

    def add(self, op_type: str, *inputs: str, name: str = "", **attributes: Attribute) -> str:
        """Append a node with one output."""
        self.count += 1
        output = name or f"v{self.count}"
        self.nodes.append(encode_node(op_type, inputs, [output], **attributes))
        return output

    def reduce(
        self, op_type: str, value: str, axes: Sequence[int] = (), keepdims: bool = False
    ) -> str:
        """A reduction along ``axes``, or along all; before opset 18 they are an attribute."""
        if not axes:
            return self.add(op_type, value, keepdims=int(keepdims))
        if self.opset < AXES_ARE_INPUTS_FROM:
            return self.add(op_type, value, axes=axes, keepdims=int(keepdims))
        return self.add(op_type, value, self.integers(*axes), keepdims=int(keepdims))

    def constant(self, values: Array) -> str:
        """Append an initializer."""
        self.count += 1
        self.constants.append(encode_tensor(f"c{self.count}", values))
        return f"c{self.count}"

    def integers(self, *values: int) -> str:
        """Append a 1-D int64 initializer."""
        return self.constant(np.array(values, np.int64))

    def split(self, value: str, sizes: str, parts: int, axis: int) -> list[str]:
        """``value`` cut along ``axis`` into ``parts``, whose sides are the 1-D tensor ``sizes``."""
        self.count += 1
        names = [f"v{self.count}_{part}" for part in range(parts)]
        self.nodes.append(encode_node("Split", [value, sizes], names, axis=axis))
        return names

    def strided(self, value: str, axis: int, start: int, step: int) -> str:
        """``value[start::step]`` along ``axis``."""
        bounds = [self.integers(number) for number in (start, TO_THE_END, axis, step)]
        return self.add("Slice", value, *bounds)


class Arithmetic:
    """Elementwise formulas over a builder, in the tensors' float type."""

    def __init__(self, builder: GraphBuilder, dtype: FloatType) -> None:
        self.builder, self.dtype = builder, dtype

    def number(self, value: float) -> str:
        """A scalar of the tensors' float type."""
        return self.builder.constant(np.array(value, self.dtype))

    def numbers(self, values: Array) -> str:
        """An array in the tensors' float type."""
        return self.builder.constant(values.astype(self.dtype))

    def column(self, rois: str, first: int, last: int) -> str:
        """Columns ``first:last`` of the RoIs."""
        bounds = [self.builder.integers(value) for value in (first, last, 1)]
        return self.builder.add("Slice", rois, *bounds)

    def whole(self, value: str) -> str:
        """Whole float numbers to int64."""
        return self.builder.add("Cast", value, to=7)

    def real(self, value: str) -> str:
        """int64 or bool to the tensors' float type."""
        return self.builder.add("Cast", value, to=1 if self.dtype == np.float32 else 11)

    def scaled(self, value: str, spatial_scale: float) -> str:
        """``rounding.scale_to_cells``."""
        return self.builder.add("Mul", value, self.number(float(np.float32(spatial_scale))))

    def round_half_away(self, value: str) -> str:
        """``rounding.round_half_away``: by the exact distance to the truncated value."""
        add = self.builder.add
        magnitude = add("Abs", value)
        whole = add("Floor", magnitude)
        up = add("GreaterOrEqual", add("Sub", magnitude, whole), self.number(0.5))
        rounded = add("Add", whole, add("CastLike", up, whole))
        return add("Mul", rounded, add("Sign", value))


def finish_graph(
    builder: GraphBuilder,
    inputs: dict[str, tuple[np.dtype[np.generic], Sequence[Dimension]]],
    output: str,
    dtype: FloatType,
    shape: Sequence[Dimension],
    metadata: dict[str, str] | None = None,
) -> Graph:
    """Close the builder over its inputs and its output."""
    model = encode_model(
        builder.nodes,
        [encode_value(name, kind, sides) for name, (kind, sides) in inputs.items()],
        [encode_value(output, dtype, shape)],
        builder.constants,
        metadata,
        builder.opset,
    )
    return Graph(model, tuple(inputs), output)
