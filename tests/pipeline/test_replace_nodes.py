"""``export --into``: RoI nodes of a model that follow another rule afterwards."""

import os

import numpy as np
import onnx
import pytest

import roicli
from roicli.core.exceptions import InputError, OutputError, ParameterError, VerificationError
from roicli.pipeline.capture import replace
from tests import models
from tests.cli.running import run, succeed
from tests.log import logged
from tests.pipeline.test_capture import DETECTOR, external, image, run_whole


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def rows():
    return np.column_stack([models.IMAGES, models.BOXES]).astype(np.float32)


def test_onnx_own_maximum_becomes_the_true_one():
    path = models.save_model("m.onnx", models.graph([models.align(mode="max")]), opset=12)
    with logged() as notes:
        found = roicli.export("align", "fixed.onnx", into=path, input=models.GIVEN)
    assert "is of opset 12, converted to 16" in notes[0]
    assert found["nodes"][0]["change"] == "maximum over weighted corners -> maximum of the samples"
    assert found["checked"] == (
        "both models run on the inputs; 3 RoIs against the operator: equal bits"
    )
    (now,) = run_whole("fixed.onnx", models.GIVEN)
    # Before opset 16 RoiAlign has no half-pixel step, and keeps having none.
    wanted = roicli.align(
        models.MAP, rows(), output_size=(2, 3), spatial_scale=0.5, mode="max", aligned=False,
        provider="cpu",
    ).roi_features  # fmt: skip
    assert np.array_equal(now, wanted)
    (before,) = run_whole(path, models.GIVEN)
    assert not np.allclose(before, now, atol=0.1)


def test_a_detector_follows_another_operator():
    """All nodes, made inputs, the same outputs of the whole model but for what follows them."""
    outcome = succeed("export", "pool", "fixed.onnx", "--into", str(DETECTOR))
    assert "RoiAlign -> RoI Pool (output_size [7, 7], quantization caffe" in outcome.err
    assert "both models run on made inputs; 40 RoIs against the operator: equal bits" in outcome.err
    boxes, scores = run_whole("fixed.onnx", {"image": image()})
    own_boxes, own_scores = run_whole(str(DETECTOR), {"image": image()})
    assert np.array_equal(boxes, own_boxes)
    assert not np.allclose(scores, own_scores, atol=1e-3)
    kinds = {node.op_type for node in onnx.load("fixed.onnx").graph.node}
    assert "RoiAlign" not in kinds


def test_one_node_of_several_and_max_roi_pool():
    nodes = [models.align(output="y"), models.align(output="z")]
    path = models.save_model("m.onnx", models.graph(nodes, ("y", "z")), opset=18)
    roicli.export("align", "f.onnx", into=f"{path}::z_node", input=models.GIVEN, aligned=False)
    y, z = run_whole("f.onnx", models.GIVEN)
    own, _ = run_whole(path, models.GIVEN)
    assert np.array_equal(y, own)
    legacy = roicli.align(
        models.MAP, rows(), output_size=(2, 3), spatial_scale=0.5, aligned=False, provider="cpu"
    ).roi_features
    assert np.array_equal(z, legacy)
    pool = models.node("MaxRoiPool", ["x", "rows"], ["y"], pooled_shape=[2, 3], spatial_scale=0.5)
    inputs = [models.INPUTS[0], models.value("rows", shape=["K", 5])]
    path = models.save_model("p.onnx", models.graph([pool], inputs=inputs), opset=18)
    given = {"x": models.MAP, "rows": rows()}
    roicli.export("align", "g.onnx", into=path, input=given, sampling_ratio=2)
    half = roicli.align(
        models.MAP, rows(), output_size=(2, 3), spatial_scale=0.5, provider="cpu"
    ).roi_features
    assert np.array_equal(run_whole("g.onnx", given)[0], half)


def test_in_a_loop():
    path = models.loop_model("m.onnx", opset=18)
    found = roicli.export("align", "f.onnx", into=path, input=models.GIVEN, aligned=False)
    assert "3 RoIs against the operator: equal bits" in found["checked"]


def test_what_cannot_be_replaced_is_refused(monkeypatch):
    path = models.save_model("m.onnx", models.graph([models.align()]), opset=18)
    with pytest.raises(InputError, match="follow this rule already"):
        roicli.export("align", "f.onnx", into=path)
    with pytest.raises(InputError, match="has no node 'other', its RoI nodes are: y_node"):
        roicli.export("align", "f.onnx", into=f"{path}::other", aligned=False)
    with pytest.raises(ParameterError, match="output size is each node's own with --into"):
        roicli.export("align", "f.onnx", into=path, output_size=3)
    with pytest.raises(OutputError, match="would overwrite"):
        roicli.export("align", path, into=path, aligned=False, force=True)
    outcome = run("export", "align", "f.onnx", "--input", "x=a.npy")
    assert (outcome.code, "--into names none" in outcome.err) == (2, True)
    monkeypatch.setattr(replace, "compute", lambda spec, features, rois: np.zeros((3, 3, 2, 3)))
    with pytest.raises(VerificationError, match="does not give what the operator gives"):
        roicli.export("align", "f.onnx", into=path, input=models.GIVEN, aligned=False)
    os.mkdir("model")
    np.eye(3, dtype=np.float32).tofile("model/w.bin")
    path = external("model/e.onnx", "w.bin")
    with pytest.raises(InputError, match="has weights in other files of its folder"):
        roicli.export("align", "f.onnx", into=path, aligned=False)
    assert sorted(os.listdir()) == ["m.onnx", "model"]
