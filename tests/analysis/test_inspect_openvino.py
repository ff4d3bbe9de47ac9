"""RoI operators of OpenVINO IRs; skipped where OpenVINO is not installed."""

import json
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

import roicli
from roicli.core.exceptions import InputError, MissingPackageError
from tests.cli.running import run, succeed


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def ir():
    """An IR of an ONNX model of one RoiAlign node with these attributes."""
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")

    def write(**attributes):
        node = helper.make_node(
            "RoiAlign", ["x", "rois", "batch"], ["y"], "head", output_height=7, output_width=5,
            spatial_scale=0.0625, **attributes,
        )  # fmt: skip
        inputs = [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 8, 8]),
            helper.make_tensor_value_info("rois", TensorProto.FLOAT, ["k", 4]),
            helper.make_tensor_value_info("batch", TensorProto.INT64, ["k"]),
        ]
        out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["k", 2, 7, 5])]
        graph = helper.make_graph([node], "g", inputs, out)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
        onnx.save(model, "m.onnx")
        openvino.save_model(openvino.Core().read_model("m.onnx"), "m.xml")
        return "m.xml"

    return write


def test_a_roi_align_is_shown_in_our_words(ir):
    found = json.loads(succeed("inspect", ir(sampling_ratio=2), "--format", "json").text)
    assert found["format"] == "openvino"
    (node,) = found["nodes"]
    assert (node["op_type"], node["kind"], node["opset"]) == ("ROIAlign", "align", 9)
    assert node["parameters"] == {
        "output_size": [7, 5], "spatial_scale": 0.0625, "sampling_ratio": 2, "aligned": True,
        "mode": "avg", "sampling_grid": "quarters",
    }  # fmt: skip
    text = succeed("inspect", "m.xml").text
    assert "OpenVINO IR" in text
    assert "sampling_ratio 2, half-pixel" in " ".join(text.split())


def test_a_ratio_of_1_and_a_maximum_are_remarked_on(ir):
    (node,) = roicli.inspect(ir()).nodes
    assert "sampling-ratio-1" in [remark.id for remark in node.remarks]
    (node,) = roicli.inspect(ir(mode="max", sampling_ratio=2)).nodes
    assert "mode-max" in [remark.id for remark in node.remarks]
    assert run("inspect", "m.xml", "--strict").code == 1


def test_an_ir_without_its_reader_says_what_to_install(monkeypatch):
    Path("bad.xml").write_text('<net name="x" version="11"><layers><layer/></layers></net>')
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingPackageError, match="is an OpenVINO IR") as caught:
        roicli.inspect("bad.xml")
    assert caught.value.hint == "pip install openvino"


def test_damage_is_one_line():
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    Path("bad.xml").write_text('<net name="x" version="11"><layers><layer/></layers></net>')
    with pytest.raises(InputError, match="cannot be read by OpenVINO"):
        roicli.inspect("bad.xml")
    assert len(run("inspect", "bad.xml").errors) == 1
