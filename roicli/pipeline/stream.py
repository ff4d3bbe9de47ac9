"""Images one at a time: while one runs, the next is read and the last one written.

RoIs are grouped by map (level and image), in all of the result or in one stretch of it after
another; a map is read once. Rows go out in blocks, and the writer puts them in place. Reading,
running and writing let go of the interpreter lock, so two helper threads are enough to overlap
them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from roicli.core.progress import Progress, StageTimes, no_progress
from roicli.core.types import FloatArray, IntArray, RoIs
from roicli.error_table.values import measure_value_errors
from roicli.operators.geometry import quantize_rois
from roicli.operators.interface import OperatorSpec
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.pipeline.features import FeaturePyramid
from roicli.pipeline.order import plan_visits, skip_finished
from roicli.pipeline.result_blocks import RowWriter, choose_blocks
from roicli.pipeline.stretches import choose_stretch
from roicli.pipeline.visited_maps import VisitedMaps
from roicli.runtime.device_map import PlacedMap
from roicli.runtime.engine import Engine as Engine  # part of what a run is opened with
from roicli.runtime.runners import Runner
from roicli.storage.result_file import ResultWriter

if TYPE_CHECKING:
    from roicli.pipeline.verify import Verifier

# Interpolated values of one block: about a second of ONNX Runtime on a core or two.
WORK_A_BLOCK = 1 << 29

# Told (RoIs done, RoIs in all, bytes written).


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
    runner_of_level = _lazy_runners(specs, dtype, engine)
    # Measuring costs what four operators cost, one of which samples.
    costly: Sequence[OperatorSpec]
    costly = [v.align for v in values] if values else cast("Sequence[OperatorSpec]", specs)
    computed = costly[0] if specs is None else specs[0]
    row_shape = (computed.output_channels(pyramid.channels), *computed.output_size)
    times = times or StageTimes()
    stretch_rows = None
    if writer.wants_order:
        row_bytes = math.prod(row_shape) * dtype.itemsize
        stretch_rows = choose_stretch(pyramid, rois, map_of_roi, row_bytes, engine.spare_bytes)
    visits = skip_finished(plan_visits(rois, map_of_roi, stretch_rows), writer.finished)
    done = writer.finished
    progress(done, len(rois), 0)
    with (
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(1) as write_pool,
        choose_blocks(
            RowWriter(writer, row_shape, dtype, write_pool, times),
            engine.device,
            engine.block_bytes,
            stretch_rows,
            len(rois),
        ) as blocks,
    ):
        maps = VisitedMaps(pyramid, visits, engine.build_placer(dtype), times, reader)
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
            for rows in _cut(visit.rows, blocks.most_rows, spec, corners, pyramid.channels):
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
        meanwhile()
        blocks.drain()


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
