"""Which convention produced a stored result, on which RoIs, and what else gives its numbers.

Every candidate is tried on a few RoIs, the best on more (``search``); distances are relative to how
the result varies (``distance``). A match explains every RoI that was looked at. Candidates that
give the same numbers on this data cannot be told apart: they are one match, named by the plainest
of them, and where all do there is no match.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Unpack

import numpy as np

from roicli.analysis.diagnose.alignment import (
    Alignment,
    find_turned_bins,
    match_to_rois,
    read_axes,
    take_rows,
)
from roicli.analysis.diagnose.conventions import Convention, all_conventions
from roicli.analysis.diagnose.sample import MAX_CELLS, Sample, find_too_large, read_sample
from roicli.analysis.diagnose.search import (
    Candidate,
    Finding,
    Ranking,
    find_growth,
    rank_conventions,
)
from roicli.analysis.result.rows import RowMatch
from roicli.analysis.result.source import ResultArgument, open_stored_result
from roicli.core.call_options import DiagnoseOptions
from roicli.core.declaration import check_known, record, settle
from roicli.core.exceptions import InputError, ParameterError
from roicli.core.types import Array, IntArray
from roicli.pipeline.features import FeatureArgument
from roicli.pipeline.inputs import Inputs, open_inputs
from roicli.pipeline.request import Reading
from roicli.storage.array import Precision, StoredArray
from roicli.storage.limits import external_files
from roicli.storage.opening import inputs_unchanged

AS_IT_IS = Alignment()
# Another order of axes or rows explains a result that is so much nearer then.
MUCH_NEARER = 0.5
SAMPLE = 256
TOLERANCE = 1e-4
# Past this distance any convention is as good a name as another.
FAR = 0.3
# What explains fewer of the RoIs that tell conventions apart is no explanation.
PARTIAL_SHARE = 0.5
# Roundings of the operator's own arithmetic, in units of the dtype that it computes in.
ROUNDINGS = 4


@dataclass(frozen=True)
class RoiGroup:
    """RoIs (row numbers) that are not explained, or were not looked at, for one reason."""

    reason: str
    rows: tuple[int, ...]


@dataclass(frozen=True)
class PartialMatch:
    """A convention that explains some RoIs, ``rows``, and not ``others``.

    Its distance is over ``rows``.
    """

    finding: Finding
    rows: tuple[int, ...]
    others: tuple[RoiGroup, ...]


@dataclass(frozen=True)
class Diagnosis:
    """The match, or what explains a part, or what comes nearest; at most one of the first two.

    ``match`` explains every RoI that was looked at, ``partial`` at least half. ``nearest`` is one
    of these or the best there is, None past a distance of 0.3, as is ``runner_up``, the best with
    other numbers. ``distance`` is that of the best on all RoIs with numbers. ``synonyms`` give the
    numbers of the best on this data. ``told_apart`` is False where all conventions do: then there
    is no match. ``left_out`` are RoIs that could not be looked at; ``rois_compared`` of the
    ``rois`` and ``channels_compared`` decided. ``alignment`` says how axes and rows were read; a
    result whose rows are not the RoIs', one by one, has no match unless that is accepted.
    """

    match: Finding | None
    partial: PartialMatch | None
    nearest: Finding | None
    distance: float
    synonyms: tuple[Convention, ...]
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


def diagnose_result(
    inputs: Inputs, result: StoredArray, sample_size: int | None, tolerance: float | None
) -> Diagnosis:
    """Search the conventions for the one behind ``result`` (K, C, P_h, P_w). Raises InputError.

    ``sample_size`` RoIs decide in the end, None for all; ``tolerance`` None is ``find_tolerance``.
    """
    assert inputs.pyramid is not None
    _check_result(inputs, result, inputs.pyramid.channels)
    sample = read_sample(inputs, result, sample_size)
    if tolerance is None:
        tolerance = find_tolerance(sample, result.precision, inputs.pyramid.compute_dtype)
    conventions = all_conventions()
    ranking = rank_conventions(conventions, sample, tolerance)
    best, zeros = ranking.best, not np.any(sample.result)
    told_apart = bool(ranking.telling.any())
    # Zeros come from anywhere; a rule with empty bins only would be no explanation.
    may_match = told_apart and not zeros
    is_match = may_match and bool(best.explained.all()) and best.finding.distance <= tolerance
    nearest = best.finding if may_match and best.finding.distance <= FAR else None
    return Diagnosis(
        best.finding if is_match else None,
        _describe_part(ranking, sample) if may_match and not is_match else None,
        nearest,
        best.finding.distance,
        ranking.synonyms,
        _find_runner_up(ranking) if may_match else None,
        told_apart,
        zeros,
        tolerance,
        len(conventions),
        _left_out(inputs),
        len(sample.result),
        len(inputs.rois),
        sample.result.shape[1],
    )


def find_tolerance(
    sample: Sample, precision: Precision, compute_dtype: np.dtype[np.floating]
) -> float:
    """1e-4, or what rounding may have done to the result: in its dtype and on the way.

    Rounding is relative to the numbers' size, a distance to how they vary.
    """
    rounding = ROUNDINGS * float(np.finfo(compute_dtype).eps) / 2
    if precision.mantissa_bits is not None:
        rounding = max(rounding, 0.5 ** (precision.mantissa_bits + 1))
    return max(TOLERANCE, rounding * find_growth(sample))


def _find_runner_up(ranking: Ranking) -> Finding | None:
    found = ranking.runner_up
    return found.finding if found is not None and found.finding.distance <= FAR else None


def _describe_part(ranking: Ranking, sample: Sample) -> PartialMatch | None:
    """The best candidate where it explains enough of the RoIs, with the reasons of the others."""
    best: Candidate = ranking.best
    explained = best.explained
    if (explained & ranking.telling).sum() < PARTIAL_SHARE * ranking.telling.sum():
        return None
    if explained.all():
        return None
    others, groups = ~explained, []
    reasons = {
        "NaN or infinite in the result": ~np.isfinite(sample.result).all(axis=(1, 2, 3)),
        "without positive size": sample.without_size,
        "reaching past the map": sample.off_map,
        "with other numbers": np.ones(len(explained), bool),
    }
    for reason, mask in reasons.items():
        here = others & mask
        others = others & ~here
        if here.any():
            groups.append(RoiGroup(reason, _numbers(sample.rows[here])))
    finding = replace(best.finding, distance=best.own_distance)
    return PartialMatch(finding, _numbers(sample.rows[explained]), tuple(groups))


def _left_out(inputs: Inputs) -> tuple[RoiGroup, ...]:
    rows = np.flatnonzero(find_too_large(inputs))
    return (RoiGroup(f"over {MAX_CELLS:,} cells", _numbers(rows)),) if len(rows) else ()


def _numbers(rows: IntArray) -> tuple[int, ...]:
    return tuple(sorted(int(row) for row in rows))


def _check_result(inputs: Inputs, result: StoredArray, channels: int) -> None:
    expected = (len(inputs.rois), channels)
    shape = result.shape
    if len(shape) == 4 and shape[:2] == expected and 0 not in shape:
        return
    raise InputError(
        f"{result.name}: shape is {shape}, expected ({expected[0]}, {expected[1]}, "
        "P_h, P_w), RoIs and channels as in the inputs, none of them 0",
        _describe_groups(shape, channels) if len(shape) == 4 and shape[0] == expected[0] else None,
    )


def _describe_groups(shape: Sequence[int], channels: int) -> str | None:
    """What to think of a result with fewer channels, where they may be position-sensitive."""
    groups = channels // shape[1] if shape[1] else 0
    side = math.isqrt(groups)
    if groups * shape[1] != channels or groups < 2:
        return None
    if groups != shape[2] * shape[3] and side * side != groups:
        return None
    return (
        f"position-sensitive? {channels} channels are {shape[1]} x {groups}, so that each bin may "
        "read channels of its own; diagnose knows no such convention"
    )


@record(DiagnoseOptions)
class DiagnoseRequest(Reading):
    """What was asked of ``diagnose``."""

    sample: int | None
    tolerance: float | None
    match_rows: bool

    def __post_init__(self) -> None:
        if self.sample is not None and self.sample < 1:
            raise ParameterError(f"sample is {self.sample}, expected at least 1 RoI")
        if self.tolerance is not None and not 0 < self.tolerance < math.inf:
            raise ParameterError(f"tolerance is {self.tolerance:g}, expected a positive number")


def _diagnose_in_any_order(
    inputs: Inputs, stored: StoredArray, request: DiagnoseRequest
) -> Diagnosis:
    """As ``diagnose_result``, of a result whose axes or rows may be in another order."""
    result, axes = read_axes(inputs, stored)
    is_shorter = len(result.shape) == 4 and result.shape[0] < len(inputs.rois)
    if is_shorter and (rows := match_to_rois(inputs, result)) is not None:
        return _diagnose_rows(inputs, result, rows, axes, request)
    found = diagnose_result(inputs, result, request.sample, request.tolerance)
    found = replace(found, alignment=Alignment(axes))
    if found.match is not None or found.zeros or not found.told_apart:
        return found
    turned = find_turned_bins(inputs, result)
    if turned is not None:
        result, axes = turned
    rows = match_to_rois(inputs, result)
    if rows is not None:
        again = _diagnose_rows(inputs, result, rows, axes, request)
    elif turned is not None:
        again = diagnose_result(inputs, result, request.sample, request.tolerance)
        again = replace(again, alignment=Alignment(axes))
    else:
        return found
    return again if again.distance < MUCH_NEARER * found.distance else found


def _diagnose_rows(
    inputs: Inputs, result: StoredArray, rows: RowMatch, axes: str | None, request: DiagnoseRequest
) -> Diagnosis:
    """The diagnosis of rows that are other RoIs' than those of their numbers."""
    taken = take_rows(inputs, result, rows)
    found = diagnose_result(*taken, request.sample, request.tolerance)
    if taken[0] is not inputs:
        found = _renumber(found, rows.b)
    found = replace(found, alignment=Alignment(axes, rows), rois=len(inputs.rois))
    if request.match_rows or found.match is None:
        return found
    return replace(found, match=None, nearest=found.match)


def _renumber(found: Diagnosis, rois: IntArray) -> Diagnosis:
    """A diagnosis of some of the RoIs, with the numbers ``rois`` that these have among all."""

    def rename(groups: Sequence[RoiGroup]) -> tuple[RoiGroup, ...]:
        return tuple(replace(group, rows=_numbers(rois[list(group.rows)])) for group in groups)

    part = found.partial
    if part is not None:
        rows = _numbers(rois[list(part.rows)])
        part = replace(part, rows=rows, others=rename(part.others))
    return replace(found, partial=part, left_out=rename(found.left_out))


@inputs_unchanged()
def diagnose(
    features: FeatureArgument | Sequence[Array],
    rois: FeatureArgument,
    result: ResultArgument,
    **options: Unpack[DiagnoseOptions],
) -> Diagnosis:
    """Find the convention that produced ``result`` (K, C, P_h, P_w) from these maps and RoIs.

    Arguments are addresses or arrays as for ``align``; ``sample`` RoIs are looked at (None: all),
    on at most eight maps. ``Diagnosis.match`` is None where nothing is within ``tolerance``, a
    distance relative to how the result varies, on all of them. A result may have its axes in
    another order; rows in another order or missing are found, and ``match_rows`` accepts them.
    Raises RoicliError.
    """
    check_known("diagnose", options, DiagnoseOptions)
    request = settle(DiagnoseRequest, options)
    inputs = open_inputs(features, rois, request)
    try:
        with external_files(request.allow_external):
            stored = open_stored_result(result, "result")
        try:
            return _diagnose_in_any_order(inputs, stored, request)
        finally:
            stored.close()
    finally:
        inputs.close()
