"""Rows of a fixed size in a file, written in any order with positioned writes.

RoIs in random order cost system calls, not memory.
"""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import Any, cast

import numpy as np

from roicli.core.exceptions import OutputError, ParameterError
from roicli.core.types import Array, IntArray
from roicli.storage.direct_write import DirectWriter

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


class RowFile:
    """Rows of a fixed size at an offset in the file behind ``descriptor``, which it closes.

    Large pieces go out by ``direct``, where that is given; they, too, are safe after a flush only.
    """

    def __init__(
        self,
        descriptor: int,
        offset: int,
        shape: tuple[int, ...],
        dtype: np.dtype[np.floating],
        direct: DirectWriter | None = None,
    ) -> None:
        self._descriptor = descriptor
        self._direct = direct
        self._offset = offset
        self.shape, self.dtype = shape, dtype
        self._unflushed = 0
        self._offsets, self._sizes = array("q"), array("q")
        self._flusher: ThreadPoolExecutor | None = None
        self._flushing: Future[None] | None = None
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
            self._write_at(self._offset + int(rows[first]) * self.row_bytes, part)
        if self._unflushed >= FLUSH_BYTES or len(self._offsets) >= MOST_PIECES:
            self._begin_flush()

    def _write_at(self, offset: int, data: memoryview) -> None:
        """Write past the page cache what goes that way, and the rest through it."""
        taken = self._direct.write(data, offset) if self._direct else range(0)
        self._write_cached(offset, data[: taken.start])
        self._write_cached(offset + taken.stop, data[taken.stop :])

    def _write_cached(self, offset: int, data: memoryview) -> None:
        if not data:
            return
        self._offsets.append(offset)
        self._sizes.append(len(data))
        self._unflushed += len(data)
        while data:
            count = os.pwrite(self._descriptor, data, offset)
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
        if not hasattr(os, "posix_fadvise"):
            return
        self._end_flush()
        self._flusher = self._flusher or ThreadPoolExecutor(1)
        self._flushing = self._flusher.submit(self._flush_pieces, *pieces)

    def _flush_pieces(self, offsets: array[int], sizes: array[int]) -> None:
        os.fdatasync(self._descriptor)
        # Pages that a row shares with its neighbour are kept by the system: that may yet come.
        for offset, size in zip(offsets, sizes, strict=True):
            os.posix_fadvise(self._descriptor, offset, size, os.POSIX_FADV_DONTNEED)

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
            count = os.preadv(self._descriptor, [view], offset)
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
            if self._direct is not None:
                self._direct.close()
            os.close(self._descriptor)
