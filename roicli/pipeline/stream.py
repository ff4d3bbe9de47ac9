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
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from roicli.core.progress import Progress, StageTimes, no_progress
from roicli.core.types import Array, FloatArray, IntArray, RoIs
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
# Small maps are read, and small results written, so many bytes at a time: handing one over to
# another thread takes as long as reading a small map.
HANDED_OVER_BYTES = 1 << 20
# No result waits longer than this to be handed over: what is written is what ``resume`` can keep.
SECONDS_HELD = 1.0
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
    plan_block: Callable[[], int] | None = None,
) -> None:
    """Run one operator over all RoIs; ``specs`` and ``values`` have one entry per level.

    ``map_of_roi`` (K,) indexes the pyramid's levels. Without ``specs`` values are only measured.
    ``meanwhile`` is called while the last rows are written, ``plan_block`` where a map is larger
    than those that were known: it gives the bytes that a block may take then.
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

        def meet_larger() -> None:
            if plan_block is not None:
                blocks.limit(plan_block())

        placer = engine.build_placer(dtype)
        maps = VisitedMaps(pyramid, visits, placer, reader, times, meet_larger)
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
    """Each visit with its map on the device, while ``reader`` reads the next ones and puts them
    there.

    The first is begun at once. Two sets of buffers take turns. ``meet_larger`` is called before a
    map is read that is larger than all that were known.
    """

    def __init__(
        self,
        pyramid: FeaturePyramid,
        visits: Sequence[MapVisit],
        placer: MapPlacer,
        reader: ThreadPoolExecutor,
        times: StageTimes,
        meet_larger: Callable[[], object],
    ) -> None:
        self._pyramid, self._placer = pyramid, placer
        self._reader, self._times, self._meet_larger = reader, times, meet_larger
        self._largest = max(level.computed_bytes for level in pyramid.levels)
        self._buffers: tuple[list[MapBuffer], list[MapBuffer]] = [], []
        self._batches = self._gather(visits)
        self._turn = 0
        self._ahead = self._begin()

    def __iter__(self) -> Iterator[tuple[MapVisit, PlacedMap]]:
        """The visits; a map given is valid until the next one is asked for."""
        while placed := self._ahead.result():
            self._ahead = self._begin()
            yield from placed

    def _gather(self, visits: Sequence[MapVisit]) -> Iterator[list[MapVisit]]:
        """Visits whose maps are read together: one, or small ones.

        Maps of a collection are looked at as the visits come to them.
        """
        batch: list[MapVisit] = []
        room = HANDED_OVER_BYTES
        itemsize = self._pyramid.compute_dtype.itemsize
        for visit in visits:
            level = self._pyramid.levels[visit.level]
            size = math.prod(level.image_shape(visit.image)) * itemsize
            if size > self._largest:
                self._largest = size
                self._meet_larger()
            if batch and size > room:
                yield batch
                batch, room = [], HANDED_OVER_BYTES
            batch.append(visit)
            room -= size
        if batch:
            yield batch

    def _begin(self) -> Future[list[tuple[MapVisit, PlacedMap]]]:
        buffers, self._turn = self._buffers[self._turn], 1 - self._turn
        return self._reader.submit(self._read_next, buffers)

    def _read_next(self, buffers: list[MapBuffer]) -> list[tuple[MapVisit, PlacedMap]]:
        """The next visits with their maps; nothing behind the last."""
        with self._times.measure("read"):
            batch = next(self._batches, [])
            while len(buffers) < len(batch):
                buffers.append(MapBuffer(self._pyramid.compute_dtype))
            return [
                (visit, self._place(visit, buffer))
                for visit, buffer in zip(batch, buffers, strict=False)
            ]

    def _place(self, visit: MapVisit, buffer: MapBuffer) -> PlacedMap:
        level = self._pyramid.levels[visit.level]
        return self._placer.place(level.read_image(visit.image, buffer, self._placer.upcasts))


class ResultBlocks:
    """Two arrays of rows that take turns: while one is filled, the pool's one thread writes the
    other. A block has at most ``most_rows``.
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
        self._row_bytes = row_bytes = math.prod(row_shape) * dtype.itemsize
        self.most_rows = MOST_ROWS_A_BLOCK
        self.limit(engine.block_bytes)
        self._together = -(-HANDED_OVER_BYTES // max(row_bytes, 1))
        self._arrays = [self._allocate(0), self._allocate(0)]
        # What the array in turn holds, and is not handed over yet.
        self._rows: list[IntArray] = []
        self._filled = 0
        self._handed_over = monotonic()
        self._written: list[Future[None] | None] = [None, None]
        self._turn = 0

    def limit(self, block_bytes: int) -> None:
        """Have blocks take no more than so many bytes from now on."""
        self.most_rows = max(1, min(self.most_rows, block_bytes // max(self._row_bytes, 1)))

    def _allocate(self, count: int) -> Array:
        return allocate_block(self._device, (count, *self._row_shape), self._dtype)

    def next_block(self, count: int) -> Array:
        """An array of ``count`` rows to fill; waits until what it held is written."""
        if self._filled + count > len(self._arrays[self._turn]):
            self._hand_over()
        if not self._filled:
            self._wait(self._turn)
            wanted = max(count, min(self._together, self.most_rows))
            if not wanted <= len(self._arrays[self._turn]) <= max(wanted, self.most_rows):
                self._arrays[self._turn] = self._allocate(wanted)
        return self._arrays[self._turn][self._filled :][:count]

    def write(self, rows: IntArray, block: Array) -> None:
        """Hand the block that was filled to the writing thread, with others where it is small."""
        self._rows.append(rows)
        self._filled += len(rows)
        if self._filled >= self._together or monotonic() - self._handed_over > SECONDS_HELD:
            self._hand_over()

    def _hand_over(self) -> None:
        if not self._filled:
            return
        rows = self._rows[0] if len(self._rows) == 1 else np.concatenate(self._rows)
        block = self._arrays[self._turn][: self._filled]
        self._rows, self._filled = [], 0
        self._handed_over = monotonic()

        def timed() -> None:
            with self._times.measure("write"):
                self._writer.write_rows(rows, block)

        self._written[self._turn] = self._pool.submit(timed)
        self._turn = 1 - self._turn

    def _wait(self, turn: int) -> None:
        pending, self._written[turn] = self._written[turn], None
        if pending is not None:
            pending.result()

    def drain(self) -> None:
        """Have the last rows written and wait for all; raises what the writes raised."""
        self._hand_over()
        for turn in (self._turn, 1 - self._turn):
            self._wait(turn)


def _cut(
    rows: IntArray, most_rows: int, spec: OperatorSpec, corners: FloatArray, channels: int
) -> Iterator[IntArray]:
    """Cut the rows of one map into blocks, of equal size where each takes little work.

    Then the first is written while the last is computed.
    """
    size = -(-len(rows) // -(-len(rows) // most_rows))
    while len(rows):
        block = rows[:size]
        block = block[: _rows_of_work(spec, corners[block], channels)]
        rows = rows[len(block) :]
        yield block


def _rows_of_work(spec: OperatorSpec, corners: FloatArray, channels: int) -> int:
    """How many of the next RoIs (k, 4), at least one, take about a second to compute.

    A run heeds an interruption between two blocks, so it ends that soon.
    """
    work = np.cumsum(spec.work(corners)) * (math.prod(spec.output_size) * channels)
    return max(1, int(np.searchsorted(work, WORK_A_BLOCK, side="right")))


class NoRunner:
    """A runner that computes nothing, for runs of which only the value columns are wanted."""

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
        from roicli.error_table.values import measure_value_errors  # few runs measure values

        for name, column in measure_value_errors(*results).items():
            # Without a pooled region there is nothing that the value error could come from.
            undefined = empty if name.startswith("share_") else np.zeros_like(empty)
            self._columns[name][rows] = np.where(undefined, np.nan, column)
