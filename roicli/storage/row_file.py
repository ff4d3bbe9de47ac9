"""Rows of a fixed size in a file: written in any order with positioned writes, and where they lie.

RoIs in random order cost system calls, not memory. A run that goes on with a part puts the bytes
around the rows back as they were: an interruption may have come while the tables behind them were
written.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from roicli.core.exceptions import OutputError, ParameterError
from roicli.core.system import drop_pages, flush_data, read_at, take_room, write_at
from roicli.core.types import Array, FloatType, IntArray, as_bytes
from roicli.storage.address import is_url
from roicli.storage.atomic import PartFile, check_room

# What waits in the page cache until it is flushed, while as much again is on its way to the disk.
FLUSH_BYTES = 128 << 20
# Two numbers are kept of each piece of the file that is not flushed.
MOST_PIECES = 1 << 20


def narrow(block: Array, dtype: np.dtype[np.floating]) -> Array:
    """``block`` in the result's dtype, C-contiguous; ParameterError for a number past the dtype."""
    try:
        with np.errstate(over="raise"):
            return np.ascontiguousarray(block, dtype)
    except FloatingPointError:
        raise ParameterError(
            f"the result has numbers past what {dtype.name} holds ({np.finfo(dtype).max:g})",
            "give a wider --dtype",
        ) from None


def _runs(rows: IntArray) -> Iterator[tuple[int, int]]:
    """Where neighbours stand together in ``rows``: (first, last) places, last excluded."""
    cuts = np.flatnonzero(np.diff(rows) != 1) + 1
    starts = np.concatenate([[0], cuts, [len(rows)]]).tolist()
    return ((first, last) for first, last in pairwise(starts) if first < last)


class RowFile:
    """Rows of a fixed size at an offset in the file behind ``descriptor``, which it closes."""

    def __init__(
        self, descriptor: int, offset: int, shape: tuple[int, ...], dtype: np.dtype[np.floating]
    ) -> None:
        self._descriptor, self._offset = descriptor, offset
        self.shape, self.dtype = shape, dtype
        self._unflushed = 0
        self._offsets, self._sizes = array("q"), array("q")
        self._flusher: ThreadPoolExecutor | None = None
        self._flushing: Future[None] | None = None
        self.row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        try:
            take_room(descriptor, offset, shape[0] * self.row_bytes)
        except BaseException:
            self.close()
            raise

    def write_rows(self, rows: IntArray, block: Array) -> None:
        """Write ``block`` (k, ...) to ``rows`` (k,); neighbours go out in one write."""
        data = as_bytes(narrow(block, self.dtype))
        for first, last in _runs(rows):
            part = data[first * self.row_bytes : last * self.row_bytes]
            self._write_at(self._offset + int(rows[first]) * self.row_bytes, part)
        if self._unflushed >= FLUSH_BYTES or len(self._offsets) >= MOST_PIECES:
            self._begin_flush()

    def _write_at(self, offset: int, data: memoryview) -> None:
        self._offsets.append(offset)
        self._sizes.append(len(data))
        self._unflushed += len(data)
        while data:
            count = write_at(self._descriptor, data, offset)
            data, offset = data[count:], offset + count

    def flush(self) -> None:
        """Bring what was written to the disk and let go of its pages."""
        self._begin_flush()
        self._end_flush()

    def _begin_flush(self) -> None:
        """Let another thread flush, when it is done with what came before; rows go on meanwhile.

        They must get there before the rename anyhow. A result that stays in the page cache until
        then pushes everything else out of it, and took five times as long where memory was fresh.
        """
        pieces = self._offsets, self._sizes
        self._offsets, self._sizes, self._unflushed = array("q"), array("q"), 0
        self._end_flush()
        self._flusher = self._flusher or ThreadPoolExecutor(1)
        self._flushing = self._flusher.submit(self._flush_pieces, *pieces)

    def _flush_pieces(self, offsets: array[int], sizes: array[int]) -> None:
        flush_data(self._descriptor)
        # Pages that a row shares with its neighbour are kept by the system: that may yet come.
        for offset, size in zip(offsets, sizes, strict=True):
            drop_pages(self._descriptor, offset, size)

    def _end_flush(self) -> None:
        """Wait for the other thread; raises what the disk said to it."""
        pending, self._flushing = self._flushing, None
        if pending is not None:
            pending.result()

    def read_rows(self, start: int, stop: int) -> Array:
        """Rows that were written, (stop - start, ...)."""
        out = np.empty((stop - start, *self.shape[1:]), self.dtype)
        self._read_at(self._offset + start * self.row_bytes, as_bytes(out))
        return out

    def read_scattered(self, rows: IntArray) -> Array:
        """The rows (k,) that were written, in that order, (k, ...)."""
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        view = as_bytes(out)
        for first, last in _runs(rows):
            part = view[first * self.row_bytes : last * self.row_bytes]
            self._read_at(self._offset + int(rows[first]) * self.row_bytes, part)
        return out

    def _read_at(self, offset: int, view: memoryview) -> None:
        while view:
            count = read_at(self._descriptor, view, offset)
            if count == 0:
                raise OutputError("the scratch file ended early")
            view, offset = view[count:], offset + count

    def close(self) -> None:
        """Let go of the file; raises what the disk said to rows that are still on their way."""
        try:
            self._end_flush()
        finally:
            if self._flusher is not None:
                self._flusher.shutdown()
            os.close(self._descriptor)


class Layout(NamedTuple):
    """``head`` and ``tail`` are the bytes before and behind the rows; ``beside`` is whether the
    rows stand in a file of their own, as those of a compressed result do.
    """

    beside: bool = False
    head: bytes = b""
    tail: bytes = b""

    def _open(self, part: PartFile) -> int:
        """A descriptor of the file that holds the rows."""
        return part.open_companion("rows") if self.beside else os.open(part.path, os.O_RDWR)

    def open_rows(self, part: PartFile, shape: tuple[int, ...], dtype: FloatType) -> RowFile:
        """The rows, with their room taken."""
        return RowFile(self._open(part), len(self.head), shape, dtype)

    def size(self, shape: tuple[int, ...], dtype: FloatType) -> int:
        """Bytes of the file that holds the rows."""
        return len(self.head) + count_bytes(shape, dtype) + len(self.tail)

    def restore(self, part: PartFile, shape: tuple[int, ...], dtype: FloatType) -> None:
        """Make the file what it was when the first row was written, but for the rows."""
        size = self.size(shape, dtype)
        with open(self._open(part), "r+b") as stream:
            stream.truncate(size)
            stream.write(self.head)
            stream.seek(size - len(self.tail))
            stream.write(self.tail)


def count_bytes(shape: tuple[int, ...], dtype: FloatType) -> int:
    """Bytes of an array."""
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


def allocated_bytes(path: str) -> int:
    """Room on the disk that a file has already; 0 where there is none."""
    try:
        return os.stat(path).st_blocks * 512
    except FileNotFoundError:
        return 0


@contextmanager
def open_scratch(beside: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[RowFile]:
    """Room for rows of ``shape`` in the folder of ``beside``; OutputError where it has none.

    Beside a URL there is no folder: then where the system keeps temporary files.
    """
    import tempfile  # which brings random and hashlib, and is seldom needed

    folder = tempfile.gettempdir() if is_url(beside) else os.path.dirname(beside) or "."
    needed = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    check_room(f"the scratch file in {folder}", folder, needed)
    with (
        tempfile.TemporaryFile(dir=folder) as stream,
        closing(RowFile(os.dup(stream.fileno()), 0, shape, dtype)) as rows,
    ):
        yield rows
