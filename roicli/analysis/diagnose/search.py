"""The search: every candidate on a few RoIs, the best of them on more, and what they explain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from roicli.analysis.diagnose.conventions import (
    NO_ODDITY,
    AlignConvention,
    Convention,
    PoolConvention,
)
from roicli.analysis.diagnose.distance import Yardstick
from roicli.analysis.diagnose.sample import Sample, norms_of, varied_channels
from roicli.analysis.diagnose.values import evaluate_conventions
from roicli.analysis.roi_sample import spread
from roicli.core.types import Array, FloatArray

COARSE_ROIS, COARSE_CHANNELS, COARSE_BINS = 6, 4, 7
# After the coarse stage: the nearest candidates, and at most so many that may still match.
KEPT, KEPT_MARGIN, MOST_KEPT = 8, 10.0, 512
# RoIs times candidates of a later stage, where many candidates give the same numbers.
EVALUATIONS, FEWEST_ROIS = 1 << 12, 8
# Single-precision coordinates computed in another order differ by this much.
SAME_NUMBERS = 1e-5
# A single RoI scatters more than all of them together.
ROI_MARGIN = 4.0
# Where these three agree on a RoI, it tells no convention from another.
DIFFERENT: tuple[Convention, ...] = (
    AlignConvention("avg", "half-pixel", 2, "quarters", NO_ODDITY),
    AlignConvention("avg", "legacy", 2, "quarters", NO_ODDITY),
    PoolConvention("caffe", "overlap", NO_ODDITY),
)


@dataclass(frozen=True)
class Finding:
    """A convention, its distance from the result and the largest difference."""

    convention: Convention
    distance: float
    max_difference: float


class Candidate(NamedTuple):
    """A finding over all RoIs of a sample, and which of them (S,) the convention explains.

    ``own_distance`` is over those that it explains; over all where it explains none.
    """

    finding: Finding
    explained: Array
    own_distance: float

    @property
    def rank(self) -> tuple[int, float]:
        """What explains more comes first, then what is nearer."""
        return -int(self.explained.sum()), self.finding.distance


@dataclass(frozen=True)
class Ranking:
    """The best candidate under its plainest name, other names of its numbers, and the next best.

    ``telling`` (S,) are the RoIs on which plain conventions differ.
    """

    best: Candidate
    synonyms: tuple[Convention, ...]
    runner_up: Candidate | None
    telling: Array


def rank_conventions(
    conventions: Sequence[Convention], sample: Sample, tolerance: float
) -> Ranking:
    """Find what gives the result of a sample within a distance, or comes nearest to it."""
    survivors = _search_coarsely(conventions, sample, tolerance)
    fewer = _take_for(sample, len(survivors))
    candidates = measure_conventions(survivors, fewer, tolerance)
    best, synonyms = _plainest(candidates, fewer)
    told = {best.finding.convention, *synonyms}
    others = [found for found in candidates if found.finding.convention not in told]
    runner_up = _plainest(others, fewer)[0] if others else None
    if fewer is not sample:
        # Names of the same numbers on fewer RoIs may differ on all.
        names = [best.finding.convention, *synonyms]
        some = names[: max(1, EVALUATIONS // len(sample.result))]
        best, same = _plainest(measure_conventions(some, sample, tolerance), sample)
        synonyms = (*same, *names[len(some) :])
    return Ranking(best, synonyms, runner_up, _find_telling(sample, tolerance))


def _take_for(sample: Sample, candidates: int) -> Sample:
    """As many of the RoIs as so many candidates can be computed for."""
    count = max(FEWEST_ROIS, EVALUATIONS // candidates)
    if count >= len(sample.result):
        return sample
    return sample.take_rois(spread(norms_of(sample.result), count))


def measure_conventions(
    conventions: Sequence[Convention], sample: Sample, tolerance: float
) -> list[Candidate]:
    """Every convention with its distance from the result."""
    yardstick = Yardstick(sample.result)
    return [
        _judge(convention, values, yardstick, tolerance)
        for convention, values in _evaluate(conventions, sample)
    ]


def _evaluate(
    conventions: Sequence[Convention], sample: Sample
) -> Iterator[tuple[Convention, FloatArray]]:
    return evaluate_conventions(conventions, sample.maps, sample.bins)


def _judge(
    convention: Convention, values: FloatArray, yardstick: Yardstick, tolerance: float
) -> Candidate:
    found = yardstick.measure(values)
    explained = yardstick.are_near(found, ROI_MARGIN * tolerance)
    comparable = yardstick.comparable(found)
    largest = float(found.largest[comparable].max(initial=0.0))
    own = found.overall(explained if explained.any() else comparable)
    return Candidate(Finding(convention, found.overall(comparable), largest), explained, own)


def _search_coarsely(
    conventions: Sequence[Convention], sample: Sample, tolerance: float
) -> list[Convention]:
    """All candidates on a few RoIs; the nearest and whatever may match, in the grid's order."""
    channels = varied_channels(sample.result, COARSE_CHANNELS)
    few = sample.take(_plain_rois(sample), channels, COARSE_BINS)
    found = measure_conventions(conventions, few, tolerance)
    # A RoI that most candidates explain speaks for none.
    share = np.mean([candidate.explained for candidate in found], axis=0)
    explained = np.array([int(candidate.explained[share < 0.5].sum()) for candidate in found])
    distances = np.array([candidate.finding.distance for candidate in found])
    order = np.lexsort((distances, -explained))
    limit = max(tolerance, SAME_NUMBERS) * KEPT_MARGIN
    # What explains a part of all RoIs explains some of these, and the best of them not much fewer.
    enough = max(1, -(-int(explained.max()) // 2))
    may_match = (distances <= limit) | (explained >= enough)
    possible = [i for i in order if may_match[i]][:MOST_KEPT]
    nearest = [i for i in np.argsort(distances, kind="stable") if not may_match[i]][:KEPT]
    return [conventions[i] for i in sorted([*possible, *nearest])]


def _plain_rois(sample: Sample) -> Array:
    """Places of a few RoIs on which conventions are least likely to have rules of their own."""
    norms = norms_of(sample.result)
    whole = np.isfinite(sample.result).all(axis=(1, 2, 3)) & (norms > 0)
    for plain in (whole & ~sample.without_size & ~sample.off_map, whole, norms > 0):
        places = np.flatnonzero(plain)
        if len(places):
            return places[spread(norms[places], COARSE_ROIS)]
    return spread(norms, COARSE_ROIS)


def _plainest(
    candidates: Sequence[Candidate], sample: Sample
) -> tuple[Candidate, tuple[Convention, ...]]:
    """The best candidate under its plainest name, and the other names of the same numbers.

    Of a candidate that explains a part the numbers of that part count.
    """
    best = min(candidates, key=lambda candidate: candidate.rank)
    near = [
        c.finding.convention
        for c in candidates
        if c.rank[0] == best.rank[0] and c.own_distance <= best.own_distance + SAME_NUMBERS
    ]
    yardstick = Yardstick(sample.result)
    _, numbers = next(_evaluate([best.finding.convention], sample))
    part = best.explained if best.explained.any() else np.ones(len(numbers), bool)
    same = [
        convention
        for convention, values in _evaluate(near, sample)
        if yardstick.between(values, numbers).overall(part) <= SAME_NUMBERS
    ]
    names = sorted(same or [best.finding.convention], key=lambda c: c.strangeness)
    finding = replace(best.finding, convention=names[0])
    return best._replace(finding=finding), tuple(names[1:])


def find_growth(sample: Sample) -> float:
    """By how much rounding of values may be larger beside how they vary.

    The lesser of the result's and of a plain convention's: a constant result of maps that vary is
    no rounded one.
    """
    few = _take_all_rois(sample)
    yardstick = Yardstick(few.result)
    return min(
        yardstick.growth(values)
        for values in (few.result, *(values for _, values in _evaluate(DIFFERENT[:1], few)))
    )


def _find_telling(sample: Sample, tolerance: float) -> Array:
    """(S,) RoIs on which plain conventions give different numbers."""
    few = _take_all_rois(sample)
    yardstick = Yardstick(few.result)
    (_, first), *others = _evaluate(DIFFERENT, few)
    same = [
        yardstick.are_near(yardstick.between(first, values), ROI_MARGIN * tolerance)
        for _, values in others
    ]
    return np.asarray(~np.all(same, axis=0))


def _take_all_rois(sample: Sample) -> Sample:
    """All RoIs, and a few channels and bins."""
    channels = varied_channels(sample.result, COARSE_CHANNELS)
    return sample.take(np.arange(len(sample.result)), channels, COARSE_BINS)
