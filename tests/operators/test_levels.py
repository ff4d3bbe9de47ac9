"""Pyramid levels against both libraries' formulas, written out in plain single precision."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roicli.operators.levels import assign_levels, level_of_scale
from tests.strategies import boxes


def square(side):
    return np.array([[10.0, 20.0, 10.0 + side, 20.0 + side]])


@pytest.mark.parametrize("rule", ["torchvision", "detectron2"])
@pytest.mark.parametrize(
    ("side", "level"), [(111, 2), (112, 3), (223, 3), (224, 4), (447, 4), (448, 5), (896, 6)]
)
def test_levels_change_at_112_224_448(rule, side, level):
    assert assign_levels(square(side), rule, 0, 9).tolist() == [level]


def test_the_libraries_differ_just_below_a_power_of_two():
    # sqrt(area) / 224 = 1 - 3e-7: log2 is -4.3e-7, which only torchvision's epsilon lifts over 0
    corners = np.array([[0, 0, 224.0, 224.0 * (1 - 6e-7)]])
    assert assign_levels(corners, "torchvision", 2, 5).tolist() == [4]
    assert assign_levels(corners, "detectron2", 2, 5).tolist() == [3]


@pytest.mark.parametrize("rule", ["torchvision", "detectron2"])
@given(corners=boxes(1, 6), finest=st.integers(0, 5), steps=st.integers(0, 4))
def test_every_level_is_the_formulas(rule, corners, finest, steps):
    found = assign_levels(corners.astype(np.float64), rule, finest, finest + steps)
    for (x1, y1, x2, y2), level in zip(corners, found, strict=True):
        area = np.float32(np.float32(x2 - x1) * np.float32(y2 - y1))
        if area <= 0:
            assert level == finest
            continue
        epsilon = (0.0, 1e-6) if rule == "torchvision" else (1e-8, 0.0)
        exact = 4 + math.log2(math.sqrt(float(area)) / 224 + epsilon[0]) + epsilon[1]
        if abs(exact - round(exact)) > 1e-5:  # too near a step, float32 decides
            assert level == min(max(math.floor(exact), finest), finest + steps)


@pytest.mark.parametrize("rule", ["torchvision", "detectron2"])
@pytest.mark.parametrize(
    "box", [(5, 5, 5, 5), (5, 5, 900, 5), (900, 5, 5, 900), (5, 5, 5, 900), (0, 0, 1e-3, 1e-3)]
)
def test_a_box_without_positive_area_goes_to_the_finest_level(rule, box):
    assert assign_levels(np.array([box], np.float64), rule, 2, 5).tolist() == [2]


@pytest.mark.parametrize("rule", ["torchvision", "detectron2"])
def test_levels_are_clamped_to_the_pyramid(rule):
    corners = np.concatenate([square(1), square(300), square(10_000)])
    assert assign_levels(corners, rule, 3, 5).tolist() == [3, 4, 5]


@pytest.mark.parametrize(
    ("scale", "level"),
    [(1, 0), (1 / 4, 2), (1 / 32, 5), (2, -1), (0.1, None), (1 / 3, None), (0.25 + 1e-9, 2)],
)
def test_a_levels_number_is_log2_of_the_stride(scale, level):
    assert level_of_scale(scale) == level
