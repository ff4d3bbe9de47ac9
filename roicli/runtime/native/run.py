"""The native execution provider: RoI Align and RoI Pool compiled for the CPU by Numba.

Same bits as the ONNX Runtime path. Importing this package costs nothing; Numba is imported, and
what is not on disk yet compiled, at the first run (or by ``prepare``). One call handles one image:
pass all of its RoIs at once, for the map is repacked on every call.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from importlib import import_module
from itertools import pairwise
from typing import Any, NamedTuple, assert_never

import numpy as np

from roicli.core.exceptions import ProviderError, first_line
from roicli.core.system import after_fork
from roicli.core.types import FloatArray, IntArray
from roicli.operators import geometry
from roicli.operators.interface import Compiled, OperatorSpec
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.runtime.native.signatures import (
    LANES,
    MAXIMUM,
    ROW_SUMS,
    RUNNING_SUM,
    AxisBoxes,
    AxisPoints,
    AxisWindows,
)

# Jobs a thread, so that the threads finish together.
JOBS_PER_THREAD = 4
# Values of the result that are worth a thread: starting one costs about as much as these.
VALUES_PER_THREAD = 1 << 17
# More than any machine has cores for.
MOST_HELPERS = 1 << 12
# Sampling points of one axis that are held at once, 24 bytes each (32 for float64).
POINTS_AT_ONCE = 1 << 21


class Job(NamedTuple):
    """The channels from ``first`` to ``end`` for one ``part`` of the RoIs."""

    first: int
    end: int
    part: int


def is_compiled(spec: OperatorSpec, dtype: Any) -> bool:
    """Whether the kernels for ``spec`` on maps of ``dtype`` are on disk, as far as dates tell.

    If not, the first run (or ``prepare``) takes seconds. Raises ProviderError without Numba.
    """
    is_kept = _kernels().is_kept
    functions = compiled_of(spec).functions
    return all(is_kept(name, np.dtype(dtype).name) for name in functions)


def prepare(spec: OperatorSpec, dtype: Any) -> None:
    """Load the kernels for ``spec`` on maps of ``dtype``, compiling what is not on disk.

    Raises ProviderError without Numba.
    """
    for name in compiled_of(spec).functions:
        _kernels().kernel(name, np.dtype(dtype).name)


def compiled_of(spec: OperatorSpec) -> Compiled:
    """What is compiled for an operator. Raises ProviderError where nothing is."""
    if spec.compiled is None:
        raise ProviderError(
            f"provider native has no compiled kernel for {spec.name}", "give --provider cpu"
        )
    return spec.compiled


def _kernels() -> Any:
    """The module of compiled functions; importing it imports Numba."""
    try:
        return import_module("roicli.runtime.native.kernels")
    except MemoryError:
        raise
    except Exception as error:  # a library that does not fit fails in many ways
        raise ProviderError(
            f"the native provider needs Numba, which does not load: {first_line(error)}",
            "pip install 'roicli[native]'",
        ) from error


# RoI Align ------------------------------------------------------------------------------------


def run_roi_align(
    feature_map: FloatArray, corners: FloatArray, spec: AlignSpec, out: FloatArray, threads: int
) -> None:
    """RoI Align of the RoIs of one image; equal bit for bit to RoiAlign-16 on ONNX Runtime's CPU.

    ``feature_map`` (C, H, W) float32 or float64, C-contiguous; ``corners`` (K, 4) of the same dtype
    x1, y1, x2, y2 in image pixels; fills ``out`` (K, C, P_h, P_w), the same dtype, C-contiguous.
    Mode max and thirds equal RoiAlign on the grid of single samples, the mean summed along x first.
    Raises ProviderError without Numba.
    """
    _, extent = geometry.align_boxes(corners, spec)
    counts = geometry.sampling_counts(extent, spec)
    counts[counts.prod(axis=1) == 0] = 0
    points = np.cumsum((counts * spec.output_size[::-1]).max(axis=1, initial=0))
    for rows in _groups(points // POINTS_AT_ONCE):
        _align_rows(feature_map, corners[rows], counts[rows], spec, out[rows], threads)


def _groups(labels: IntArray) -> list[slice]:
    """The runs of equal values in sorted labels (K,)."""
    edges = np.flatnonzero(np.diff(labels, prepend=-1, append=-1))
    return [slice(*pair) for pair in pairwise(edges)]


def _align_rows(
    feature_map: FloatArray,
    corners: FloatArray,
    counts: IntArray,
    spec: AlignSpec,
    out: FloatArray,
    threads: int,
) -> None:
    """``run_roi_align`` for as many RoIs as are planned at once; ``counts`` (K, 2) as (x, y)."""
    kernels, dtype = _kernels(), feature_map.dtype.name
    channels, height, width = feature_map.shape
    boxes = _axis_boxes(corners, counts, spec, (width, height))
    points = [_room_for_points(axis) for axis in boxes]
    threads = _useful_threads(threads, out)
    order, ends = _parts(corners, channels, threads)
    spans = np.empty((len(ends) - 1, height, 2), np.int64)
    plan = kernels.kernel("plan_align", dtype)
    plan(boxes[0], points[0], boxes[1], points[1], order, ends, spans)

    kernel, flat = kernels.kernel("align_blocks", dtype), feature_map.reshape(-1)
    samples, flat_out = counts.prod(axis=1), out.reshape(-1)
    shape = (width, *spec.output_size)

    def run(job: Job, room: list[FloatArray]) -> None:
        rois = order[ends[job.part] : ends[job.part + 1]]
        plan = (rois, spans[job.part], samples, _reduction(spec), shape, *points)
        kernel(flat, channels, job.first, job.end, *plan, *room, flat_out)

    room = [height * width, spec.output_size[0] * spec.output_size[1]]
    _run_jobs(run, _jobs(channels, len(spans), threads), room, feature_map.dtype, threads)


def _reduction(spec: AlignSpec) -> int:
    """How the samples of a bin become one value, as native.align names it."""
    match spec.mode:
        case "max":
            return MAXIMUM
        case "avg":
            return RUNNING_SUM if spec.native_to_roi_align else ROW_SUMS
        case _:
            assert_never(spec.mode)


def _axis_boxes(
    corners: FloatArray, counts: IntArray, spec: AlignSpec, cells: tuple[int, int]
) -> list[AxisBoxes]:
    """AxisBoxes of x and y; mode max and thirds sample a finer grid (geometry.fine_grid_rois)."""
    sub_bins = np.zeros_like(counts)
    if not spec.native_to_roi_align:
        corners = geometry.fine_grid_rois(corners, counts, spec)
        sub_bins = counts + geometry.dropped_samples(spec.sampling_grid)
    start, extent = geometry.align_boxes(corners, spec)

    def along(axis: int, cell_stride: int) -> AxisBoxes:
        tables = (np.ascontiguousarray(x[:, axis]) for x in (start, extent, counts, sub_bins))
        sides = spec.output_size[1 - axis], cells[axis], cell_stride
        return AxisBoxes._make((*tables, *sides))

    return [along(0, LANES), along(1, LANES * cells[0])]


def _room_for_points(axis: AxisBoxes) -> AxisPoints:
    """Points to be filled from ``axis``."""
    most = int(axis.counts.sum()) * axis.bins
    return AxisPoints(
        np.empty(len(axis.start) * axis.bins + 1, np.int64),
        np.empty(most * 2, np.int64),
        np.empty(most * 2, axis.start.dtype),
    )


# RoI Pool -------------------------------------------------------------------------------------


def run_roi_pool(
    feature_map: FloatArray, corners: FloatArray, spec: PoolSpec, out: FloatArray, threads: int
) -> None:
    """RoI Pool of the RoIs of one image; equal to MaxRoiPool-1 under the caffe and overlap rules.

    ``feature_map`` (C, H, W) float32 or float64, C-contiguous; ``corners`` (K, 4) of the same dtype
    x1, y1, x2, y2 in image pixels; fills ``out`` (K, C, P_h, P_w), the same dtype, C-contiguous.
    The bins are those of geometry.quantize_rois; an empty bin is 0. Raises ProviderError without
    Numba.
    """
    channels, height, width = feature_map.shape
    kernel = _kernels().kernel("pool_blocks", feature_map.dtype.name)
    x_axis, y_axis = geometry.quantize_rois(corners, spec)
    x, y = _axis_windows(x_axis, width), _axis_windows(y_axis, height)
    threads = _useful_threads(threads, out)
    order, ends = _parts(corners, channels, threads)
    flat, flat_out = feature_map.reshape(-1), out.reshape(-1)

    def run(job: Job, room: list[FloatArray]) -> None:
        rois = order[ends[job.part] : ends[job.part + 1]]
        spans = np.empty((height, 2), np.int64)
        kernel(flat, channels, job.first, job.end, rois, spans, width, x, y, *room, flat_out)

    room = [height * width, width, spec.output_size[0] * spec.output_size[1]]
    _run_jobs(run, _jobs(channels, len(ends) - 1, threads), room, feature_map.dtype, threads)


def _axis_windows(axis: geometry.AxisBins, cells: int) -> AxisWindows:
    """AxisWindows of the bins on a map that is ``cells`` long."""
    start, end = (edges.reshape(-1) for edges in axis.clipped(cells))
    return AxisWindows(start, end, axis.start.shape[1])


# Jobs -----------------------------------------------------------------------------------------


def _useful_threads(threads: int, out: FloatArray) -> int:
    """As many of the threads as the result (K, C, P_h, P_w) is worth starting."""
    roi_count, channels, height, width = out.shape
    values = roi_count * -(-channels // LANES) * LANES * height * width
    return min(threads, max(int(values) // VALUES_PER_THREAD, 1))


def _parts(corners: FloatArray, channels: int, threads: int) -> tuple[IntArray, IntArray]:
    """The RoIs (K,) from top to bottom, and where each part of them ends (parts + 1,).

    Neighbours read the same cells while these are still in the cache. There is one part where the
    channels alone keep the threads busy, for each part packs what it needs of the map anew.
    """
    order = np.argsort(corners[:, 1] + corners[:, 3], kind="stable")
    blocks = -(-channels // LANES)
    parts = -(-2 * threads // blocks) if 1 < threads > blocks // 2 else 1
    parts = max(min(parts, len(order)), 1)
    return order, np.arange(parts + 1) * len(order) // parts


def _jobs(channels: int, parts: int, threads: int) -> list[Job]:
    """Blocks of channels with every part of the RoIs, so many that the threads end together."""
    blocks = -(-channels // LANES)
    wanted = -(-threads * JOBS_PER_THREAD // parts) if threads > 1 else 1
    ranges = min(wanted, blocks)
    edges = [blocks * number // ranges * LANES for number in range(ranges)] + [channels]
    return [Job(*pair, part) for pair in pairwise(edges) for part in range(parts)]


def _run_jobs(
    run: Callable[[Job, list[FloatArray]], None],
    jobs: list[Job],
    cells: list[int],
    dtype: Any,
    threads: int,
) -> None:
    """Run the jobs on ``threads`` threads, each with arrays of its own for so many ``cells``."""
    queue = iter(jobs)

    def work() -> None:
        # The threads draw from one iterator, which is safe: a list's is advanced under the GIL.
        room = _room(cells, dtype)
        for job in queue:
            run(job, room)

    if threads == 1:
        work()
        return
    helpers: list[Future[None]] = []
    try:
        helpers.extend(_helpers().submit(work) for _ in range(threads - 1))
        work()
    finally:
        for _ in queue:
            pass  # where this thread failed, the others need not go on
        wait(helpers)  # they use the caller's arrays
    for helper in helpers:
        helper.result()


@cache
def _helpers() -> ThreadPoolExecutor:
    """Threads that stay, for starting one takes as long as a dozen RoIs; as many as were needed at
    once so far.
    """
    return ThreadPoolExecutor(MOST_HELPERS)


# A forked process has none of its parent's threads.
after_fork(_helpers.cache_clear)


def _room(cells: list[int], dtype: Any) -> list[FloatArray]:
    """One array of 16 values a cell for each number of ``cells``, each value in one cache line."""
    return [_aligned_empty(number * LANES, np.dtype(dtype)) for number in cells]


def _aligned_empty(size: int, dtype: np.dtype[Any]) -> FloatArray:
    """An uninitialized array that starts at a multiple of 64 bytes, so no vector straddles two."""
    extra = 64 // dtype.itemsize
    raw = np.empty(size + extra, dtype)
    skipped = -raw.ctypes.data % 64 // dtype.itemsize
    return raw[skipped : skipped + size]
