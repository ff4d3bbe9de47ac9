"""Pyramid levels against the libraries' formulas, written out in plain single precision."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roicli.core.exceptions import ParameterError
from roicli.operators.levels import LevelAssignment, level_of_scale
from tests.strategies import boxes

IMAGE = (1024, 1024)
RULES = ["torchvision", "detectron2", "mmdet", "model-garden", "matterport"]
FLOORED = RULES[:4]


def square(side):
    return np.array([[10.0, 20.0, 10.0 + side, 20.0 + side]])


def assign(corners, rule, finest, coarsest, **constants):
    return LevelAssignment(rule, image_size=IMAGE, **constants).assign(corners, finest, coarsest)


@pytest.mark.parametrize("rule", FLOORED)
@pytest.mark.parametrize(
    ("side", "level"), [(111, 2), (112, 3), (223, 3), (224, 4), (447, 4), (448, 5), (896, 6)]
)
def test_levels_change_at_112_224_448(rule, side, level):
    # mmdet counts from the finest map, and from 56 pixels on
    finest = 2 if rule == "mmdet" else 0
    assert assign(square(side), rule, finest, 9).tolist() == [level]


def test_mmdet_counts_from_the_finest_map_whatever_its_number():
    corners = np.concatenate([square(side) for side in (10, 111, 112, 223, 224, 5000)])
    assert assign(corners, "mmdet", 0, 3).tolist() == [0, 0, 1, 1, 2, 3]
    assert assign(corners, "mmdet", 3, 6).tolist() == [3, 3, 4, 4, 5, 6]
    assert assign(corners, "mmdet", 3, 6, canonical_size=28).tolist() == [3, 4, 5, 5, 6, 6]
    assert assign(corners, "mmdet", 0, 9, canonical_level=2).tolist() == [0, 2, 3, 3, 4, 8]


@pytest.mark.parametrize(
    ("side", "level"),
    [
        # By hand, image 1024 x 1024: sides lose a pixel and are over 1023, so a RoI of side a has
        # log2((a - 1) / 1023 * 1024 / 224), which is rounded: steps where that is a half.
        # 224 * 2^-0.5 * 1023 / 1024 + 1 = 159.24, 224 * 2^0.5 * 1023 / 1024 + 1 = 317.47
        (225, 4), (159, 3), (160, 4), (317, 4), (318, 5), (79, 2), (80, 2), (81, 3), (700, 5),
    ],
)  # fmt: skip
def test_matterport_rounds_what_is_relative_to_the_image(side, level):
    assert assign(square(side), "matterport", 2, 5).tolist() == [level]


def test_matterport_on_an_image_that_is_not_square():
    # 100 x 400 px on 101 x 401: sides 99/100 and 399/400 of it (height x width), area nearly 1,
    # over 224 / sqrt(101 * 401) = 1.1131: log2(0.99373 / 1.1131) = -0.1637, so level 4; floored
    # it were 3.
    corners = np.array([[0.0, 0.0, 400.0, 100.0]])
    assert LevelAssignment("matterport", image_size=(101, 401)).assign(corners, 2, 5) == [4]


def test_matterport_rounds_half_to_even():
    # Sides of 512 on an image of 2 - 1 px, times sqrt(2 * 2), over a size that makes it 2^2.5.
    size = float(np.float32(1024) / np.float32(2**2.5))
    assert np.float32(np.log2(np.float64(np.float32(1024) / np.float32(size)))) == 2.5
    corners = np.array([[0.0, 0.0, 513.0, 513.0]])
    rules = [LevelAssignment("matterport", size, level, (2, 2)) for level in (2, 3)]
    assert [rule.assign(corners, 0, 9)[0] for rule in rules] == [4, 5]


def test_matterport_needs_the_image():
    with pytest.raises(ParameterError, match="matterport measures RoIs against their image"):
        LevelAssignment("matterport").assign(square(3), 2, 5)


@pytest.mark.parametrize("size", [0, -1, math.nan, math.inf])
def test_a_canonical_size_that_is_none(size):
    with pytest.raises(ParameterError, match="canonical size"):
        LevelAssignment(canonical_size=size)


@pytest.mark.parametrize("rule", RULES)
def test_canonical_size_and_level_move_the_steps(rule):
    corners = np.concatenate([square(side) for side in (90, 125, 130, 260, 520)])
    usual = assign(corners, rule, -9, 19, canonical_size=224, canonical_level=4)
    assert (assign(corners, rule, -9, 19, canonical_size=224, canonical_level=5) == usual + 1).all()
    assert (assign(corners, rule, -9, 19, canonical_size=112, canonical_level=4) == usual + 1).all()


def test_the_libraries_differ_just_below_a_power_of_two():
    # sqrt(area) / 224 = 1 - 3e-7: log2 is -4.3e-7, which only 1e-6 added to the level lifts over 0
    corners = np.array([[0, 0, 224.0, 224.0 * (1 - 6e-7)]])
    found = {rule: assign(corners, rule, 2, 5)[0] for rule in FLOORED}
    assert found == {"torchvision": 4, "detectron2": 3, "mmdet": 3, "model-garden": 3}


@pytest.mark.parametrize("rule", RULES)
@given(corners=boxes(1, 6), finest=st.integers(0, 5), steps=st.integers(0, 4))
def test_every_level_is_the_formulas(rule, corners, finest, steps):
    found = assign(corners.astype(np.float64), rule, finest, finest + steps)
    for (x1, y1, x2, y2), level in zip(corners, found, strict=True):
        width, height = np.float32(x2 - x1), np.float32(y2 - y1)
        if rule == "matterport":
            width, height = width - np.float32(1), height - np.float32(1)
        area = np.float32(width * height)
        if area <= 0:
            assert level == finest
            continue
        size, start, to_whole = 224, 4, math.floor
        inner, outer = {
            "torchvision": (0, 1e-6), "detectron2": (1e-8, 0), "mmdet": (1e-6, 0),
        }.get(rule, (0, 0))  # fmt: skip
        if rule == "mmdet":
            size, start = 56, finest
        if rule == "matterport":
            size, to_whole = 224 * 1023 / 1024, round
        exact = start + math.log2(math.sqrt(float(area)) / size + inner) + outer
        near = abs(exact * 2 - round(exact * 2)) / 2
        if near > 1e-5:  # too near a step, float32 decides
            assert level == min(max(to_whole(exact), finest), finest + steps)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "box", [(5, 5, 5, 5), (5, 5, 900, 5), (900, 5, 5, 900), (5, 5, 5, 900), (0, 0, 1e-3, 1e-3)]
)
def test_a_box_without_positive_area_goes_to_the_finest_level(rule, box):
    assert assign(np.array([box], np.float64), rule, 2, 5).tolist() == [2]


@pytest.mark.parametrize("rule", RULES)
def test_levels_are_clamped_to_the_pyramid(rule):
    corners = np.concatenate([square(1), square(300), square(10_000)])
    middle = {"mmdet": 5, "matterport": 4}.get(rule, 4)
    assert assign(corners, rule, 3, 5).tolist() == [3, middle, 5]


@pytest.mark.parametrize(
    ("scale", "level"),
    [(1, 0), (1 / 4, 2), (1 / 32, 5), (2, -1), (0.1, None), (1 / 3, None), (0.25 + 1e-9, 2)],
)
def test_a_levels_number_is_log2_of_the_stride(scale, level):
    assert level_of_scale(scale) == level
