"""Results on disk: written beside the final name, renamed at the end, never half there.

Rows are written with positioned writes in whatever order the images finish, so RoIs in random order
cost system calls, not memory. HDF5 is allocated first and then written at its dataset's offset;
compressed HDF5 is made from a plain scratch file at the end, chunk after chunk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np

from roicli.datatypes import Array, IntArray
from roicli.exceptions import OutputError

# Gives (start, stop) the rows of a table that goes beside the features.
RowSource = Callable[[int, int], Array]

FLUSH_BYTES = 128 << 20

OUTPUT_FORMATS = {".npy": "npy", ".h5": "hdf5", ".hdf5": "hdf5"}


def is_same_file(one: str, other: str) -> bool:
    """Whether two names, of files that may not exist yet, are one place: by spelling or by link."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def check_output(path: str, taken: list[str], force: bool, endings: tuple[str, ...]) -> None:
    """Raise OutputError unless a result may be written to ``path``.

    ``taken`` are the files that it must not replace: the inputs, and another output.
    """
    target = Path(path)
    if target.suffix.lower() not in endings:
        raise OutputError(
            f"{path}: unknown ending {target.suffix!r}, expected one of: {' '.join(endings)}"
        )
    if target.is_dir():
        raise OutputError(f"{path}: is a folder, expected a file name")
    if not target.parent.is_dir():
        raise OutputError(f"{path}: the folder {target.parent} does not exist")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: the folder {target.parent} cannot be written to")
    for source in taken:
        if is_same_file(source, path):
            raise OutputError(
                f"{path}: would overwrite {source}, which this run uses", "name another file"
            )
    if target.exists() and not target.is_file():
        raise OutputError(f"{path}: exists and is not a regular file")
    if os.path.lexists(path) and not force:
        raise OutputError(f"{path}: exists already", "add --force to replace it, or name another")


def check_free_space(path: str, needed: int) -> None:
    """Raise OutputError where the disk has less room than the result is known to take."""
    free = shutil.disk_usage(Path(path).parent).free
    if needed > free:
        raise OutputError(f"{path}: needs {needed:,} bytes, the disk has {free:,} free")


@contextlib.contextmanager
def replace_atomically(path: str, force: bool) -> Iterator[str]:
    """Give a temporary name in the same folder; rename it to ``path`` when the block ends well.

    On any error or interruption the temporary file is removed. File and folder are flushed to disk.
    """
    target = Path(path)
    temporary = str(target.with_name(f".{target.name}.{os.urandom(4).hex()}.part"))
    try:
        yield temporary
        _flush_to_disk(temporary)
        _move(temporary, path, force)
        _flush_to_disk(str(target.parent))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _move(temporary: str, path: str, force: bool) -> None:
    """Rename; without ``force`` a file that appeared meanwhile is not replaced."""
    if force:
        os.replace(temporary, path)
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise OutputError(
            f"{path}: another run wrote it meanwhile", "add --force to replace it"
        ) from None
    except OSError:
        # A file system without hard links: the check was made when the run started.
        os.replace(temporary, path)


def _flush_to_disk(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def narrow(block: Array, dtype: np.dtype[np.floating]) -> Array:
    """``block`` in the result's dtype, C-contiguous. A number that it cannot hold is an error."""
    try:
        with np.errstate(over="raise"):
            return np.ascontiguousarray(block, dtype)
    except FloatingPointError:
        raise OutputError(
            f"the result has numbers past what {dtype.name} holds ({np.finfo(dtype).max:g})",
            "give a wider --dtype",
        ) from None


def _as_bytes(values: Array) -> memoryview:
    """The bytes of a C-contiguous array, not copied."""
    return memoryview(cast("Any", values.reshape(-1).view(np.uint8)))


def _allocate(descriptor: int, size: int) -> None:
    """Make the file ``size`` bytes long, with its room on the disk taken where that can be done.

    A full disk is then found before the run, and writes into allocated room cost a half to a third.
    """
    try:
        os.posix_fallocate(descriptor, 0, size)
    except (AttributeError, OSError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise
        os.ftruncate(descriptor, size)


class RowFile:
    """Rows of a fixed size at an offset in a file, written in any order."""

    def __init__(
        self, path: str, offset: int, shape: tuple[int, ...], dtype: np.dtype[np.floating]
    ) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self._offset = offset
        self.shape, self.dtype = shape, dtype
        self._unflushed = 0
        self._written: list[tuple[int, int]] = []
        self._row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        end = offset + shape[0] * self._row_bytes
        try:
            if os.fstat(self._descriptor).st_size < end:
                _allocate(self._descriptor, end)
        except BaseException:
            self.close()
            raise

    def write_rows(self, rows: IntArray, block: Array) -> None:
        """Write ``block`` (k, ...) to ``rows`` (k,); neighbours go out in one write."""
        data = _as_bytes(narrow(block, self.dtype))
        cuts = np.flatnonzero(np.diff(rows) != 1) + 1
        starts = np.concatenate([[0], cuts, [len(rows)]])
        for first, last in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            if first < last:
                part = data[first * self._row_bytes : last * self._row_bytes]
                offset = self._offset + int(rows[first]) * self._row_bytes
                self._write_at(offset, part)
                self._written.append((offset, len(part)))
        self._unflushed += len(data)
        if self._unflushed >= FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        """Bring what was written to the disk and let go of its pages.

        It must get there before the rename anyhow. A result that stays in the page cache until then
        pushes everything else out of it, and took five times as long where memory was fresh. Pages
        that a row shares with its neighbour are kept by the system: the neighbour may yet come.
        """
        ranges, self._written, self._unflushed = self._written, [], 0
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
        view = _as_bytes(out)
        offset = self._offset + start * self._row_bytes
        while view:
            count = os.preadv(self._descriptor, [view], offset)
            if count == 0:
                raise OutputError("the scratch file ended early")
            view, offset = view[count:], offset + count
        return out

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)
