"""Which sampling ratio is enough: RoI Align at several, against the exact mean over each bin.

The exact mean is Precise RoI Pooling (``precise_pool``); a fine grid, the operator's own at a high
ratio, stands beside it. Times are the operator's on this machine, the faster of two runs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Unpack

import numpy as np

from roicli.analysis.roi_sample import choose_visits, rows_of
from roicli.core.declaration import check_known, record, settle
from roicli.core.exceptions import InputError, ParameterError
from roicli.core.look_options import SweepOptions
from roicli.core.norms import Rows, Widened, difference_rows, divide_norms, measure_distance
from roicli.core.record import frozen
from roicli.core.shown import Shown
from roicli.core.types import Array, FloatArray, FloatType, IntArray
from roicli.core.vocabulary import SIZE_CLASSES
from roicli.error_table.geometric import size_classes
from roicli.error_table.table import measure_statistics
from roicli.operators.geometry import align_boxes, sampling_counts
from roicli.operators.precise_roi_pool import weigh_box
from roicli.operators.roi_align import SAMPLE_BYTES, AlignSpec
from roicli.pipeline.features import FeatureArgument, MapBuffer
from roicli.pipeline.order import MapVisit
from roicli.pipeline.request import RunRequest
from roicli.pipeline.run import Run, open_run
from roicli.pipeline.validation import MAX_SAMPLES_BYTES
from roicli.runtime.device_map import PlacedMap
from roicli.runtime.runners import Runner
from roicli.storage.open import inputs_unchanged

RATIOS = (1, 2, 3, 4, 8, 0)
FINE_GRID = 32
MAPS = 16
TOLERANCE = 0.01
# Values of one block of RoIs, of which several copies are held.
BLOCK_VALUES = 1 << 21
ALL = "all"


@frozen
class SweepRecord:
    """One sampling ratio on the RoIs of one size class.

    ``relative_l2`` (median) and ``relative_l2_p95`` over the RoIs, ``max_difference`` over all
    values, against the exact mean; the same against the fine grid. ``samples_per_bin`` is the mean
    over the RoIs. None where no RoI of the class has a reference that is not 0.
    """

    sampling_ratio: int
    size_class: str
    n: int
    samples_per_bin: float
    seconds: float
    relative_l2: float | None
    relative_l2_p95: float | None
    max_difference: float | None
    fine_grid_relative_l2: float | None
    fine_grid_max_difference: float | None


@frozen
class Sweep(Shown):
    """The records, and the smallest ratio whose median relative L2 is within ``tolerance``.

    Fixed ratios come before adaptive (0); None where none is. ``left_out`` RoIs have no inside, or
    too many adaptive samples; ``fine_grid_error`` is the fine grid's own median relative L2.
    """

    records: tuple[SweepRecord, ...]
    recommended_sampling_ratio: int | None
    recommended_by_size_class: dict[str, int | None]
    tolerance: float
    fine_grid: int
    fine_grid_error: float | None
    rois: int
    rois_measured: int
    left_out: int


class Measures:
    """What one ratio gives, RoI by RoI (n,), and the seconds by size class."""

    def __init__(self, count: int) -> None:
        self.samples = np.zeros(count)
        self.relative, self.largest = np.full(count, np.nan), np.full(count, np.nan)
        self.fine_relative, self.fine_largest = np.full(count, np.nan), np.full(count, np.nan)
        self.seconds = dict.fromkeys(SIZE_CLASSES, 0.0)

    def compare(self, places: IntArray, values: Array, exact: Array, fine: Array) -> None:
        """Errors of values (k, C, P_h, P_w) at ``places``."""
        self.relative[places], self.largest[places] = _errors(values, exact)
        self.fine_relative[places], self.fine_largest[places] = _errors(values, fine)


def _errors(values: FloatArray, reference: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(k,) relative L2 (NaN where the reference is 0) and largest absolute difference; both are NaN
    for a RoI that reads NaN or infinity.
    """
    one, other = (
        Widened(part.astype(np.float64).reshape(len(part), -1)) for part in (values, reference)
    )
    difference = measure_distance(one, other)
    odd = ~(np.isfinite(one.high) & np.isfinite(other.high)).all(axis=1)
    difference[odd], one.high[odd], other.high[odd] = 0, 0, 0
    rows_reference = Rows(other.high)
    rows = difference_rows(one, other, difference)
    relative = divide_norms(rows.dot(rows), rows_reference.dot(rows_reference))
    largest = difference.max(axis=1, initial=0.0)
    return relative, np.where(odd, np.nan, largest)


def sweep_run(run: Run, sample: int | None, tolerance: float) -> Sweep:
    """Measure every ratio on ``sample`` RoIs of the run (None: all). Raises InputError."""
    usable = _usable(run)
    visits = choose_visits(run.inputs.rois, run.inputs.map_of_roi, usable, sample, MAPS)
    if not visits:
        raise InputError(
            f"{run.inputs.rois_name}: no RoI of {len(usable)} has an inside and an adaptive grid "
            f"within {MAX_SAMPLES_BYTES >> 20} MiB",
            "check the RoIs and the spatial scale",
        )
    count = len(rows_of(visits))
    classes = size_classes(run.inputs.rois.corners[rows_of(visits)])
    measures = {ratio: Measures(count) for ratio in (*RATIOS, FINE_GRID)}
    start = 0
    for visit, feature_map in _read_maps(run, visits):
        places = np.arange(start, start + len(visit.rows))
        start += len(visit.rows)
        _measure_visit(run, visit, feature_map, classes[places], places, measures)
    records = tuple(
        _record(measures[ratio], ratio, name, classes)
        for name in (ALL, *SIZE_CLASSES)
        for ratio in RATIOS
        if name == ALL or np.any(classes == name.encode())
    )
    names = dict.fromkeys(record.size_class for record in records)
    best = {name: _recommend(records, name, tolerance) for name in names}
    return Sweep(
        records, best.pop(ALL), best, tolerance, FINE_GRID,
        measure_statistics(measures[FINE_GRID].relative).median,
        len(usable), count, int((~usable).sum()),
    )  # fmt: skip


def _usable(run: Run) -> Array:
    """(K,) RoIs whose bins have a size and whose adaptive grid fits the memory."""
    usable = np.zeros(len(run.inputs.rois), bool)
    for level, spec in enumerate(run.scaled(run.setting.align)):
        rows = np.flatnonzero(run.inputs.map_of_roi == level)
        corners = run.inputs.rois.corners[rows].astype(run.pyramid.compute_dtype)
        _, extent = align_boxes(corners, spec)
        counts = sampling_counts(extent, replace(spec, sampling_ratio=0))
        samples = np.prod(counts + 0.0, axis=1) * math.prod(spec.output_size)
        usable[rows] = np.all(extent > 0, axis=1) & (samples * SAMPLE_BYTES <= MAX_SAMPLES_BYTES)
    return usable


def _read_maps(run: Run, visits: Sequence[MapVisit]) -> Iterator[tuple[MapVisit, FloatArray]]:
    buffer = MapBuffer(run.pyramid.compute_dtype)
    for visit in visits:
        yield visit, run.pyramid.levels[visit.level].read_image(visit.image, buffer)


def _measure_visit(
    run: Run,
    visit: MapVisit,
    feature_map: FloatArray,
    classes: Array,
    places: IntArray,
    measures: dict[int, Measures],
) -> None:
    """Every ratio on the RoIs of one map, size class by size class, block by block."""
    spec = run.scaled(run.setting.align)[visit.level]
    corners = run.inputs.rois.corners[visit.rows].astype(feature_map.dtype)
    dtype = feature_map.dtype
    placed = run.engine.build_placer(dtype).place(feature_map)
    runners = {ratio: _load(run, spec, ratio, dtype, placed) for ratio in RATIOS}
    # The usual grid whatever the spec's, for both tend to the exact mean.
    usual = replace(spec, sampling_grid="quarters")
    fine_runner = _load(run, usual, FINE_GRID, dtype, placed)
    step = max(1, BLOCK_VALUES // (len(feature_map) * math.prod(spec.output_size)))
    for name in SIZE_CLASSES:
        rows = np.flatnonzero(classes == name.encode())
        for first in range(0, len(rows), step):
            here = rows[first : first + step]
            block = corners[here]
            exact = pool_precisely(feature_map, block, spec)
            fine = np.empty(exact.shape, block.dtype)
            fine_runner.run(block, fine)
            measures[FINE_GRID].compare(places[here], fine, exact, fine)
            for ratio, runner in runners.items():
                values, seconds = _time(runner, block, exact.shape)
                found = measures[ratio]
                found.compare(places[here], values, exact, fine)
                found.seconds[name] += seconds
                found.samples[places[here]] = _samples(block, replace(spec, sampling_ratio=ratio))


def pool_precisely(feature_map: FloatArray, corners: FloatArray, spec: AlignSpec) -> FloatArray:
    """(k, C, P_h, P_w) float64: the exact mean over the bins that RoI Align samples.

    ``feature_map`` (C, H, W); ``corners`` (k, 4) in image pixels, in the operator's dtype, so that
    bins start where the operator's do. Of ``spec`` only output size, scale and ``aligned`` matter.
    """
    start, extent = (table.astype(np.float64) for table in align_boxes(corners, spec))
    out = np.zeros((len(corners), len(feature_map), *spec.output_size))
    map_size = feature_map.shape[1], feature_map.shape[2]
    for row in range(len(corners)):
        box = weigh_box(start[row], extent[row], spec.output_size, map_size, "clamp")
        out[row] = box.mean(feature_map)
    return out


def _load(run: Run, spec: AlignSpec, ratio: int, dtype: FloatType, placed: PlacedMap) -> Runner:
    runner = run.engine.build_runner(replace(spec, sampling_ratio=ratio), dtype)
    runner.load(placed)
    return runner


def _time(runner: Runner, corners: FloatArray, shape: Sequence[int]) -> tuple[FloatArray, float]:
    """The values (k, C, P_h, P_w) of a runner, and the faster of two runs in seconds."""
    out, seconds = np.empty(tuple(shape), corners.dtype), math.inf
    for _ in range(2):
        start = time.perf_counter()
        runner.run(corners, out)
        seconds = min(seconds, time.perf_counter() - start)
    return out, seconds


def _samples(corners: FloatArray, spec: AlignSpec) -> Array:
    """(k,) sampling points a bin."""
    counts: Array = sampling_counts(align_boxes(corners, spec)[1], spec)
    return np.asarray(counts.prod(axis=1))


def _record(found: Measures, ratio: int, name: str, classes: Array) -> SweepRecord:
    rows = np.full(len(classes), True) if name == ALL else classes == name.encode()
    relative = measure_statistics(found.relative[rows])
    fine = measure_statistics(found.fine_relative[rows])
    return SweepRecord(
        ratio,
        name,
        int(rows.sum()),
        float(found.samples[rows].mean()),
        sum(found.seconds.values()) if name == ALL else found.seconds[name],
        relative.median,
        relative.p95,
        measure_statistics(found.largest[rows]).max,
        fine.median,
        measure_statistics(found.fine_largest[rows]).max,
    )


def _recommend(records: Sequence[SweepRecord], name: str, tolerance: float) -> int | None:
    """The first ratio within the tolerance: the smallest fixed one, else adaptive."""
    for one in records:
        error = one.relative_l2
        if one.size_class == name and error is not None and error <= tolerance:
            return one.sampling_ratio
    return None


@record(SweepOptions)
class SweepRequest(RunRequest):
    """What was asked of ``sweep``."""

    tolerance: float
    sample: int | None

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < math.inf:
            raise ParameterError(f"tolerance is {self.tolerance:g}, expected a positive number")
        if self.sample is not None and self.sample < 1:
            raise ParameterError(f"sample is {self.sample}, expected at least 1 RoI")


@inputs_unchanged()
def sweep(
    features: FeatureArgument,
    rois: FeatureArgument,
    **options: Unpack[SweepOptions],
) -> Sweep:
    """Measure RoI Align at ratios 1, 2, 3, 4, 8 and adaptive against the exact mean over each bin.

    Arguments as for ``align``; ``tolerance`` is a relative L2 for the median over the RoIs,
    ``sample`` how many RoIs are measured (None: all), on at most 16 maps. Raises RoicliError.
    Source: Jiang et al. 2018 (Precise RoI Pooling).
    """
    request = settle(SweepRequest, options)
    check_known("sweep", options, SweepOptions)
    run = open_run("align", features, rois, request)
    try:
        bins = math.prod(run.setting.align.output_size)
        if bins * FINE_GRID**2 * SAMPLE_BYTES > MAX_SAMPLES_BYTES:
            raise ParameterError(
                f"output size has {bins:,} bins, and a fine grid of {FINE_GRID} points per axis "
                f"then takes more than {MAX_SAMPLES_BYTES >> 20} MiB a RoI",
                "choose a smaller --output-size",
            )
        return sweep_run(run, request.sample, request.tolerance)
    finally:
        run.inputs.close()
