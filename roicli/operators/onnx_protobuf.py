"""ONNX models as bytes, straight in protobuf's wire format.

The ``onnx`` package imports for longer than a small run takes, and every run needs a graph. This is
the part of onnx.proto that the graphs of roicli use, no more: nodes with number and string
attributes, dense initializers, one opset. The tests read every graph back with ``onnx`` and check
it. Source: onnx/onnx.proto (field numbers), protobuf encoding guide (wire types).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import numpy as np

from roicli.core.types import Array

IR_VERSION = 8  # what onnx pairs with opset 18
OPSET = 18
# The opsets that graphs can be written in, each with the format that onnx pairs with it.
IR_VERSIONS = {16: 8, 17: 8, OPSET: IR_VERSION, 19: 9, 20: 9, 21: 10}

ELEMENT_TYPES = {"float32": 1, "int32": 6, "int64": 7, "bool": 9, "float16": 10, "float64": 11}

Attribute = int | float | str | Sequence[int]
Dimension = int | str


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _attribute(name: str, value: Attribute) -> bytes:
    """AttributeProto: name=1, f=2, i=3, s=4, ints=8, type=20."""
    if isinstance(value, float):
        body = _varint(2 << 3 | 5) + struct.pack("<f", value) + _number(20, 1)
    elif isinstance(value, int):
        body = _number(3, value) + _number(20, 2)
    elif isinstance(value, str):
        body = _bytes(4, value) + _number(20, 3)
    else:
        body = b"".join(_number(8, item) for item in value) + _number(20, 7)
    return _bytes(1, name) + body


def encode_node(
    op_type: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Attribute
) -> bytes:
    """NodeProto: input=1, output=2, name=3, op_type=4, attribute=5; named after its output."""
    parts = [_bytes(1, name) for name in inputs] + [_bytes(2, name) for name in outputs]
    parts += [_bytes(3, f"{op_type}_{outputs[0]}"), _bytes(4, op_type)]
    parts += [_bytes(5, _attribute(name, value)) for name, value in attributes.items()]
    return b"".join(parts)


def encode_tensor(name: str, values: Array) -> bytes:
    """TensorProto: dims=1, data_type=2, name=8, raw_data=9 (little-endian)."""
    little = values.astype(values.dtype.newbyteorder("<"))
    dims = b"".join(_number(1, side) for side in values.shape)
    kind = _number(2, ELEMENT_TYPES[values.dtype.name])
    return dims + kind + _bytes(8, name) + _bytes(9, little.tobytes())


def encode_value(name: str, dtype: np.dtype[np.generic], shape: Sequence[Dimension]) -> bytes:
    """ValueInfoProto: name=1, type=2 {tensor_type=1 {elem_type=1, shape=2 {dim=1}}}."""
    sides = b"".join(
        _bytes(1, _number(1, side) if isinstance(side, int) else _bytes(2, side)) for side in shape
    )
    tensor = _number(1, ELEMENT_TYPES[np.dtype(dtype).name]) + _bytes(2, sides)
    return _bytes(1, name) + _bytes(2, _bytes(1, tensor))


def encode_model(
    nodes: Sequence[bytes],
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    initializers: Sequence[bytes] = (),
    metadata: Mapping[str, str] | None = None,
    opset: int = OPSET,
) -> bytes:
    """ModelProto around one GraphProto; ``metadata`` becomes metadata_props."""
    graph = b"".join(
        [_bytes(1, node) for node in nodes]
        + [_bytes(2, "roicli")]
        + [_bytes(5, tensor) for tensor in initializers]
        + [_bytes(11, value) for value in inputs]
        + [_bytes(12, value) for value in outputs]
    )
    parts = [_number(1, IR_VERSIONS[opset]), _bytes(2, "roicli"), _bytes(7, graph)]
    parts.append(_bytes(8, _bytes(1, "") + _number(2, opset)))
    for key, value in (metadata or {}).items():
        parts.append(_bytes(14, _bytes(1, key) + _bytes(2, value)))
    return b"".join(parts)
