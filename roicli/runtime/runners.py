"""A runner for each kind of graph: takes one map by ``load``, then blocks of RoIs by ``run``."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Protocol, assert_never, cast

import numpy as np

from roicli.core.exceptions import DeviceMemoryError
from roicli.core.types import FloatArray, FloatType, IntArray
from roicli.core.vocabulary import Provider
from roicli.operators import roi_align, roi_pool
from roicli.operators.geometry import align_boxes, fine_grid_rois, sampling_counts
from roicli.operators.interface import OperatorSpec
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.runtime.device_map import NO_MAP, MapPlacer, PlacedMap, too_small
from roicli.runtime.devices import HOST, Device, device_of
from roicli.runtime.session import Feed, Session

if TYPE_CHECKING:
    from roicli.operators.taps import TapSpec

SCRATCH_BYTES = 32 << 20
# Runs of MaxRoiPool, which is serial, that its RoIs are cut into for each thread.
CHUNKS_PER_THREAD = 8
# Values of the result that are worth a run of their own, which costs about as much as these.
VALUES_PER_CHUNK = 1 << 15
# The feeds of an exact or a plain graph of RoI Align that have a channel axis.
BY_CHANNEL = ("features", "first_cells")


class Runner(Protocol):
    """Runs one operator on the RoIs of one map at a time."""

    def load(self, feature_map: FloatArray | PlacedMap) -> None:
        """Take the map (C, H, W) that the next RoIs are on."""

    def run(self, corners: FloatArray, out: FloatArray) -> None:
        """RoIs (k, 4) in image pixels, in the map's dtype, to ``out`` (k, C, P_h, P_w)."""


def _same_nans(values: FloatArray) -> None:
    """Every NaN of ``values`` made the same one, in place.

    Which of two NaNs an addition hands on depends on where a vector of values ends, and so on how
    many RoIs run together.
    """
    values[np.isnan(values)] = np.nan


class RoiAlignRunner:
    """RoI Align by one RoiAlign node: average, quarters."""

    def __init__(
        self, spec: AlignSpec, dtype: FloatType, device: Device = HOST, threads: int = 1
    ) -> None:
        self._spec = spec
        self._session = Session(roi_align.build_align_graph(spec, dtype), device, threads)
        self._placer = MapPlacer(dtype, device, threads)
        self._map = NO_MAP

        @cache
        def exact_session() -> Session:
            return Session(roi_align.build_align_graph(spec, dtype, exact=True), device, threads)

        self._exact_session, self._dtype = exact_session, dtype
        self._exact_feeds: Mapping[str, FloatArray] = {}

    def load(self, feature_map: FloatArray | PlacedMap) -> None:
        """Take the map (C, H, W) that the next RoIs are on."""
        self._map = self._placer.place(feature_map)
        exact = not self._map.first_cells_are_finite
        self._exact_feeds = self._map.exact_feeds(self._dtype) if exact else {}

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
            "features": self._map.value,
            "corners": np.ascontiguousarray(corners),
            "batch_index": np.zeros(len(corners), np.int64),
        }
        if self._exact_feeds:
            self._exact_session().run_into({**feeds, **self._exact_feeds}, out)
            _same_nans(out)
        else:
            self._session.run_into(feeds, out)

    def _run_subset(self, corners: FloatArray, rows: IntArray, out: FloatArray) -> None:
        part = np.empty((len(rows), *out.shape[1:]), out.dtype)
        self._run_all(corners[rows], part)
        out[rows] = part


class FineGridRunner:
    """RoI Align from a fine grid of single samples: true maximum, thirds, or both.

    RoIs are grouped by their grid, one session a grid; a RoI without a grid is zeros. The samples
    of one run take ``scratch_bytes`` at most, or one channel's of one RoI (on a device all of its
    channels').
    """

    def __init__(
        self,
        spec: AlignSpec,
        dtype: FloatType,
        device: Device = HOST,
        threads: int = 1,
        scratch_bytes: int = SCRATCH_BYTES,
    ) -> None:
        self._spec = spec
        self._samples = scratch_bytes // dtype.itemsize

        # A CUDA session has library handles of its own, which take memory on the device.
        @lru_cache(maxsize=64 if device.resident else 256)
        def session(counts: tuple[int, int], exact: bool) -> Session:
            graph = roi_align.build_align_graph(spec, dtype, counts, exact)
            return Session(graph, device, threads, keeps_memory=False)

        self._session, self._dtype, self._resident = session, dtype, device.resident
        self._placer = MapPlacer(dtype, device, threads)
        self._map = NO_MAP
        self._exact_feeds: Mapping[str, FloatArray] = {}

    def load(self, feature_map: FloatArray | PlacedMap) -> None:
        """Take the map (C, H, W) that the next RoIs are on."""
        self._map = self._placer.place(feature_map)
        self._exact_feeds = {} if self._map.is_finite else self._map.exact_feeds(self._dtype)

    def run(self, corners: FloatArray, out: FloatArray) -> None:
        """RoIs (k, 4) to ``out`` (k, C, P_h, P_w)."""
        _, extent = align_boxes(corners, self._spec)
        counts = sampling_counts(extent, self._spec)
        fine = np.ascontiguousarray(fine_grid_rois(corners, counts, self._spec))
        channels = out.shape[1]
        for rows in group_rows(counts, lambda n: self._samples // (self._samples_of(n) * channels)):
            across, down = map(int, counts[rows[0]])
            if across == 0 or down == 0:
                out[rows] = 0
                continue
            feeds = {
                "features": self._map.value,
                "corners": fine[rows],
                "batch_index": np.zeros(len(rows), np.int64),
                **self._exact_feeds,
            }
            in_place = len(rows) == rows[-1] - rows[0] + 1 and bool(np.all(np.diff(rows) == 1))
            found = out[rows[0] : rows[-1] + 1] if in_place else np.empty_like(out[: len(rows)])
            self._run_channels((down, across), feeds, found)
            if self._exact_feeds:
                _same_nans(found)
            if not in_place:
                out[rows] = found

    def _run_channels(
        self, counts: tuple[int, int], feeds: dict[str, Feed], found: FloatArray
    ) -> None:
        """Run some RoIs, the channels in pieces where one RoI's samples are too many for all."""
        session = self._session(counts, bool(self._exact_feeds))
        channels = found.shape[1]
        piece = max(1, self._samples // self._samples_of(counts))
        if len(found) > 1 or piece >= channels or self._resident:
            session.run_into(feeds, found)
            return
        for first in range(0, channels, piece):
            part = slice(first, first + piece)
            own = {name: value[:, part] for name, value in feeds.items() if name in BY_CHANNEL}
            session.run_into({**feeds, **own}, found[:, part])

    def _samples_of(self, counts: tuple[int, int]) -> int:
        """The samples of one channel of a RoI with so many (rows, columns) a bin."""
        steps = roi_align.fine_grid_steps(self._spec, counts)
        return max(math.prod(steps) * math.prod(self._spec.output_size), 1)


class MaxRoiPoolRunner:
    """RoI Pool by MaxRoiPool, whose kernel is serial: chunks of RoIs on Python threads.

    MaxRoiPool skips NaN, and starts its maxima at the least finite number, which a bin of -infinity
    keeps. A map with either goes through index windows.
    """

    def __init__(self, spec: PoolSpec, threads: int, device: Device = HOST) -> None:
        self._session = Session(roi_pool.build_max_roi_pool_graph(spec), device, 1)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="max-roi-pool")
        self._placer = MapPlacer(np.dtype(np.float32))
        self._map = NO_MAP

        @cache
        def windows() -> Runner:
            from roicli.runtime.pool_runner import WindowMaxRunner

            return WindowMaxRunner(spec, np.dtype(np.float32), device, threads)

        self._windows = windows

    def load(self, feature_map: FloatArray | PlacedMap) -> None:
        """Take the map (C, H, W) that the next RoIs are on."""
        self._map = self._placer.place(feature_map)
        if not self._map.is_finite:
            self._windows().load(self._map)

    def run(self, corners: FloatArray, out: FloatArray) -> None:
        """RoIs (k, 4) to ``out`` (k, C, P_h, P_w)."""
        if not self._map.is_finite:
            self._windows().run(corners, out)
            return
        rois = np.zeros((len(corners), 5), np.float32)
        rois[:, 1:] = corners
        # Boxes differ in cost, and the last chunk is waited for: many of them even that out.
        worth = -(-VALUES_PER_CHUNK // max(math.prod(out.shape[1:]), 1))
        chunk = max(worth, -(-len(rois) // (CHUNKS_PER_THREAD * self._threads)))

        def run_chunk(start: int) -> None:
            rows = slice(start, start + chunk)
            self._session.run_into({"features": self._map.value, "rois": rois[rows]}, out[rows])

        starts = range(0, len(rois), chunk)
        if len(starts) == 1:  # a thread would cost a part of what it takes
            run_chunk(0)
            return
        for done in self._pool.map(run_chunk, starts):
            assert done is None


class TapsRunner:
    """Any operator that reads cells with weights (``taps.TapSpec``), many RoIs at a time.

    RoIs with as many samples a bin run together, so that the bits of one do not depend on another's
    samples. What is looked up in one run takes ``scratch_bytes`` at most, or one RoI's.
    """

    def __init__(
        self,
        spec: TapSpec,
        dtype: FloatType,
        device: Device = HOST,
        threads: int = 1,
        scratch_bytes: int = SCRATCH_BYTES,
    ) -> None:
        self._spec, self._dtype, self._scratch_bytes = spec, dtype, scratch_bytes
        self._session = Session(spec.graph(dtype), device, threads)
        self._rows_session = Session(spec.rows_graph(dtype), device, threads)
        self._placer = MapPlacer(dtype, device, threads)
        self._map, self._rows = NO_MAP, None

    def load(self, feature_map: FloatArray | PlacedMap) -> None:
        """Take the map (C, H, W) that the next RoIs are on."""
        self._map = self._placer.place(feature_map)
        self._spec.output_channels(self._map.shape[0])
        self._rows = self._rows_session.run_resident({"features": self._map.value})

    def run(self, corners: FloatArray, out: FloatArray) -> None:
        """RoIs (k, n) to ``out`` (k, C, P_h, P_w)."""
        _, *map_size = self._map.shape
        counts = self._spec.counts(corners, (map_size[0], map_size[1]))
        has_samples = np.all(counts > 0, axis=1)
        out[~has_samples] = self._spec.empty
        bins, taps = math.prod(self._spec.output_size), self._spec.taps_a_sample
        row_bytes = bins * taps * (out.shape[1] * self._dtype.itemsize + 48)
        sizes = np.asarray(map_size, np.int64)
        most = self._scratch_bytes // row_bytes
        for rows in group_rows(counts, lambda n: most // max(math.prod(n), 1)):
            if not has_samples[rows[0]]:
                continue
            found = np.empty((len(rows), *out.shape[1:]), out.dtype)
            feeds = {"rows": self._rows, "map_size": sizes, "rois": corners[rows]}
            self._session.run_into(feeds, found)
            out[rows] = found
        if not self._map.is_finite:
            _same_nans(out)


def group_rows(counts: IntArray, most_rows: Callable[[tuple[int, int]], int]) -> Iterator[IntArray]:
    """The rows of ``counts`` (k, 2) as (x, y) that are equal, as many together as ``most_rows``
    says of them (down, across); at least one.
    """
    order = np.lexsort(counts.T)
    cuts = np.flatnonzero(np.any(np.diff(counts[order], axis=0), axis=1)) + 1
    for rows in np.split(order, cuts) if len(order) else []:
        across, down = map(int, counts[rows[0]])
        block = max(1, most_rows((down, across)))
        for start in range(0, len(rows), block):
            yield rows[start : start + block]


class HalvingRunner:
    """Runs another runner in blocks that fit the memory of a device: too large a one is halved."""

    def __init__(self, runner: Runner, device: Device) -> None:
        self.runner, self._device = runner, device
        self._most = sys.maxsize

    def load(self, feature_map: FloatArray | PlacedMap) -> None:
        """Take the map (C, H, W) that the next RoIs are on. Raises DeviceMemoryError."""
        try:
            self.runner.load(feature_map)
        except DeviceMemoryError as error:
            raise too_small(self._device, "one image", error) from error

    def run(self, corners: FloatArray, out: FloatArray) -> None:
        """RoIs (k, 4) to ``out`` (k, C, P_h, P_w). Raises DeviceMemoryError."""
        start = 0
        while start < len(corners):
            rows = slice(start, start + min(self._most, len(corners) - start))
            try:
                self.runner.run(corners[rows], out[rows])
                start = rows.stop
            except DeviceMemoryError as error:
                tried = rows.stop - start
                if tried == 1:
                    raise too_small(self._device, "one image and one RoI", error) from error
                # What was too much for this map is not tried again on the next.
                self._most = tried // 2


def build_runner(
    spec: OperatorSpec,
    dtype: FloatType,
    provider: Provider,
    threads: int,
    scratch_bytes: int = SCRATCH_BYTES,
    device: Device | None = None,
) -> Runner:
    """The runner for a spec; ``provider`` is a choice already made, not ``auto``.

    ``device`` is the provider's, with its limits; None is its first, without any.
    """
    if provider == "native":
        from roicli.runtime.native_runner import NativeRunner

        native: Runner = NativeRunner(spec, dtype, threads)
        return native
    device = device_of(provider) if device is None else device
    runner = _build_session_runner(spec, dtype, device, threads, scratch_bytes)
    return HalvingRunner(runner, device) if device.resident else runner


def _build_session_runner(
    spec: OperatorSpec, dtype: FloatType, device: Device, threads: int, scratch_bytes: int
) -> Runner:
    """The runner for the way that the operator's graph is run."""
    way = spec.graph_way(dtype, device.resident)
    match way:
        case "one node":
            return RoiAlignRunner(cast("AlignSpec", spec), dtype, device, threads)
        case "fine grid":
            return FineGridRunner(cast("AlignSpec", spec), dtype, device, threads, scratch_bytes)
        case "max roi pool node":
            return MaxRoiPoolRunner(cast("PoolSpec", spec), threads, device)
        case "index windows":
            from roicli.runtime.pool_runner import WindowMaxRunner

            windows = cast("PoolSpec", spec)
            return WindowMaxRunner(windows, dtype, device, threads, scratch_bytes)
        case "taps":
            return TapsRunner(cast("TapSpec", spec), dtype, device, threads, scratch_bytes)
        case _:
            assert_never(way)
