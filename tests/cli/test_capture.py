"""``roicli capture`` as a user runs it: what it lists, prints and refuses."""

import json
import shlex

import numpy as np
import onnx
import pytest

from tests import models
from tests.cli.running import SAMPLES, refuse, save, succeed

DETECTOR = str(SAMPLES / "two_stage.onnx")


def test_the_list_shows_inputs_heads_and_nodes():
    text = succeed("capture", DETECTOR, "--list").text
    for word in ("image float32 (1, 3, height, width)", "class_scores", "head0", "p2", "p3"):
        assert word in text
    found = json.loads(succeed("capture", DETECTOR, "--list", "--format", "json").text)
    (head,) = found["heads"]
    assert [node["level"] for node in head["nodes"]] == ["p2", "p3"]
    assert head["nodes"][0]["attributes"]["sampling_ratio"] == 2
    path = models.loop_model("loop.onnx")
    found = json.loads(succeed("capture", path, "--list", "--format", "json").text)
    assert found["heads"][0]["nodes"][0]["inside"] == ["Loop again body"]


def test_without_roi_nodes_the_list_shows_what_looks_like_maps():
    save_branches("branches.onnx")
    found = json.loads(succeed("capture", "branches.onnx", "--list", "--format", "json").text)
    # "once" has one reader, "vector" no sides, "whole" is of integers; the last comes first.
    assert [one["name"] for one in found["maps"]] == ["p3", "p2"]
    assert found["maps"][0] == {"name": "p3", "channels": 4, "made_by": "MaxPool"}
    text = succeed("capture", "branches.onnx", "--list").text
    assert "p3" in text
    assert "once" not in text
    photo = np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)
    succeed("capture", "branches.onnx", "--input", f"x={save('x.npy', photo)}",
            "--outputs", "p2,p3", "-o", "c.h5")  # fmt: skip
    shown = succeed("inspect", "c.h5").text
    assert "original and network size" in shown
    assert "names of the images" in shown
    assert "cannot be read" not in shown


def save_branches(path):
    """x, a convolution with one reader, a map with two, a smaller one with two, a vector."""
    node = onnx.helper.make_node
    nodes = [
        node("Conv", ["x", "w"], ["once"]), node("Relu", ["once"], ["p2"]),
        node("MaxPool", ["p2"], ["p3"], kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["p2"], ["vector"]),
        node("Cast", ["p3"], ["whole"], to=onnx.TensorProto.INT32),
        node("Mul", ["vector", "p3"], ["scaled"]), node("Relu", ["vector"], ["other"]),
        node("Neg", ["whole"], ["a"]), node("Abs", ["whole"], ["b"]),
    ]  # fmt: skip
    value = onnx.helper.make_tensor_value_info
    inputs = [value("x", onnx.TensorProto.FLOAT, [1, 3, "H", "W"])]
    outputs = [
        value(name, kind, None) for name, kind in (("scaled", 1), ("other", 1), ("a", 6), ("b", 6))
    ]
    weights = onnx.numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w")
    graph = onnx.helper.make_graph(nodes, "branches", inputs, outputs, [weights])
    opsets = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), path)


def test_the_command_that_is_printed_gives_the_same_bits():
    photo = np.random.default_rng(0).integers(0, 256, (1, 3, 96, 128)).astype(np.float32)
    given = ("--input", f"image={save('photo.npy', photo)}", "-o", "c.h5")
    found = json.loads(succeed("capture", DETECTOR, *given, "--format", "json").text)
    (head,) = found["heads"]
    assert head["shape"] == [40, 16, 7, 7]
    program, *words = shlex.split(head["command"])
    assert program == "roicli"
    succeed(*words, "--provider", "cpu", "--no-table", "-o", "again.h5")
    succeed("compare", "again.h5", "c.h5::head0/roi_features", "--atol", "0", "--rtol", "0")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((), ("output is not given", "--list")),
        (("-o", "c.h5"), ("input image float32", "is not given", "--image PHOTO")),
        (("--image", "none.jpg", "-o", "c.h5"), ("none.jpg: no such file",)),
        (("none.jpg", "-o", "c.h5"), ("none.jpg: no such file",)),
        (("--input", "image=none.npy", "-o", "c.h5"), ("none.npy: no such file",)),
        (("--input", "image", "-o", "c.h5"), ("NAME=FILE",)),
        (("--image", "a.jpg", "--resize", "10y", "-o", "c.h5"), ("resize is '10y'",)),
        (("--image", "a.jpg", "--std", "0", "-o", "c.h5"), ("std is", "positive")),
        (("--input", "image=i.npy", "-o", "c.npy"), ("c.npy: unknown ending '.npy'",)),
        (("--input", "image=i.npy", "--provider", "native", "-o", "c.h5"), ("native",)),
        (("--input", "image=i.npy", "--outputs", "boxs", "-o", "c.h5"), ("did you mean boxes",)),
    ],
)
def test_wrong_calls_are_one_line(given, words):
    save("i.npy", np.zeros((1, 3, 96, 128), np.float32))
    refuse("capture", DETECTOR, *given, words=words)


def test_photos_that_are_none_are_one_line(folder):
    pytest.importorskip("PIL")
    (folder / "bad.jpg").write_text("hello")
    (folder / "cut.jpg").write_bytes((SAMPLES / "image1.jpg").read_bytes()[:9000])
    for name in ("bad.jpg", "cut.jpg"):
        refuse("capture", DETECTOR, "--image", name, "-o", "c.h5",
               words=(f"{name}: cannot be read as a photo",))  # fmt: skip
    photo = str(SAMPLES / "image1.jpg")
    refuse("capture", DETECTOR, "--image", photo, "--resize", "300000x300000", "-o", "c.h5",
           words=("bytes for the photo",))  # fmt: skip
