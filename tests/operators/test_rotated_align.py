"""Rotated RoI Align and turned RoIs: by hand, against engines, and where they are refused."""

import logging

import h5py
import numpy as np
import onnx
import pytest

import roicli
from roicli.core.exceptions import InputError, ParameterError
from roicli.operators.sampled_map import turn_corners
from roicli.pipeline.roi_table import enclose
from tests.cli.running import run, succeed
from tests.log import logged
from tests.operators import engines
from tests.strategies import AWKWARD, awkward_corners, normal_map, ort

MAPS = normal_map((1, 3, 9, 12))
UPRIGHT = awkward_corners((9, 12), 0.25, 40, 3).astype(np.float32)
UPRIGHT = np.concatenate([np.minimum(UPRIGHT[:, :2], UPRIGHT[:, 2:]),
                          np.maximum(UPRIGHT[:, :2], UPRIGHT[:, 2:])], axis=1)  # fmt: skip
OPTIONS = {"spatial_scale": 0.25, "ignore": AWKWARD, "provider": "cpu", "output_size": (3, 2)}
NAMES = "image,cx,cy,w,h,angle"


def rows(corners, angle):
    """(K, 6) of one image."""
    return np.column_stack([np.zeros(len(corners)), turn_corners(corners, angle)]).astype("f4")


def test_by_hand():
    """docs/operators/rotated-align.md."""
    ramp = np.arange(30, dtype=np.float32).reshape(1, 1, 5, 6)  # value = 6 y + x
    options = {"output_size": 2, "sampling_ratio": 1, "aligned": False, "provider": "cpu"}
    for angle, expected in (
        (0, [[8, 10], [20, 22]]),  # points x 2 and 4, y 1 and 3
        (90, [[20, 8], [22, 10]]),  # turned counter-clockwise
        (180, [[22, 20], [10, 8]]),
    ):
        found = roicli.rotated_align(ramp, np.float32([[0, 3, 2, 4, 4, angle]]), **options)
        np.testing.assert_allclose(found.roi_features[0, 0], expected, rtol=1e-5)
    other = roicli.rotated_align(
        ramp, np.float32([[0, 3, 2, 4, 4, -np.pi / 2]]), angle_unit="radians",
        angle_direction="clockwise", **options,
    )  # fmt: skip
    np.testing.assert_allclose(other.roi_features[0, 0], [[20, 8], [22, 10]], rtol=1e-5)


ENGINES = [n for n, one in engines.entries().items() if one.convention.box.turn != "none"]


@pytest.mark.parametrize("name", ENGINES)
def test_it_equals_the_engines(name):
    entry = engines.entries()[name]
    turned = turn_corners(entry.rois[:, 1:], entry.angle or 0.0)
    found = roicli.rotated_align(
        engines.features(), np.column_stack([entry.rois[:, 0], turned]).astype("f4"),
        spatial_scale=engines.SCALE, output_size=entry.result.shape[2:], ignore="R04,R05",
        sampling_ratio=entry.convention.sampling_ratio, provider="cpu",
        aligned=entry.convention.box.shift_cells != 0,
    )  # fmt: skip
    np.testing.assert_allclose(found.roi_features, entry.result, atol=1e-6, rtol=0)


def test_the_engines_are_there():
    assert len(ENGINES) == 8
    assert any("angle30" in name for name in ENGINES)


@pytest.mark.parametrize("ratio", [0, 2])
def test_without_an_angle_it_is_plain_roi_align(ratio):
    plain = roicli.align(
        MAPS, np.column_stack([np.zeros(40), UPRIGHT]).astype("f4"), sampling_ratio=ratio, **OPTIONS
    )
    for angle in (0, 360):
        found = roicli.rotated_align(MAPS, rows(UPRIGHT, angle), sampling_ratio=ratio, **OPTIONS)
        different = np.abs(found.roi_features - plain.roi_features) > 1e-4
        # Rounding puts a point on the other side of the border, or changes an adaptive grid.
        assert different.mean() < 0.02


def test_turning_the_map_and_the_boxes_together_changes_nothing():
    square = normal_map((1, 2, 9, 9))
    centre = (9 - 1) / 2 + 0.5  # in pixels at scale 1, half-pixel
    box = np.float32([[0, centre, centre, 5, 4, 20]])
    options = {"output_size": 3, "provider": "cpu"}
    before = roicli.rotated_align(square, box, **options).roi_features
    turned = np.ascontiguousarray(np.rot90(square, 1, (2, 3)))  # counter-clockwise on the screen
    after = roicli.rotated_align(turned, box + np.float32([0, 0, 0, 0, 0, 90]), **options)
    np.testing.assert_allclose(after.roi_features, before, atol=1e-5)


def test_the_enclosing_boxes():
    turned = np.array([[10, 20, 6, 2, 90], [10, 20, 6, 2, -180], [10, 20, 2, 2, 45]], float)
    half = np.sqrt(2)
    expected = [[9, 17, 11, 23], [7, 19, 13, 21], [10 - half, 20 - half, 10 + half, 20 + half]]
    np.testing.assert_allclose(enclose(turned, "degrees"), expected)
    turned[:, 4] = np.radians(turned[:, 4])
    np.testing.assert_allclose(enclose(turned, "radians"), expected)


def test_errors_are_those_of_the_enclosing_box(tmp_path):
    turned = rows(UPRIGHT[12:], 30)
    corners = enclose(turned[:, 1:].astype(float), "degrees")
    options = {"spatial_scale": 0.25, "ignore": AWKWARD, "output_size": (3, 2)}
    found = roicli.rotated_align(MAPS, turned, tmp_path / "o.h5", provider="cpu", **options)
    alone = roicli.errors(None, turned, roi_columns=NAMES, spatial_scale=0.25, output_size=(3, 2),
                          ignore="R04,R05,R08")  # fmt: skip
    upright = roicli.errors(
        None, np.column_stack([np.zeros(len(corners)), corners]), spatial_scale=0.25,
        output_size=(3, 2), ignore="R04,R05,R08",
    )  # fmt: skip
    for name in ("iou", "shift_px", "quantized_x1"):
        np.testing.assert_array_equal(alone.errors.column(name), upright.errors.column(name))
        np.testing.assert_array_equal(found.errors.column(name), upright.errors.column(name))
    with h5py.File(tmp_path / "o.h5") as file:
        np.testing.assert_array_equal(file["rois"], turned)


def test_an_exported_graph_takes_six_columns(tmp_path):
    path = tmp_path / "r.onnx"
    told = roicli.export("rotated-align", path, spatial_scale=0.25, output_size=(3, 2),
                         angle_unit="radians")  # fmt: skip
    assert told["input_rois"] == "(K, 6): batch_index, cx, cy, w, h, angle in image pixels"
    onnx.checker.check_model(onnx.load(path), full_check=True)
    turned = rows(UPRIGHT, 0.4)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"features": MAPS, "rois": turned})
    expected = roicli.rotated_align(MAPS, turned, angle_unit="radians", **OPTIONS)
    np.testing.assert_array_equal(found, expected.roi_features)


def test_turned_rois_are_told_from_others():
    six = rows(UPRIGHT[12:14], 30)
    with pytest.raises(InputError, match=r"RoIs have shape \(2, 5\), expected turned ones"):
        roicli.rotated_align(MAPS, six[:, :5])
    with pytest.raises(InputError, match=r"6 columns may .* boxes, which rotated-align"):
        roicli.align(MAPS, six)
    with pytest.raises(InputError, match=r"RoIs are turned .* RoI Align takes upright ones"):
        roicli.align(MAPS, six, roi_columns=NAMES)
    upright = roicli.align(MAPS, six, roi_columns="image,cx,cy,w,h,_", spatial_scale=0.25)
    assert len(upright.errors) == 2
    bad = six.copy()
    bad[1, 5] = np.inf
    with pytest.raises(InputError, match=r"row 1, column 5 \(angle\): found inf, expected"):
        roicli.rotated_align(MAPS, bad, spatial_scale=0.25)
    bad[1, 4:] = -3, 30
    with pytest.raises(InputError, match="RoIs have crossed corners"):
        roicli.rotated_align(MAPS, bad, spatial_scale=0.25)
    with pytest.raises(InputError, match="turned RoIs cannot be normalized"):
        roicli.rotated_align(MAPS, six, spatial_scale=0.25, normalized=True, image_size=(36, 48))
    with pytest.raises(ParameterError, match="angle unit is 'turns', expected one of: degrees"):
        roicli.rotated_align(MAPS, six, angle_unit="turns")
    with pytest.raises(ParameterError, match="has a column of angles"):
        roicli.diagnose(MAPS, six, upright.roi_features, roi_columns=NAMES, angle=30.0)
    with pytest.raises(InputError, match="6 columns may hold") as caught:
        roicli.diagnose(MAPS, six, upright.roi_features, spatial_scale=0.25)
    assert f"--roi-columns image,x1,y1,x2,y2,score or {NAMES}" in str(caught.value.hint)
    # As corners these would all be fine; the angle says that they are none.
    corners = np.tile(np.float32([[0, 30, 20, 47, 35, 0]]), (6, 1))
    with logged(logging.WARNING) as warnings:
        roicli.rotated_align(MAPS, corners, spatial_scale=0.25)
    assert not any("look like" in line for line in warnings)
    empty = roicli.rotated_align(MAPS, six[:0], spatial_scale=0.25)
    assert empty.roi_features.shape == (0, 3, 7, 7)


def test_a_header_names_them_and_check_knows_them(tmp_path):
    np.save(tmp_path / "f.npy", MAPS)
    text = "frame,cx,cy,w,h,theta,score\n0,20,16,12,8,30,0.5\n0,22,14,9,8,-75,.9\n"
    (tmp_path / "r.csv").write_text(text)
    files = [str(tmp_path / name) for name in ("f.npy", "r.csv")]
    scale = ["--spatial-scale", "1/4"]
    out = str(tmp_path / "o.npy")
    succeed("rotated-align", *files, *scale, "-o", out, "--output-size", "2", "--verify")
    six = np.float32([[0, 20, 16, 12, 8, 30], [0, 22, 14, 9, 8, -75]])
    plain = roicli.rotated_align(MAPS, six, spatial_scale=0.25, output_size=2)
    np.testing.assert_array_equal(np.load(out), plain.roi_features)
    assert "nothing found" in succeed("check", *files, *scale).text
    np.save(tmp_path / "six.npy", six)
    unnamed = [files[0], str(tmp_path / "six.npy"), *scale]
    assert run("check", *unnamed).code == 1
    assert "nothing found" in succeed("check", *unnamed, "--roi-columns", NAMES).text
    refused = run("align", *files, *scale)
    assert refused.code == 2
    assert "run rotated-align" in refused.err


def test_a_presets_unit_is_that_of_the_enclosing_boxes_too():
    degrees, radians = rows(UPRIGHT[12:], 30), rows(UPRIGHT[12:], np.pi / 6)
    expected = roicli.rotated_align(MAPS, degrees, **OPTIONS).errors.column("iou")
    found = roicli.rotated_align(MAPS, radians, preset="mmcv.RoIAlignRotated", **OPTIONS)
    np.testing.assert_allclose(found.errors.column("iou"), expected, rtol=1e-4)


def test_six_columns_are_turned_under_a_preset_of_turned_boxes(tmp_path):
    """In ``check`` and ``errors``, which have no operator of their own; and it is said."""
    maps, rois = f"{tmp_path}/m.npy", f"{tmp_path}/r.npy"
    np.save(maps, MAPS)
    turned = rows(UPRIGHT[30:33], np.pi / 6)
    np.save(rois, turned)
    scale = ("--spatial-scale", "1/4", "--preset", "mmcv.RoIAlignRotated")
    options = {"spatial_scale": 0.25, "preset": "mmcv.RoIAlignRotated"}
    named = {"spatial_scale": 0.25, "roi_columns": NAMES, "angle_unit": "radians"}
    for features in (None, MAPS):
        with logged() as notes:
            found = roicli.errors(features, turned, **options).errors
        assert any("upright boxes that enclose them" in note for note in notes)
        expected = roicli.errors(features, turned, **named).errors
        np.testing.assert_array_equal(found.column("iou"), expected.column("iou"))
    assert run("check", maps, rois, "--spatial-scale", "1/4").code == 1
    looked = succeed("check", maps, rois, *scale)
    assert "rules looked" in looked.text
    assert not looked.err
    with pytest.raises(InputError, match="expected turned ones"):
        roicli.errors(MAPS, turned[:, :5], **options)


def test_columns_with_an_angle_are_explained_as_they_are_drawn():
    turned = rows(UPRIGHT[30:33], 30)
    options = {"roi": 0, "spatial_scale": 0.25, "roi_columns": NAMES, "ignore": "R05"}
    assert roicli.explain(MAPS, turned, **options).title == "rotated RoI Align"
    assert roicli.draw(MAPS, turned, **options).operator == "rotated RoI Align"
