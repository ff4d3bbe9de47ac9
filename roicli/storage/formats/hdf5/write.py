"""The HDF5 result: /roi_features, the tables beside it, and provenance as attributes.

Uncompressed features are contiguous, allocated at once and written at their offset, past the
library. Compressed ones wait in a scratch file, since a chunk must be compressed whole. A result in
parts is a small file of virtual datasets over them: the parts of ``OUT.h5`` stand in the folder
``OUT.h5.parts`` beside it and are named relative to it, so that the two can be moved together. A
part that is missing reads as NaN, in tables as 0.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from roicli.core.exceptions import OutputError, first_line
from roicli.core.types import FloatType, IntArray
from roicli.core.vocabulary import Compression
from roicli.storage.address import parts_folder
from roicli.storage.atomic import PartFile
from roicli.storage.result import ResultFile, ResultWriter, RowSource, open_rows_result
from roicli.storage.row_file import Layout, RowFile, count_bytes

if TYPE_CHECKING:
    from roicli.storage.shard import Shard

ROI_FEATURES = "roi_features"
# Files that HDF5 1.10 reads.
VERSIONS = ("earliest", "v110")
ROWS_A_CHUNK_BYTES = 1 << 20
TABLE_ROWS_A_BLOCK = 1 << 16


class _Disk(io.FileIO):
    """The file that HDF5 writes to, which never fails it: ``error`` is the first failure.

    HDF5 2.0 writes what it could not write again when it closes the file, and ends the process with
    a segmentation fault when that fails too. The file is of no use then, so it may as well believe
    that all went well.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of it, or keep the reason why not."""
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while self.error is None and left:
                left = left[super().write(left) :]
        except OSError as error:
            self.error = error
        return size

    def readinto(self, buffer: Any) -> int:
        """Read; what could not be written is zeros."""
        view = memoryview(buffer).cast("B")
        count = super().readinto(view)
        if self.error is not None:
            view[count:] = bytes(len(view) - count)
            return len(view)
        return count

    def truncate(self, size: int | None = None) -> int:
        """Set the file's length, or keep the reason why not."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0


@contextlib.contextmanager
def open_reserved(path: str, mode: str) -> Iterator[h5py.File]:
    """An HDF5 file whose room on the disk is taken before; what fails all the same is an OSError.

    The part is locked already, which HDF5's own lock would run into.
    """
    try:
        with h5py.File(path, mode, libver=VERSIONS, locking=False) as file:
            yield file
    except RuntimeError as error:
        raise OSError(errno.EIO, first_line(error)) from error


@contextlib.contextmanager
def open_growing(path: str) -> Iterator[h5py.File]:
    """A new HDF5 file that takes as much room as it comes to need; a full disk is an OSError."""
    with _Disk(path, "w+") as disk:
        try:
            with h5py.File(disk, "w", libver=VERSIONS) as file:
                yield file
        except RuntimeError as error:
            raise disk.error or OSError(errno.EIO, first_line(error)) from error
        if disk.error is not None:
            raise disk.error


def create(result: ResultFile) -> AbstractContextManager[ResultWriter]:
    """A writer of an HDF5 result; the final name appears when the block ends well.

    Raises OutputError.
    """
    if result.compression == "zstd":
        raise OutputError(
            f"{result.path}: compression zstd is for .zarr, expected none, gzip or lzf"
        )
    return open_rows_result(result, _lay_out, _finish, takes_tables=True)


def _lay_out(part: PartFile, result: ResultFile) -> Layout:
    """Features that are not compressed are allocated now, and not filled."""
    if result.compression != "none":
        return Layout(beside=True)
    offset = create_contiguous(part.path, result.shape, result.dtype)
    rows = count_bytes(result.shape, result.dtype)
    with open(part.path, "rb") as stream:
        head = stream.read(offset)
        stream.seek(offset + rows)
        return Layout(head=head, tail=stream.read())


def _finish(
    part: PartFile,
    result: ResultFile,
    rows: RowFile,
    tables: Mapping[str, RowSource],
    attributes: Mapping[str, Any],
) -> None:
    """Add the tables and attributes; features that are to be compressed are written here."""
    compressed = result.compression != "none"
    opened = open_growing(part.path) if compressed else open_reserved(part.path, "r+")
    with opened as file:
        if compressed:
            _write_compressed(file, rows, result.compression)
        for name, source in tables.items():
            _write_table(file, name, source, rows.shape[0])
        for key, value in attributes.items():
            file.attrs[key] = value


def create_contiguous(path: str, shape: tuple[int, ...], dtype: FloatType) -> int:
    """A file whose features are allocated now, unfilled; gives the byte where they start."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)
    with open_reserved(path, "w") as file:
        dataset = h5py.h5d.create(
            file.id,
            ROI_FEATURES.encode(),
            h5py.h5t.py_create(dtype),
            h5py.h5s.create_simple(shape),
            properties,
        )
        offset: int | None = dataset.get_offset()
    return offset or 0


def _write_compressed(file: h5py.File, rows: RowFile, compression: Compression) -> None:
    count = rows.shape[0]
    chunk_rows = max(1, min(count, ROWS_A_CHUNK_BYTES // max(rows.row_bytes, 1)))
    chunked = {"chunks": (chunk_rows, *rows.shape[1:]), "compression": compression}
    dataset = file.create_dataset(
        ROI_FEATURES,
        rows.shape,
        rows.dtype,
        track_times=False,
        shuffle=bool(count),
        **(chunked if count else {}),
    )
    for start in range(0, count, chunk_rows):
        stop = min(start + chunk_rows, count)
        dataset[start:stop] = rows.read_rows(start, stop)


def _write_table(file: h5py.File, name: str, source: RowSource, count: int) -> None:
    first = source(0, min(count, TABLE_ROWS_A_BLOCK))
    shape, dtype = (count, *first.shape[1:]), _in_file(first.dtype)
    dataset = file.create_dataset(name, shape, dtype, track_times=False)
    for start in range(0, count, TABLE_ROWS_A_BLOCK):
        stop = min(start + TABLE_ROWS_A_BLOCK, count)
        rows = first if start == 0 else source(start, stop)
        dataset[start:stop] = rows if rows.dtype.kind != "S" else rows.astype(dtype)


def _in_file(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of a table's dataset: bytes of one length are UTF-8 texts, and are called so."""
    if dtype.kind != "S":
        return dtype
    found: np.dtype[Any] = h5py.string_dtype("utf-8", dtype.itemsize)
    return found


# --- a result in parts ----------------------------------------------------------------------------

# HDF5 takes time with the square of the runs in one mapping to read it, and each mapping has some.
RUNS_A_MAPPING = 256


def write_virtual(
    path: str,
    target: str,
    datasets: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]],
    shards: Sequence[Shard],
    attributes: Mapping[str, Any],
) -> None:
    """Write the virtual result ``target`` to ``path``, a name in the same folder.

    ``datasets`` are the shapes (K, ...) and dtypes by name; a shard's key is a file's name in the
    folder of parts.
    """
    folder = os.path.basename(parts_folder(target))
    with open_growing(path) as file:
        for name, (shape, dtype) in datasets.items():
            layout = h5py.VirtualLayout(shape, _in_file(dtype))
            for shard in shards:
                _map_part(layout, f"{folder}/{shard.key}", name, shard.rows)
            fill = np.nan if dtype.kind == "f" else None
            file.create_virtual_dataset(name, layout, fillvalue=fill)
        for key, value in attributes.items():
            file.attrs[key] = value


def _map_part(layout: h5py.VirtualLayout, source: str, name: str, rows: IntArray) -> None:
    """The rows of one part: one mapping where they stand together, else as few as read fast."""
    shape = (len(rows), *layout.shape[1:])
    for start, stop in _split_runs(rows):
        virtual = h5py.VirtualSource(source, name, shape, layout.dtype)[start:stop]
        first, last = int(rows[start]), int(rows[stop - 1]) + 1
        together = last - first == stop - start
        layout[slice(first, last) if together else rows[start:stop]] = virtual


def _split_runs(rows: IntArray) -> Iterator[tuple[int, int]]:
    """(start, stop) of what goes into one mapping: a bounded number of runs of neighbours."""
    ends = np.append(np.flatnonzero(np.diff(rows) != 1) + 1, len(rows))
    start = 0
    for stop in [*ends[RUNS_A_MAPPING - 1 :: RUNS_A_MAPPING].tolist(), len(rows)]:
        if start < stop:
            yield start, stop
        start = stop
