"""The HDF5 result: /roi_features, the tables beside it, and provenance as attributes."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from roicli.datatypes import Array, FloatType, IntArray
from roicli.storage.output import RowFile, RowSource
from roicli.vocabulary import Compression

ROI_FEATURES = "roi_features"
ROWS_A_CHUNK_BYTES = 1 << 20
TABLE_ROWS_A_BLOCK = 1 << 16


@contextlib.contextmanager
def _open_to_write(path: str, mode: str) -> Iterator[h5py.File]:
    """An HDF5 file; a disk that fills up is an OSError, which HDF5 does not always make it."""
    try:
        with h5py.File(path, mode, libver=("earliest", "v110")) as file:
            yield file
    except RuntimeError as error:
        raise OSError(errno.EIO, str(error)) from error


class Hdf5Writer:
    """Writes one HDF5 file at a temporary name.

    Uncompressed features are contiguous, allocated at once and written at their offset, past the
    library. Compressed ones wait in a scratch file, since a chunk must be compressed whole.
    """

    def __init__(
        self, path: str, shape: tuple[int, ...], dtype: FloatType, compression: Compression
    ) -> None:
        self._path = path
        self._shape, self._dtype = shape, dtype
        self._compression = compression
        self._scratch = f"{path}.rows" if compression != "none" else None
        offset: int | None = 0
        with _open_to_write(path, "w") as file:
            if self._scratch is None:
                offset = self._create_contiguous(file)
        try:
            self._rows = RowFile(self._scratch or path, offset or 0, shape, dtype)
        except BaseException:
            self._remove_scratch()
            raise
        self.write_rows = self._write_rows

    def __enter__(self) -> Hdf5Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._rows.close()
        self._remove_scratch()

    def _remove_scratch(self) -> None:
        if self._scratch is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._scratch)

    def _write_rows(self, rows: IntArray, block: Array) -> None:
        """Write ``block`` (k, C, P_h, P_w) to ``rows`` (k,) of the result."""
        self._rows.write_rows(rows, block)

    def _create_contiguous(self, file: h5py.File) -> int | None:
        """Allocate the features now, unfilled, and tell where they start."""
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_layout(h5py.h5d.CONTIGUOUS)
        properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        properties.set_obj_track_times(False)
        dataset = h5py.h5d.create(
            file.id,
            ROI_FEATURES.encode(),
            h5py.h5t.py_create(self._dtype),
            h5py.h5s.create_simple(self._shape),
            properties,
        )
        offset: int | None = dataset.get_offset()
        return offset

    def finish(self, tables: Mapping[str, RowSource], attributes: Mapping[str, Any]) -> None:
        """Add the tables and attributes, and compress the features where that was asked for."""
        with _open_to_write(self._path, "r+") as file:
            if self._scratch is not None:
                self._write_compressed(file)
            for name, source in tables.items():
                self._write_table(file, name, source)
            for key, value in attributes.items():
                file.attrs[key] = value

    def _write_compressed(self, file: h5py.File) -> None:
        count = self._shape[0]
        row_bytes = int(np.prod(self._shape[1:], dtype=np.int64)) * self._dtype.itemsize
        chunk_rows = max(1, min(count, ROWS_A_CHUNK_BYTES // max(row_bytes, 1)))
        chunked = {"chunks": (chunk_rows, *self._shape[1:]), "compression": self._compression}
        dataset = file.create_dataset(
            ROI_FEATURES,
            self._shape,
            self._dtype,
            track_times=False,
            shuffle=bool(count),
            **(chunked if count else {}),
        )
        for start in range(0, count, chunk_rows):
            stop = min(start + chunk_rows, count)
            dataset[start:stop] = self._rows.read_rows(start, stop)

    def _write_table(self, file: h5py.File, name: str, source: RowSource) -> None:
        count = self._shape[0]
        first = source(0, min(count, TABLE_ROWS_A_BLOCK))
        dataset = file.create_dataset(
            name, (count, *first.shape[1:]), first.dtype, track_times=False
        )
        for start in range(0, count, TABLE_ROWS_A_BLOCK):
            stop = min(start + TABLE_ROWS_A_BLOCK, count)
            dataset[start:stop] = first if start == 0 else source(start, stop)
