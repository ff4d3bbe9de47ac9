"""The search: every candidate on a few RoIs, the best of them on more, and what they explain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from roicli.analysis.diagnose.candidates import (
    Candidate,
    Oddity,
    dense_candidates,
    narrowed,
    variants,
)
from roicli.analysis.diagnose.distance import FILLS, Yardstick
from roicli.analysis.diagnose.sample import Sample, norms_of, varied_channels
from roicli.analysis.result.axes import unit_rows
from roicli.analysis.roi_sample import spread
from roicli.core.record import frozen
from roicli.core.types import Array, FloatArray
from roicli.operators.convention import ALIGN, EMPTY_VALUES, LEGACY, POOL, Convention
from roicli.operators.evaluate import evaluate_all
from roicli.operators.sampled_map import SampledMap

COARSE_ROIS, COARSE_CHANNELS, COARSE_BINS = 6, 4, 7
# After the coarse stage: the nearest candidates, and at most so many that may still match.
KEPT, KEPT_MARGIN, MOST_KEPT = 8, 10.0, 512
# Of these so many are varied, on so many RoIs and channels.
VARIED, VARIED_ROIS, VARIED_CHANNELS = 6, 48, 2
# As many times that where no RoI is ordinary.
WIDENED = 4
# Of the values, what is no accident; rounded values that vary little repeat one another.
FILL_SHARE, MOST_FILLS = 0.05, 2
# RoIs times candidates of a later stage, where many candidates give the same numbers.
EVALUATIONS, FEWEST_ROIS = 1 << 12, 8
# Values of the candidates that are computed at a time.
STEP_VALUES = 1 << 21
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

    ``tried`` counts candidates.
    """

    best: Judged
    synonyms: tuple[Candidate, ...]
    runner_up: Judged | None
    tried: int


def rank_candidates(first: Sequence[Candidate], sample: Sample, tolerance: float) -> Ranking:
    """Find what gives the result of a sample within a distance, or comes nearest to it: of the
    candidates of the first stage, and of their variants.
    """
    survivors, tried = _search_coarsely(first, sample, tolerance)
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
    return Ranking(best, synonyms, runner_up, tried + len(varied))


def _vary(judged: Sequence[Judged], sample: Sample, tolerance: float) -> list[Candidate]:
    """What the best candidates become with other rules for the RoIs that they do not explain."""
    ranked = sorted(judged, key=lambda one: one.rank)
    if ranked[0].explained.all():
        return []
    odd = np.flatnonzero(~ranked[0].explained)
    plain = np.flatnonzero(ranked[0].explained)
    norms = norms_of(sample.result)
    places = np.union1d(
        odd[spread(norms[odd], VARIED_ROIS)], plain[spread(norms[plain], COARSE_ROIS)]
    ).astype(np.int64)
    few = sample.take(places, varied_channels(sample.result, VARIED_CHANNELS), COARSE_BINS)
    fills = _find_fills(few.result)
    # A rule for unusual RoIs is none for ordinary ones, if there are any and none is explained.
    is_rule = bool(ranked[0].explained.any()) or not sample.kinds.ordinary.any()
    forms = dict.fromkeys(
        variant
        for one in _best_with_ties(ranked, VARIED * _widen(sample))
        for variant in (
            variants(one.finding.candidate, fills) if is_rule else narrowed(one.finding.candidate)
        )
    )
    if not forms:
        return []
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


def _best_with_ties(ranked: Sequence[Judged], count: int) -> Sequence[Judged]:
    """The first ``count``, and as many again at most that explain no fewer RoIs: fills decide how
    far they are.
    """
    explained = ranked[:count][-1].rank[0]
    tied = sum(one.rank[0] == explained for one in ranked[count : 2 * count])
    return ranked[: count + tied] if explained else ranked[:count]


def _find_fills(result: FloatArray) -> list[float]:
    """What a large part of the values is, as a fill is that a caller chose."""
    values, counts = np.unique(result[np.isfinite(result)], return_counts=True)
    most = np.argsort(-counts, kind="stable")[: MOST_FILLS + 1]
    often = values[most[counts[most] > FILL_SHARE * result.size]].tolist()
    return [value for value in often if value not in EMPTY_VALUES.values()][:MOST_FILLS]


def _widen(sample: Sample) -> int:
    """How many times as many candidates are kept: where no RoI is ordinary the right one need not
    be among the nearest.
    """
    return 1 if sample.kinds.ordinary.any() else WIDENED


def _take_for(sample: Sample, candidates: int) -> Sample:
    """As many of the RoIs as so many candidates can be computed for."""
    count = max(FEWEST_ROIS, EVALUATIONS // candidates)
    if count >= len(sample.result):
        return sample
    return sample.take_rois(spread(norms_of(sample.result), count))


def measure(candidates: Sequence[Candidate], sample: Sample, tolerance: float) -> list[Judged]:
    """Every candidate with its distance from the result."""
    yardstick = sample.yardstick
    return [
        judged
        for some, values in compute_in_steps(candidates, sample)
        for judged in _judge(some, values, yardstick, tolerance)
    ]


def _judge(
    candidates: Sequence[Candidate], values: FloatArray, yardstick: Yardstick, tolerance: float
) -> Iterator[Judged]:
    found = yardstick.measure(values)
    explained = yardstick.are_near(found, ROI_MARGIN * tolerance)
    comparable = yardstick.comparable(found)
    largest = np.where(comparable, found.largest, 0.0).max(axis=-1, initial=0.0)
    own = found.overall(np.where(explained.any(axis=-1, keepdims=True), explained, comparable))
    distances = found.overall(comparable)
    for i, candidate in enumerate(candidates):
        finding = Finding(candidate, float(distances[i]), float(largest[i]))
        yield Judged(finding, explained[i], float(own[i]))


def compute_in_steps(
    candidates: Sequence[Candidate], sample: Sample
) -> Iterator[tuple[Sequence[Candidate], FloatArray]]:
    """``compute`` of as many candidates at a time as memory is meant for."""
    step = max(1, STEP_VALUES // max(sample.result.size * sample.groups, 1))
    for start in range(0, len(candidates), step):
        some = candidates[start : start + step]
        yield some, compute(some, sample)


def compute(candidates: Sequence[Candidate], sample: Sample) -> FloatArray:
    """(n, S, C, r, c) values of n candidates; NaN where a RoI does not survive its oddity."""
    out = np.empty((len(candidates), *sample.result.shape))
    by_position = np.array([c.convention.channels == "position-major" for c in candidates], bool)
    for maps, here in ((sample.maps, ~by_position), (sample.position_maps, by_position)):
        numbers, start = np.flatnonzero(here), 0
        for one in maps if len(numbers) else ():
            rois = slice(start, start + len(one.corners))
            start = rois.stop
            asked = _ask([candidates[i] for i in numbers.tolist()], one)
            out[numbers, rois] = evaluate_all(asked, sample.bins)
    return out


def _ask(candidates: Sequence[Candidate], one: SampledMap) -> list[tuple[Convention, SampledMap]]:
    """Each candidate's convention, and the RoIs of a map as its oddity left them."""
    moved = {
        oddity: place_oddly(oddity, one)
        for oddity in {candidate.oddity for candidate in candidates}
    }
    return [(_by_class(c.convention), moved[c.oddity]) for c in candidates]


def place_oddly(oddity: Oddity, one: SampledMap) -> SampledMap:
    """The RoIs of a map as an oddity left them."""
    scale = one.spatial_scale * oddity.scale_factor
    return replace(one, corners=oddity.apply(one.corners), spatial_scale=scale)


def _by_class(convention: Convention) -> Convention:
    """The same of maps whose channels are in the other order."""
    if convention.channels != "position-major":
        return convention
    return replace(convention, channels="class-major")


def _search_coarsely(
    candidates: Sequence[Candidate], sample: Sample, tolerance: float
) -> tuple[list[Candidate], int]:
    """All candidates on a few RoIs; the nearest and whatever may match, in the grid's order, and
    how many were tried.
    """
    channels = varied_channels(sample.result, COARSE_CHANNELS)
    few = sample.take(_plain_rois(sample), channels, COARSE_BINS)
    found = measure(candidates, few, tolerance)
    limit = max(tolerance, SAME_NUMBERS) * KEPT_MARGIN
    if min(one.finding.distance for one in found) > limit:
        found += measure(dense_candidates(sample.wanted), few, tolerance)
    # A RoI that most candidates explain speaks for none.
    share = np.mean([one.explained for one in found], axis=0)
    explained = np.array([int(one.explained[share < 0.5].sum()) for one in found])
    distances = np.array([one.finding.distance for one in found])
    order = np.lexsort((distances, -explained))
    # What explains a part of all RoIs explains some of these, and the best of them not much fewer.
    enough = max(1, -(-int(explained.max()) // 2))
    may_match = (distances <= limit) | (explained >= enough)
    possible = [i for i in order if may_match[i]][:MOST_KEPT]
    others = [i for i in np.argsort(distances, kind="stable") if not may_match[i]]
    kept = sorted([*possible, *others[: KEPT * _widen(sample)]])
    return [found[i].finding.candidate for i in kept], len(found)


def _plain_rois(sample: Sample) -> Array:
    """Places of a few RoIs on which conventions are least likely to have rules of their own."""
    norms = norms_of(sample.result)
    known = np.isfinite(sample.result) & ~np.isin(sample.result, FILLS)
    whole = known.all(axis=(1, 2, 3)) & (norms > 0)
    inside = whole & ~sample.kinds.without_size & ~sample.kinds.off_map
    for plain in (inside & ~sample.kinds.special, inside, whole, norms > 0):
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
    part = best.explained if best.explained.any() else np.ones(len(best.explained), bool)
    same = find_same(best.finding.candidate, near, sample, part)
    names = sorted(same or [best.finding.candidate], key=lambda one: one.strangeness)
    finding = replace(best.finding, candidate=names[0])
    return best._replace(finding=finding), tuple(names[1:])


def find_same(
    best: Candidate, candidates: Sequence[Candidate], sample: Sample, rois: Array
) -> list[Candidate]:
    """The candidates that give the numbers of ``best`` on some RoIs (a mask) of a sample."""
    yardstick = sample.yardstick
    numbers = compute([best], sample)[0]
    return [
        some[i]
        for some, values in compute_in_steps(candidates, sample)
        for i, is_same in enumerate(
            yardstick.between(numbers, values).overall(rois) <= SAME_NUMBERS
        )
        if is_same
    ]


@frozen
class PlainValues:
    """What plain conventions give for all RoIs of a sample, in a ``few`` of its channels and bins:
    ``values`` (n, S, C, r, c).
    """

    few: Sample
    values: FloatArray

    def find_telling(self, tolerance: float) -> Array:
        """(S,) RoIs on which they differ."""
        yardstick = self.few.yardstick
        found = yardstick.between(self.values[0], self.values[1:])
        return np.asarray(~yardstick.are_near(found, ROI_MARGIN * tolerance).all(axis=0))

    def find_growth(self) -> float:
        """By how much rounding of values may be larger beside how they vary.

        The lesser of the result's and of a plain convention's: a constant result of maps that vary
        is no rounded one.
        """
        yardstick = self.few.yardstick
        return min(yardstick.growth(values) for values in (self.few.result, self.values[0]))

    def likeness(self, is_turned: bool = False) -> float:
        """How like its RoI a row of the result is, 1 at most, 0 for that of any other RoI; or one
        whose bins are transposed.
        """
        result = self.few.result
        if is_turned:
            result = result.swapaxes(2, 3)
        if result.shape != self.values.shape[1:]:
            return 0.0
        found = unit_rows(result)
        return max(float(np.median((found * unit_rows(one)).sum(axis=1))) for one in self.values)


def compute_plainly(sample: Sample) -> PlainValues:
    """The values of plain conventions of the sample's kind."""
    wanted = sample.wanted
    if wanted.turned:
        found = [Candidate(one.convention.placed(turn="clockwise")) for one in DIFFERENT[:2]]
    else:
        found = list(DIFFERENT)
    adapted = [replace(one, convention=wanted.adapt(one.convention)) for one in found]
    channels = varied_channels(sample.result, COARSE_CHANNELS)
    few = sample.take(np.arange(len(sample.result)), channels, COARSE_BINS)
    return PlainValues(few, compute(adapted, few))
