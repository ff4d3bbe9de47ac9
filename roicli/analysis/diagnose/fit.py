"""RoIs that were in other pixels: the scale and the offset that bring them to a result.

The boxes that a result was made of may be these, stretched and moved. A plain RoI Align is tried
over a range of scales on RoIs near the map's origin, where a scale that is a little off moves
least; the best are improved by Gauss and Newton's steps over two scales and two offsets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from roicli.analysis.diagnose.candidates import Candidate, Oddity, Pair
from roicli.analysis.diagnose.sample import Sample, varied_channels
from roicli.analysis.diagnose.search import COARSE_BINS, COARSE_CHANNELS, compute
from roicli.core.types import FloatArray

FIT_ROIS = 8
# Scales from 1/4 to 4, two per cent apart.
SCALES = np.exp(np.arange(-70, 71) * 0.02)
STARTS, STEPS = 5, 12
# Of how the result varies; a fit that is worse has found nothing.
FOUND = 0.6
# Differences that derivatives are taken over: of a scale, and of an offset in cells.
SCALE_STEP, CELL_STEP = 1e-4, 1e-2
LARGEST_DENOMINATOR = 64
# Distance of a fit that knows its scale to more digits.
EXACT = 1e-3
# Distances of a step function that are one step.
FLAT = 1e-3


def fit_rois(candidate: Candidate, sample: Sample) -> list[Oddity]:
    """What stretches and moves the RoIs of a sample so that the candidate about gives its result:
    without an offset, and with one in half pixels; none where nothing does.
    """
    few = _near_origin(sample)
    if not len(few.result):
        return []
    yardstick = few.yardstick

    def values(parameters: FloatArray) -> FloatArray:
        """(n, S, C, r, c) of parameters (n, 4)."""
        return compute([replace(candidate, oddity=_oddity(one)) for one in parameters], few)

    def distances(parameters: FloatArray) -> FloatArray:
        return yardstick.measure(values(parameters)).overall(np.ones(len(few.result), bool))

    nearest = SCALES[np.argsort(distances(_scaled(SCALES)), kind="stable")]
    if candidate.convention.reads_cells:
        # A step function has no slopes: the middle of the best of closer scales.
        closer = nearest[0] * np.exp(np.linspace(-0.02, 0.02, 81))
        reached = distances(_scaled(closer))
        least = float(reached.min())
        best = _scaled(closer[reached <= least + FLAT].mean(keepdims=True))[0]
    else:
        pixel = 1 / few.maps[0].spatial_scale
        here = _improve(values, few.result.reshape(-1), _scaled(nearest[:STARTS]), pixel)
        fine = np.isfinite(here).all(axis=1)
        if not fine.any():
            return []
        reached = distances(here[fine])
        best, least = here[fine][reached.argmin()], float(reached.min())
    if least >= FOUND:
        return []
    is_exact = least < EXACT and not candidate.convention.reads_cells
    simple = _simple(best, 1e-5 if is_exact else 2e-3)
    still = np.where([True, True, False, False], simple, 0.0)
    return [_oddity(still)] if (simple == still).all() else [_oddity(still), _oddity(simple)]


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
