"""Conventions of the space by chance: each is found, under a name that has its numbers."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from roicli.analysis.diagnose.candidates import (
    NO_ODDITY,
    Candidate,
    Wanted,
    first_candidates,
    variants,
)
from roicli.analysis.diagnose.run import diagnose
from roicli.operators.convention import Convention
from roicli.operators.evaluate import evaluate
from roicli.operators.sampled_map import SampledMap, all_bins
from tests.operators import engines

pytestmark = [pytest.mark.full, pytest.mark.filterwarnings("ignore::roicli.RoicliWarning")]
ROIS = engines.entries()["torchvision-roi_pool-default"].rois
SIZES = ((7, 7), (5, 3), (3, 3))
# Conventions a test, and tests: some 0.4 s each.
EACH, PARTS = 15, 8


def give(rule: Convention, size: tuple[int, int]) -> NDArray[np.float32]:
    """What a convention gives for the 24 RoIs."""
    maps = engines.features()
    out = np.empty((len(ROIS), maps.shape[1], *size), np.float32)
    for image, feature_map in enumerate(maps.astype(np.float64)):
        here = ROIS[:, 0] == image
        one = SampledMap(feature_map, ROIS[here, 1:], engines.SCALE)
        out[here] = evaluate(rule, one, all_bins(size))
    return out


def choose(rng: np.random.Generator) -> Convention:
    """A convention of the first stage, or a variant of it."""
    plain = [one for one in first_candidates(Wanted()) if one.oddity == NO_ODDITY]
    first = plain[rng.integers(len(plain))]
    forms: list[Candidate] = [one for one in variants(first) if one.oddity == NO_ODDITY]
    return forms[rng.integers(len(forms))].convention


@pytest.mark.parametrize("part", range(PARTS))
def test_each_is_found(part: int) -> None:
    rng = np.random.default_rng(190 + part)
    for number in range(EACH):
        rule, size = choose(rng), SIZES[number % len(SIZES)]
        result: Any = give(rule, size)
        found = diagnose(engines.features(), ROIS, result, spatial_scale=engines.SCALE, sample=None)
        assert found.match is not None, rule.parameters()
        same = give(found.match.candidate.convention, size)
        np.testing.assert_allclose(
            same, result, rtol=1e-5, atol=1e-5, err_msg=found.match.candidate.name
        )
