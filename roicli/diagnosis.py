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

from roicli.comparison import ResultArgument, open_stored_result
from roicli.convention_values import SampledMap, evaluate_conventions
from roicli.conventions import Convention, all_conventions
from roicli.datatypes import Array, FloatArray, IntArray, Size
from roicli.exceptions import InputError, ParameterError
from roicli.features import FeatureArgument, MapBuffer
from roicli.inputs import InputOptions, Inputs, Note, open_inputs
from roicli.roi_sample import areas, choose_visits, rows_of, spread
from roicli.storage.stored_array import Precision, StoredArray

SAMPLE = 256
MAPS = 8
CHANNELS = 32
COARSE_ROIS, COARSE_CHANNELS = 8, 4
# After the coarse stage: the nearest candidates, and all that may still match.
KEPT, KEPT_MARGIN = 8, 10.0
# RoIs times candidates of the last stage, where many candidates give the same numbers.
FINAL_EVALUATIONS, FEWEST_ROIS = 1 << 12, 8
# Single-precision coordinates computed in another order differ by this much.
SAME_NUMBERS = 1e-5
TOLERANCE = 1e-4
# Samples of one RoI at the densest candidate, and values of all its channels.
MAX_SAMPLES, MAX_VALUES = 1 << 18, 1 << 22
DENSEST = 4


@dataclass(frozen=True)
class Finding:
    """A convention, its distance from the result (relative L2) and the largest difference."""

    convention: Convention
    distance: float
    max_difference: float


@dataclass(frozen=True)
class Diagnosis:
    """The match (None if none is within ``tolerance``), and what else came near.

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


@dataclass(frozen=True)
class Sample:
    """S RoIs on a few maps, and the result's values there, (S, C, P_h, P_w) float64."""

    maps: tuple[SampledMap, ...]
    result: FloatArray

    @property
    def output_size(self) -> Size:
        """(height, width) in bins."""
        return self.result.shape[2], self.result.shape[3]

    def take(self, places: IntArray, channels: Array) -> Sample:
        """Some of the RoIs (sorted places) and channels."""
        maps, start = [], 0
        for one in self.maps:
            here = places[(places >= start) & (places < start + len(one.corners))] - start
            start += len(one.corners)
            if len(here):
                corners, features = one.corners[here], one.feature_map[channels]
                maps.append(SampledMap(features, corners, one.spatial_scale))
        return Sample(tuple(maps), self.result[places][:, channels])


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
            spread(_norms(sample.result), count), np.arange(sample.result.shape[1])
        )
    findings = measure_conventions(survivors, sample)
    nearest, synonyms = _plainest(findings, sample)
    told = {nearest.convention, *synonyms}
    others = [finding for finding in findings if finding.convention not in told]
    runner_up = _plainest(others, sample)[0] if others else None
    match = nearest if nearest.distance <= tolerance else None
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


# The sample -----------------------------------------------------------------------------------


def read_sample(inputs: Inputs, result: StoredArray, count: int | None) -> Sample:
    """RoIs of all sizes whose result is finite, and the channels that vary most.

    Raises InputError where no RoI is usable.
    """
    pyramid = inputs.pyramid
    assert pyramid is not None
    visits = choose_visits(inputs.rois, inputs.map_of_roi, _usable(inputs), count, MAPS)
    if not visits:
        raise InputError(
            f"{inputs.rois_name}: no RoI has positive sides and at most {MAX_SAMPLES} samples",
            "check the RoIs and the spatial scale",
        )
    stored = np.empty((len(rows_of(visits)), *result.shape[1:]), result.dtype)
    for place, row in enumerate(rows_of(visits)):
        result.read_item_into(int(row), stored[place])
    finite: Array = np.all(np.isfinite(stored).reshape(len(stored), -1), axis=1)
    if not finite.any():
        raise InputError(f"{result.name}: holds NaN or infinity in every RoI that was looked at")
    channels = _varied_channels(stored[finite], _channel_limit(inputs, rows_of(visits), stored))
    values = stored[finite][:, channels].astype(np.float64)
    maps, start = [], 0
    buffer = MapBuffer(pyramid.compute_dtype)
    corners = inputs.rois.corners.astype(pyramid.compute_dtype)
    for visit in visits:
        rows = visit.rows[finite[start : start + len(visit.rows)]]
        start += len(visit.rows)
        level = pyramid.levels[visit.level]
        whole = level.read_image(visit.image, buffer)[channels].astype(np.float64)
        # A cell that is not finite is in no RoI whose result is.
        feature_map = np.nan_to_num(whole, nan=0.0, posinf=0.0, neginf=0.0)
        maps.append(SampledMap(feature_map, corners[rows], level.spatial_scale))
    return Sample(tuple(maps), values)


def _usable(inputs: Inputs) -> Array:
    """(K,) RoIs that have an inside, and not too many samples at twice the scale."""
    corners = inputs.rois.corners
    scales = np.array([place.spatial_scale for place in inputs.places])[inputs.map_of_roi]
    positive = np.all(corners[:, 2:] > corners[:, :2], axis=1)
    usable: Array = positive & (areas(corners) * (2 * scales) ** 2 <= MAX_SAMPLES)
    return usable


def _channel_limit(inputs: Inputs, rows: IntArray, result: Array) -> int:
    """How many channels keep one RoI's samples in memory."""
    scales = np.array([place.spatial_scale for place in inputs.places])[inputs.map_of_roi[rows]]
    cells = areas(inputs.rois.corners[rows]) * (2 * scales) ** 2
    samples = max(float(cells.max()), math.prod(result.shape[2:]) * DENSEST**2)
    return int(np.clip(MAX_VALUES // samples, 1, CHANNELS))


def _varied_channels(result: Array, count: int) -> IntArray:
    """The channels that tell most: those with the largest spread, in their order."""
    spreads = result.astype(np.float64).std(axis=(0, 2, 3))
    return np.sort(np.argsort(-spreads, kind="stable")[:count])


# The search -----------------------------------------------------------------------------------


def measure_conventions(conventions: Sequence[Convention], sample: Sample) -> list[Finding]:
    """Every convention with its distance from the result; infinite where it cannot be computed."""
    return [
        Finding(
            convention,
            relative_distance(sample.result, values),
            float(np.nan_to_num(np.abs(values - sample.result), nan=np.inf).max()),
        )
        for convention, values in evaluate_conventions(conventions, sample.maps, sample.output_size)
    ]


def relative_distance(one: FloatArray, other: FloatArray) -> float:
    """|one - other| over the larger of their norms, 0 where both are 0, infinite where not a
    number.
    """
    difference = float(np.linalg.norm(one - other))
    norm = max(float(np.linalg.norm(one)), float(np.linalg.norm(other)))
    if math.isnan(difference):
        return math.inf
    return difference / norm if norm else 0.0


def _search_coarsely(
    conventions: Sequence[Convention], sample: Sample, tolerance: float
) -> list[Convention]:
    """All candidates on a few RoIs; the nearest and whatever may match, in the grid's order."""
    norms = _norms(sample.result)
    telling = np.flatnonzero(norms > 0)
    telling = telling if len(telling) else np.arange(len(norms))
    channels = _varied_channels(sample.result, COARSE_CHANNELS)
    few = sample.take(telling[spread(norms[telling], COARSE_ROIS)], channels)
    findings = measure_conventions(conventions, few)
    order = np.argsort([finding.distance for finding in findings], kind="stable")
    limit = max(tolerance, SAME_NUMBERS) * KEPT_MARGIN
    possible = [i for i in order if findings[i].distance <= limit]
    nearest = [i for i in order if findings[i].distance > limit][:KEPT]
    return [conventions[i] for i in sorted([*possible, *nearest])]


def _norms(result: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt(np.einsum("kcyx,kcyx->k", result, result)))


def _plainest(
    findings: Sequence[Finding], sample: Sample
) -> tuple[Finding, tuple[Convention, ...]]:
    """The best finding under its plainest name, and the other names of the same numbers."""
    best = min(findings, key=lambda finding: finding.distance)
    near = [f for f in findings if f.distance <= best.distance + SAME_NUMBERS]
    _, numbers = next(
        iter(evaluate_conventions([best.convention], sample.maps, sample.output_size))
    )
    same = [
        convention
        for convention, values in evaluate_conventions(
            [f.convention for f in near], sample.maps, sample.output_size
        )
        if relative_distance(values, numbers) <= SAME_NUMBERS
    ]
    names = sorted(same or [best.convention], key=lambda c: c.strangeness)
    return replace(best, convention=names[0]), tuple(names[1:])


def diagnose(
    features: FeatureArgument | Sequence[Array],
    rois: FeatureArgument,
    result: ResultArgument,
    *,
    sample: int | None = SAMPLE,
    tolerance: float | None = None,
    note: Note = lambda line: None,
    **options: Unpack[InputOptions],
) -> Diagnosis:
    """Find the convention that produced ``result`` (K, C, P_h, P_w) from these maps and RoIs.

    Arguments are addresses or arrays as for ``align``; ``sample`` RoIs are looked at (None: all),
    on at most eight maps. ``Diagnosis.match`` is None where nothing is within ``tolerance``, a
    relative L2. Raises RoicliError.
    """
    if sample is not None and sample < 1:
        raise ParameterError(f"sample is {sample}, expected at least 1 RoI")
    if tolerance is not None and not (math.isfinite(tolerance) and tolerance > 0):
        raise ParameterError(f"tolerance is {tolerance:g}, expected a positive number")
    inputs = open_inputs(features, rois, options, note)
    try:
        stored = open_stored_result(result, "result")
        try:
            return diagnose_result(inputs, stored, sample, tolerance)
        finally:
            stored.close()
    finally:
        inputs.close()
