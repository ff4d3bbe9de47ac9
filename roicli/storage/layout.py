"""Where the rows of a result lie in its part: in which file, from which byte on, between what.

A run that goes on with a part puts the bytes around the rows back as they were: an interruption may
have come while the tables behind them were written.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from roicli.core.types import FloatType
from roicli.storage.direct_write import DirectWriter
from roicli.storage.part_file import PartFile
from roicli.storage.row_file import RowFile

HEADER_BYTES_AT_MOST = 1 << 20


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
        # The scratch file of a compressed result is read again soon.
        direct = None if self.beside else DirectWriter(part.path)
        return RowFile(self._open(part), len(self.head), shape, dtype, direct)

    def size(self, shape: tuple[int, ...], dtype: FloatType) -> int:
        """Bytes of the file that holds the rows."""
        return len(self.head) + count_bytes(shape, dtype) + len(self.tail)

    def restore(self, part: PartFile, shape: tuple[int, ...], dtype: FloatType) -> None:
        """Make the file what it was when the first row was written, but for the rows."""
        size = self.size(shape, dtype)
        with os.fdopen(self._open(part), "r+b") as stream:
            stream.truncate(size)
            stream.write(self.head)
            stream.seek(size - len(self.tail))
            stream.write(self.tail)


def lay_out_npy(part: PartFile, shape: tuple[int, ...], dtype: FloatType) -> Layout:
    """Write the header of an .npy file."""
    with open(part.path, "wb") as stream:
        write_npy_header(stream, shape, dtype)
        size = stream.tell()
    with open(part.path, "rb") as stream:
        return Layout(head=stream.read(size))


def write_npy_header(stream: object, shape: tuple[int, ...], dtype: FloatType) -> None:
    """The header of an .npy file, at the stream's place."""
    description = np.lib.format.dtype_to_descr(dtype)
    header = {"descr": description, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)  # type: ignore[arg-type]


def lay_out_hdf5(part: PartFile, shape: tuple[int, ...], dtype: FloatType) -> Layout:
    """Write an HDF5 file whose features are allocated and not filled."""
    from roicli.storage.formats.hdf5.result import create_contiguous

    offset = create_contiguous(part.path, shape, dtype)
    rows = count_bytes(shape, dtype)
    with open(part.path, "rb") as stream:
        head = stream.read(offset)
        stream.seek(offset + rows)
        return Layout(head=head, tail=stream.read())


def count_bytes(shape: tuple[int, ...], dtype: FloatType) -> int:
    """Bytes of an array."""
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


def allocated_bytes(path: str) -> int:
    """Room on the disk that a file has already; 0 where there is none."""
    try:
        return os.stat(path).st_blocks * 512
    except FileNotFoundError:
        return 0
