"""The search: every candidate on a few RoIs, the best of them on more, and what they explain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

import numpy as np

from roicli.analysis.diagnose.candidates import Candidate, Oddity, variants
from roicli.analysis.diagnose.distance import Yardstick
from roicli.analysis.diagnose.sample import Sample, norms_of, varied_channels
from roicli.analysis.roi_sample import spread
from roicli.core.record import frozen
from roicli.core.types import Array, FloatArray
from roicli.operators.convention import ALIGN, LEGACY, POOL, Convention
from roicli.operators.evaluate import evaluate_alike, reading

COARSE_ROIS, COARSE_CHANNELS, COARSE_BINS = 6, 4, 7
# After the coarse stage: the nearest candidates, and at most so many that may still match.
KEPT, KEPT_MARGIN, MOST_KEPT = 8, 10.0, 512
# Of these so many are varied, on so many RoIs and channels.
VARIED, VARIED_ROIS, VARIED_CHANNELS = 6, 48, 2
# RoIs times candidates of a later stage, where many candidates give the same numbers.
EVALUATIONS, FEWEST_ROIS = 1 << 12, 8
# Single-precision coordinates computed in another order differ by this much.
SAME_NUMBERS = 1e-5
# A single RoI scatters more than all of them together.
ROI_MARGIN = 4.0
# Where these three agree on a RoI, it tells no convention from another.
DIFFERENT = tuple(Candidate(c) for c in (ALIGN, replace(ALIGN, box=LEGACY), POOL))


@frozen
class Finding:
    """A candidate, its distance from the result and the largest difference."""

    candidate: Candidate
    distance: float
    max_difference: float

    @property
    def convention(self) -> Candidate:
        """The same, by the name that programs know it by."""
        return self.candidate


class Judged(NamedTuple):
    """A finding over all RoIs of a sample, and which of them (S,) the candidate explains.

    ``own_distance`` is over those that it explains; over all where it explains none.
    """

    finding: Finding
    explained: Array
    own_distance: float

    @property
    def rank(self) -> tuple[int, float]:
        """What explains more comes first, then what is nearer."""
        return -int(self.explained.sum()), self.finding.distance


@frozen
class Ranking:
    """The best candidate under its plainest name, other names of its numbers, and the next best.

    ``telling`` (S,) are the RoIs on which plain conventions differ; ``tried`` counts candidates.
    """

    best: Judged
    synonyms: tuple[Candidate, ...]
    runner_up: Judged | None
    telling: Array
    tried: int


def rank_candidates(first: Sequence[Candidate], sample: Sample, tolerance: float) -> Ranking:
    """Find what gives the result of a sample within a distance, or comes nearest to it: of the
    candidates of the first stage, and of their variants.
    """
    survivors = _search_coarsely(first, sample, tolerance)
    fewer = _take_for(sample, len(survivors))
    judged = measure(survivors, fewer, tolerance)
    varied = _vary(judged, fewer, tolerance)
    judged += measure([c for c in varied if c not in survivors], fewer, tolerance)
    best, synonyms = _plainest(judged, fewer)
    told = {best.finding.candidate, *synonyms}
    # What differs on unusual RoIs only is no other name, but what the match is without a rule.
    apart = best.finding.distance + SAME_NUMBERS
    others = [
        found
        for found in judged
        if found.finding.candidate not in told and found.finding.distance > apart
    ]
    runner_up = _plainest(others, fewer)[0] if others else None
    if fewer is not sample:
        # Names of the same numbers on fewer RoIs may differ on all.
        names = [best.finding.candidate, *synonyms]
        some = names[: max(1, EVALUATIONS // len(sample.result))]
        best, same = _plainest(measure(some, sample, tolerance), sample)
        synonyms = (*same, *names[len(some) :])
    tried = len(first) + len(varied)
    return Ranking(best, synonyms, runner_up, _find_telling(sample, tolerance), tried)


def _vary(judged: Sequence[Judged], sample: Sample, tolerance: float) -> list[Candidate]:
    """What the best candidates become with other rules for the RoIs that they do not explain."""
    ranked = sorted(judged, key=lambda one: one.rank)
    # Nothing has a variant that explains numbers as far off as any are from each other.
    if ranked[0].explained.all() or min(one.finding.distance for one in ranked) > 1:
        return []
    odd = np.flatnonzero(~ranked[0].explained)
    plain = np.flatnonzero(ranked[0].explained)
    norms = norms_of(sample.result)
    places = np.union1d(
        odd[spread(norms[odd], VARIED_ROIS)], plain[spread(norms[plain], COARSE_ROIS)]
    ).astype(np.int64)
    few = sample.take(places, varied_channels(sample.result, VARIED_CHANNELS), COARSE_BINS)
    forms = dict.fromkeys(
        variant for one in ranked[:VARIED] for variant in variants(one.finding.candidate)
    )
    found = sorted(measure(list(forms), few, tolerance), key=lambda one: one.rank)
    most = int(found[0].explained.sum())
    best = [one for one in found if int(one.explained.sum()) == most]
    plainest = sorted(best, key=lambda one: one.finding.candidate.strangeness)
    # Of fills that no RoI here meets the plainest stands for all.
    kept: dict[Candidate, Candidate] = {}
    for candidate in (one.finding.candidate for one in plainest):
        bare = replace(candidate, convention=replace(candidate.convention, empty="0"))
        kept.setdefault(bare, candidate)
    return list(kept.values())[: 2 * VARIED]


def _take_for(sample: Sample, candidates: int) -> Sample:
    """As many of the RoIs as so many candidates can be computed for."""
    count = max(FEWEST_ROIS, EVALUATIONS // candidates)
    if count >= len(sample.result):
        return sample
    return sample.take_rois(spread(norms_of(sample.result), count))


def measure(candidates: Sequence[Candidate], sample: Sample, tolerance: float) -> list[Judged]:
    """Every candidate with its distance from the result."""
    yardstick = Yardstick(sample.result)
    return [
        _judge(candidate, values, yardstick, tolerance)
        for candidate, values in compute(candidates, sample)
    ]


def compute(
    candidates: Sequence[Candidate], sample: Sample
) -> Iterator[tuple[Candidate, FloatArray]]:
    """Each candidate with its values (S, C, r, c); neighbours that read alike share samples.

    Values are NaN where a RoI does not survive its oddity.
    """
    for (oddity, shared), group in groupby(candidates, _sampling):
        alike = list(group)
        conventions = [candidate.convention for candidate in alike]
        maps = sample.maps
        if shared.channels == "position-major":
            # These maps hold their channels in the other order.
            maps = sample.position_maps
            conventions = [replace(c, channels="class-major") for c in conventions]
        parts = []
        for one in maps:
            corners = oddity.apply(one.corners)
            scale = one.spatial_scale * oddity.scale_factor
            moved = replace(one, corners=corners, spatial_scale=scale)
            parts.append(evaluate_alike(conventions, moved, sample.bins))
        for index, candidate in enumerate(alike):
            yield candidate, np.concatenate([part[index] for part in parts])


def _sampling(candidate: Candidate) -> tuple[Oddity, Convention]:
    return candidate.oddity, reading(candidate.convention)


def _judge(
    candidate: Candidate, values: FloatArray, yardstick: Yardstick, tolerance: float
) -> Judged:
    found = yardstick.measure(values)
    explained = yardstick.are_near(found, ROI_MARGIN * tolerance)
    comparable = yardstick.comparable(found)
    largest = float(found.largest[comparable].max(initial=0.0))
    own = found.overall(explained if explained.any() else comparable)
    return Judged(Finding(candidate, found.overall(comparable), largest), explained, own)


def _search_coarsely(
    candidates: Sequence[Candidate], sample: Sample, tolerance: float
) -> list[Candidate]:
    """All candidates on a few RoIs; the nearest and whatever may match, in the grid's order."""
    channels = varied_channels(sample.result, COARSE_CHANNELS)
    few = sample.take(_plain_rois(sample), channels, COARSE_BINS)
    found = measure(candidates, few, tolerance)
    # A RoI that most candidates explain speaks for none.
    share = np.mean([one.explained for one in found], axis=0)
    explained = np.array([int(one.explained[share < 0.5].sum()) for one in found])
    distances = np.array([one.finding.distance for one in found])
    order = np.lexsort((distances, -explained))
    limit = max(tolerance, SAME_NUMBERS) * KEPT_MARGIN
    # What explains a part of all RoIs explains some of these, and the best of them not much fewer.
    enough = max(1, -(-int(explained.max()) // 2))
    may_match = (distances <= limit) | (explained >= enough)
    possible = [i for i in order if may_match[i]][:MOST_KEPT]
    nearest = [i for i in np.argsort(distances, kind="stable") if not may_match[i]][:KEPT]
    return [candidates[i] for i in sorted([*possible, *nearest])]


def _plain_rois(sample: Sample) -> Array:
    """Places of a few RoIs on which conventions are least likely to have rules of their own."""
    norms = norms_of(sample.result)
    whole = np.isfinite(sample.result).all(axis=(1, 2, 3)) & (norms > 0)
    inside = whole & ~sample.without_size & ~sample.off_map
    for plain in (inside & ~sample.special, inside, whole, norms > 0):
        places = np.flatnonzero(plain)
        if len(places):
            return places[spread(norms[places], COARSE_ROIS)]
    return spread(norms, COARSE_ROIS)


def _plainest(judged: Sequence[Judged], sample: Sample) -> tuple[Judged, tuple[Candidate, ...]]:
    """The best candidate under its plainest name, and the other names of the same numbers.

    Of a candidate that explains a part the numbers of that part count.
    """
    best = min(judged, key=lambda one: one.rank)
    near = [
        one.finding.candidate
        for one in judged
        if one.rank[0] == best.rank[0] and one.own_distance <= best.own_distance + SAME_NUMBERS
    ]
    yardstick = Yardstick(sample.result)
    _, numbers = next(compute([best.finding.candidate], sample))
    part = best.explained if best.explained.any() else np.ones(len(numbers), bool)
    same = [
        candidate
        for candidate, values in compute(near, sample)
        if yardstick.between(values, numbers).overall(part) <= SAME_NUMBERS
    ]
    names = sorted(same or [best.finding.candidate], key=lambda one: one.strangeness)
    finding = replace(best.finding, candidate=names[0])
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
        for values in (few.result, *(values for _, values in compute(_different(sample)[:1], few)))
    )


def _different(sample: Sample) -> list[Candidate]:
    """Candidates of the sample's kind, of which RoIs on which they agree tell nothing apart."""
    wanted = sample.wanted
    if wanted.turned:
        found = [Candidate(one.convention.placed(turn="clockwise")) for one in DIFFERENT[:2]]
    else:
        found = list(DIFFERENT)
    return [replace(one, convention=wanted.adapt(one.convention)) for one in found]


def _find_telling(sample: Sample, tolerance: float) -> Array:
    """(S,) RoIs on which plain conventions give different numbers."""
    few = _take_all_rois(sample)
    yardstick = Yardstick(few.result)
    (_, first), *others = compute(_different(sample), few)
    same = [
        yardstick.are_near(yardstick.between(first, values), ROI_MARGIN * tolerance)
        for _, values in others
    ]
    return np.asarray(~np.all(same, axis=0))


def _take_all_rois(sample: Sample) -> Sample:
    """All RoIs, and a few channels and bins."""
    channels = varied_channels(sample.result, COARSE_CHANNELS)
    return sample.take(np.arange(len(sample.result)), channels, COARSE_BINS)
