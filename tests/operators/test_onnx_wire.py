"""The hand-written wire format against onnx's own parser."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from roicli.operators import onnx_protobuf as onnx_wire

INT64 = st.integers(-(2**63), 2**63 - 1)
WORDS = st.text(max_size=300)
DTYPES = ["float32", "int64", "bool", "float16", "float64"]


def parse_node(data):
    return onnx.NodeProto.FromString(data)


def attribute_of(value):
    node = parse_node(onnx_wire.encode_node("Op", ["a"], ["b"], key=value))
    (attribute,) = node.attribute
    assert attribute.name == "key"
    return attribute


@given(INT64)
def test_integers_of_any_size_and_sign_survive(value):
    attribute = attribute_of(value)
    assert attribute.type == onnx.AttributeProto.INT
    assert onnx.helper.get_attribute_value(attribute) == value


@given(st.lists(INT64, max_size=8))
def test_lists_of_integers_survive(values):
    attribute = attribute_of(values)
    assert attribute.type == onnx.AttributeProto.INTS
    assert list(attribute.ints) == values


@given(WORDS)
def test_strings_survive_the_empty_one_too(value):
    attribute = attribute_of(value)
    assert attribute.type == onnx.AttributeProto.STRING
    assert attribute.s.decode() == value


@given(st.floats(width=32))
def test_floats_survive_as_float32(value):
    attribute = attribute_of(value)
    assert attribute.type == onnx.AttributeProto.FLOAT
    np.testing.assert_equal(attribute.f, value)


@given(st.lists(WORDS, max_size=5), st.lists(WORDS, min_size=1, max_size=3), WORDS)
def test_node_names_survive(inputs, outputs, op_type):
    node = parse_node(onnx_wire.encode_node(op_type, inputs, outputs))
    assert (list(node.input), list(node.output), node.op_type) == (inputs, outputs, op_type)


@given(
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 4), max_size=3),
    st.sampled_from("<>"),
    WORDS,
)
def test_tensors_survive_in_every_dtype_shape_and_byte_order(dtype, shape, order, name):
    values = np.random.default_rng(0).normal(scale=9, size=shape).astype(dtype)
    stored = np.asarray(values).astype(np.dtype(dtype).newbyteorder(order))
    tensor = onnx.TensorProto.FromString(onnx_wire.encode_tensor(name, stored))
    assert tensor.name == name
    read = numpy_helper.to_array(tensor)
    assert read.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read, values)


@given(st.sampled_from(DTYPES), st.lists(st.one_of(st.integers(0, 2**40), st.text(min_size=1))))
def test_values_keep_dtype_and_named_or_numbered_sides(dtype, shape):
    data = onnx_wire.encode_value("x", np.dtype(dtype), shape)
    value = onnx.ValueInfoProto.FromString(data)
    tensor = value.type.tensor_type
    assert value.name == "x"
    assert tensor.elem_type == onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    sides = [d.dim_param if d.HasField("dim_param") else d.dim_value for d in tensor.shape.dim]
    assert sides == shape


@given(st.dictionaries(WORDS, WORDS, max_size=5))
def test_metadata_survives(metadata):
    data = onnx_wire.encode_model([], [], [], (), metadata)
    model = onnx.ModelProto.FromString(data)
    assert {entry.key: entry.value for entry in model.metadata_props} == metadata


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16383, 16384, 3_000_000])
def test_lengths_over_each_varint_boundary(length):
    values = np.arange(length).astype(np.bool_)
    tensor = onnx.TensorProto.FromString(onnx_wire.encode_tensor("x", values))
    np.testing.assert_array_equal(numpy_helper.to_array(tensor), values)


def test_the_model_names_opset_18_and_its_ir_version():
    model = onnx.ModelProto.FromString(onnx_wire.encode_model([], [], []))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert model.ir_version == onnx.helper.find_min_ir_version_for(list(model.opset_import))
