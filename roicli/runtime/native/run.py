"""The native execution provider: operators compiled for the CPU by Numba.

Same bits as the ONNX Runtime path, or as near as docs/semantics.md says of the operator. Importing
this package costs nothing; what is not on disk yet is compiled at the first run (or by
``prepare``). One call handles one image: pass all of its RoIs at once, for the map is
repacked on every call.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from importlib import import_module
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np

from roicli.core.exceptions import ProviderError, first_line
from roicli.core.types import FloatArray, IntArray
from roicli.operators import geometry
from roicli.operators.interface import Compiled, OperatorSpec
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.runtime.native.jobs import Job, parts_of, plan_jobs, run_jobs, useful_threads
from roicli.runtime.native.signatures import (
    LANES,
    MAXIMUM,
    ROW_SUMS,
    RUNNING_SUM,
    AxisBoxes,
    AxisPoints,
    AxisWindows,
)

if TYPE_CHECKING:
    from roicli.operators.cell_taps import CellSpec
    from roicli.operators.taps import TapSpec

# Sampling points of one axis that are held at once, 24 bytes each (32 for float64).
POINTS_AT_ONCE = 1 << 21
# Taps that are held at once, 8 bytes each (12 for float64).
TAPS_AT_ONCE = 1 << 21


def missing_functions(
    specs: Iterable[OperatorSpec], dtypes: Iterable[Any]
) -> list[tuple[str, str]]:
    """Which kernels for operators on maps of these dtypes are not on disk, each (name, dtype).

    Raises ProviderError without Numba.
    """
    is_kept = _kernels().is_kept
    names = dict.fromkeys(name for spec in specs for name in compiled_of(spec).functions)
    every = product(names, [np.dtype(dtype).name for dtype in dtypes])
    return [function for function in every if not is_kept(*function)]


def compile_functions(functions: Iterable[tuple[str, str]]) -> None:
    """Load functions, each (name, dtype), compiling what is not on disk.

    Raises ProviderError without Numba.
    """
    for function in functions:
        _kernels().kernel(*function)


def prepare(spec: OperatorSpec, dtype: Any) -> None:
    """Load the kernels for ``spec`` on maps of ``dtype``, compiling what is not on disk.

    Raises ProviderError without Numba.
    """
    compile_functions((name, np.dtype(dtype).name) for name in compiled_of(spec).functions)


def compiled_of(spec: OperatorSpec) -> Compiled:
    """What is compiled for an operator. Raises ProviderError where nothing is."""
    if spec.compiled is None:
        raise ProviderError(
            f"provider native has no compiled kernel for {spec.name}", "give --provider cpu"
        )
    return spec.compiled


def _kernels() -> Any:
    """The module of compiled functions; importing it imports LLVM."""
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
    threads = useful_threads(threads, out)
    order, ends = parts_of(corners, channels, threads)
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
    run_jobs(run, plan_jobs(channels, len(spans), threads), room, feature_map.dtype, threads)


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
    height, width = feature_map.shape[1:]
    x_axis, y_axis = geometry.quantize_rois(corners, spec)
    x, y = _axis_windows(*x_axis.clipped(width)), _axis_windows(*y_axis.clipped(height))
    _pool_windows(feature_map, corners, (x, y), out, threads)


def run_cell_maxima(
    feature_map: FloatArray, corners: FloatArray, spec: CellSpec, out: FloatArray, threads: int
) -> None:
    """``run_roi_pool`` of an operator whose bins are windows of cells by another rule."""
    x, y = (_axis_windows(*edges) for edges in spec.windows_of(corners, feature_map.shape[1:]))
    _pool_windows(feature_map, corners, (x, y), out, threads)


def _pool_windows(
    feature_map: FloatArray,
    corners: FloatArray,
    windows: tuple[AxisWindows, AxisWindows],
    out: FloatArray,
    threads: int,
) -> None:
    """The maxima of the windows (x, y) of bins on the map."""
    channels, height, width = feature_map.shape
    kernel = _kernels().kernel("pool_blocks", feature_map.dtype.name)
    threads = useful_threads(threads, out)
    order, ends = parts_of(corners, channels, threads)
    flat, flat_out = feature_map.reshape(-1), out.reshape(-1)

    def run(job: Job, room: list[FloatArray]) -> None:
        rois = order[ends[job.part] : ends[job.part + 1]]
        spans = np.empty((height, 2), np.int64)
        kernel(flat, channels, job.first, job.end, rois, spans, width, *windows, *room, flat_out)

    room = [height * width, width, out.shape[2] * out.shape[3]]
    run_jobs(run, plan_jobs(channels, len(ends) - 1, threads), room, feature_map.dtype, threads)


def _axis_windows(start: IntArray, end: IntArray) -> AxisWindows:
    """AxisWindows of the bins (K, P) of an axis."""
    return AxisWindows(start.reshape(-1), end.reshape(-1), start.shape[1])


# Operators that read cells with weights -------------------------------------------------------


def run_taps(
    feature_map: FloatArray, corners: FloatArray, spec: TapSpec, out: FloatArray, threads: int
) -> None:
    """An operator of taps at the RoIs of one image, in the order of its graph.

    Equal bit for bit to ONNX Runtime's for float32 on x86-64, else to the last digits.
    ``feature_map`` (C, H, W) float32 or float64, C-contiguous; ``corners`` (K, n) of the same dtype
    the operator's RoI columns; fills ``out`` (K, C / g^2, P_h, P_w), the same dtype, C-contiguous.
    Raises ProviderError without Numba.
    """
    from roicli.runtime.native import taps

    _, height, width = feature_map.shape
    counts = taps.count_samples(spec, corners, (height, width))
    sizes = counts.prod(axis=1) * math.prod(spec.output_size) * spec.taps_a_sample
    for rows in _groups(np.cumsum(sizes) // TAPS_AT_ONCE):
        _weigh_rows(feature_map, corners[rows], counts[rows], spec, out[rows], threads)


def _weigh_rows(
    feature_map: FloatArray,
    corners: FloatArray,
    counts: IntArray,
    spec: TapSpec,
    out: FloatArray,
    threads: int,
) -> None:
    """``run_taps`` for as many RoIs as are tabulated at once; ``counts`` (K, 2) as (x, y)."""
    from roicli.runtime.native import taps

    kernel = _kernels().kernel("weigh_blocks", feature_map.dtype.name)
    _, height, width = feature_map.shape
    channels = out.shape[1]
    threads = useful_threads(threads, out)
    order, ends = parts_of(corners, channels, threads)
    table = taps.tabulate(spec, corners, counts, (height, width), threads)
    groups, outside = taps.group_bins(spec), np.array([spec.outside], feature_map.dtype)
    flat, flat_out = feature_map.reshape(-1), out.reshape(-1)

    def run(job: Job, room: list[FloatArray]) -> None:
        rois = order[ends[job.part] : ends[job.part + 1]]
        spans = np.empty((height, 2), np.int64)
        plan = (rois, spans, width, table, groups, outside)
        kernel(flat, channels, job.first, job.end, *plan, *room, flat_out)

    room = [height * width + 1, math.prod(spec.output_size)]
    run_jobs(run, plan_jobs(channels, len(ends) - 1, threads), room, feature_map.dtype, threads)
