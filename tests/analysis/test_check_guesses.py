"""The guesses on real data: silent as it is, and heard on copies that are spoilt in one way."""

from pathlib import Path

import h5py
import numpy as np
import pytest

import roicli
from roicli.analysis.check.rules import RULES

SAMPLES = Path(__file__).parents[2] / "sample_data"
LEVELS = {"p3": 8, "p4": 16, "p5": 32}
GUESSES = [rule.id for rule in RULES if rule.is_guess]
ROIS = np.load(SAMPLES / "text_rois.npy")
HEIGHT = 320  # of the copies that are not square; the image is 512 wide


@pytest.fixture(scope="module")
def maps():
    with h5py.File(SAMPLES / "text_fpn.h5") as file:
        return {name: file[name][:] for name in LEVELS}


def guess(features, rois, **options):
    """The rules that suspect something."""
    report = roicli.check(features, rois, select=GUESSES, **options)
    return [finding.rule for finding in report.findings]


def landscape(maps, level):
    """The upper 320 rows of pixels, as a map that is wider than high, and the RoIs inside."""
    rows = HEIGHT // LEVELS[level]
    return maps[level][:, :, :rows], ROIS[ROIS[:, 4] <= HEIGHT]


def portrait(maps, level):
    """The same, higher than wide."""
    features, rois = landscape(maps, level)
    return features.transpose(0, 1, 3, 2).copy(), rois[:, [0, 2, 1, 4, 3]]


@pytest.mark.parametrize("level", LEVELS)
def test_silent_on_real_data(maps, level):
    scale = 1 / LEVELS[level]
    assert guess(maps[level], ROIS, spatial_scale=scale) == []
    for cut in (landscape, portrait):
        assert guess(*cut(maps, level), spatial_scale=scale) == []
    for image in (0, 1):
        one = ROIS[ROIS[:, 0] == image] * [0, 1, 1, 1, 1]
        assert guess(maps[level][image], one, spatial_scale=scale) == []
        assert guess(maps[level][image], one[:, 1:], spatial_scale=scale) == []
        assert guess(maps[level][image], one[:1], spatial_scale=scale) == []


def test_silent_on_the_pyramid_and_on_a_wrong_scale(maps):
    assert guess(SAMPLES / "text_fpn.h5", ROIS, levels="p3,p4,p5") == []
    for factor in (0.5, 2):
        assert guess(maps["p3"], ROIS, spatial_scale=factor / 8) == []
    assert guess(maps["p3"], ROIS, spatial_scale=1.0) == []


def test_silent_on_relu_and_on_the_finest_level_as_float16(maps):
    assert guess(np.maximum(maps["p3"], 0), ROIS, spatial_scale=1 / 8) == []
    assert guess(maps["p3"].clip(-6e4, 6e4).astype(np.float16), ROIS, spatial_scale=1 / 8) == []


@pytest.mark.parametrize("cut", [landscape, portrait])
@pytest.mark.parametrize("level", LEVELS)
def test_r07_x_and_y_exchanged(maps, level, cut):
    features, rois = cut(maps, level)
    swapped = rois[:, [0, 2, 1, 4, 3]]
    assert guess(features, swapped, spatial_scale=1 / LEVELS[level]) == ["R07"]
    report = roicli.check(features, swapped, spatial_scale=1 / LEVELS[level], select="R07")
    assert "the centres of" in report.findings[0].message


def test_r07_needs_more_than_a_stray_row(maps):
    features, rois = landscape(maps, "p3")
    rois[0, 1:] = [100, 400, 120, 430]
    assert guess(features, rois, spatial_scale=1 / 8) == []


@pytest.mark.parametrize("level", LEVELS)
def test_r08_normalized(maps, level):
    features, rois = landscape(maps, level)
    rois[:, 1:] /= [512, HEIGHT, 512, HEIGHT]
    options = {"spatial_scale": 1 / LEVELS[level]}
    assert guess(features, rois, **options) == ["R08"]
    assert guess(features, rois, normalized=True, image_size=(HEIGHT, 512), **options) == []


def test_r08_padding_rows_and_corner_pixels_are_no_fractions(maps):
    zeros = np.zeros((4, 5), np.float32)
    assert guess(maps["p3"], zeros, spatial_scale=1 / 8) == []
    zeros[:, 3:] = 1
    assert guess(maps["p3"], zeros, spatial_scale=1 / 8) == []


def to_xywh(rois):
    other = rois.copy()
    other[:, 3:] -= other[:, 1:3]
    return other


def to_cxcywh(rois):
    other = to_xywh(rois)
    other[:, 1:3] += other[:, 3:] / 2
    return other


@pytest.mark.parametrize("convert", [to_xywh, to_cxcywh])
@pytest.mark.parametrize("cut", [lambda maps, level: (maps[level], ROIS), landscape, portrait])
def test_r09_other_format(maps, cut, convert):
    features, rois = cut(maps, "p4")
    other = convert(rois.copy())
    report = roicli.check(features, other, spatial_scale=1 / 16, select=GUESSES)
    assert [finding.rule for finding in report.findings] == ["R09"]
    word = convert.__name__.removeprefix("to_")
    assert word in report.findings[0].message
    assert guess(features, other, spatial_scale=1 / 16, roi_format=word) == []


def test_r09_corners_said_to_be_sizes(maps):
    assert guess(maps["p4"], ROIS, spatial_scale=1 / 16, roi_format="xywh") == ["R09"]


def test_r09_some_crossed_corners_are_no_format(maps):
    rois = ROIS.copy()
    rois[::4, [1, 3]] = rois[::4, [3, 1]]
    assert guess(maps["p4"], rois, spatial_scale=1 / 16) == []
    assert guess(maps["p4"], ROIS[:, [0, 3, 4, 1, 2]], spatial_scale=1 / 16) == []


@pytest.mark.parametrize("cut", [lambda maps, level: (maps[level], ROIS), landscape, portrait])
@pytest.mark.parametrize("level", LEVELS)
def test_r10_scale_applied_twice(maps, level, cut):
    features, rois = cut(maps, level)
    rois = rois.copy()
    rois[:, 1:] /= LEVELS[level]
    assert guess(features, rois, spatial_scale=1 / LEVELS[level]) == ["R10"]
    assert guess(features, rois, spatial_scale=1.0) == []


def test_r10_in_cells_of_a_pyramids_finest_level(maps):
    rois = ROIS.copy()
    rois[:, 1:] /= 8
    assert guess(SAMPLES / "text_fpn.h5", rois, levels="p3,p4,p5") == ["R10"]


def test_r10_one_object_in_the_first_corner_is_none(maps):
    rng = np.random.default_rng(3)
    around = np.array([0, 2, 2, 58, 60]) + rng.uniform(-2, 2, (60, 5)) * [0, 1, 1, 1, 1]
    assert guess(maps["p3"][:1], around.clip(0), spatial_scale=1 / 8) == []
    small = np.array([0, 5, 5, 25, 25]) + rng.uniform(-4, 4, (60, 5)) * [0, 1, 1, 1, 1]
    assert guess(maps["p3"][:1], small, spatial_scale=1 / 8) == []


@pytest.mark.parametrize("cut", [lambda maps, level: (maps[level], ROIS), landscape, portrait])
@pytest.mark.parametrize("images", [1, 2])
def test_r11_batch_index_last(maps, cut, images):
    features, rois = cut(maps, "p3")
    rois = rois[rois[:, 0] < images]
    assert guess(features[:images], rois[:, [1, 2, 3, 4, 0]], spatial_scale=1 / 8) == ["R11"]


@pytest.mark.parametrize("cut", [lambda maps, level: (maps[level], ROIS), landscape, portrait])
@pytest.mark.parametrize("level", LEVELS)
def test_r14_channels_last(maps, level, cut):
    features, rois = cut(maps, level)
    last = np.ascontiguousarray(features.transpose(0, 2, 3, 1))
    assert "R14" in guess(last, rois, spatial_scale=1 / LEVELS[level])


@pytest.mark.parametrize(
    ("shape", "rules"),
    [
        ((1, 50, 50, 256), ["R14"]),
        ((2, 64, 64, 24), ["R14"]),  # by the RoIs, which leave 24 cells and fill 64
        ((1, 64, 64, 256), []),  # a map of 64 x 256 with 64 channels is possible
        ((1, 24, 64, 64), []),
        ((1, 256, 50, 50), []),
        ((1, 3, 3, 64), []),
    ],
)
def test_r14_by_shape_and_rois_where_the_values_say_nothing(shape, rules):
    maps = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    rois = ROIS[ROIS[:, 0] < shape[0]]
    assert guess(maps, rois, spatial_scale=1 / 8) == rules


def test_several_mistakes_are_told_apart(maps):
    features, rois = landscape(maps, "p3")
    normalized = rois.copy()
    normalized[:, 1:] /= [512, HEIGHT, 512, HEIGHT]
    assert guess(features, normalized[:, [1, 2, 3, 4, 0]], spatial_scale=1 / 8) == ["R08", "R11"]
    assert guess(features, rois[:0], spatial_scale=1 / 8) == []


def test_r14_a_rotated_page_and_smooth_channels_are_no_channels_last(maps):
    # Lines of text that run downwards: neighbours along the width have little in common.
    page = maps["p4"][:1].transpose(0, 1, 3, 2).copy()
    assert guess(page, ROIS[:0], spatial_scale=1 / 16) == []
    smooth = np.cumsum(np.random.default_rng(2).normal(size=(1, 12, 40, 40)), axis=1)
    smooth = np.cumsum(smooth, axis=2) + np.cumsum(smooth, axis=3)
    assert guess(smooth, ROIS[:0], spatial_scale=1 / 16) == []


def test_r14_rois_that_stay_in_a_part_prove_nothing():
    rng = np.random.default_rng(4)
    tall = rng.normal(size=(1, 64, 64, 24)).astype(np.float32)
    few = np.array([[0, 200, 10, 230, 60]] * 3 + [[0, 210, 20, 250, 80]] * 3, np.float32)
    for rois in (few, few[:2]):
        assert "R14" not in guess(tall, rois, spatial_scale=1 / 8)


def test_r10_and_r11_need_all_rows_to_agree(maps):
    rois = ROIS.copy()
    rois[:, 1:] /= 8
    rois[0, 3:] = 500
    assert guess(maps["p3"], rois, spatial_scale=1 / 8) == []
    assert guess(maps["p3"], np.repeat(rois[1:2], 9, axis=0), spatial_scale=1 / 8) == []
    last = ROIS[:, [1, 2, 3, 4, 0]]
    last[0, :4] = [400, 400, 900, 900]
    assert guess(maps["p3"], last, spatial_scale=1 / 8) == []
    last[0, 4] = 0.5
    assert guess(maps["p3"], last, spatial_scale=1 / 8) == []
