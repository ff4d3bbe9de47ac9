"""ONNX models that are wrong, deep, huge or point elsewhere: one line, and nothing else is read."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fuzz.model_inputs import nest_deeply
from tests.cli.running import FEATURES, ROIS, assert_refused, refuse, run, succeed
from tests.options import some

pytestmark = pytest.mark.usefixtures("inputs")
RIGHT = {"output_height": 2, "output_width": 3, "sampling_ratio": 2, "spatial_scale": 0.25}


def save_model(
    *nodes: Any, opset: int | None = 16, path: str = "m.onnx", initializer: Any = ()
) -> str:
    graph = helper.make_graph(nodes, "g", [], [], initializer=initializer)
    opsets = [] if opset is None else [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets)
    if opset is None:
        del model.opset_import[:]
    Path(path).write_bytes(model.SerializeToString())
    return path


def align_node(**attributes: Any) -> Any:
    return helper.make_node("RoiAlign", ["f", "r", "b"], ["o"], "roi", **{**RIGHT, **attributes})


def pool_node(**attributes: Any) -> Any:
    return helper.make_node("MaxRoiPool", ["f", "r"], ["o"], "roi", **attributes)


def refuse_graph(path: str, *words: str, operator: str = "align") -> None:
    """Both commands that take a graph refuse it; ``inspect`` shows it or refuses it."""
    refuse(operator, FEATURES, ROIS, "--graph", path, words=words)
    refuse("export", operator, "out.onnx", "--graph", path, words=words)
    shown = run("inspect", path, "--format", "json")
    assert shown.code in (0, 2)
    assert len(shown.errors) == (shown.code == 2)
    assert "NaN" not in shown.text


def test_a_right_model_is_taken() -> None:
    path = save_model(align_node())
    succeed("align", FEATURES, ROIS, "--graph", path, "-o", "out.npy", "-q")
    assert np.load("out.npy").shape == (5, 3, 2, 3)


@pytest.mark.parametrize(
    ("attributes", "word"),
    [
        ({"output_height": 10**9}, "output size is 1000000000x3"),
        ({"output_height": -1}, "output size is (-1, 3)"),
        ({"output_width": 0}, "output size is (2, 0)"),
        ({"output_height": 2**63 - 1, "output_width": -(2**63)}, "output size"),
        ({"output_height": 7.9}, "wrong type"),
        ({"output_height": float("inf")}, "wrong type"),
        ({"output_height": "7"}, "wrong type"),
        ({"output_height": [7, 7]}, "wrong type"),
        ({"sampling_ratio": -1}, "sampling ratio is -1"),
        ({"sampling_ratio": 2**62}, "sampling ratio is"),
        ({"sampling_ratio": 2.0}, "wrong type"),
        ({"spatial_scale": float("nan")}, "spatial scale is nan"),
        ({"spatial_scale": float("inf")}, "spatial scale is inf"),
        ({"spatial_scale": 0.0}, "spatial scale is 0"),
        ({"spatial_scale": -0.5}, "spatial scale is -0.5"),
        ({"spatial_scale": 1}, "wrong type"),
        ({"spatial_scale": [0.5]}, "wrong type"),
        ({"mode": "median"}, "mode='median'"),
        ({"mode": "max"}, "mode='max'"),
        ({"mode": 3}, "wrong type"),
        ({"mode": b"\xff\xfe"}, "wrong type"),
        ({"coordinate_transformation_mode": "middle"}, "coordinate_transformation_mode"),
        ({"coordinate_transformation_mode": 1}, "coordinate_transformation_mode"),
    ],
    ids=str,
)
def test_absurd_attributes(attributes: dict[str, Any], word: str) -> None:
    refuse_graph(save_model(align_node(**attributes)), word)


@pytest.mark.parametrize(
    "shape", [None, [7], [7, 7, 7], [-7, 7], [10**9, 10**9], [0, 7], [7.0, 7.0], 7, "77"], ids=str
)
def test_absurd_pooled_shapes(shape: Any) -> None:
    attributes = {} if shape is None else {"pooled_shape": shape}
    refuse_graph(save_model(pool_node(**attributes)), operator="pool")


@pytest.mark.parametrize("opset", [None, 0, -1, 9, -(2**63)])
def test_opsets_without_the_operator(opset: int | None) -> None:
    refuse_graph(save_model(align_node(), opset=opset), "m.onnx", "opset", "from opset 10 on")


def test_an_opset_of_the_far_future_is_refused() -> None:
    for opset in (onnx.defs.onnx_opset_version() + 1, 2**62):
        refuse_graph(save_model(align_node(), opset=opset), "m.onnx", str(opset), "knows")


def test_custom_domains_are_shown_and_not_run() -> None:
    node = align_node()
    node.domain = "com.evil"
    path = save_model(node)
    refuse_graph(path, "no RoiAlign or MaxRoiPool node")
    assert "custom operator" in " ".join(succeed("inspect", path).text.split())


@pytest.mark.parametrize(
    "location", ["/etc/hostname", "../secret", "pipe", "/dev/zero", "gone.bin"]
)
def test_external_data_is_never_read(location: str) -> None:
    os.mkfifo("pipe")  # reading it would wait for ever
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 40])
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("length", str(1 << 42))):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    path = save_model(align_node(), initializer=[weight])
    succeed("align", FEATURES, ROIS, "--graph", path, "-o", "out.npy", "-q")
    assert "RoiAlign" in succeed("inspect", path).text
    succeed("export", "align", "out.onnx", "--graph", path, "-q")


@some("depth", [(34,), (1000,), (20_000,)], (34,), (1000,))
def test_subgraphs_deeper_than_protobuf_goes(depth: int) -> None:
    graph = helper.make_graph([align_node()], "g", [], [])
    Path("m.onnx").write_bytes(nest_deeply(graph, depth))
    refuse_graph("m.onnx", "m.onnx", "cannot be read as an ONNX model")


def test_subgraphs_as_deep_as_protobuf_goes() -> None:
    graph = helper.make_graph([align_node()], "g", [], [])
    Path("m.onnx").write_bytes(nest_deeply(graph, 31))
    assert "RoiAlign" in succeed("inspect", "m.onnx").text


@pytest.mark.parametrize(
    ("name", "word"), [("RoiAlign", "no RoiAlign"), ("output_height", "not UTF-8")]
)
def test_names_that_are_no_utf8(name: str, word: str) -> None:
    """A node may be called anything; what says what it computes is not guessed."""
    data = Path(save_model(align_node())).read_bytes()
    Path("m.onnx").write_bytes(data.replace(name.encode(), b"\xff" * len(name)))
    refuse_graph("m.onnx", "m.onnx", word)


@pytest.mark.parametrize(
    "data",
    [b"\x3a\xff\xff\xff\xff\x0f", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x0b" * 5000,
     b"\xff" * 100, b"PK\x03\x04", b'{"graph": {}}', b"\x08\x07"],
    ids=["4 GiB", "8 EiB", "groups", "ff", "zip", "json", "no graph"],
)  # fmt: skip
def test_bytes_that_are_no_model(data: bytes) -> None:
    Path("m.onnx").write_bytes(data)
    refuse_graph("m.onnx", "m.onnx", "cannot be read as an ONNX model")


def test_a_model_past_protobufs_limit() -> None:
    path = save_model(align_node())
    os.truncate(path, 1 << 41)
    refuse_graph(path, "m.onnx", "at most 2,147,483,647")


def test_a_list_of_a_million_is_shown_by_its_beginning() -> None:
    node = helper.make_node("MyRoiThing", [], ["o"], "x", values=list(range(1_000_000)))
    node.domain = "custom"
    outcome = succeed("inspect", save_model(node), "--format", "json")
    assert len(outcome.text) < 10_000


def test_the_ending_does_not_choose_the_parser() -> None:
    """``onnx.load`` would read JSON or text by the file's ending."""
    for name in ("m.json", "m.textproto", "m.onnxtxt"):
        save_model(align_node(), path=name)
        succeed("align", FEATURES, ROIS, "--graph", name, "-o", "out.npy", "--force", "-q")
        Path(name).write_text('{"irVersion": "9", "graph": {}}')
        outcome = run("align", FEATURES, ROIS, "--graph", name)
        assert_refused(outcome, name, "cannot be read as an ONNX model")
