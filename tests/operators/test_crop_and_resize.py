"""Crop and resize: against its definition point by point, by hand, and against engines."""

import math

import numpy as np
import pytest

import roicli
from roicli.core.exceptions import ParameterError
from tests.cli.running import run, succeed
from tests.operators import engines
from tests.strategies import awkward_corners, normal_map, ort

MAPS = normal_map((1, 2, 9, 12))


def crop(features, corners, size, scale, normalization="image", image=None, nearest=False, value=0):
    """One point a bin, from the definition alone, in float64."""
    channels, height, width = features.shape
    image = image or (height / scale, width / scale)
    out = np.zeros((len(corners), channels, *size))
    for k, (x1, y1, x2, y2) in enumerate(corners.astype(float)):
        axes = []
        for low, high, bins, cells, side in (
            (y1, y2, size[0], height, image[0]), (x1, x2, size[1], width, image[1]),
        ):  # fmt: skip
            if normalization == "cells":
                ends = low * scale, high * scale
            elif normalization == "image":
                ends = low / side * (cells - 1), high / side * (cells - 1)
            else:
                ends = low / (side - 1) * (cells - 1), (high - 1) / (side - 1) * (cells - 1)
            step = (ends[1] - ends[0]) / max(bins - 1, 1)
            axes.append([ends[0] + i * step for i in range(bins)] if bins > 1 else [sum(ends) / 2])
        for i, y in enumerate(axes[0]):
            for j, x in enumerate(axes[1]):
                if not (0 <= y <= height - 1 and 0 <= x <= width - 1):
                    out[k, :, i, j] = value
                elif nearest:
                    out[k, :, i, j] = features[:, math.floor(y + 0.5), math.floor(x + 0.5)]
                else:
                    top, left = math.floor(y), math.floor(x)
                    bottom, right = math.ceil(y), math.ceil(x)
                    ly, lx = y - top, x - left
                    out[k, :, i, j] = (
                        features[:, top, left] * (1 - ly) * (1 - lx)
                        + features[:, top, right] * (1 - ly) * lx
                        + features[:, bottom, left] * ly * (1 - lx)
                        + features[:, bottom, right] * ly * lx
                    )
    return out


def test_by_hand():
    """docs/operators/crop-and-resize.md."""
    ramp = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)  # value = 4 y + x
    rois = np.float32([[0, 8, 4, 24, 12]])
    options = {"spatial_scale": 1 / 8, "output_size": (2, 3), "provider": "cpu"}
    cells = roicli.crop_and_resize(ramp, rois, normalization="cells", **options)
    np.testing.assert_allclose(cells.roi_features[0, 0], [[3, 4, 5], [7, 8, 9]])
    image = roicli.crop_and_resize(ramp, rois, **options)
    # x: 8/32, 24/32 of 3 cells; y: 4/24, 12/24 of 2 cells
    expected = 4 * np.array([[1 / 3], [1]]) + np.array([0.75, 1.5, 2.25])
    np.testing.assert_allclose(image.roi_features[0, 0], expected, rtol=1e-6)
    matterport = roicli.crop_and_resize(ramp, rois, normalization="matterport", **options)
    y, x = np.array([4, 11]) / 23 * 2, np.array([8, 15.5, 23]) / 31 * 3
    np.testing.assert_allclose(matterport.roi_features[0, 0], 4 * y[:, None] + x, rtol=1e-6)
    nearest = roicli.crop_and_resize(ramp, rois, interpolation="nearest", **options)
    np.testing.assert_array_equal(nearest.roi_features[0, 0], [[1, 2, 2], [5, 6, 6]])


@pytest.mark.parametrize("normalization", ["image", "cells", "matterport"])
@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("size", [(3, 4), (1, 2)])
def test_it_is_its_definition(normalization, nearest, size):
    corners = awkward_corners((9, 12), 0.25, 60, 3).astype(np.float64)
    rois = np.column_stack([np.zeros(len(corners)), corners])
    found = roicli.crop_and_resize(
        MAPS.astype(float), rois, output_size=size, spatial_scale=0.25, provider="cpu",
        normalization=normalization, interpolation="nearest" if nearest else "bilinear",
        image_size=(40, 50), extrapolation_value=-3, ignore="R04,R05,R08",
    )  # fmt: skip
    expected = crop(MAPS[0], corners, size, 0.25, normalization, (40, 50), nearest, -3)
    different = np.abs(found.roi_features - expected) > 1e-9
    # A point that float64 puts on either side of a cell's middle, or of the map's end.
    assert different.mean() < (0.01 if nearest or normalization != "cells" else 0.001)


def test_two_by_two_points_are_a_crop_of_twice_the_size():
    rois = np.column_stack([np.zeros(40), awkward_corners((9, 12), 0.25, 40, 3)]).astype("f4")
    options = {"spatial_scale": 0.25, "ignore": "R04,R05,R08", "provider": "cpu"}
    fine = roicli.crop_and_resize(MAPS, rois, output_size=(4, 6), **options).roi_features
    quads = fine.reshape(40, 2, 2, 2, 3, 2)
    for points, expected in (("max", quads.max((3, 5))), ("avg", quads.mean((3, 5)))):
        found = roicli.crop_and_resize(
            MAPS, rois, output_size=(2, 3), crop_points=points, **options
        )
        np.testing.assert_allclose(found.roi_features, expected, rtol=1e-5, atol=1e-6)


ENGINES = {
    name: entry for name, entry in engines.entries().items() if entry.convention.grid == "ends"
}


@pytest.mark.parametrize("name", ENGINES)
def test_it_equals_the_engines(name):
    entry = ENGINES[name]
    rule = entry.convention
    words = {"scale": "cells", "image": "image", "image-less-1": "matterport"}
    found = roicli.crop_and_resize(
        engines.features(), entry.rois, spatial_scale=engines.SCALE, ignore="R04,R05",
        output_size=entry.result.shape[2:], image_size=(400, 608), provider="cpu",
        normalization=words[rule.box.normalization], interpolation=rule.interpolation,
        crop_points="max" if rule.reduction == "max" else "one",
    )  # fmt: skip
    # ONNX Runtime's own operator and OpenVINO's are further from TensorFlow's than this is.
    within = 7e-6 if name.startswith(("onnxruntime", "openvino")) else 5e-7
    np.testing.assert_allclose(found.roi_features, entry.result, atol=within, rtol=0)


PRESETS = {
    "tensorflow.matterport": "tf-crop_and_resize-matterport",
    "tensorflow.object_detection": "tf-crop_and_resize-normimg-2x-maxpool",
    "tensorflow.tf-faster-rcnn": "tf-crop_and_resize-endernewton-2x-maxpool",
    "tensorflow.crop_and_resize": "tf-crop_and_resize-normimg",
}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_what_the_library_computes(preset):
    entry = ENGINES[PRESETS[preset]]
    found = roicli.crop_and_resize(
        engines.features(), entry.rois, spatial_scale=engines.SCALE, image_size=(400, 608),
        preset=preset, ignore="R04,R05", provider="cpu",
    )  # fmt: skip
    np.testing.assert_allclose(found.roi_features, entry.result, atol=5e-7, rtol=0)


def test_an_exported_crop_knows_its_image(tmp_path):
    path = tmp_path / "crop.onnx"
    told = roicli.export(
        "crop-and-resize", path, spatial_scale=0.25, image_size=(37, 50), output_size=(2, 3),
        normalization="matterport",
    )  # fmt: skip
    assert told["image_size"] == [37, 50]
    rois = np.column_stack([np.zeros(40), awkward_corners((9, 12), 0.25, 40, 3)]).astype("f4")
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"features": MAPS, "rois": rois})
    expected = roicli.crop_and_resize(
        MAPS, rois, spatial_scale=0.25, image_size=(37, 50), output_size=(2, 3), provider="cpu",
        normalization="matterport", ignore="R04,R05,R08",
    )  # fmt: skip
    np.testing.assert_array_equal(found, expected.roi_features)


def test_the_engines_are_there():
    assert len(ENGINES) == 9


def test_bad_options_are_one_line(tmp_path):
    rois = [[0, 1, 1, 20, 20]]
    with pytest.raises(ParameterError, match="extrapolation value is inf, expected a finite"):
        roicli.crop_and_resize(MAPS, np.float32(rois), extrapolation_value=float("inf"))
    with pytest.raises(ParameterError, match="outside rule zeros has none"):
        roicli.crop_and_resize(
            MAPS, np.float32(rois), outside_rule="zeros", extrapolation_value=1.0
        )
    with pytest.raises(ParameterError, match="normalization is 'x', expected one of: image"):
        roicli.crop_and_resize(MAPS, np.float32(rois), normalization="x")
    with pytest.raises(ParameterError, match="image size is given, and RoIs in pixels"):
        roicli.align(MAPS, np.float32(rois), image_size=(30, 40))
    np.save(tmp_path / "f.npy", MAPS)
    np.save(tmp_path / "r.npy", np.float32(rois))
    files = [str(tmp_path / name) for name in ("f.npy", "r.npy")]
    scale = ["--spatial-scale", "1/4", "--output-size", "2x3"]
    shown = succeed(
        "crop-and-resize", *files, *scale, "-o", str(tmp_path / "o.npy"), "--provider", "cpu",
        "--normalization", "matterport", "--image-size", "36x48", "--verify",
    )  # fmt: skip
    assert "verified 1 of 1 RoIs" in shown.err
    assert np.load(tmp_path / "o.npy").shape == (1, 2, 2, 3)
    refused = run("crop-and-resize", *files, *scale, "--crop-points", "four")
    assert refused.code == 2
    assert "four" in refused.err
