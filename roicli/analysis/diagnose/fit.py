"""RoIs that were in other pixels: the scale and the offset that bring them to a result.

The boxes that a result was made of may be these, stretched and moved. Plain conventions are tried
over a range of scales on RoIs near the map's origin, where a scale that is a little off moves
least; the best are improved by Gauss and Newton's steps over two scales and two offsets, or where
bins are whole cells by closer scales.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from roicli.analysis.diagnose.candidates import (
    Candidate,
    Oddity,
    Pair,
    Wanted,
    stretched_candidates,
)
from roicli.analysis.diagnose.sample import Sample, varied_channels
from roicli.analysis.diagnose.search import COARSE_BINS, COARSE_CHANNELS, compute, measure
from roicli.core.types import FloatArray
from roicli.operators.convention import ALIGN, AVERAGE_POOL, CROP, POOL, Convention

FIT_ROIS = 8
# A convention that is further from the result at every scale is not like it.
LIKE = 0.9
# Scales from 1/4 to 4, two per cent apart.
SCALES = np.exp(np.arange(-70, 71) * 0.02)
STARTS, STEPS = 5, 12
# How often scales and conventions say each other, with so many kinds of conventions at so many.
ROUNDS, KINDS, ABOUTS = 2, 8, 3
# Closer scales of step functions: how far, relative, in each of the rounds, and in how many steps.
ZOOMS, ZOOM_STEPS = (0.08, 0.01), 65
# Rules whose scale is looked for everywhere.
BASES = (ALIGN, POOL, AVERAGE_POOL, CROP.placed(normalization="image"))
# Of how the result varies; a fit that is worse has found nothing.
FOUND = 0.6
# Differences that derivatives are taken over: of a scale, and of an offset in cells.
SCALE_STEP, CELL_STEP = 1e-4, 1e-2
LARGEST_DENOMINATOR = 64
# Scales as somebody would have chosen them, the plainest first.
PLAIN_SCALES = np.array(
    list(dict.fromkeys(n / d for d in range(1, LARGEST_DENOMINATOR + 1) for n in range(1, 4 * d)))
)
# Distance of a fit that knows its scale to more digits.
EXACT = 1e-3
# To what relative difference a fit knows its scales: one that is exact, and any.
EXACT_SLACK, SLACK = 1e-5, 2e-3
# Distances of a step function that are one step.
FLAT = 1e-3


class Fit(NamedTuple):
    """A convention with the parameters (4,) of its RoIs, the ``distance`` that is left, and to
    which relative ``slack`` the scales are known.
    """

    distance: float
    convention: Convention
    parameters: FloatArray
    slack: float

    @property
    def rank(self) -> tuple[float, int, tuple[int, int]]:
        """The nearest comes first; of those that are the result's the one of the plainest scale,
        for a normalization is a scale too; then the plainest convention.
        """
        same = np.abs(PLAIN_SCALES / self.parameters[0] - 1) < EXACT_SLACK
        place = int(np.argmax(same)) if same.any() else len(same)
        return max(self.distance, EXACT), place, Candidate(self.convention).strangeness

    @property
    def oddities(self) -> list[Oddity]:
        """As somebody would have chosen them: without an offset, and with one in half pixels."""
        simple = _simple(self.parameters, self.slack)
        still = np.where([True, True, False, False], simple, 0.0)
        return [_oddity(still)] if (simple == still).all() else [_oddity(still), _oddity(simple)]


def fit_rois(sample: Sample) -> Iterator[Oddity]:
    """What may stretch and move the RoIs of a sample so that some convention gives its result, the
    likelier first; nothing where no plain one is like it at any scale.

    At the scales that plain conventions say all conventions are tried, the best of each kind say
    better ones, and once more.
    """
    wanted = sample.wanted
    few = _Few(sample)
    fits = few.scan([wanted.adapt(base) for base in BASES])
    for _ in range(ROUNDS):
        if not fits or fits[0].distance < EXACT:
            break
        fits = few.improve(few.nearest_at([fit.parameters for fit in fits[:ABOUTS]], wanted))
    seen = set()
    for fit in fits[:ABOUTS]:
        for oddity in fit.oddities if fit.distance < FOUND else ():
            if oddity not in seen:
                seen.add(oddity)
                yield oddity


class _Few:
    """The few RoIs that scales and offsets are tried on, and more that scales are made sure on."""

    def __init__(self, sample: Sample) -> None:
        self._few = _near_origin(sample)
        self._more = sample.take(
            np.arange(len(sample.result)), varied_channels(sample.result, 1), COARSE_BINS
        )
        self._pixel = 1 / sample.maps[0].spatial_scale

    def scan(self, conventions: Sequence[Convention]) -> list[Fit]:
        """Those that are like the result at some scale, improved, the nearest first; to the first
        that is the result's.
        """
        if not len(self._few.result):
            return []
        scaled, fits = _scaled(SCALES), []
        reached = [self._distances(convention, scaled) for convention in conventions]
        for i in np.argsort([row.min() for row in reached]):
            if reached[i].min() < LIKE:
                nearest = scaled[np.argsort(reached[i], kind="stable")[:STARTS]]
                fits += self.improve([(conventions[i], nearest)])
                if fits and fits[-1].distance < EXACT:
                    break
        return sorted(fits, key=lambda fit: fit.rank)

    def nearest_at(
        self, abouts: Sequence[FloatArray], wanted: Wanted
    ) -> list[tuple[Convention, FloatArray]]:
        """Of all conventions those that are nearest at some parameters, one of each kind."""
        asked = [one for about in abouts for one in stretched_candidates(_oddity(about), wanted)]
        each = len(asked) // len(abouts)
        found = measure(asked, self._few, EXACT)
        best: dict[Hashable, tuple[Convention, FloatArray]] = {}
        for i in np.argsort([one.finding.distance for one in found], kind="stable").tolist():
            convention = asked[i].convention
            best.setdefault(_kind(convention), (convention, abouts[i // each][None]))
        return list(best.values())[:KINDS]

    def improve(self, starts: Sequence[tuple[Convention, FloatArray]]) -> list[Fit]:
        """Conventions with better parameters than (n, 4) of each, the nearest first."""
        found = [
            (self._zoom if convention.reads_cells else self._descend)(convention, parameters)
            for convention, parameters in starts
        ]
        return sorted((fit for fit in found if fit is not None), key=lambda fit: fit.rank)

    def _zoom(self, convention: Convention, starts: FloatArray) -> Fit:
        """The best of closer scales, for a step function has no slopes; of those that are as good
        the plainest.
        """
        middles = starts[:, :2].mean(axis=1)
        for reach in ZOOMS:
            near = np.exp(np.linspace(-reach, reach, ZOOM_STEPS))
            scales = np.unique((middles[:, None] * near).reshape(-1))
            reached = self._distances(convention, _scaled(scales))
            best = scales[reached <= reached.min() + FLAT]
            middles = np.array([(best[0] + best[-1]) / 2])
        # Where steps are short only the very scale is right.
        plain = PLAIN_SCALES[np.abs(PLAIN_SCALES / middles[0] - 1) < ZOOMS[-1]]
        scales = np.concatenate([plain, middles])
        reached = self._distances(convention, _scaled(scales), self._more)
        return Fit(float(reached.min()), convention, _scaled(scales)[reached.argmin()], 0.0)

    def _descend(self, convention: Convention, starts: FloatArray) -> Fit | None:
        """The nearest after Gauss and Newton's steps."""

        def values(parameters: FloatArray) -> FloatArray:
            """(n, S, C, r, c) of parameters (n, 4)."""
            return compute([Candidate(convention, _oddity(one)) for one in parameters], self._few)

        here = _improve(values, self._few.result.reshape(-1), starts, self._pixel)
        here = here[np.isfinite(here).all(axis=1)]
        if not len(here):
            return None
        reached = self._distances(convention, here)
        least = float(reached.min())
        return Fit(
            least, convention, here[reached.argmin()], EXACT_SLACK if least < EXACT else SLACK
        )

    def _distances(
        self, convention: Convention, parameters: FloatArray, sample: Sample | None = None
    ) -> FloatArray:
        """(n,) distances of parameters (n, 4)."""
        sample = sample or self._few
        candidates = [Candidate(convention, _oddity(one)) for one in parameters]
        found = [one.finding.distance for one in measure(candidates, sample, EXACT)]
        return np.array(found)


def _kind(convention: Convention) -> Hashable:
    """The same for conventions that say the same scale: of one box, and read alike."""
    box = replace(convention.box, minimum=None, about="corner")
    reads = convention.reduction if convention.reads_cells else convention.reduction == "integral"
    starts = convention.grid in ("corners", "upsample")
    return box, reads, convention.grid == "ends", starts, convention.channels


def _scaled(scales: FloatArray) -> FloatArray:
    """Parameters (n, 4) of scales (n,) of both axes, without offsets."""
    return np.stack([scales, scales, 0 * scales, 0 * scales], axis=1)


def _improve(
    values: Callable[[FloatArray], FloatArray], target: FloatArray, starts: FloatArray, pixel: float
) -> FloatArray:
    """Parameters (n, 4), two scales and two offsets, after some of Gauss and Newton's steps."""
    here = starts.copy()
    steps = np.array([SCALE_STEP, SCALE_STEP, CELL_STEP * pixel, CELL_STEP * pixel])
    # Further than a few cells no slope holds.
    longest = np.array([0.1, 0.1, 2 * pixel, 2 * pixel])
    moves = np.concatenate([np.zeros((1, 4)), np.diag(steps)])
    going = np.arange(len(here))
    for _ in range(STEPS):
        found = values((here[going, None] + moves).reshape(-1, 4)).reshape(len(going), 5, -1)
        slopes = (found[:, 1:] - found[:, :1]) / steps[:, None]
        fine = np.isfinite(slopes).all(axis=(1, 2))
        going, slopes, now = going[fine], slopes[fine], found[fine, 0]
        for start, slope, value in zip(going, slopes, now, strict=True):
            change = np.linalg.lstsq(slope.T, target - value, rcond=None)[0]
            here[start] += change / max(float(np.abs(change / longest).max()), 1.0)
    return here


def _near_origin(sample: Sample) -> Sample:
    """A few RoIs of some size on the map, the nearest to its origin."""
    ends = np.concatenate([one.corners.max(axis=1) * one.spatial_scale for one in sample.maps])
    starts = np.concatenate([one.corners.min(axis=1) for one in sample.maps])
    sides = np.concatenate([
        (one.corners[:, 2:] - one.corners[:, :2]).min(axis=1) * one.spatial_scale
        for one in sample.maps
    ])  # fmt: skip
    fine = np.isfinite(sample.result).all(axis=(1, 2, 3)) & ~sample.says_nothing
    fine &= (sides > 1) & (starts >= 0)
    usable = np.flatnonzero(fine)
    places = np.sort(usable[np.argsort(ends[usable], kind="stable")[:FIT_ROIS]])
    return sample.take(places, varied_channels(sample.result, COARSE_CHANNELS), COARSE_BINS)


def _simple(parameters: FloatArray, slack: float) -> FloatArray:
    """Scales as somebody would have chosen them, the plainest within a relative ``slack``; offsets
    in halves.
    """
    kept = parameters.copy()
    if abs(kept[0] - kept[1]) < slack * kept[0]:
        kept[:2] = kept[:2].mean()
    for i in (0, 1):
        plain = (
            round(kept[i] * below) / below
            for below in range(1, LARGEST_DENOMINATOR + 1)
            if abs(round(kept[i] * below) / below - kept[i]) < slack * kept[i]
        )
        kept[i] = next(plain, kept[i])
    kept[2:] = np.round(kept[2:] * 2) / 2
    return kept


def _oddity(parameters: FloatArray) -> Oddity:
    x, y, right, down = (float(value) for value in parameters)
    stretch, offset = (x, y), (right, down)
    return Oddity("fitted", _words(stretch, offset), stretch=stretch, offset_px=offset)


def _words(stretch: Pair, offset: Pair) -> str:
    """What was done to the RoIs."""
    parts = []
    if stretch[0] == stretch[1]:
        scale = stretch[0]
        parts.append(f"RoIs {_times(scale)} those" if scale != 1 else "RoIs")
    else:
        parts.append(f"x {_times(stretch[0])} and y {_times(stretch[1])} those")
    if offset != (0.0, 0.0):
        parts.append(f"moved by {offset[0]:+.6g}, {offset[1]:+.6g} px")
    return " ".join(parts)


def _times(scale: float) -> str:
    return f"1/{1 / scale:.6g} of" if scale < 1 else f"{scale:.6g} times"
