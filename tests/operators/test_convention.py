"""The space of conventions against results of other engines, and against the oracle."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from roicli.operators.convention import ALIGN, POINT_ALIGN, Convention
from roicli.operators.evaluate import evaluate
from roicli.operators.sampled_map import SampledMap, all_bins, turn_corners
from tests.operators import engines
from tests.operators.engines import NOT_IMITATED, SCALE, Entry

NAMES = [name for name in engines.entries() if name not in NOT_IMITATED]


def compute(entry: Entry, convention: Convention) -> NDArray[np.float64]:
    """The convention on an entry's RoIs."""
    maps, corners = engines.features().astype(np.float64), entry.rois[:, 1:]
    if convention.box.turn != "none":
        corners = turn_corners(corners, entry.angle or 0.0)
    found = np.full(entry.result.shape, np.nan)
    for image, feature_map in enumerate(maps):
        rows = entry.rois[:, 0] == image
        one = SampledMap(feature_map, corners[rows], SCALE)
        found[rows] = evaluate(convention, one, all_bins(entry.result.shape[2:]))
    return found


def test_every_result_of_an_engine_is_reproduced() -> None:
    """Fill values included. Single-precision sums of maxima of 1e-5 and less are the engines'."""
    for name in NAMES:
        entry = engines.entries()[name]
        found = compute(entry, entry.convention)
        np.testing.assert_allclose(found, entry.result, rtol=1e-6, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("name", NOT_IMITATED)
def test_what_is_not_imitated_differs(name: str) -> None:
    entry = engines.entries()[name]
    differences = np.abs(compute(entry, entry.convention) - entry.result).max(axis=(1, 2, 3))
    assert (differences > 1e-3).any()


RAMP = np.arange(12.0).reshape(1, 3, 4)


def at(convention: Convention, box: Any, size: Any = (1, 1), ramp: Any = RAMP) -> Any:
    """One RoI on a ramp at scale 1."""
    return evaluate(convention, SampledMap(ramp, np.array([box], np.float32), 1.0), all_bins(size))


def test_extrapolation_is_linear_before_the_map_and_repeats_the_edge_after_it() -> None:
    """Model Garden's: y0 clipped, the fraction not."""
    row = np.array([[[3.0, 5.0, 6.0]]])
    assert at(POINT_ALIGN, [-5, 0, -3, 0], ramp=row).item() == 3 + 2 * -4
    assert at(POINT_ALIGN, [7, 0, 9, 0], ramp=row).item() == 6


def test_position_sensitive_channels() -> None:
    """Each bin reads channels of its own: by class, or by position."""
    maps = np.arange(12.0).reshape(12, 1, 1) * np.ones((1, 8, 8))
    for channels, expected in (
        ("class-major", [[[0, 1], [2, 3]], [[4, 5], [6, 7]], [[8, 9], [10, 11]]]),
        ("position-major", [[[0, 3], [6, 9]], [[1, 4], [7, 10]], [[2, 5], [8, 11]]]),
    ):
        rule = Convention(channels=channels)  # type: ignore[arg-type]
        assert at(rule, [1, 1, 6, 6], (2, 2), maps).tolist() == [expected]
    grouped = Convention(channels="class-major", group_size=2)
    assert at(grouped, [1, 1, 6, 6], (4, 4), maps)[0, 0].tolist() == [
        [0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]
    ]  # fmt: skip


def test_turned_by_a_right_angle_is_the_box_turned() -> None:
    """A quarter turn of a square moves its bins round, in the other direction the other way."""
    maps = np.random.default_rng(0).normal(size=(2, 9, 9))
    box = np.array([[4.5, 4.5, 4, 4]], np.float32)
    upright = at(ALIGN, [2.5, 2.5, 6.5, 6.5], (3, 3), maps)
    for turn, way in (("counter-clockwise", 1), ("clockwise", -1)):
        turned = at(ALIGN.placed(turn=turn), [*box[0], 90], (3, 3), maps)
        np.testing.assert_allclose(turned[0], np.rot90(upright[0], -way, (1, 2)), atol=1e-6)
