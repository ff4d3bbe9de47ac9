"""Large writes that go to the disk past the page cache, where the file system lets them.

A result is on the disk before it gets its name, so the page cache only delays it: its pages are
found, filled, written and let go of, and push out what others need. Where the system's memory is
fresh, as in a virtual machine, filling them costs several times what the disk does.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os

import numpy as np

# Bytes below which the page cache, which joins small writes, is the faster way.
WORTH_BYTES = 1 << 20
PIECE_BYTES = 8 << 20
# File systems ask for multiples of the disk's block: 512 bytes, or 4 KiB.
ALIGNMENT = max(4096, mmap.PAGESIZE)

UNSUPPORTED = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)


class DirectWriter:
    """Writes to the file ``path`` from an aligned buffer of its own.

    Nothing is lost where this cannot be done: whoever calls writes what was not taken.
    """

    def __init__(self, path: str) -> None:
        self._descriptor = _open(path)
        self._buffer = np.empty(0, np.uint8)

    def write(self, data: memoryview, offset: int) -> range:
        """The places of ``data`` that were written at ``offset``; none where it is not worth it."""
        first = -offset % ALIGNMENT
        end = len(data) - (offset + len(data)) % ALIGNMENT
        if self._descriptor is None or end - first < WORTH_BYTES:
            return range(0)
        if not len(self._buffer):
            try:
                self._buffer = _allocate_aligned(PIECE_BYTES)
            except OSError:
                self.close()  # no memory for it
                return range(0)
        done = first
        while done < end:
            count = self._write_piece(data[done : min(done + PIECE_BYTES, end)], offset + done)
            done += count
            # What the disk takes only a part of is left to writes that say why.
            if count % ALIGNMENT or not count:
                break
        return range(first, done)

    def _write_piece(self, piece: memoryview, offset: int) -> int:
        assert self._descriptor is not None
        room = self._buffer[: len(piece)]
        np.copyto(room, np.frombuffer(piece, np.uint8))
        try:
            return os.pwrite(self._descriptor, room.data, offset)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            self.close()  # the file system opens such files and does not write them
            return 0

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None


def _open(path: str) -> int | None:
    """A descriptor past the page cache; None where there is no such thing."""
    if not hasattr(os, "O_DIRECT"):
        return None
    try:
        return os.open(path, os.O_WRONLY | os.O_DIRECT)
    except OSError:
        return None  # if the file is at fault, ordinary writes say so


def _allocate_aligned(size: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Private memory that starts at a page."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)
