"""Which convention produced a stored result, on which RoIs, and what else gives its numbers.

Every candidate is tried on a few RoIs, the best on more (``search``); distances are relative to how
the result varies (``distance``). A match explains every RoI that was looked at. Candidates that
give the same numbers on this data cannot be told apart: they are one match, named by the plainest
of them, and where all do there is no match.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from time import perf_counter
from typing import NamedTuple, Unpack

import numpy as np

from roicli.analysis.diagnose.alignment import (
    Alignment,
    find_group_size,
    find_turned_axes,
    match_to_rois,
    read_axes,
    take_rows,
)
from roicli.analysis.diagnose.candidates import (
    NO_ODDITY,
    Candidate,
    Wanted,
    first_candidates,
    stretched_candidates,
)
from roicli.analysis.diagnose.fit import fit_rois
from roicli.analysis.diagnose.names import Need, find_libraries, find_needs
from roicli.analysis.diagnose.sample import MAX_CELLS, Sample, find_too_large, read_sample
from roicli.analysis.diagnose.search import (
    Finding,
    Judged,
    PlainValues,
    Ranking,
    compute_plainly,
    rank_candidates,
)
from roicli.analysis.result.axes import RowsArray, advise_rows_first
from roicli.analysis.result.rows import RowMatch
from roicli.analysis.result.source import ResultArgument, open_stored_result
from roicli.core.declaration import check_known, record, settle
from roicli.core.exceptions import InputError, ParameterError
from roicli.core.look_options import DiagnoseOptions
from roicli.core.record import frozen
from roicli.core.shown import Shown
from roicli.core.types import Array, IntArray
from roicli.operators.libraries import LibraryFunction
from roicli.pipeline.features import FeatureArgument
from roicli.pipeline.inputs import Inputs, open_inputs
from roicli.pipeline.request import Reading
from roicli.storage.array import StoredArray
from roicli.storage.exchange import check_features
from roicli.storage.limits import external_files
from roicli.storage.open import inputs_unchanged

AS_IT_IS = Alignment()
# Another order of axes or rows explains a result that is so much nearer then.
MUCH_NEARER = 0.5
TOLERANCE = 1e-4
# Past this distance any convention is as good a name as another.
FAR = 0.3
# What explains fewer of the RoIs that tell conventions apart is no explanation.
PARTIAL_SHARE = 0.5
# From here on rows are like their own RoIs by a plain convention, whatever their own is.
ALIKE = 0.45


@frozen
class RoiGroup:
    """RoIs (row numbers) that are not explained, or were not looked at, for one reason."""

    reason: str
    rows: tuple[int, ...]


@frozen
class PartialMatch:
    """A convention that explains some RoIs, ``rows``, and not ``others``.

    Its distance is over ``rows``; ``libraries`` have functions that explain the same.
    """

    finding: Finding
    rows: tuple[int, ...]
    others: tuple[RoiGroup, ...]
    libraries: tuple[LibraryFunction, ...]


@frozen
class Diagnosis(Shown):
    """The match, or what explains a part, or what comes nearest; at most one of the first two.

    ``match`` explains every RoI that was looked at, ``partial`` at least half. ``nearest`` is one
    of these or the best there is, None past a distance of 0.3, as is ``runner_up``, the best with
    other numbers. ``distance`` is that of the best on all RoIs with numbers. ``synonyms`` give the
    numbers of the best on this data; ``libraries`` have functions that give them; ``needs`` says
    which of its rules which RoIs need. ``told_apart`` is False where all conventions do: then there
    is no match. ``left_out`` are RoIs that could not be looked at; ``rois_compared`` of the
    ``rois`` and ``channels_compared`` decided. ``alignment`` says how axes and rows were read,
    ``seconds`` how long the search took; a result whose rows are not the RoIs', one by one, has no
    match unless that is accepted.
    """

    match: Finding | None
    partial: PartialMatch | None
    nearest: Finding | None
    distance: float
    synonyms: tuple[Candidate, ...]
    libraries: tuple[LibraryFunction, ...]
    needs: tuple[Need, ...]
    runner_up: Finding | None
    told_apart: bool
    zeros: bool
    tolerance: float
    candidates: int
    left_out: tuple[RoiGroup, ...]
    rois_compared: int
    rois: int
    channels_compared: int
    alignment: Alignment = AS_IT_IS
    seconds: float = 0.0


@record(DiagnoseOptions)
class DiagnoseRequest(Reading):
    """What was asked of ``diagnose``."""

    sample: int | None
    tolerance: float | None
    angle: float | None
    match_rows: bool

    def __post_init__(self) -> None:
        if self.sample is not None and self.sample < 1:
            raise ParameterError(f"sample is {self.sample}, expected at least 1 RoI")
        if self.tolerance is not None and not 0 < self.tolerance < math.inf:
            raise ParameterError(f"tolerance is {self.tolerance:g}, expected a positive number")
        if self.angle is not None and not math.isfinite(self.angle):
            raise ParameterError(f"angle is {self.angle:g}, expected degrees")


class Question(NamedTuple):
    """What is asked of a search: ``plain`` conventions' values on the sample say what it can tell,
    ``telling`` (S,) are the RoIs on which they differ.
    """

    inputs: Inputs
    sample: Sample
    plain: PlainValues
    tolerance: float
    telling: Array

    @property
    def zeros(self) -> bool:
        """Whether there is nothing but zeros."""
        return not np.any(self.sample.result)

    @property
    def may_match(self) -> bool:
        """Zeros come from anywhere; a rule with empty bins only would be no explanation."""
        return bool(self.telling.any()) and not self.zeros

    def is_match(self, found: Judged) -> bool:
        """Whether it explains every RoI."""
        is_near = found.finding.distance <= self.tolerance
        return self.may_match and bool(found.explained.all()) and is_near

    def search(self) -> Diagnosis:
        """What all conventions together say."""
        first = first_candidates(self.sample.wanted)
        return describe_ranking(self, rank_candidates(first, self.sample, self.tolerance))


def read_question(inputs: Inputs, result: StoredArray, request: DiagnoseRequest) -> Question:
    """What there is to ask about ``result`` (K, C, P_h, P_w). Raises InputError.

    ``request.sample`` RoIs decide in the end, None for all; with an ``angle`` in degrees upright
    RoIs are turned by it.
    """
    assert inputs.pyramid is not None
    turned = request.angle is not None or inputs.rois.turned is not None
    wanted = _read_shape(inputs, result, inputs.pyramid.channels, turned)
    sample = read_sample(inputs, result, request.sample, wanted, request.angle or 0.0)
    plain = compute_plainly(sample)
    tolerance = request.tolerance or find_tolerance(sample, plain)
    return Question(inputs, sample, plain, tolerance, plain.find_telling(tolerance))


def describe_ranking(question: Question, ranking: Ranking) -> Diagnosis:
    """What was found, and whose it is."""
    inputs, sample, tolerance = question.inputs, question.sample, question.tolerance
    best, may_match = ranking.best, question.may_match
    is_match = question.is_match(best)
    nearest = best.finding if may_match and best.finding.distance <= FAR else None
    partial = _describe_part(question, best) if may_match and not is_match else None
    return Diagnosis(
        best.finding if is_match else None,
        partial,
        nearest,
        best.finding.distance,
        ranking.synonyms,
        find_libraries(best.finding.candidate, best.explained, sample) if is_match else (),
        find_needs(best.finding.candidate, sample, tolerance) if is_match else (),
        _find_runner_up(ranking) if may_match else None,
        bool(question.telling.any()),
        question.zeros,
        tolerance,
        ranking.tried,
        _left_out(inputs),
        len(sample.result),
        len(inputs.rois),
        sample.result.shape[1],
    )


def find_tolerance(sample: Sample, plain: PlainValues) -> float:
    """1e-4, or what rounding may have done to the result: in its dtype and on the way.

    Rounding is relative to the numbers' size, a distance to how they vary.
    """
    return max(TOLERANCE, sample.rounding * plain.find_growth())


def _find_runner_up(ranking: Ranking) -> Finding | None:
    found = ranking.runner_up
    return found.finding if found is not None and found.finding.distance <= FAR else None


def _describe_part(question: Question, best: Judged) -> PartialMatch | None:
    """The best candidate where it explains enough of the RoIs, with the reasons of the others."""
    sample, explained = question.sample, best.explained
    telling = question.telling & ~sample.says_nothing
    enough = max(1, PARTIAL_SHARE * telling.sum())
    if explained.all() or (explained & telling).sum() < enough:
        return None
    others, groups = ~explained, []
    for reason, mask in sample.reasons().items():
        here = others & mask
        others = others & ~here
        if here.any():
            groups.append(RoiGroup(reason, _numbers(sample.rows[here])))
    finding = replace(best.finding, distance=best.own_distance)
    libraries = find_libraries(finding.candidate, explained, sample)
    return PartialMatch(finding, _numbers(sample.rows[explained]), tuple(groups), libraries)


def _left_out(inputs: Inputs) -> tuple[RoiGroup, ...]:
    rows = np.flatnonzero(find_too_large(inputs))
    return (RoiGroup(f"over {MAX_CELLS:,} cells", _numbers(rows)),) if len(rows) else ()


def _numbers(rows: IntArray) -> tuple[int, ...]:
    return tuple(sorted(int(row) for row in rows))


def _read_shape(inputs: Inputs, result: StoredArray, channels: int, turned: bool) -> Wanted:
    """What the shape of a result says of the candidates. Raises InputError where it fits none."""
    shape, count = result.shape, len(inputs.rois)
    stored = result.stored.shape if isinstance(result, RowsArray) else shape
    if len(shape) == 4 and shape[0] == count and 0 not in shape:
        if shape[1] == channels:
            return Wanted(turned=turned)
        size = find_group_size(shape, channels)
        if size is not None and not turned:
            return Wanted(("class-major", "position-major"), size)
    raise InputError(
        f"{result.name}: shape is {stored}, expected ({count}, {channels}, "
        "P_h, P_w), RoIs and channels as in the inputs, none of them 0",
        advise_rows_first(stored, (count, channels, None, None))
        or (
            f"position-sensitive results have {channels} channels over P_h x P_w, or over a square"
        ),
    )


def _diagnose_in_any_order(
    inputs: Inputs, stored: StoredArray, request: DiagnoseRequest
) -> Diagnosis:
    """The diagnosis of a result whose axes or rows may be in another order.

    The likeliest order is searched first, and what explains the result ends it.
    """
    result, axes = read_axes(inputs, stored)
    is_shorter = len(result.shape) == 4 and result.shape[0] < len(inputs.rois)
    if is_shorter and (rows := match_to_rois(inputs, result)) is not None:
        return _diagnose_rows(inputs, result, rows, axes, request)
    question = read_question(inputs, result, request)

    def as_it_is() -> Iterator[Diagnosis]:
        yield replace(question.search(), alignment=Alignment(axes))

    if not question.may_match:
        return next(as_it_is())
    ways: list[tuple[float, Callable[[], Iterator[Diagnosis]]]] = [
        (math.inf if question.sample.wanted.turned else question.plain.likeness(), as_it_is)
    ]
    if question.sample.groups == 1:
        in_other_rows = functools.partial(_in_other_rows, inputs, result, axes, request)
        turned = functools.partial(_turned, inputs, result, request)
        ways += [(ALIKE, in_other_rows), (question.plain.likeness(is_turned=True), turned)]
    tried = []
    for _, way in sorted(ways, key=lambda one: -one[0]):
        for found in way():
            if found.distance <= found.tolerance:
                return found
            tried.append(found)
    own = next(found for found in tried if found.alignment == Alignment(axes))
    best = min(tried, key=lambda found: found.distance)
    if best.distance < MUCH_NEARER * own.distance:
        return best
    return own if own.partial is not None else _fit(question, own)


def _in_other_rows(
    inputs: Inputs, result: StoredArray, axes: str | None, request: DiagnoseRequest
) -> Iterator[Diagnosis]:
    """The diagnosis of the result with its rows in another order, if they are like RoIs so."""
    if (rows := match_to_rois(inputs, result)) is not None:
        yield _diagnose_rows(inputs, result, rows, axes, request)


def _turned(inputs: Inputs, result: StoredArray, request: DiagnoseRequest) -> Iterator[Diagnosis]:
    """The diagnoses of the result with its axes in another order, and its rows too."""
    if (turned := find_turned_axes(inputs, result)) is None:
        return
    if turned.is_clear:
        found = read_question(inputs, turned.result, request).search()
        yield replace(found, alignment=Alignment(turned.axes))
    yield from _in_other_rows(inputs, turned.result, turned.axes, request)


def _fit(question: Question, own: Diagnosis) -> Diagnosis:
    """What explains the result where the RoIs are stretched and moved; else its ``own``."""
    sample, tolerance = question.sample, question.tolerance
    for oddity in () if sample.wanted.turned else fit_rois(sample):
        fitted = rank_candidates(stretched_candidates(oddity, sample.wanted), sample, tolerance)
        if fitted.best.finding.distance <= tolerance:
            return replace(describe_ranking(question, fitted), alignment=own.alignment)
    return own


def _diagnose_rows(
    inputs: Inputs,
    result: StoredArray,
    rows: RowMatch,
    axes: str | None,
    request: DiagnoseRequest,
) -> Diagnosis:
    """The diagnosis of rows that are other RoIs' than those of their numbers."""
    found = _diagnose_taken(inputs, result, rows, request)
    known = found.partial.finding if found.partial is not None else found.nearest
    runs = known is not None and known.candidate.oddity == NO_ODDITY and request.angle is None
    if found.match is None and known is not None and runs:
        # What was like another RoI by a plain convention need not be so by the right one.
        better = match_to_rois(inputs, result, known.candidate.convention)
        if better is not None:
            again = _diagnose_taken(inputs, result, better, request)
            if again.distance < found.distance:
                found, rows = again, better
    found = replace(found, alignment=Alignment(axes, rows), rois=len(inputs.rois))
    if request.match_rows or found.match is None:
        return found
    return replace(found, match=None, libraries=(), needs=(), nearest=found.match)


def _diagnose_taken(
    inputs: Inputs, result: StoredArray, rows: RowMatch, request: DiagnoseRequest
) -> Diagnosis:
    """The diagnosis of the RoIs that a result has rows of."""
    taken, read = take_rows(inputs, result, rows)
    found = read_question(taken, read, request).search()
    return found if taken is inputs else _renumber(found, rows.b)


def _renumber(found: Diagnosis, rois: IntArray) -> Diagnosis:
    """A diagnosis of some of the RoIs, with the numbers ``rois`` that these have among all."""

    def rename(groups: Sequence[RoiGroup]) -> tuple[RoiGroup, ...]:
        return tuple(replace(group, rows=_numbers(rois[list(group.rows)])) for group in groups)

    part = found.partial
    if part is not None:
        rows = _numbers(rois[list(part.rows)])
        part = replace(part, rows=rows, others=rename(part.others))
    needs = tuple(replace(need, rows=_numbers(rois[list(need.rows)])) for need in found.needs)
    return replace(found, partial=part, needs=needs, left_out=rename(found.left_out))


def _in_degrees(inputs: Inputs, request: DiagnoseRequest) -> Inputs:
    """Turned RoIs with their angles in degrees; others as they are. Raises ParameterError."""
    turned = inputs.rois.turned
    if turned is None:
        return inputs
    if request.angle is not None:
        raise ParameterError(
            f"angle is {request.angle:g}, and {inputs.rois_name} has a column of angles",
            "drop --angle, or leave the column out: --roi-columns image,cx,cy,w,h,_",
        )
    if request.angle_unit == "radians":
        turned = np.column_stack([turned[:, :4], np.degrees(turned[:, 4])])
    return replace(inputs, rois=replace(inputs.rois, turned=turned))


@inputs_unchanged()
def diagnose(
    features: FeatureArgument,
    rois: FeatureArgument,
    result: ResultArgument,
    **options: Unpack[DiagnoseOptions],
) -> Diagnosis:
    """Find the convention that produced ``result`` (K, C, P_h, P_w) from these maps and RoIs.

    Arguments are addresses or arrays as for ``align``, or as for ``rotated_align`` where
    ``roi_columns`` names an angle; ``sample`` RoIs are looked at (None: all),
    on at most eight maps. ``Diagnosis.match`` is None where nothing is within ``tolerance``, a
    distance relative to how the result varies, on all of them. A result may have its axes in
    another order; rows in another order or missing are found, and ``match_rows`` accepts them.
    Raises RoicliError.
    """
    check_known("diagnose", options, DiagnoseOptions)
    request = settle(DiagnoseRequest, options)
    check_features(features)
    inputs = open_inputs(features, rois, request)
    try:
        turned = _in_degrees(inputs, request)
        with external_files(request.allow_external):
            stored = open_stored_result(result, "result")
        try:
            start = perf_counter()
            found = _diagnose_in_any_order(turned, stored, request)
            found = replace(found, seconds=perf_counter() - start)
            return found if inputs.row_numbers is None else _renumber(found, inputs.row_numbers)
        finally:
            stored.close()
    finally:
        inputs.close()
