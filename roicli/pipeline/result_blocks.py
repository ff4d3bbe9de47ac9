"""Room for the results of RoIs, and their way to the writer while the next ones are computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Self

import numpy as np

from roicli.core.progress import StageTimes
from roicli.core.types import Array, IntArray
from roicli.runtime.devices import Device
from roicli.runtime.host_memory import allocate_block
from roicli.storage.result_file import ResultWriter

# Deciding which RoIs make a block then takes little memory.
MOST_ROWS = 1 << 16


class RowWriter(NamedTuple):
    """Writes behind the caller's back, in the pool's one thread; ``shape`` of a row."""

    writer: ResultWriter
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pool: ThreadPoolExecutor
    times: StageTimes

    def submit(self, write: Callable[..., None], *arguments: Any) -> Future[None]:
        """Have it written; the time that takes counts as writing."""

        def timed() -> None:
            with self.times.measure("write"):
                write(*arguments)

        return self.pool.submit(timed)


class _Turns:
    """Two arrays of rows in turn: one is written while the other is filled.

    ``most_rows`` make a block.
    """

    def __init__(self, row_writer: RowWriter, device: Device, block_bytes: int) -> None:
        self._row_writer, self._device = row_writer, device
        row_bytes = math.prod(row_writer.shape) * row_writer.dtype.itemsize
        self.most_rows = max(1, min(block_bytes // max(row_bytes, 1), MOST_ROWS))
        self._arrays = [self._allocate(0), self._allocate(0)]
        self._written: list[Future[None] | None] = [None, None]
        self._turn = 0
        self._stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stopped = kind is not None

    def _allocate(self, count: int) -> Array:
        shape = (count, *self._row_writer.shape)
        return allocate_block(self._device, shape, self._row_writer.dtype)

    def _take_turn(self, count: int) -> Array:
        """The other array, of at least ``count`` rows, when what was in it is written."""
        self._turn = 1 - self._turn
        self._wait(self._turn)
        if len(self._arrays[self._turn]) < count:
            self._arrays[self._turn] = self._allocate(count)
        return self._arrays[self._turn]

    def _submit(self, write: Callable[..., None], *arguments: Any) -> None:
        self._written[self._turn] = self._row_writer.submit(write, *arguments)

    def _wait(self, turn: int) -> None:
        pending, self._written[turn] = self._written[turn], None
        if pending is not None:
            pending.result()

    def drain(self) -> None:
        """Wait for all writes; raises what they raised."""
        for turn in (1 - self._turn, self._turn):
            self._wait(turn)


class OutputBlocks(_Turns):
    """Blocks that are written as they come."""

    def next_block(self, count: int) -> Array:
        """Room for ``count`` rows, free to be overwritten."""
        return self._take_turn(count)[:count]

    def write(self, rows: IntArray, block: Array) -> None:
        """Have the block just computed written."""
        self._submit(self._row_writer.writer.write_rows, rows, block)


class OrderedBlocks(_Turns):
    """Blocks of a stretch of rows, written in the rows' order when all of the stretch is there.

    The stretches come one after another, each with ``stretch_rows`` of the ``count`` rows. Where
    the run fails, no more of one is written than what the disk is at.
    """

    def __init__(
        self, row_writer: RowWriter, device: Device, block_bytes: int, stretch_rows: int, count: int
    ) -> None:
        super().__init__(row_writer, device, block_bytes)
        self._stretch_rows, self._count = stretch_rows, count
        self._window = self._piece = self._allocate(0)
        self._first = self._filled = 0
        self._places = np.empty(0, np.int64)

    def next_block(self, count: int) -> Array:
        """Room for ``count`` rows, free to be overwritten."""
        if not self._filled:
            size = min(self._stretch_rows, self._count - self._first)
            self._window = self._take_turn(size)
            self._places = np.empty(size, np.int64)
        return self._window[self._filled : self._filled + count]

    def write(self, rows: IntArray, block: Array) -> None:
        """Keep the block just computed; the last one of a stretch has the stretch written."""
        end = self._filled + len(rows)
        self._places[rows - self._first] = np.arange(self._filled, end)
        self._filled = end
        if self._filled == len(self._places):
            self._submit(self._write_stretch, self._window, self._places, self._first)
            self._first, self._filled = self._first + self._filled, 0

    def _write_stretch(self, window: Array, places: IntArray, first: int) -> None:
        if not len(self._piece):
            self._piece = self._allocate(min(self.most_rows, len(places)))
        for start in range(0, len(places), len(self._piece)):
            if self._stopped:
                return
            chosen = places[start : start + len(self._piece)]
            piece = self._piece[: len(chosen)]
            # "clip" is what lets NumPy write into the array itself.
            np.take(window, chosen, axis=0, out=piece, mode="clip")
            rows = np.arange(first + start, first + start + len(chosen))
            self._row_writer.writer.write_rows(rows, piece)


def choose_blocks(
    row_writer: RowWriter, device: Device, block_bytes: int, stretch_rows: int | None, count: int
) -> OutputBlocks | OrderedBlocks:
    """Blocks for ``count`` rows, gathered where ``stretch_rows`` says so."""
    if stretch_rows is None:
        return OutputBlocks(row_writer, device, block_bytes)
    return OrderedBlocks(row_writer, device, block_bytes, stretch_rows, count)
