"""Images one at a time: while one runs, the next is read and the last one written.

RoIs are grouped by map (level and image); a map is read once. Rows go out in blocks, and the writer
puts them where the RoIs' order wants them. Reading, running and writing let go of the interpreter
lock, so two helper threads are enough to overlap them.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from roicli.datatypes import AlignSpec, Array, FloatArray, IntArray, OperatorSpec, PoolSpec, RoIs
from roicli.devices import HOST, Device
from roicli.engine import Engine as Engine  # part of what a run is opened with
from roicli.features import FeaturePyramid, MapBuffer
from roicli.geometry import align_boxes, quantize_rois, sampling_counts
from roicli.host_memory import allocate_block
from roicli.placed_map import MapPlacer, PlacedMap
from roicli.runtime import Runner
from roicli.storage.result_file import ResultWriter
from roicli.value_error import measure_value_errors
from roicli.visits import MapVisit, plan_visits, skip_finished

if TYPE_CHECKING:
    from roicli.verification import Verifier

# Interpolated values of one block: about a second of ONNX Runtime on a core or two.
WORK_A_BLOCK = 1 << 29
# Deciding which of them make a block then takes little memory.
MOST_ROWS = 1 << 16

# Told (RoIs done, RoIs in all, bytes written).
Progress = Callable[[int, int, int], None]


@dataclass
class StageTimes:
    """Seconds that each stage was busy; stages overlap, so their sum may pass the run's time."""

    read: float = 0.0
    run: float = 0.0
    write: float = 0.0

    @contextlib.contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time inside the block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, stage, getattr(self, stage) + time.perf_counter() - start)


def _read_ahead(
    pyramid: FeaturePyramid,
    visits: Sequence[MapVisit],
    reader: ThreadPoolExecutor,
    times: StageTimes,
    placer: MapPlacer,
) -> Iterator[tuple[MapVisit, PlacedMap]]:
    """Each visit with its map on the device, while the next one is read, and put there too."""
    buffers = [MapBuffer(pyramid.compute_dtype) for _ in range(2)]

    def read(number: int) -> PlacedMap:
        visit, buffer = visits[number], buffers[number % 2]
        with times.measure("read"):
            level = pyramid.levels[visit.level]
            return placer.place(level.read_image(visit.image, buffer, placer.upcasts))

    ahead: Future[PlacedMap] | None = reader.submit(read, 0) if visits else None
    for number, visit in enumerate(visits):
        assert ahead is not None
        feature_map = ahead.result()
        ahead = reader.submit(read, number + 1) if number + 1 < len(visits) else None
        yield visit, feature_map


class OutputBlocks:
    """Two result blocks in turn, so that one is written while the other is computed."""

    def __init__(
        self,
        writer: ResultWriter,
        row_shape: tuple[int, ...],
        dtype: np.dtype[Any],
        block_bytes: int,
        pool: ThreadPoolExecutor,
        times: StageTimes,
        device: Device = HOST,
    ) -> None:
        row_bytes = math.prod(row_shape) * dtype.itemsize
        self.rows = max(1, min(block_bytes // max(row_bytes, 1), MOST_ROWS))
        self._writer, self._pool, self._times = writer, pool, times
        self._shape, self._dtype, self._device = row_shape, dtype, device
        self._blocks: list[Array] = [np.empty((0, *row_shape), dtype) for _ in range(2)]
        self._written: list[Future[None] | None] = [None, None]
        self._turn = 0

    def next_block(self, count: int) -> Array:
        """Room for ``count`` rows, free to be overwritten."""
        self._turn = 1 - self._turn
        self._wait(self._turn)
        if len(self._blocks[self._turn]) < count:
            shape = (count, *self._shape)
            self._blocks[self._turn] = allocate_block(self._device, shape, self._dtype)
        return self._blocks[self._turn][:count]

    def write(self, rows: IntArray, block: Array) -> None:
        """Write the block just computed, behind the caller's back."""
        self._written[self._turn] = self._pool.submit(self._write, rows, block)

    def _write(self, rows: IntArray, block: Array) -> None:
        with self._times.measure("write"):
            self._writer.write_rows(rows, block)

    def _wait(self, turn: int) -> None:
        pending = self._written[turn]
        if pending is not None:
            pending.result()
        self._written[turn] = None

    def drain(self) -> None:
        """Wait for all writes; raises what they raised."""
        for turn in range(2):
            self._wait(turn)


def run_operator(
    pyramid: FeaturePyramid,
    rois: RoIs,
    map_of_roi: IntArray,
    specs: Sequence[OperatorSpec] | None,
    engine: Engine,
    writer: ResultWriter,
    values: Sequence[ValueMeasurer] | None = None,
    progress: Progress = lambda done, total, size: None,
    times: StageTimes | None = None,
    verifier: Verifier | None = None,
) -> None:
    """Run one operator over all RoIs; ``specs`` and ``values`` have one entry per level.

    ``map_of_roi`` (K,) indexes the pyramid's levels. Without ``specs`` values are only measured.
    """
    dtype = pyramid.compute_dtype
    corners = rois.corners.astype(dtype)
    runner_of_level = _lazy_runners(specs, dtype, engine)
    # Measuring costs what four operators cost, one of which samples.
    costly: Sequence[OperatorSpec]
    costly = [v.align for v in values] if values else cast("Sequence[OperatorSpec]", specs)
    row_shape = (pyramid.channels, *costly[0].output_size)
    times = times or StageTimes()
    visits = skip_finished(plan_visits(rois, map_of_roi), writer.finished)
    done = writer.finished
    progress(done, len(rois), 0)
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as write_pool:
        blocks = OutputBlocks(
            writer, row_shape, dtype, engine.block_bytes, write_pool, times, engine.device
        )
        placer = engine.build_placer(dtype)
        for visit, feature_map in _read_ahead(pyramid, visits, reader, times, placer):
            runner = runner_of_level(visit.level)
            with times.measure("run"):
                runner.load(feature_map)
                if values is not None:
                    values[visit.level].load(feature_map)
                seen = feature_map.on_host(dtype) if verifier is not None else None
            left = visit.rows
            while len(left):
                rows = left[: blocks.rows]
                rows = rows[: _rows_of_work(costly[visit.level], corners[rows], pyramid.channels)]
                left = left[len(rows) :]
                block = blocks.next_block(len(rows))
                with times.measure("run"):
                    runner.run(corners[rows], block)
                    if verifier is not None and seen is not None:
                        verifier.check_block(visit.level, seen, rows, corners[rows], block)
                    if values is not None:
                        values[visit.level].measure(rows, corners[rows])
                blocks.write(rows, block)
                done += len(rows)
                progress(done, len(rois), (done - writer.finished) * block[0].nbytes)
        blocks.drain()


def _rows_of_work(spec: OperatorSpec, corners: FloatArray, channels: int) -> int:
    """How many of the next RoIs (k, 4) take about a second, so that an interruption is heeded soon.

    At least one. A bin without a sampling point, and one of RoI Pool, counts as one value.
    """
    samples = np.ones(len(corners))
    if isinstance(spec, AlignSpec):
        counts = sampling_counts(align_boxes(corners, spec)[1], spec)
        samples = np.maximum(counts.prod(axis=1, dtype=np.float64), 1)
    work = np.cumsum(samples) * (math.prod(spec.output_size) * channels)
    return max(1, int(np.searchsorted(work, WORK_A_BLOCK, side="right")))


class NoRunner:
    """Stands in where values are measured and nobody wants the features."""

    def load(self, feature_map: FloatArray | PlacedMap) -> None:
        """Needs no map."""

    def run(self, corners: FloatArray, out: FloatArray) -> None:
        """Computes nothing."""


def _lazy_runners(
    specs: Sequence[OperatorSpec] | None, dtype: np.dtype[Any], engine: Engine
) -> Callable[[int], Runner]:
    """A runner per level, built when its first RoI comes."""

    @cache
    def runner_of_level(level: int) -> Runner:
        if specs is None:
            return NoRunner()
        return engine.build_runner(specs[level], dtype)

    return runner_of_level


class ValueMeasurer:
    """Runs pool, align (mean and maximum) and warp on one level, and keeps the value columns.

    Warp is RoI Align on the quantized box B, half-pixel: B is in cells already, so its scale is 1.
    """

    def __init__(
        self,
        pool: PoolSpec,
        align: AlignSpec,
        dtype: np.dtype[Any],
        engine: Engine,
        columns: dict[str, FloatArray],
    ) -> None:
        self._pool_spec = pool
        self.align = align
        self._columns = columns
        average = replace(align, mode="avg")
        maximum = replace(align, mode="max")
        warp = replace(maximum, spatial_scale=1.0, aligned=True)
        specs: list[OperatorSpec] = [pool, average, maximum, warp]
        self._runners = [engine.build_runner(spec, dtype) for spec in specs]
        self._shape: tuple[int, ...] = pool.output_size
        self._dtype = dtype
        self._channels = 0

    def load(self, feature_map: PlacedMap) -> None:
        """Take the map that the next RoIs are on, which all four operators share."""
        self._channels = feature_map.shape[0]
        for runner in self._runners:
            runner.load(feature_map)

    def measure(self, rows: IntArray, corners: FloatArray) -> None:
        """Fill the value columns of ``rows`` for RoIs (k, 4)."""
        x_axis, y_axis = quantize_rois(corners, self._pool_spec)
        box = np.stack(
            [x_axis.box_start, y_axis.box_start, x_axis.box_end, y_axis.box_end], axis=1
        ).astype(self._dtype)
        empty = (x_axis.region_end <= x_axis.region_start) | (
            y_axis.region_end <= y_axis.region_start
        )
        results = []
        for runner, boxes in zip(self._runners, (corners, corners, corners, box), strict=True):
            out = np.empty((len(rows), self._channels, *self._shape), self._dtype)
            runner.run(boxes, out)
            results.append(out)
        for name, column in measure_value_errors(*results).items():
            # Without a pooled region there is nothing that the value error could come from.
            undefined = empty if name.startswith("share_") else np.zeros_like(empty)
            self._columns[name][rows] = np.where(undefined, np.nan, column)
