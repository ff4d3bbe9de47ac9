"""Images one at a time: while one runs, the next is read and the last one written.

RoIs are grouped by map (level and image), so that each is read once. Rows go out in blocks, and the
writer puts them in place. Reading, running and writing let go of the interpreter lock, so two
helper threads are enough to overlap them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from roicli.core.progress import Progress, StageTimes, no_progress
from roicli.core.types import Array, FloatArray, IntArray, RoIs
from roicli.error_table.values import measure_value_errors
from roicli.operators.geometry import quantize_rois
from roicli.operators.interface import OperatorSpec
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.pipeline.features import FeaturePyramid, MapBuffer
from roicli.pipeline.order import MapVisit, plan_visits, skip_finished
from roicli.runtime.device_map import MapPlacer, PlacedMap
from roicli.runtime.engine import Engine as Engine  # part of what a run is opened with
from roicli.runtime.host_memory import allocate_block
from roicli.runtime.runners import Runner
from roicli.storage.result import ResultWriter

if TYPE_CHECKING:
    from roicli.pipeline.verify import Verifier

# Interpolated values of one block: about a second of ONNX Runtime on a core or two.
WORK_A_BLOCK = 1 << 29
# Deciding which RoIs make a block then takes little memory.
MOST_ROWS_A_BLOCK = 1 << 16


def run_operator(
    pyramid: FeaturePyramid,
    rois: RoIs,
    map_of_roi: IntArray,
    specs: Sequence[OperatorSpec] | None,
    engine: Engine,
    writer: ResultWriter,
    values: Sequence[ValueMeasurer] | None = None,
    progress: Progress = no_progress,
    times: StageTimes | None = None,
    verifier: Verifier | None = None,
    meanwhile: Callable[[], object] = lambda: None,
) -> None:
    """Run one operator over all RoIs; ``specs`` and ``values`` have one entry per level.

    ``map_of_roi`` (K,) indexes the pyramid's levels. Without ``specs`` values are only measured.
    ``meanwhile`` is called while the last rows are written.
    """
    dtype = pyramid.compute_dtype
    corners = rois.corners.astype(dtype)
    numbers = corners if specs is None else specs[0].numbers_of(rois).astype(dtype)
    runner_of_level = _lazy_runners(specs, dtype, engine)
    # Measuring costs what four operators cost, one of which samples.
    costly: Sequence[OperatorSpec]
    costly = [v.align for v in values] if values else cast("Sequence[OperatorSpec]", specs)
    computed = costly[0] if specs is None else specs[0]
    row_shape = (computed.output_channels(pyramid.channels), *computed.output_size)
    times = times or StageTimes()
    visits = skip_finished(plan_visits(rois, map_of_roi), writer.finished)
    done = writer.finished
    progress(done, len(rois), 0)
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as write_pool:
        blocks = ResultBlocks(writer, engine, row_shape, dtype, write_pool, times)
        maps = VisitedMaps(pyramid, visits, engine.build_placer(dtype), reader, times)
        for visit in visits[:1]:
            runner_of_level(visit.level)  # loaded or built while the first map is read
        for visit, feature_map in maps:
            runner = runner_of_level(visit.level)
            with times.measure("run"):
                runner.load(feature_map)
                if values is not None:
                    values[visit.level].load(feature_map)
                seen = feature_map.on_host(dtype) if verifier is not None else None
            spec = costly[visit.level]
            taken = corners if values is not None else numbers
            for rows in _cut(visit.rows, blocks.most_rows, spec, taken, pyramid.channels):
                block = blocks.next_block(len(rows))
                with times.measure("run"):
                    runner.run(numbers[rows], block)
                    if verifier is not None and seen is not None:
                        verifier.check_block(visit.level, seen, rows, numbers[rows], block)
                    if values is not None:
                        values[visit.level].measure(rows, corners[rows])
                blocks.write(rows, block)
                done += len(rows)
                progress(done, len(rois), (done - writer.finished) * block[0].nbytes)
        meanwhile()
        blocks.drain()


class VisitedMaps:
    """Each visit with its map on the device, while ``reader`` reads the next one and puts it there.

    The first is begun at once. Two buffers take turns.
    """

    def __init__(
        self,
        pyramid: FeaturePyramid,
        visits: Sequence[MapVisit],
        placer: MapPlacer,
        reader: ThreadPoolExecutor,
        times: StageTimes,
    ) -> None:
        self._pyramid, self._visits, self._placer = pyramid, visits, placer
        self._reader, self._times = reader, times
        self._buffers = MapBuffer(pyramid.compute_dtype), MapBuffer(pyramid.compute_dtype)
        self._ahead = self._begin(0)

    def __iter__(self) -> Iterator[tuple[MapVisit, PlacedMap]]:
        """The visits; a map given is valid until the next one is asked for."""
        for number, visit in enumerate(self._visits):
            assert self._ahead is not None
            placed = self._ahead.result()
            self._ahead = self._begin(number + 1)
            yield visit, placed

    def _begin(self, number: int) -> Future[PlacedMap] | None:
        more = number < len(self._visits)
        return self._reader.submit(self._read, number) if more else None

    def _read(self, number: int) -> PlacedMap:
        visit, buffer = self._visits[number], self._buffers[number % 2]
        with self._times.measure("read"):
            level = self._pyramid.levels[visit.level]
            return self._placer.place(level.read_image(visit.image, buffer, self._placer.upcasts))


class ResultBlocks:
    """Two arrays of rows in turn: one is written, by the pool's one thread, while the other is
    filled. ``most_rows`` make a block.
    """

    def __init__(
        self,
        writer: ResultWriter,
        engine: Engine,
        row_shape: tuple[int, ...],
        dtype: np.dtype[Any],
        pool: ThreadPoolExecutor,
        times: StageTimes,
    ) -> None:
        self._writer, self._pool, self._times = writer, pool, times
        self._device, self._row_shape, self._dtype = engine.device, row_shape, dtype
        row_bytes = math.prod(row_shape) * dtype.itemsize
        self.most_rows = max(1, min(engine.block_bytes // max(row_bytes, 1), MOST_ROWS_A_BLOCK))
        self._arrays = [self._allocate(0), self._allocate(0)]
        self._written: list[Future[None] | None] = [None, None]
        self._turn = 0

    def _allocate(self, count: int) -> Array:
        return allocate_block(self._device, (count, *self._row_shape), self._dtype)

    def next_block(self, count: int) -> Array:
        """Room for ``count`` rows, when what was in it is written."""
        self._turn = 1 - self._turn
        self._wait(self._turn)
        if len(self._arrays[self._turn]) < count:
            self._arrays[self._turn] = self._allocate(count)
        return self._arrays[self._turn][:count]

    def write(self, rows: IntArray, block: Array) -> None:
        """Have the block just computed written."""

        def timed() -> None:
            with self._times.measure("write"):
                self._writer.write_rows(rows, block)

        self._written[self._turn] = self._pool.submit(timed)

    def _wait(self, turn: int) -> None:
        pending, self._written[turn] = self._written[turn], None
        if pending is not None:
            pending.result()

    def drain(self) -> None:
        """Wait for all writes; raises what they raised."""
        for turn in (1 - self._turn, self._turn):
            self._wait(turn)


def _cut(
    rows: IntArray, most_rows: int, spec: OperatorSpec, corners: FloatArray, channels: int
) -> Iterator[IntArray]:
    """The rows of one map in blocks, equal ones where each takes little work: the first is then at
    the disk while the last is computed.
    """
    size = -(-len(rows) // -(-len(rows) // most_rows))
    while len(rows):
        block = rows[:size]
        block = block[: _rows_of_work(spec, corners[block], channels)]
        rows = rows[len(block) :]
        yield block


def _rows_of_work(spec: OperatorSpec, corners: FloatArray, channels: int) -> int:
    """How many of the next RoIs (k, 4) take about a second, so that an interruption is heeded soon.

    At least one.
    """
    work = np.cumsum(spec.work(corners)) * (math.prod(spec.output_size) * channels)
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
