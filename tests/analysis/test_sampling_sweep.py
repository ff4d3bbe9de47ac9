"""The sweep over sampling ratios, and what it recommends."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import roicli
from roicli.analysis.sweep import FINE_GRID, RATIOS, Sweep
from roicli.core.exceptions import InputError, ParameterError
from tests import oracle
from tests.strategies import normal_map

SAMPLES = Path(__file__).parents[2] / "sample_data"
FILES = str(SAMPLES / "text_fpn.h5") + "::p3", str(SAMPLES / "text_rois.npy")


@pytest.fixture(scope="module")
def found() -> Sweep:
    """The sweep of the sample data."""
    return roicli.sweep(*FILES)


def by_ratio(found: Sweep, size_class: str = "all") -> dict[int, Any]:
    """The records of a class."""
    return {r.sampling_ratio: r for r in found.records if r.size_class == size_class}


@pytest.mark.full
def test_more_samples_come_nearer(found: Sweep) -> None:
    for size_class in ("all", "small", "medium", "large"):
        records = by_ratio(found, size_class)
        assert tuple(records) == RATIOS
        errors = [records[ratio].relative_l2 for ratio in (1, 2, 3, 4, 8)]
        assert errors == sorted(errors, reverse=True)
        assert [records[ratio].samples_per_bin for ratio in (1, 2, 8)] == [1, 4, 64]
        assert all(record.seconds > 0 for record in records.values())
        assert records[2].fine_grid_relative_l2 == pytest.approx(records[2].relative_l2, rel=0.02)
    assert found.fine_grid == FINE_GRID
    assert found.fine_grid_error is not None
    assert found.fine_grid_error < 1e-4
    classes = [by_ratio(found, name)[2] for name in ("small", "medium", "large")]
    assert sum(record.n for record in classes) == by_ratio(found)[2].n == found.rois == 102
    assert sum(r.seconds for r in classes) == pytest.approx(by_ratio(found)[2].seconds)


def test_recommends_the_smallest_within_the_tolerance(found: Sweep) -> None:
    records = by_ratio(found)
    best = found.recommended_sampling_ratio
    assert best == 2
    assert records[1].relative_l2 > found.tolerance >= records[2].relative_l2
    assert found.recommended_by_size_class == {"small": 2, "medium": 3, "large": 8}
    strict = roicli.sweep(*FILES, tolerance=1e-9, sample=20)
    assert strict.recommended_sampling_ratio is None
    assert strict.rois_measured == 20


@pytest.mark.full
def test_errors_are_those_of_the_operator() -> None:
    """Against the oracle at a ratio of 60, which is near enough to the exact mean."""
    features = normal_map((1, 2, 16, 16)).astype(np.float64)
    rois = np.array([[0, 8, 9, 50, 44], [0, 20, 3, 61, 37]], np.float64)
    options: dict[str, Any] = {"output_size": (3, 3), "spatial_scale": 0.25, "aligned": False}
    found = roicli.sweep(features, rois, **options)
    exact = oracle.roi_align(features, rois, sampling_ratio=60, **options)
    once = oracle.roi_align(features, rois, sampling_ratio=1, **options)
    norms = [np.linalg.norm((once - exact)[k]) / np.linalg.norm(exact[k]) for k in (0, 1)]
    assert by_ratio(found)[1].relative_l2 == pytest.approx(np.median(norms), rel=1e-3)
    largest = np.abs(once - exact).max()
    assert by_ratio(found)[1].max_difference == pytest.approx(largest, rel=1e-2)


def test_adaptive_stands_last_and_is_taken_only_where_nothing_else_is() -> None:
    """On a ramp every symmetric grid is exact, so the smallest fixed ratio is enough."""
    ramp = np.broadcast_to(np.arange(32.0, dtype=np.float32), (1, 1, 32, 32)).copy()
    rois = np.array([[0, 8, 8, 100, 90]], np.float32)
    found = roicli.sweep(ramp, rois, spatial_scale=0.25)
    assert found.recommended_sampling_ratio == 1
    assert found.recommended_by_size_class == {"medium": 1}


def test_pyramid_thirds_and_boxes_of_no_use() -> None:
    features = str(SAMPLES / "text_fpn.h5")
    rois = np.load(FILES[1])[::6]
    rois[0, 3] = rois[0, 1] - 5
    options = {"levels": "p3,p4,p5", "sampling_grid": "thirds", "output_size": 3}
    found = roicli.sweep(features, rois, **options, ignore="R04")
    assert found.left_out == 1
    assert found.rois_measured == len(rois) - 1
    assert by_ratio(found)[8].relative_l2 < by_ratio(found)[2].relative_l2


def test_nothing_to_measure() -> None:
    with pytest.raises(InputError, match="no RoI of 1"):
        roicli.sweep(FILES[0], np.array([[0, 9, 9, 5, 5]], np.float32), ignore="R04")


def test_a_reference_of_zero_has_no_relative_error() -> None:
    features, rois = np.zeros((1, 1, 8, 8), np.float32), np.array([[0, 1, 1, 6, 6]], np.float32)
    found = roicli.sweep(features, rois)
    assert found.recommended_sampling_ratio is None
    assert by_ratio(found)[2].relative_l2 is None
    assert by_ratio(found)[2].max_difference == 0.0


@pytest.mark.parametrize("options", [{"tolerance": 0}, {"sample": 0}, {"output_size": 200}])
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        roicli.sweep(*FILES, **options)


@pytest.mark.parametrize(
    ("dtype", "size"), [(np.float32, 1e30), (np.float32, 1e-30), (float, 1e300), (float, 1e-300)]
)
def test_maps_of_every_size(dtype: Any, size: float) -> None:
    """The measures of a map times a power of ten are the same."""
    features = normal_map((1, 2, 16, 16)).astype(dtype)
    rois = np.array([[0, 8, 9, 50, 44], [0, 20, 3, 61, 37]], dtype)
    options: dict[str, Any] = {"output_size": (3, 3), "spatial_scale": 0.25}
    plain, moved = (roicli.sweep(part, rois, **options) for part in (features, features * size))
    for one, other in zip(plain.records, moved.records, strict=True):
        for name in ("relative_l2", "relative_l2_p95", "fine_grid_relative_l2"):
            assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-3)
        assert other.max_difference == pytest.approx(one.max_difference * size, rel=1e-3)
