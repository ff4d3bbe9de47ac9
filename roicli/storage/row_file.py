"""Rows of a fixed size in a file, written in any order with positioned writes.

RoIs in random order cost system calls, not memory.
"""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, cast

import numpy as np

from roicli.datatypes import Array, IntArray
from roicli.exceptions import OutputError, ParameterError

# What waits in the page cache until it is flushed.
FLUSH_BYTES = 128 << 20
# Rows that lie within so many bytes wait longer, until what is between them has come, too: then
# they get to the disk in long writes.
WINDOW_BYTES = 512 << 20
# Two numbers are kept of each range that is not flushed.
MOST_RANGES = 1 << 20


def rows_a_window(row_bytes: int) -> int:
    """How many rows of ``row_bytes``, in any order, are flushed together."""
    return max(1, WINDOW_BYTES // max(row_bytes, 1))


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


def as_bytes(values: Array) -> memoryview:
    """The bytes of a C-contiguous array, not copied."""
    return memoryview(cast("Any", values.reshape(-1).view(np.uint8)))


def _allocate(descriptor: int, offset: int, size: int) -> None:
    """Take the room of ``size`` bytes on the disk, where that can be done.

    A full disk is then found before the run, and writes into allocated room cost a half to a third.
    """
    try:
        if size:
            os.posix_fallocate(descriptor, offset, size)
    except (AttributeError, OSError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise
        if os.fstat(descriptor).st_size < offset + size:
            os.ftruncate(descriptor, offset + size)


def _runs(rows: IntArray) -> Iterator[tuple[int, int]]:
    """Where neighbours stand together in ``rows``: (first, last) places, last excluded."""
    cuts = np.flatnonzero(np.diff(rows) != 1) + 1
    starts = np.concatenate([[0], cuts, [len(rows)]]).tolist()
    return ((first, last) for first, last in pairwise(starts) if first < last)


def create(path: str) -> int:
    """A descriptor to read and write ``path``, which need not exist."""
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


class RowFile:
    """Rows of a fixed size at an offset in the file behind ``descriptor``, which it closes."""

    def __init__(
        self, descriptor: int, offset: int, shape: tuple[int, ...], dtype: np.dtype[np.floating]
    ) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self.shape, self.dtype = shape, dtype
        # What waits for a flush: its bytes, the rows that it lies within, and its ranges.
        self._unflushed, self._first, self._stop = 0, shape[0], 0
        self._offsets, self._sizes = array("q"), array("q")
        self.row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        try:
            _allocate(descriptor, offset, shape[0] * self.row_bytes)
        except BaseException:
            self.close()
            raise

    def write_rows(self, rows: IntArray, block: Array) -> None:
        """Write ``block`` (k, ...) to ``rows`` (k,); neighbours go out in one write."""
        data = as_bytes(narrow(block, self.dtype))
        for first, last in _runs(rows):
            part = data[first * self.row_bytes : last * self.row_bytes]
            offset = self._offset + int(rows[first]) * self.row_bytes
            self._write_at(offset, part)
            self._offsets.append(offset)
            self._sizes.append(len(part))
        if len(rows):
            self._first = min(self._first, int(rows.min()))
            self._stop = max(self._stop, int(rows.max()) + 1)
        self._unflushed += len(data)
        if self._is_full():
            self.flush()

    def _is_full(self) -> bool:
        """Whether enough waits for a flush, and what is to come does not lie between."""
        if len(self._offsets) >= MOST_RANGES:
            return True
        span = (self._stop - self._first) * self.row_bytes
        has_holes = self._unflushed < span <= WINDOW_BYTES
        return self._unflushed >= FLUSH_BYTES and not has_holes

    def flush(self) -> None:
        """Bring what was written to the disk and let go of its pages.

        It must get there before the rename anyhow. A result that stays in the page cache until then
        pushes everything else out of it, and took five times as long where memory was fresh. Pages
        that a row shares with its neighbour are kept by the system: the neighbour may yet come.
        """
        ranges = zip(self._offsets, self._sizes, strict=True)
        self._offsets, self._sizes = array("q"), array("q")
        self._unflushed, self._first, self._stop = 0, self.shape[0], 0
        if hasattr(os, "posix_fadvise"):
            os.fdatasync(self._descriptor)
            for offset, size in ranges:
                os.posix_fadvise(self._descriptor, offset, size, os.POSIX_FADV_DONTNEED)

    def _write_at(self, offset: int, data: memoryview) -> None:
        while data:
            count = os.pwrite(self._descriptor, data, offset)
            data, offset = data[count:], offset + count

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
            count = os.preadv(self._descriptor, [view], offset)
            if count == 0:
                raise OutputError("the scratch file ended early")
            view, offset = view[count:], offset + count

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)
