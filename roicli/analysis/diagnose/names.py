"""Whose rule a candidate is, and which of its rules which RoIs need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from roicli.analysis.diagnose.candidates import Candidate, plain_point
from roicli.analysis.diagnose.sample import Sample, norms_of, varied_channels
from roicli.analysis.diagnose.search import (
    COARSE_BINS,
    ROI_MARGIN,
    VARIED_CHANNELS,
    compute,
    find_same,
    place_oddly,
)
from roicli.analysis.roi_sample import spread
from roicli.core.record import frozen
from roicli.core.types import Array, IntArray
from roicli.operators.convention import ALIGN, LEGACY, Convention
from roicli.operators.libraries import LibraryFunction, Limit
from roicli.operators.phrases import describe
from roicli.operators.presets import all_rows


def find_libraries(
    best: Candidate, explained: Array, sample: Sample
) -> tuple[LibraryFunction, ...]:
    """The functions that give the numbers of ``best`` on the RoIs that it explains (S,)."""
    places = _spread_places(sample, explained)
    few = _take_few(sample.take_rois(places))
    rows_of: dict[Candidate, list[LibraryFunction]] = {}
    kept = _kept_limits(best, explained, sample)
    for row in all_rows():
        if not kept.issuperset(row.only):
            continue
        for convention in _reached(row, best.convention, sample):
            rows_of.setdefault(replace(best, convention=convention), []).append(row)
    same = find_same(best, list(rows_of), few, explained[places])
    found = {row.name for candidate in same for row in rows_of[candidate]}
    rows = [row for row in all_rows() if row.name in found]
    # Whose default it is comes first.
    return tuple(sorted(rows, key=lambda row: row.convention != best.convention))


def _spread_places(sample: Sample, explained: Array) -> IntArray:
    """Places of some RoIs, of which those that tell rules for unusual ones apart come first."""
    norms, places = norms_of(sample.result), []
    for mask, count in (
        (explained & sample.kinds.special, 48),
        (explained & ~sample.kinds.special, 16),
    ):
        here = np.flatnonzero(mask)
        places.append(here[spread(norms[here], count)])
    return np.sort(np.concatenate(places))


def _kept_limits(best: Candidate, explained: Array, sample: Sample) -> frozenset[Limit]:
    """The limits that all boxes keep which ``best`` explains (S,); turned boxes keep none."""
    box = best.convention.box
    kept: set[Limit] = {"two-bins"} if min(sample.bins.output_size) > 1 else set()
    if box.turn != "none":
        return frozenset(kept)
    least = box.minimum if box.rounding == "none" else None
    real = replace(box, rounding="none", inclusive=False, minimum=least)
    first, last, sides = [], [], []
    start = 0
    for one in sample.maps:
        here = explained[start : start + len(one.corners)]
        start += len(one.corners)
        moved = place_oddly(best.oddity, one)
        for (low, extent), axis in zip(moved.place(real), moved.axes, strict=True):
            first.append(low[here])
            last.append(axis.cells - 1 - (low + extent)[here])
            sides.append(extent[here])
    before, after = (np.concatenate(part).min(initial=np.inf) for part in (first, last))
    if min(before, after) >= 0:
        kept.add("between-centres")
    if min(before - box.shift_cells, after + box.shift_cells + 1) >= 0:
        kept.add("on-map")
    if (np.concatenate(sides) > 0).all():
        kept.add("with-size")
    return frozenset(kept)


def _reached(row: LibraryFunction, best: Convention, sample: Sample) -> Iterator[Convention]:
    """What a function can be set to that is of the best convention's kind."""
    for own in dict.fromkeys(row.reaches()):
        if (own.channels == "all") != (best.channels == "all") and sample.groups > 1:
            continue
        same = replace(own, channels=best.channels, group_size=best.group_size)
        if row.ratios:
            same = replace(same, sampling_ratio=best.sampling_ratio)
        if row.fills and same.border == "value":
            same = replace(same, border_value=best.border_value)
        if best.box.turn == "none":
            # An angle of 0 is no turn.
            yield same.placed(turn="none")
        elif same.box.turn != "none":
            yield same


@frozen
class Need:
    """A rule of a match, in words, the RoIs (row numbers) that need it, and what sets them apart.

    ``reason`` is None where nothing that is looked at is common to them all.
    """

    words: str
    rows: tuple[int, ...]
    reason: str | None


def find_needs(best: Candidate, sample: Sample, tolerance: float) -> tuple[Need, ...]:
    """The rules for unusual RoIs in which a match is not plain, each with those that need it."""
    few = _take_few(sample)
    yardstick = few.yardstick
    needs = []
    plainer = list(_plainer(best.convention))
    values_of = compute([replace(best, convention=plain) for plain in plainer], few)
    for plain, values in zip(plainer, values_of, strict=True):
        differ = ~yardstick.are_near(yardstick.measure(values), ROI_MARGIN * tolerance)
        if not differ.any():
            continue
        usual = describe(plain).split(", ")
        words = [word for word in describe(best.convention).split(", ") if word not in usual]
        reasons = [name for name, mask in few.reasons().items() if (mask | ~differ).all()]
        rows = tuple(sorted(int(row) for row in few.rows[differ]))
        reason = reasons[0] if len(reasons) > 1 else None
        needs.append(Need(", ".join(words), rows, reason))
    return tuple(needs)


def _plainer(convention: Convention) -> Iterator[Convention]:
    """A convention with one of its rules for unusual RoIs as its operator usually has it."""
    usual = plain_point(convention)
    box = convention.box
    # RoI Align without the half-pixel step is legacy, which has a minimum of one cell.
    legacy = usual == ALIGN and not box.shift_cells
    least = LEGACY.minimum if legacy else usual.box.minimum
    for plain in (
        replace(
            convention,
            border=usual.border,
            reach=usual.reach,
            border_value=usual.border_value,
        ),
        replace(convention, cut="equal" if convention.cut == "clipped" else convention.cut),
        convention.placed(minimum=least, about="corner"),
        replace(convention, last_cell=True),
        replace(convention, empty="0"),
    ):
        if plain != convention:
            yield plain


def _take_few(sample: Sample) -> Sample:
    """All RoIs, and a few channels and bins."""
    channels = varied_channels(sample.result, VARIED_CHANNELS)
    return sample.take(np.arange(len(sample.result)), channels, COARSE_BINS)
