"""The tables of rounding rules and of operators: whole, and NumPy beside ONNX."""

from dataclasses import fields, replace
from typing import get_args

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roicli.core.exceptions import ParameterError
from roicli.core.operator_table import Operator
from roicli.core.types import RoIs
from roicli.core.vocabulary import (
    PARTITION_MEANINGS,
    QUANTIZATION_MEANINGS,
    Partition,
    Quantization,
    SamplingGrid,
)
from roicli.operators import geometry, levels
from roicli.operators.interface import OperatorSpec
from roicli.operators.onnx_graph import INT64, Arithmetic, GraphBuilder, finish_graph
from roicli.operators.precise_roi_pool import bin_weights
from roicli.operators.roi_align import AlignSpec
from roicli.operators.rounding import (
    BOX_RULES,
    PARTITIONS,
    hull_bins,
    hull_bins_onnx,
    partition_box,
    quantize_box,
)
from roicli.operators.table import OPERATORS, operator_type
from roicli.pipeline.roi_table import to_corners
from roicli.runtime.devices import device_of
from tests.strategies import SCALES, examples

TYPES = [np.dtype(np.float32), np.dtype(np.float64)]
edges = st.lists(st.integers(-400, 900).map(lambda n: n / 4), min_size=1, max_size=8)


def test_every_word_has_an_entry_and_every_entry_a_word():
    assert tuple(BOX_RULES) == get_args(Quantization)
    assert tuple(PARTITIONS) == get_args(Partition)
    assert tuple(OPERATORS) == get_args(Operator)
    assert tuple(QUANTIZATION_MEANINGS) == tuple(BOX_RULES)
    assert tuple(PARTITION_MEANINGS) == tuple(PARTITIONS)
    for rule in BOX_RULES.values():
        assert rule.source
        assert set(rule.partitions) <= set(PARTITIONS)
        assert rule.partitions


def run_graph(dtype, build, inputs):
    """Both outputs of a graph of int64 or real values, one after another."""
    found = []
    for side in (0, 1):
        builder = GraphBuilder()
        output = build(Arithmetic(builder, dtype))[side]
        real = output_dtype(build, dtype)
        output = builder.add("Identity", output, name="out")
        kinds = {name: (values.dtype, values.shape) for name, values in inputs.items()}
        graph = finish_graph(builder, kinds, output, real, ("K", "P"))
        session = onnxruntime.InferenceSession(graph.model, providers=["CPUExecutionProvider"])
        found.append(session.run(None, inputs)[0])
    return found


def output_dtype(build, dtype):
    return dtype if getattr(build, "real", False) else INT64


@pytest.mark.parametrize(
    "dtype", [TYPES[0], pytest.param(TYPES[1], marks=pytest.mark.full)], ids=str
)
@pytest.mark.parametrize("name", BOX_RULES)
@examples(8)
@given(low=edges, length=edges, scale=st.sampled_from(SCALES))
def test_a_box_rule_is_the_same_in_numpy_and_in_onnx(dtype, name, low, length, scale):
    rule, count = BOX_RULES[name], min(len(low), len(length))
    first = np.array(low[:count], dtype)
    last = first + np.array(length[:count], dtype)
    expected = rule.numpy(first, last, scale)

    def build(math):
        return rule.onnx(math, "low", "high", scale)

    build.real = rule.real_edges
    found = run_graph(dtype, build, {"low": first[:, None], "high": last[:, None]})
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other[:, 0])


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("name", PARTITIONS)
@examples(8)
@given(sizes=st.lists(st.integers(1, 300), min_size=1, max_size=8), bins=st.integers(1, 15))
def test_a_partition_is_the_same_in_numpy_and_in_onnx(dtype, name, sizes, bins):
    rule, size = PARTITIONS[name], np.array(sizes, np.int64)[:, None]
    found = run_graph(dtype, lambda math: rule.onnx(math, "size", bins), {"size": size})
    for one, other in zip(rule.numpy(size, bins, dtype), found, strict=True):
        np.testing.assert_array_equal(np.broadcast_to(one, other.shape), other)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@examples(8)
@given(low=edges, bins=st.integers(1, 9))
def test_bins_of_a_real_box_are_the_same_in_numpy_and_in_onnx(dtype, low, bins):
    start = np.array(low, dtype)
    end = start + np.arange(1, len(low) + 1).astype(dtype) / 3
    inputs = {"start": start[:, None], "end": end[:, None]}
    found = run_graph(dtype, lambda math: hull_bins_onnx(math, "start", "end", bins), inputs)
    for one, other in zip(hull_bins(start, end, bins), found, strict=True):
        np.testing.assert_array_equal(one, other)


ONE = np.ones(1)
UNKNOWN = {
    "quantization": lambda: quantize_box(ONE, ONE, 1.0, "banker"),
    "partition": lambda: partition_box(
        np.ones(1, int), np.ones(1, int), 2, "even", np.dtype(np.float32)
    ),
    "grid": lambda: geometry.dropped_samples("fifths"),
    "points": lambda: geometry.bin_points(ONE, ONE, 1, 1, "fifths"),
    "level rule": lambda: levels.LevelAssignment("mine").assign(np.ones((1, 4)), 2, 5),
    "format": lambda: to_corners(np.ones((1, 4)), np.ones((1, 4)), "yxxy", None),
    "border": lambda: bin_weights(0.0, 1.0, 1, 3, "wrap"),
    "provider": lambda: device_of("tpu"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_word_is_not_computed_as_another(name):
    with pytest.raises((AssertionError, KeyError)):
        UNKNOWN[name]()


@pytest.mark.parametrize("word", ["nearby", "", None, 3])
def test_an_unknown_word_is_refused_by_name(word):
    with pytest.raises(ParameterError, match=r"^operator is .* expected one of: align, pool, pre"):
        operator_type(word)
    for name in OPERATORS:
        spec = operator_type(name)()
        for field in fields(spec):
            if isinstance(field.default, str):
                with pytest.raises(ParameterError, match="expected one of"):
                    replace(spec, **{field.name: word})


def test_what_an_operator_says_of_itself():
    corners = np.float32([[0, 0, 40, 80], [5, 5, 5, 5]])
    for name in OPERATORS:
        spec = operator_type(name)((3, 3), 0.25)
        assert isinstance(spec, OperatorSpec)
        assert spec.operator == name
        assert spec.title
        assert spec.at_scale(0.5) == replace(spec, spatial_scale=0.5)
        assert spec.output_channels(18) == (2 if name.startswith("ps-") else 18)
        assert spec.describe()["output_size"] == [3, 3]
        assert "spatial_scale" not in spec.describe()
        assert set(spec.defaults()) == set(spec.describe())
        rois = RoIs(np.zeros(2, int), corners, np.zeros(2), np.zeros((2, 5)))
        numbers = spec.numbers_of(rois)
        offsets = 2 * 3 * 3 if name == "deform-pool" else 0
        assert numbers.shape == (2, len(spec.roi_columns) + offsets)
        assert spec.numbers_of(rois.take(slice(0))).shape == (0, numbers.shape[1])
        assert (spec.work(numbers) >= 1).all()
        assert spec.work(numbers).shape == (2,)
    assert AlignSpec(sampling_ratio=3).work(corners).tolist() == [9, 9]
    assert get_args(SamplingGrid) == ("quarters", "thirds")
