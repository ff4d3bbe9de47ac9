"""Presets that another package brings: run, listed, explained and refused like roicli's own."""

import numpy as np
import pytest

import roicli
from roicli.core.exceptions import InputError, ParameterError
from roicli.operators import presets

MAPS = np.random.default_rng(0).normal(size=(1, 2, 9, 9)).astype(np.float32)
ROIS = np.array([[0, 0.3, 1.2, 7.9, 6.5], [0, 2, 2.5, 5, 8]], np.float32)


@pytest.fixture
def bring(bring_package):
    """Installs the example package with another value of its presets' entry point."""
    presets.all_rows.cache_clear()
    yield lambda value="roicli_house:ROWS": bring_package(f"[roicli.presets]\nhouse = {value}\n")
    presets.all_rows.cache_clear()


def test_it_runs_under_its_name_and_its_librarys(bring):
    bring()
    expected = roicli.align(MAPS, ROIS, sampling_ratio=3, aligned=True).roi_features
    for name in ("house.roi_align", "house"):
        np.testing.assert_array_equal(roicli.align(MAPS, ROIS, preset=name).roi_features, expected)


def test_it_is_listed_and_recognized(bring):
    bring()
    assert [row["name"] for row in roicli.presets("house/csrc")] == ["house.roi_align"]
    stored = roicli.align(MAPS, ROIS, sampling_ratio=3, aligned=True).roi_features
    found = roicli.diagnose(MAPS, ROIS, stored).libraries
    assert "house.roi_align" in [row.name for row in found]


def test_one_that_is_none_is_named(bring):
    bring("roicli_house:DEFAULT")
    with pytest.raises(InputError, match=r"roicli\.presets: house: .* is no .*LibraryFunction"):
        roicli.align(MAPS, ROIS, preset="house")
    # roicli's own need no look at other packages.
    assert roicli.align(MAPS, ROIS, preset="torchvision").roi_features.shape == (2, 2, 7, 7)


def test_a_name_that_is_taken_is_refused(bring):
    bring("roicli.operators.libraries:ROWS")
    with pytest.raises(InputError, match=r"\.\S+ is there already"):
        roicli.presets()


def test_an_unknown_name_is_answered_with_theirs(bring):
    bring()
    with pytest.raises(ParameterError, match="house"):
        roicli.align(MAPS, ROIS, preset="hause")
