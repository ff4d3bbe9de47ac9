"""RoI Pool by windows of cells: every rule and float type, on every provider, by standard nodes."""

from __future__ import annotations

from functools import cache

import numpy as np

from roicli.core.types import FloatArray, FloatType, IntArray
from roicli.operators import graphs, roi_pool
from roicli.operators.pool_windows import Windows, find_windows, group_windows, split_by_cells
from roicli.operators.roi_pool import PoolSpec
from roicli.runtime.device_map import NO_MAP, MapPlacer, PlacedMap
from roicli.runtime.devices import HOST, Device
from roicli.runtime.session import Feed, Session

# Graphs have a multiple of so many groups, so that a few sessions, which take long to open, do.
GROUPS_STEP = 8
# On the host a group more costs less than padding; on a device every group is some launches.
EXACT_SIZES_ON_HOST = 16
# A group that is there for the graph's sake: one window, of the map's first cell.
IDLE_WINDOW = (0, 1, 0, 0)


class WindowMaxRunner:
    """RoI Pool by index windows, one session run for as many RoIs as the scratch has room for.

    RoIs of about the same size go together, so that a run has few groups (``windows``). The cells
    of one run take ``scratch_bytes`` at most, or one RoI's. A bin with a NaN among its cells is
    NaN: whether ReduceMax hands a NaN on depends on where its vectors end, and so on how many bins
    run together.
    """

    def __init__(
        self,
        spec: PoolSpec,
        dtype: FloatType,
        device: Device = HOST,
        threads: int = 1,
        scratch_bytes: int = 32 << 20,
    ) -> None:
        self._spec, self._dtype, self._scratch_bytes = spec, dtype, scratch_bytes
        self._placer = MapPlacer(dtype, device, threads)
        self._table_session = Session(graphs.build_cell_table_graph(dtype), device, threads)

        @cache
        def session(groups: int) -> Session:
            return Session(roi_pool.build_window_pool_graph(dtype, groups), device, threads)

        self._session = session
        self._exact_sizes = 0 if device.resident else EXACT_SIZES_ON_HOST
        self._map = NO_MAP

    def load(self, feature_map: FloatArray | PlacedMap) -> None:
        """Take the map (C, H, W) that the next RoIs are on."""
        placed = self._placer.place(feature_map)
        if placed.cell_table is None:
            feeds = {"features": placed.value}
            placed.cell_table = self._table_session.run_resident(feeds)
            marks = placed.mark_nans(self._dtype)
            if marks is not None:
                placed.nan_table = self._table_session.run_resident({"features": marks})
        self._map = placed

    def run(self, corners: FloatArray, out: FloatArray) -> None:
        """RoIs (k, 4) to ``out`` (k, C, P_h, P_w)."""
        if len(corners) == 0:
            return
        self._run_on(self._map.cell_table, corners, out)
        if self._map.nan_table is not None:
            marked = np.empty_like(out)
            self._run_on(self._map.nan_table, corners, marked)
            out[marked > 0] = np.nan

    def _run_on(self, table: Feed | None, corners: FloatArray, out: FloatArray) -> None:
        """Look up every RoI's windows in a table of cells."""
        channels, *map_size = self._map.shape
        windows = find_windows(corners, self._spec, (map_size[0], map_size[1]))
        cells_of_roi = windows.cells.reshape(len(corners), -1).sum(axis=1)
        # Padding adds a quarter at most.
        most = self._scratch_bytes * 4 // 5 // (channels * self._dtype.itemsize)
        if cells_of_roi.sum() <= most or len(corners) == 1:
            self._run_part(table, windows, out)
            return
        order = np.argsort(cells_of_roi, kind="stable")
        for part in split_by_cells(cells_of_roi[order], most):
            rows = order[part]
            found = np.empty((len(rows), *out.shape[1:]), out.dtype)
            self._run_part(table, windows.of_rois(rows, len(corners)), found)
            out[rows] = found

    def _run_part(self, table: Feed | None, windows: Windows, out: FloatArray) -> None:
        shape = (len(out), *self._spec.output_size)
        if windows.cells.any():
            feeds = describe(windows, shape, self._exact_sizes)
            session = self._session(len(feeds["lengths"]))
            session.run_into({"cell_table": table, **feeds}, out)
        empty = (windows.cells == 0).reshape(shape)
        if empty.any():
            out.transpose(0, 2, 3, 1)[empty] = 0


def describe(windows: Windows, shape: tuple[int, ...], exact_sizes: int = 0) -> dict[str, IntArray]:
    """The feeds of ``roi_pool.build_window_pool_graph``; an empty bin gets the map's first cell."""
    filled = windows.cells > 0
    cells = np.where(filled, windows.cells, 1)
    groups = group_windows(cells, exact_sizes)
    idle = -len(groups.counts) % GROUPS_STEP
    order, used = groups.order, len(cells)
    table = np.empty((used + idle, 4), np.int32)
    table[:used, 0] = np.where(filled, windows.first, 0)[order]
    table[:used, 1] = np.where(filled, windows.width, 1)[order]
    table[:used, 2] = cells[order] - 1
    table[:used, 3] = windows.map_width - table[:used, 1]
    table[used:] = IDLE_WINDOW
    number = np.empty(used, np.int32)
    number[order] = np.arange(used, dtype=np.int32)
    lengths = np.append(groups.lengths, np.ones(idle, np.int64))
    return {
        "windows": table,
        "window_counts": np.append(groups.counts, np.ones(idle, np.int64)),
        "places": np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]),
        "lengths": lengths,
        "number_of_bin": number.reshape(shape),
    }
