"""The compiled kernel of operators that read cells with weights, beside their graph."""

from __future__ import annotations

import math
import platform
from itertools import cycle, product
from typing import Any

import numpy as np
import pytest

import roicli
from roicli.operators.average_pool import AveragePoolSpec, PsPoolSpec
from roicli.operators.crop_and_resize import CropAndResizeSpec
from roicli.operators.deform_pool import DeformPoolSpec
from roicli.operators.precise_roi_pool import PrecisePoolSpec
from roicli.operators.ps_align import PsAlignSpec
from roicli.operators.rotated_align import RotatedAlignSpec
from roicli.operators.taps import TapSpec
from roicli.runtime.native import jobs
from roicli.runtime.native import run as native
from roicli.runtime.runners import build_runner
from tests.options import need_numba, some
from tests.strategies import awkward_corners, normal_map

need_numba()

SIZE, SCALE = (3, 4), 0.25
SPECS = [
    CropAndResizeSpec(SIZE, SCALE, extrapolation_value=2.5),
    CropAndResizeSpec(SIZE, SCALE, "cells", interpolation="nearest", crop_points="avg"),
    CropAndResizeSpec(SIZE, SCALE, "matterport", crop_points="max"),
    CropAndResizeSpec((1, 1), SCALE, outside_rule="zeros", crop_points="avg"),
    AveragePoolSpec(SIZE, SCALE),
    AveragePoolSpec((7, 7), SCALE, "mmcv"),
    PsPoolSpec(SIZE, SCALE, 3),
    PsPoolSpec((2, 2), SCALE, ps_rule="torchvision"),
    PsAlignSpec(SIZE, SCALE, 2, group_size=2),
    PsAlignSpec(SIZE, SCALE, 0, aligned=False, group_size=1),
    PrecisePoolSpec(SIZE, SCALE),
    PrecisePoolSpec((2, 1), SCALE, "zero"),
    RotatedAlignSpec(SIZE, SCALE, 3),
    RotatedAlignSpec((2, 1), SCALE, 0, aligned=False),
    DeformPoolSpec(SIZE, SCALE, 0),
    DeformPoolSpec((2, 2), SCALE, 3, deform_rule="r-fcn"),
]
DTYPES = (np.float32, np.float64)
# ONNX Runtime adds the products of one row in a fixed order there, without fusing them.
HAS_THE_ORDER = platform.machine() in ("x86_64", "AMD64")


@pytest.fixture
def always_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the threads asked for, however small the load."""
    monkeypatch.setattr(jobs, "VALUES_PER_THREAD", 1)


def corners_for(spec: TapSpec, map_size: tuple[int, int], dtype: Any) -> Any:
    """RoIs (40, n) on the map, across its border, outside, crossed, tiny; in image pixels."""
    boxes = awkward_corners(map_size, SCALE, 40, 3, dtype)
    if spec.offset_shape:
        offsets = np.random.default_rng(4).normal(size=(len(boxes), math.prod(spec.offset_shape)))
        return np.column_stack([boxes, offsets]).astype(dtype)
    if len(spec.roi_columns) == 4:
        return boxes
    middle, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    angle = np.linspace(-190, 200, len(boxes))
    return np.column_stack([middle, sides, angle]).astype(dtype)


def compute(spec: TapSpec, feature_map: Any, corners: Any, provider: Any, threads: int = 1) -> Any:
    """(K, C, P_h, P_w) of a new runner."""
    runner = build_runner(spec, feature_map.dtype, provider, threads)
    shape = (len(corners), spec.output_channels(len(feature_map)), *spec.output_size)
    out = np.full(shape, np.nan, feature_map.dtype)  # a bin left out shows
    runner.load(feature_map)
    runner.run(corners, out)
    return out


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_single_precision_has_the_bits_of_the_graph(spec: TapSpec) -> None:
    largest = 0.0
    for shape in [(72, 13, 17), (36, 1, 9), (36, 1, 1)]:
        feature_map, corners = normal_map(shape), corners_for(spec, shape[1:], np.float32)
        found = compute(spec, feature_map, corners, "native")
        expected = compute(spec, feature_map, corners, "cpu")
        largest = max(largest, float(np.abs(expected).max()))
        if HAS_THE_ORDER:
            np.testing.assert_array_equal(found, expected)
        else:
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert largest > 0.1


@some("spec, dtype", product(SPECS, DTYPES), *zip(SPECS, cycle(DTYPES)), ids=repr)
def test_it_is_within_the_bound_of_the_reference(spec: TapSpec, dtype: Any) -> None:
    feature_map = normal_map((36, 11, 14)).astype(dtype)
    corners = corners_for(spec, (11, 14), dtype)
    found = compute(spec, feature_map, corners, "native")
    for row, one in zip(found, corners, strict=True):
        for channels, wanted in spec.expect(feature_map, one):
            assert (np.abs(row[channels] - wanted.values) <= wanted.bound).all()


@some("spec", [(spec,) for spec in SPECS], *[(spec,) for spec in SPECS[::2]], ids=repr)
def test_nan_and_infinity_reach_the_bins_that_read_them(spec: TapSpec) -> None:
    random = np.random.default_rng(2)
    feature_map = normal_map((36, 11, 14))
    odd = random.random(feature_map.shape) < 0.03
    feature_map[odd] = random.choice([np.nan, np.inf, -np.inf], odd.sum())
    corners = np.round(corners_for(spec, (11, 14), np.float32) * 2) / 2
    found, expected = (compute(spec, feature_map, corners, p) for p in ("native", "cpu"))
    assert 50 < (~np.isfinite(expected)).sum() < expected.size
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("always_threads")
@pytest.mark.parametrize("spec", SPECS[::3], ids=repr)
def test_threads_and_pieces_change_no_bit(spec: TapSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    feature_map = normal_map((36 * 17, 13, 17))
    corners = corners_for(spec, (13, 17), np.float32)
    expected = compute(spec, feature_map, corners, "native")
    np.testing.assert_array_equal(compute(spec, feature_map, corners, "native", 5), expected)
    monkeypatch.setattr(native, "TAPS_AT_ONCE", 500)
    np.testing.assert_array_equal(compute(spec, feature_map, corners, "native", 2), expected)
    alone = np.concatenate([compute(spec, feature_map, row[None], "native") for row in corners])
    np.testing.assert_array_equal(alone, expected)
    assert compute(spec, feature_map, corners[:0], "native").shape[0] == 0


def test_a_run_takes_it_by_its_name() -> None:
    maps, rois = normal_map((2, 8, 9, 12)), np.float32([[0, 1, 1, 6, 5], [1, -3, 2, 20, 31]])
    options: dict[str, Any] = {"output_size": 2, "spatial_scale": 0.5, "verify": True}
    found, expected = (
        roicli.ps_align(maps, rois, provider=provider, **options) for provider in ("native", "cpu")
    )
    assert found.parameters["provider_used"] == "native"
    np.testing.assert_allclose(found.roi_features, expected.roi_features, rtol=0, atol=1e-5)
