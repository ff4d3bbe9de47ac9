"""Detectors of other packages, captured: torchvision's two, and a text detector with a pyramid."""

import importlib.util
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from roicli.analysis.verify_model import verify_model
from roicli.pipeline.capture.run import capture
from roicli.runtime.onnx_runtime import ort
from tests.pipeline.test_capture import SAMPLES

pytestmark = pytest.mark.full


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "heads", "nodes"),
    [("fasterrcnn_resnet50_fpn", 1, 4), ("maskrcnn_resnet50_fpn", 2, 8)],
)
def test_torchvision(name, heads, nodes):
    """Untrained, small, exported as everybody does: equal bits for every node that has RoIs."""
    torch = pytest.importorskip("torch")
    detection = pytest.importorskip("torchvision").models.detection
    torch.manual_seed(0)
    model = getattr(detection, name)(
        weights=None, weights_backbone=None, min_size=192, max_size=256, box_score_thresh=0.0,
        rpn_post_nms_top_n_test=60, box_detections_per_img=20,
    )  # fmt: skip
    photo = torch.rand(3, 180, 250)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(), ([photo],), "m.onnx", dynamo=False, opset_version=17,
            input_names=["image"], dynamic_axes={"image": {1: "height", 2: "width"}},
        )  # fmt: skip
    found = capture("m.onnx", "c.h5", input={"image": photo.numpy()})
    assert [head.levels for head in found.heads] == [("p2", "p3", "p4", "p5")] * heads
    with h5py.File("c.h5") as file:
        if heads == 2:  # the maps are there once
            assert file["head0/p2"].id.get_offset() == file["head1/p2"].id.get_offset()
    checked = verify_model("c.h5")
    assert len(checked.nodes) == nodes
    assert {one.own.outcome for one in checked.nodes} <= {"equal bits", "no RoIs"}
    assert sum(one.rois for one in checked.nodes) >= 60


def test_a_text_detector_by_its_tensors():
    """PP-OCRv4's detector has a pyramid and no RoI node: its maps are those of a bare run."""
    place = importlib.util.find_spec("rapidocr_onnxruntime")
    if place is None or place.origin is None:
        pytest.skip("needs the package rapidocr-onnxruntime")
    pytest.importorskip("PIL")
    path = str(Path(place.origin).parent / "models" / "ch_PP-OCRv4_det_infer.onnx")
    names = ("p2o.Add.249", "p2o.Add.251", "p2o.Add.253")
    given = {"channels": "bgr", "mean": "123.675,116.28,103.53", "std": "58.395,57.12,57.375"}
    photo = str(SAMPLES / "image0.jpg")
    capture(path, "c.h5", image=[photo], outputs=("x", *names), **given)
    (whole,) = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(
        None, {"x": read("outputs/x")}
    )
    capture(path, "o.h5", input={"x": read("outputs/x")}, outputs="sigmoid_0.tmp_0")
    assert np.array_equal(read("outputs/sigmoid_0.tmp_0", "o.h5"), whole)
    with h5py.File("c.h5") as file:
        scales = [file[f"outputs/{name}"].attrs["spatial_scale"] for name in names]
    assert sorted(scales) == [1 / 16, 1 / 8, 1 / 4]


def read(name, path="c.h5"):
    with h5py.File(path) as file:
        return file[name][()]
