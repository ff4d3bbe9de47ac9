"""Which convention produced a stored result: every candidate on a few RoIs, the best on more.

Distances are relative L2 over the sample, ``|result - candidate| / max(|result|, |candidate|)``, so
they are 0 where all numbers agree and stay below 2. Candidates that give the same numbers on this
data cannot be told apart: they are one match, named by the plainest of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Unpack

import numpy as np

from roicli.analysis.compare.run import ResultArgument, open_stored_result
from roicli.analysis.diagnose.conventions import Convention, all_conventions
from roicli.analysis.diagnose.sample import Sample, norms_of, read_sample, varied_channels
from roicli.analysis.diagnose.values import evaluate_conventions
from roicli.analysis.roi_sample import spread
from roicli.core.exceptions import InputError, ParameterError
from roicli.core.types import Array, FloatArray
from roicli.pipeline.features import FeatureArgument
from roicli.pipeline.inputs import InputOptions, Inputs, open_inputs
from roicli.pipeline.settings import check_known
from roicli.storage.array import Precision, StoredArray
from roicli.storage.limits import external_files
from roicli.storage.opening import inputs_unchanged

SAMPLE = 256
COARSE_ROIS, COARSE_CHANNELS, COARSE_BINS = 6, 4, 7
# After the coarse stage: the nearest candidates, and all that may still match.
KEPT, KEPT_MARGIN = 8, 10.0
# RoIs times candidates of the last stage, where many candidates give the same numbers.
FINAL_EVALUATIONS, FEWEST_ROIS = 1 << 12, 8
# Single-precision coordinates computed in another order differ by this much.
SAME_NUMBERS = 1e-5
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Finding:
    """A convention, its distance from the result (relative L2) and the largest difference."""

    convention: Convention
    distance: float
    max_difference: float


@dataclass(frozen=True)
class Diagnosis:
    """The match (None if none is within ``tolerance``, or all is 0), and what else came near.

    ``nearest`` is the match or, without one, the best there is; ``synonyms`` give the same numbers
    as ``nearest`` on this data, ``runner_up`` is the best that does not (None if all do).
    ``rois_compared`` of the ``rois`` and ``channels_compared`` decided.
    """

    match: Finding | None
    nearest: Finding
    synonyms: tuple[Convention, ...]
    runner_up: Finding | None
    tolerance: float
    candidates: int
    rois_compared: int
    rois: int
    channels_compared: int


def diagnose_result(
    inputs: Inputs, result: StoredArray, sample_size: int | None, tolerance: float | None
) -> Diagnosis:
    """Search the conventions for the one behind ``result`` (K, C, P_h, P_w). Raises InputError.

    ``sample_size`` RoIs decide in the end, None for all; ``tolerance`` None is 1e-4, or half a step
    of the dtype that the result is stored in, where that is more.
    """
    _check_result(inputs, result)
    tolerance = default_tolerance(result.precision) if tolerance is None else tolerance
    sample = read_sample(inputs, result, sample_size)
    conventions = all_conventions()
    survivors = _search_coarsely(conventions, sample, tolerance)
    places = np.arange(len(sample.result))
    count = max(FEWEST_ROIS, FINAL_EVALUATIONS // len(survivors))
    if count < len(places):
        sample = sample.take(
            spread(norms_of(sample.result), count), np.arange(sample.result.shape[1])
        )
    findings = measure_conventions(survivors, sample)
    nearest, synonyms = _plainest(findings, sample)
    told = {nearest.convention, *synonyms}
    others = [finding for finding in findings if finding.convention not in told]
    runner_up = _plainest(others, sample)[0] if others else None
    # Zeros come from anywhere; a rule with empty bins only would be no explanation.
    within = nearest.distance <= tolerance and bool(np.any(sample.result))
    match = nearest if within else None
    return Diagnosis(
        match, nearest, synonyms, runner_up, tolerance, len(conventions), len(sample.result),
        len(inputs.rois), sample.result.shape[1],
    )  # fmt: skip


def default_tolerance(precision: Precision) -> float:
    """1e-4, or what rounding the result to its dtype may have done to it."""
    bits = precision.mantissa_bits
    return TOLERANCE if bits is None else max(TOLERANCE, 0.5 ** (bits + 1))


def _check_result(inputs: Inputs, result: StoredArray) -> None:
    assert inputs.pyramid is not None
    expected = (len(inputs.rois), inputs.pyramid.channels)
    if len(result.shape) != 4 or result.shape[:2] != expected or 0 in result.shape:
        raise InputError(
            f"{result.name}: shape is {result.shape}, expected ({expected[0]}, {expected[1]}, "
            "P_h, P_w), RoIs and channels as in the inputs, none of them 0"
        )


# The search -----------------------------------------------------------------------------------


def measure_conventions(conventions: Sequence[Convention], sample: Sample) -> list[Finding]:
    """Every convention with its distance from the result; infinite where it cannot be computed."""
    return [
        Finding(
            convention,
            relative_distance(sample.result, values),
            float(np.nan_to_num(np.abs(values - sample.result), nan=np.inf).max()),
        )
        for convention, values in evaluate_conventions(conventions, sample.maps, sample.bins)
    ]


def relative_distance(one: FloatArray, other: FloatArray) -> float:
    """|one - other| over the larger of their norms; 0 where both are 0, infinite for NaN."""
    # Sums of products and no matrix library: its threads cost more than arrays this small do.
    squared, *norms = (float(np.sum(values * values)) for values in (one - other, one, other))
    if math.isnan(squared):
        return math.inf
    return math.sqrt(squared / max(norms)) if max(norms) else 0.0


def _search_coarsely(
    conventions: Sequence[Convention], sample: Sample, tolerance: float
) -> list[Convention]:
    """All candidates on a few RoIs; the nearest and whatever may match, in the grid's order."""
    norms = norms_of(sample.result)
    telling = np.flatnonzero(norms > 0)
    telling = telling if len(telling) else np.arange(len(norms))
    channels = varied_channels(sample.result, COARSE_CHANNELS)
    few = sample.take(telling[spread(norms[telling], COARSE_ROIS)], channels, COARSE_BINS)
    findings = measure_conventions(conventions, few)
    order = np.argsort([finding.distance for finding in findings], kind="stable")
    limit = max(tolerance, SAME_NUMBERS) * KEPT_MARGIN
    possible = [i for i in order if findings[i].distance <= limit]
    nearest = [i for i in order if findings[i].distance > limit][:KEPT]
    return [conventions[i] for i in sorted([*possible, *nearest])]


def _plainest(
    findings: Sequence[Finding], sample: Sample
) -> tuple[Finding, tuple[Convention, ...]]:
    """The best finding under its plainest name, and the other names of the same numbers."""
    best = min(findings, key=lambda finding: finding.distance)
    near = [f for f in findings if f.distance <= best.distance + SAME_NUMBERS]
    _, numbers = next(evaluate_conventions([best.convention], sample.maps, sample.bins))
    same = [
        convention
        for convention, values in evaluate_conventions(
            [f.convention for f in near], sample.maps, sample.bins
        )
        if relative_distance(values, numbers) <= SAME_NUMBERS
    ]
    names = sorted(same or [best.convention], key=lambda c: c.strangeness)
    return replace(best, convention=names[0]), tuple(names[1:])


@inputs_unchanged()
def diagnose(
    features: FeatureArgument | Sequence[Array],
    rois: FeatureArgument,
    result: ResultArgument,
    *,
    sample: int | None = SAMPLE,
    tolerance: float | None = None,
    **options: Unpack[InputOptions],
) -> Diagnosis:
    """Find the convention that produced ``result`` (K, C, P_h, P_w) from these maps and RoIs.

    Arguments are addresses or arrays as for ``align``; ``sample`` RoIs are looked at (None: all),
    on at most eight maps. ``Diagnosis.match`` is None where nothing is within ``tolerance``, a
    relative L2. Raises RoicliError.
    """
    check_known("diagnose", options, InputOptions)
    if sample is not None and sample < 1:
        raise ParameterError(f"sample is {sample}, expected at least 1 RoI")
    if tolerance is not None and not (math.isfinite(tolerance) and tolerance > 0):
        raise ParameterError(f"tolerance is {tolerance:g}, expected a positive number")
    inputs = open_inputs(features, rois, options)
    try:
        with external_files(options.get("allow_external", False)):
            stored = open_stored_result(result, "result")
        try:
            return diagnose_result(inputs, stored, sample, tolerance)
        finally:
            stored.close()
    finally:
        inputs.close()
