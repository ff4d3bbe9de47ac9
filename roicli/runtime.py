"""A runner for each kind of graph: takes one map by ``load``, then blocks of RoIs by ``run``."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Protocol

import numpy as np

from roicli import graphs
from roicli.datatypes import (
    AlignSpec,
    FloatArray,
    FloatType,
    IntArray,
    OperatorSpec,
    PoolSpec,
)
from roicli.geometry import align_boxes, fine_grid_rois, quantize_rois, sampling_counts
from roicli.sessions import Session
from roicli.vocabulary import Provider

SCRATCH_BYTES = 32 << 20


class Runner(Protocol):
    """Runs one operator on the RoIs of one map at a time."""

    def load(self, feature_map: FloatArray) -> None:
        """Take the map (C, H, W) that the next RoIs are on."""

    def run(self, corners: FloatArray, out: FloatArray) -> None:
        """RoIs (k, 4) in image pixels, in the map's dtype, to ``out`` (k, C, P_h, P_w)."""


def _same_nans(values: FloatArray) -> FloatArray:
    """Every NaN of ``values`` made the same one, in place.

    Which of two NaNs an addition hands on depends on where a vector of values ends, and so on how
    many RoIs run together.
    """
    values[np.isnan(values)] = np.nan
    return values


class RoiAlignRunner:
    """RoI Align by one RoiAlign node: average, quarters."""

    def __init__(self, spec: AlignSpec, dtype: FloatType, provider: Provider, threads: int) -> None:
        self._spec = spec
        self._session = Session(graphs.build_align_graph(spec, dtype), provider, threads)
        self._map: FloatArray = np.empty((1, 0, 0, 0), dtype)

    def load(self, feature_map: FloatArray) -> None:
        """Take the map (C, H, W) that the next RoIs are on."""
        self._map = np.ascontiguousarray(feature_map)[None]

    def run(self, corners: FloatArray, out: FloatArray) -> None:
        """RoIs (k, 4) to ``out`` (k, C, P_h, P_w)."""
        if self._spec.sampling_ratio == 0:
            # A box without an adaptive grid is zeros (nothing to average), but the operator
            # multiplies the negative counts of a crossed box and can fail the whole run.
            _, extent = align_boxes(corners, self._spec)
            has_grid = np.all(sampling_counts(extent, self._spec) > 0, axis=1)
            if not has_grid.all():
                out[~has_grid] = 0
                self._run_subset(corners, np.flatnonzero(has_grid), out)
                return
        self._run_all(corners, out)

    def _run_all(self, corners: FloatArray, out: FloatArray) -> None:
        if len(corners) == 0:
            return
        feeds = {
            "features": self._map,
            "corners": np.ascontiguousarray(corners),
            "batch_index": np.zeros(len(corners), np.int64),
        }
        self._session.run_into(feeds, out)

    def _run_subset(self, corners: FloatArray, rows: IntArray, out: FloatArray) -> None:
        part = np.empty((len(rows), *out.shape[1:]), out.dtype)
        self._run_all(corners[rows], part)
        out[rows] = part


class FineGridRunner:
    """RoI Align from a fine grid of single samples: true maximum, thirds, or both.

    RoIs are grouped by their grid, one session a grid; a RoI without a grid is zeros. The samples
    of one run take ``scratch_bytes`` at most, or one RoI's.
    """

    def __init__(
        self,
        spec: AlignSpec,
        dtype: FloatType,
        provider: Provider,
        threads: int,
        scratch_bytes: int = SCRATCH_BYTES,
    ) -> None:
        self._spec = spec
        self._samples = scratch_bytes // dtype.itemsize

        @lru_cache(maxsize=256)
        def session(counts: tuple[int, int]) -> Session:
            graph = graphs.build_align_graph(spec, dtype, counts)
            return Session(graph, provider, threads)

        self._session = session
        self._map: FloatArray = np.empty((1, 0, 0, 0), dtype)
        self._finite = True

    def load(self, feature_map: FloatArray) -> None:
        """Take the map (C, H, W) that the next RoIs are on."""
        self._map = np.ascontiguousarray(feature_map)[None]
        # Neither is finite where some cell is NaN.
        self._finite = bool(np.isfinite(feature_map.max()) and np.isfinite(feature_map.min()))

    def run(self, corners: FloatArray, out: FloatArray) -> None:
        """RoIs (k, 4) to ``out`` (k, C, P_h, P_w)."""
        _, extent = align_boxes(corners, self._spec)
        counts = sampling_counts(extent, self._spec)
        fine = np.ascontiguousarray(fine_grid_rois(corners, counts, self._spec))
        for rows in self._groups(counts, out.shape[1]):
            across, down = map(int, counts[rows[0]])
            if across == 0 or down == 0:
                out[rows] = 0
                continue
            feeds = {
                "features": self._map,
                "corners": fine[rows],
                "batch_index": np.zeros(len(rows), np.int64),
            }
            samples = self._session((down, across)).run(feeds)
            out[rows] = samples if self._finite else _same_nans(samples)

    def _groups(self, counts: IntArray, channels: int) -> Iterator[IntArray]:
        """Rows of one grid each, few enough that their samples fit the scratch."""
        order = np.lexsort(counts.T)
        cuts = np.flatnonzero(np.any(np.diff(counts[order], axis=0), axis=1)) + 1
        for rows in np.split(order, cuts) if len(order) else []:
            steps = graphs.fine_grid_steps(self._spec, tuple(counts[rows[0]]))
            samples = int(np.prod(steps)) * int(np.prod(self._spec.output_size)) * channels
            block = max(1, self._samples // max(samples, 1))
            for start in range(0, len(rows), block):
                yield rows[start : start + block]


class MaxRoiPoolRunner:
    """RoI Pool by MaxRoiPool, whose kernel is serial: chunks of RoIs on Python threads."""

    def __init__(self, spec: PoolSpec, threads: int) -> None:
        self._session = Session(graphs.build_max_roi_pool_graph(spec), "cpu", 1)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="max-roi-pool")
        self._map: FloatArray = np.empty((1, 0, 0, 0), np.float32)

    def load(self, feature_map: FloatArray) -> None:
        """Take the map (C, H, W) that the next RoIs are on."""
        self._map = np.ascontiguousarray(feature_map)[None]

    def run(self, corners: FloatArray, out: FloatArray) -> None:
        """RoIs (k, 4) to ``out`` (k, C, P_h, P_w)."""
        rois = np.zeros((len(corners), 5), np.float32)
        rois[:, 1:] = corners
        # Boxes differ in cost; four chunks a thread even that out.
        chunk = max(1, -(-len(rois) // (4 * self._threads)))

        def run_chunk(start: int) -> None:
            rows = slice(start, start + chunk)
            self._session.run_into({"features": self._map, "rois": rois[rows]}, out[rows])

        for done in self._pool.map(run_chunk, range(0, len(rois), chunk)):
            assert done is None


class WindowMaxRunner:
    """RoI Pool by index windows: every rule, every float type, standard nodes only.

    Bins are grouped by the size of their window, so nothing is padded. The cells of one look-up
    take ``scratch_bytes`` at most, or one bin's. A bin with a NaN among its cells is NaN: whether
    ReduceMax hands a NaN on depends on where its vectors end, and so on how many bins run together.
    """

    def __init__(
        self,
        spec: PoolSpec,
        dtype: FloatType,
        provider: Provider,
        threads: int,
        scratch_bytes: int = SCRATCH_BYTES,
    ) -> None:
        self._spec = spec
        self._scratch_bytes = scratch_bytes
        self._table_session = Session(graphs.build_cell_table_graph(dtype), provider, threads)
        self._window_session = Session(graphs.build_window_max_graph(dtype), provider, threads)
        self._table: FloatArray = np.empty((0, 0), dtype)
        self._nan_table: FloatArray | None = None
        self._map_size = (0, 0)

    def load(self, feature_map: FloatArray) -> None:
        """Take the map (C, H, W) that the next RoIs are on."""
        self._map_size = feature_map.shape[1], feature_map.shape[2]
        self._table = self._table_session.run({"features": feature_map[None]})
        self._nan_table = None
        if np.isnan(feature_map.max()):
            marks = np.isnan(feature_map).astype(feature_map.dtype)
            self._nan_table = self._table_session.run({"features": marks[None]})

    def run(self, corners: FloatArray, out: FloatArray) -> None:
        """RoIs (k, 4) to ``out`` (k, C, P_h, P_w)."""
        height, width = self._map_size
        x_bins, y_bins = quantize_rois(corners, self._spec)
        top, bottom = (edge[:, :, None] for edge in y_bins.clipped(height))
        left, right = (edge[:, None, :] for edge in x_bins.clipped(width))
        shape = (len(corners), *self._spec.output_size)
        edges = [np.broadcast_to(edge, shape).reshape(-1) for edge in (top, left, bottom, right)]
        maxima = np.zeros((edges[0].size, out.shape[1]), out.dtype)
        self._look_up(self._table, edges, maxima)
        if self._nan_table is not None:
            marked = np.zeros_like(maxima)
            self._look_up(self._nan_table, edges, marked)
            maxima[marked > 0] = np.nan
        out[...] = maxima.reshape(*shape, out.shape[1]).transpose(0, 3, 1, 2)

    def _look_up(self, table: FloatArray, edges: list[IntArray], maxima: FloatArray) -> None:
        top, left, bottom, right = edges
        tall, wide = np.maximum(bottom - top, 0), np.maximum(right - left, 0)
        size = np.where((tall > 0) & (wide > 0), tall * (self._map_size[1] + 1) + wide, 0)
        order = np.argsort(size, kind="stable")
        order = order[np.searchsorted(size[order], 1) :]  # empty bins stay zero
        cuts = np.flatnonzero(np.diff(size[order])) + 1
        for group in np.split(order, cuts) if len(order) else []:
            rows = np.arange(tall[group[0]])[:, None] * self._map_size[1]
            window = (rows + np.arange(wide[group[0]])[None, :]).reshape(-1)
            block = max(1, self._scratch_bytes // (len(window) * maxima[0].nbytes))
            for start in range(0, len(group), block):
                bins = group[start : start + block]
                first = top[bins] * self._map_size[1] + left[bins]
                feeds = {"cell_table": table, "windows": first[:, None] + window[None, :]}
                maxima[bins] = self._window_session.run(feeds)


def build_runner(
    spec: OperatorSpec,
    dtype: FloatType,
    provider: Provider,
    threads: int,
    scratch_bytes: int = SCRATCH_BYTES,
) -> Runner:
    """The runner for a spec; ``provider`` is a choice already made, not ``auto``."""
    if provider == "native":
        from roicli.native_runner import NativeRunner

        native: Runner = NativeRunner(spec, threads)
        return native
    if isinstance(spec, PoolSpec):
        if spec.native_to_max_roi_pool and dtype == np.float32:
            return MaxRoiPoolRunner(spec, threads)
        return WindowMaxRunner(spec, dtype, provider, threads, scratch_bytes)
    if spec.native_to_roi_align:
        return RoiAlignRunner(spec, dtype, provider, threads)
    return FineGridRunner(spec, dtype, provider, threads, scratch_bytes)
