"""The three shapes a result takes: an HDF5 file, an .npy file, an .npy on stdout."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from roicli.datatypes import Array, FloatType, IntArray
from roicli.exceptions import OutputError
from roicli.storage.output import (
    OUTPUT_FORMATS,
    RowFile,
    RowSource,
    check_free_space,
    narrow,
    replace_atomically,
)
from roicli.vocabulary import Compression

STDOUT = "-"
COPY_BYTES = 1 << 24


class ResultWriter(Protocol):
    """Takes rows while the run goes on, and the tables and attributes when it is over."""

    def write_rows(self, rows: IntArray, block: Array) -> None:
        """Write ``block`` (k, C, P_h, P_w) to ``rows`` (k,) of the result."""

    def finish(self, tables: Mapping[str, RowSource], attributes: Mapping[str, Any]) -> None:
        """Everything is written; add what stands beside it, where the format can hold it."""


class PlainWriter:
    """An .npy file: the array alone."""

    def __init__(self, rows: RowFile) -> None:
        self._rows = rows
        self.write_rows = rows.write_rows

    def finish(self, tables: Mapping[str, RowSource], attributes: Mapping[str, Any]) -> None:
        """An .npy file holds nothing beside the array."""


class MemoryWriter:
    """The result as an array in memory, for Python."""

    def __init__(self, shape: tuple[int, ...], dtype: FloatType) -> None:
        self.array: Array = np.empty(shape, dtype)

    def write_rows(self, rows: IntArray, block: Array) -> None:
        """Write ``block`` (k, C, P_h, P_w) to ``rows`` (k,) of the result."""
        self.array[rows] = narrow(block, self.array.dtype)

    def finish(self, tables: Mapping[str, RowSource], attributes: Mapping[str, Any]) -> None:
        """Nothing stands beside an array in memory."""


class NoWriter:
    """A run whose features nobody keeps: only its errors are wanted."""

    def write_rows(self, rows: IntArray, block: Array) -> None:
        """Drop the rows."""

    def finish(self, tables: Mapping[str, RowSource], attributes: Mapping[str, Any]) -> None:
        """Nothing to finish."""


@contextlib.contextmanager
def open_result(
    path: str, shape: tuple[int, ...], dtype: FloatType, compression: Compression, force: bool
) -> Iterator[ResultWriter]:
    """A writer for ``shape`` (K, C, P_h, P_w); the final name appears when the block ends well."""
    needed = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if path == STDOUT:
        with _stdout_writer(shape, dtype) as writer:
            yield writer
        return
    check_free_space(path, needed)
    is_npy = OUTPUT_FORMATS[Path(path).suffix.lower()] == "npy"
    with replace_atomically(path, force) as temporary:
        if is_npy:
            with contextlib.closing(_npy_rows(temporary, shape, dtype)) as rows:
                yield PlainWriter(rows)
            return
        from roicli.storage.hdf5_result import Hdf5Writer

        with Hdf5Writer(temporary, shape, dtype, compression) as writer:
            yield writer


def _npy_rows(path: str, shape: tuple[int, ...], dtype: FloatType) -> RowFile:
    """Write the header, and give the rows behind it."""
    with open(path, "wb") as stream:
        description = np.lib.format.dtype_to_descr(dtype)
        header = {"descr": description, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        offset = stream.tell()
    return RowFile(path, offset, shape, dtype)


@contextlib.contextmanager
def _stdout_writer(shape: tuple[int, ...], dtype: FloatType) -> Iterator[ResultWriter]:
    """Rows arrive in any order and a pipe takes them in one: they wait in a scratch file."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="roicli-") as folder:
        scratch = os.path.join(folder, "result.npy")
        check_free_space(scratch, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        try:
            with contextlib.closing(_npy_rows(scratch, shape, dtype)) as rows:
                yield PlainWriter(rows)
        except OSError as error:
            raise OutputError(f"{folder}: the scratch file failed: {error.strerror}") from error
        with open(scratch, "rb") as stream:
            shutil.copyfileobj(stream, sys.stdout.buffer, COPY_BYTES)
        sys.stdout.buffer.flush()
