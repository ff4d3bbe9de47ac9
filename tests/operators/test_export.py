"""``roicli.export``: a file that ONNX Runtime runs alone, or nothing."""

import os

import numpy as np
import onnx
import pytest
from onnx import helper

import roicli
from roicli.core.exceptions import OutputError, ParameterError
from tests.log import logged
from tests.strategies import AWKWARD, awkward_corners, normal_map, ort

MAPS = normal_map((2, 3, 13, 17))
ROIS = np.column_stack([np.arange(30) % 2, awkward_corners((13, 17), 1 / 16, 30, 2)])
ROIS = ROIS.astype(np.float32)


def run(path, dtype):
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"features": MAPS.astype(dtype), "rois": ROIS.astype(dtype)})[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("operator", "options"),
    [
        ("align", {}), ("align", {"mode": "max", "sampling_grid": "thirds", "aligned": False}),
        ("pool", {}), ("pool", {"quantization": "round", "partition": "disjoint"}),
    ],
)  # fmt: skip
def test_the_exported_file_has_the_bits_of_the_call(tmp_path, operator, options, dtype):
    options = options | {"spatial_scale": "1/16", "output_size": "3x2"}
    parameters = roicli.export(operator, tmp_path / "op.onnx", dtype=dtype, **options)
    call = {"align": roicli.align, "pool": roicli.pool}[operator]
    options["ignore"] = AWKWARD
    expected = call(MAPS.astype(dtype), ROIS.astype(dtype), provider="cpu", **options)
    np.testing.assert_array_equal(run(tmp_path / "op.onnx", dtype), expected.roi_features)
    metadata = onnx.load(tmp_path / "op.onnx").metadata_props
    stored = {entry.key: entry.value for entry in metadata}
    assert stored == {key: str(value) for key, value in parameters.items()}
    assert stored["operator"] == operator


def test_a_node_of_a_model_is_exported_as_it_is(tmp_path):
    node = helper.make_node("RoiAlign", ["x", "r", "b"], ["o"], output_height=2, output_width=3,
                            spatial_scale=0.0625, sampling_ratio=2)  # fmt: skip
    model = helper.make_model(helper.make_graph([node], "g", [], []),
                              opset_imports=[helper.make_opsetid("", 22)])  # fmt: skip
    onnx.save(model, tmp_path / "user.onnx")
    roicli.export("align", tmp_path / "op.onnx", graph=tmp_path / "user.onnx")
    options = {"spatial_scale": 1 / 16, "output_size": (2, 3), "ignore": AWKWARD}
    expected = roicli.align(MAPS, ROIS, provider="cpu", **options)
    np.testing.assert_array_equal(run(tmp_path / "op.onnx", np.float32), expected.roi_features)


def test_what_cannot_be_exported_leaves_no_file(tmp_path):
    with pytest.raises(ParameterError, match="adaptive"):
        roicli.export("align", tmp_path / "x.onnx", sampling_ratio=0, mode="max")
    with pytest.raises(OutputError, match="unknown ending"):
        roicli.export("align", tmp_path / "x.h5")
    assert os.listdir(tmp_path) == []


def test_an_existing_file_needs_force(tmp_path):
    path = tmp_path / "x.onnx"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        roicli.export("pool", path)
    assert path.read_text() == "mine"
    roicli.export("pool", path, force=True)
    onnx.checker.check_model(onnx.load(path), full_check=True)


def test_one_scale_is_needed(tmp_path):
    with logged() as notes:
        assert roicli.export("pool", tmp_path / "x.onnx")["spatial_scale"] == 1.0
    assert len(notes) == 1
    with pytest.raises(ParameterError, match="2 spatial scales"):
        roicli.export("pool", tmp_path / "y.onnx", spatial_scale="1/8,1/16")
