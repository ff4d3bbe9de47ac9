"""``roicli inspect`` as a user runs it."""

import json

import numpy as np
import onnx
import pytest
from onnx import helper

import roicli
from tests.cli.conftest import Arrays
from tests.cli.running import FEATURES, FPN, ROIS, TEXT_ROIS, refuse, run, run_process, succeed


def save_model(path="m.onnx", opset=18, **attributes):
    node = helper.make_node("RoiAlign", ["x", "rois", "batch"], ["y"], "head/roi", **attributes)
    custom = helper.make_node("MMCVRoiAlign", ["x"], ["z"], "other", "", "mmdeploy", aligned=1)
    graph = helper.make_graph([node, custom], "g", [], [])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]), path)
    return path


def as_json(*args):
    return json.loads(succeed("inspect", *args, "--format", "json").text)


def test_the_sample_pyramid() -> None:
    found = as_json(FPN, "--stats")
    assert (found["schema_version"], found["format"], found["file"]) == (1, "hdf5", FPN)
    assert [d["address"] for d in found["datasets"]] == [f"{FPN}::/{p}" for p in ("p3", "p4", "p5")]
    first = found["datasets"][0]
    assert set(first) == {
        "address", "shape", "dtype", "layout", "chunks", "compression", "stored_bytes",
        "attributes", "columns", "usable_as", "why", "values",
    }  # fmt: skip
    assert (first["shape"], first["chunks"]) == ([2, 24, 64, 64], [1, 24, 64, 64])
    assert first["values"]["min"] == pytest.approx(-2074.66, abs=0.01)
    assert (first["values"]["nan"], first["usable_as"]) == (0, "features")
    assert found["features"]["address"] is None
    assert "--levels p3,p4,p5" in found["features"]["why"]
    assert as_json(f"{FPN}::p4")["features"]["address"] == f"{FPN}::/p4"
    assert as_json(FPN)["datasets"][0]["values"] is None


def test_arrays(inputs: Arrays) -> None:
    assert as_json(ROIS)["rois"]["address"] == ROIS
    found = as_json(FEATURES, "--stats")
    assert found["datasets"][0]["values"]["max"] == inputs[0].max()
    assert found["rois"]["address"] is None
    assert "C order" in succeed("inspect", FEATURES).text
    np.save("odd.npy", np.array([np.nan, np.inf, 1]))
    text = succeed("inspect", "odd.npy", "--stats").text
    assert "from 1 to 1, mean 1, std 0, 0 zeros, 1 NaN, 1 infinite" in " ".join(text.split())
    np.save("words.npy", np.array(["a"]))
    assert "neither features nor RoIs" in succeed("inspect", "words.npy", "--stats").text


def test_a_model_and_its_traps() -> None:
    save_model(mode="max")
    found = as_json("m.onnx")
    assert (found["format"], found["traps"], found["opsets"]) == ("onnx", 1, {"": 18})
    align, custom = found["nodes"]
    assert (align["kind"], align["name"], custom["kind"]) == ("align", "head/roi", "custom")
    assert [r["id"] for r in align["remarks"]][:2] == ["mode-max", "adaptive-sampling"]
    assert align["providers"][0] == {"name": "cpu", "runs": True, "detail": "float32, float64"}
    assert custom["attributes"] == {"aligned": 1}
    text = succeed("inspect", "m.onnx").text
    for words in ("mode=max takes the maximum", "sampling_ratio adaptive", "2 RoI nodes, 1 trap\n"):
        assert words in " ".join(text.split(" "))


@pytest.mark.parametrize(
    ("opset", "attributes", "code"),
    [(18, {"mode": "max"}, 1), (11, {"sampling_ratio": 2}, 1), (22, {"sampling_ratio": 2}, 1),
     (18, {"sampling_ratio": 0}, 0),
     (16, {"coordinate_transformation_mode": "output_half_pixel"}, 0)],
)  # fmt: skip
def test_strict_fails_on_traps_alone(opset, attributes, code) -> None:
    save_model(opset=opset, **attributes)
    for options in (("--strict",), ("--fail-on", "warning")):
        assert run("inspect", "m.onnx", *options).code == code
    assert run("inspect", "m.onnx").code == 0
    assert run("inspect", "m.onnx", "--fail-on", "note", "-q").code == 1


def test_a_model_without_roi_nodes_and_one_of_roicli() -> None:
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
    onnx.save(helper.make_model(graph), "relu.onnx")
    assert "no RoI node" in succeed("inspect", "relu.onnx", "--strict").text
    roicli.export("pool", "pool.onnx", spatial_scale=1 / 8)
    text = succeed("inspect", "pool.onnx", "--strict").text
    assert "7 x 7 bins, spatial_scale 0.125 (stride 8), quantization caffe" in text
    assert "1 RoI node, 0 traps" in text


@pytest.mark.parametrize("width", ["60", "80", "120"])
def test_nothing_is_cut(width: str, folder) -> None:
    save_model(mode="max", opset=22)
    for args in ((FPN, "--stats"), (TEXT_ROIS,), ("m.onnx",)):
        text = succeed("inspect", *args, COLUMNS=width).text
        assert "\u2026" not in text
        table = [line for line in text.splitlines() if line.startswith((" ", "/p", "trap"))]
        assert max(map(len, table)) <= int(width)
    assert "whichcomputesthesame" in "".join(text.split())


def test_what_cannot_be_inspected(folder) -> None:
    (folder / "bad.onnx").write_bytes(b"no model")
    refuse("inspect", "bad.onnx", words=("bad.onnx: cannot be read as an ONNX model",))
    refuse("inspect", "none.h5", words=("none.h5: no such file",))
    (folder / "file.log").write_bytes(b"\x00\x01")
    refuse("inspect", "file.log", words=("unknown ending '.log'",))
    refuse("inspect", "-", words=("inspect reads files",))


def test_in_a_process_of_its_own() -> None:
    outcome = run_process("inspect", FPN, COLUMNS="80")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.text.startswith(f"{FPN}: hdf5, 3 datasets")
