"""Engines that are installed here, run live, and their results diagnosed (make test-all)."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import roicli
from tests.strategies import normal_map

pytestmark = pytest.mark.full
SCALE = 1 / 16


def inputs() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A map, and boxes inside it, over its border, without size and outside."""
    rng = np.random.default_rng(11)
    low, sides = rng.uniform(10, 300, (16, 2)), rng.uniform(30, 250, (16, 2))
    odd = [[-40, 30, 90, 120], [500, 300, 640, 420], [99, 99, 99, 99], [200, 50, 206, 260]]
    corners = np.concatenate([np.concatenate([low, low + sides], axis=1), odd])
    rois = np.column_stack([np.arange(20) % 2, corners]).astype(np.float32)
    return normal_map((2, 4, 25, 38)), rois[np.argsort(rois[:, 0], kind="stable")]


def names(result: Any) -> list[str]:
    """The libraries of the match."""
    found = roicli.diagnose(*inputs(), result, spatial_scale=SCALE, sample=None)
    assert found.match is not None
    return [row.name for row in found.libraries]


@pytest.mark.parametrize("function", ["roi_align", "roi_pool"])
def test_torchvision(function: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    ops = pytest.importorskip("torchvision.ops", reason="torchvision is not installed")
    features, rois = (torch.from_numpy(values) for values in inputs())
    result = getattr(ops, function)(features, rois, (7, 7), SCALE).numpy()
    assert f"torchvision.{function}" in names(result)


OPENVINO = {
    "ROIAlign": lambda ops, f, r, b: ops.roi_align(f, r, b, 7, 7, 0, SCALE, "avg", "asymmetric"),
    "ROIAlign max": lambda ops, f, r, b: ops.roi_align(
        f, r, b, 7, 7, 2, SCALE, "max", "half_pixel_for_nn"
    ),
    "ROIAlign half_pixel": lambda ops, f, r, b: ops.roi_align(
        f, r, b, 7, 7, 2, SCALE, "avg", "half_pixel"
    ),
}


@pytest.mark.parametrize("name", OPENVINO)
def test_openvino(name: str) -> None:
    """Adaptive with a box without size: NaN, which is part of its rule."""
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    operators = import_module("openvino.opset9")
    maps, rois = inputs()
    features = operators.parameter(maps.shape, np.float32)
    boxes = operators.parameter([len(rois), 4], np.float32)
    batch = operators.parameter([len(rois)], np.int32)
    node = OPENVINO[name](operators, features, boxes, batch)
    model = openvino.Model([node], [features, boxes, batch])
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    feeds = [maps, np.ascontiguousarray(rois[:, 1:]), rois[:, 0].astype(np.int32)]
    assert "openvino.ROIAlign" in names(np.array(compiled(feeds)[0]))


def test_ncnn(tmp_path: Path) -> None:
    """Version 1 of its layer; one RoI after another, as it takes them."""
    ncnn = pytest.importorskip("ncnn", reason="ncnn is not installed")
    maps, rois = inputs()
    graph, weights = tmp_path / "roi.param", tmp_path / "roi.bin"
    graph.write_text(
        "7767517\n3 3\nInput data 0 1 data\nInput box 0 1 box\n"
        f"ROIAlign align 2 1 data box out 0=7 1=7 2={SCALE} 3=2 4=1 5=1\n"
    )
    weights.write_bytes(b"")
    net = ncnn.Net()
    assert net.load_param(str(graph)) == net.load_model(str(weights)) == 0
    result = []
    for image, *box in rois:
        extractor = net.create_extractor()
        extractor.input("data", ncnn.Mat(maps[int(image)]).clone())
        extractor.input("box", ncnn.Mat(np.array(box, np.float32)).clone())
        result.append(np.array(extractor.extract("out")[1]))
    assert "ncnn.ROIAlign-1" in names(np.array(result))


def test_mnn() -> None:
    mnn = pytest.importorskip("MNN", reason="MNN is not installed")
    maps, rois = inputs()
    expr = mnn.expr
    features, boxes = (
        expr.const(values, values.shape, expr.NCHW, expr.float) for values in (maps, rois)
    )
    result = expr.roi_align(
        expr.convert(features, expr.NC4HW4), boxes, 7, 7, SCALE, 0, True,
        expr.Pooling_Mode.AVEPOOL,
    )  # fmt: skip
    assert "mnn.roi_align" in names(np.array(expr.convert(result, expr.NCHW).read()))
