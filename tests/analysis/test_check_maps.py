"""R15 and the statistics behind it."""

import numpy as np
import pytest

import roicli
from roicli.analysis.check.map_statistics import measure_smoothness

MAPS = np.random.default_rng(1).normal(size=(3, 4, 6, 8)).astype(np.float32)
ROIS = np.array([[0, 0, 0, 6, 5], [1, 1, 1, 7, 5], [2, 2, 1, 8, 6]], np.float32)


def findings(maps, **options):
    report = roicli.check(maps, ROIS, spatial_scale=1.0, select="R15", **options)
    return [(f.unit, f.rows, f.message) for f in report.findings]


def spoilt(place, value):
    other = MAPS.copy()
    other[place] = value
    return other


def test_clean_maps():
    assert findings(MAPS) == []
    assert findings(MAPS[0]) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers(value):
    other = spoilt((1, 2, 3, 4), value)
    other[2, 0, 0, :2] = value
    ((unit, rows, message),) = findings(other)
    assert (unit, rows) == ("images", (1, 2))
    assert "3 values in all" in message


def test_constant_images_are_not_called_duplicates_too():
    other = spoilt((slice(0, 2),), 0)
    ((unit, rows, message),) = findings(other)
    assert (unit, rows) == ("images", (0, 1))
    assert "constant" in message
    assert len(findings(np.zeros_like(MAPS))) == 1


def test_dead_channels():
    other = spoilt((slice(None), 2), 0.0)
    ((unit, rows, _),) = findings(other)
    assert (unit, rows) == ("channels", (2,))
    assert findings(other, max_dead=0.25) == []
    assert findings(spoilt((slice(0, 2), 2), 0.0)) == []  # alive in the last image


def test_images_stored_twice():
    other = spoilt((2,), MAPS[0])
    ((unit, rows, message),) = findings(other)
    assert (unit, rows) == ("images", (2,))
    assert "image 2 is image 0" in message


def test_the_same_extremes_are_no_duplicate():
    other = MAPS.copy()
    other[1] = other[0][:, ::-1]
    assert findings(other) == []


def test_one_cell_is_not_constant():
    assert findings(np.ones((3, 1, 1, 1), np.float32) * [[[[1]]], [[[2]]], [[[3]]]]) == []
    assert findings(np.arange(1, 5, dtype=np.float32).reshape(1, 4, 1, 1)) == []


def test_every_level_is_looked_at():
    levels = [np.kron(MAPS, np.ones((2, 2), np.float32)), spoilt((0, 0, 0, 0), np.nan)]
    report = roicli.check(levels, ROIS, spatial_scale=(1, 1 / 2), select="R15")
    assert [finding.where for finding in report.findings] == ["features[1]"]


def test_smoothness_of_what_is_known():
    ramp = np.broadcast_to(np.arange(40.0), (6, 5, 40))
    channels, rows, columns = measure_smoothness(ramp)
    assert (channels, rows) == (1, 1)
    assert 0.9 < columns < 1
    noise = np.random.default_rng(0).normal(size=(20, 20, 20))
    assert np.all(np.abs(measure_smoothness(noise)) < 0.1)
    assert np.isnan(measure_smoothness(np.ones((3, 3, 3)))).all()
    assert np.isnan(measure_smoothness(noise[:, :1])[1])
    assert np.allclose(measure_smoothness(noise * 1e300), measure_smoothness(noise))
