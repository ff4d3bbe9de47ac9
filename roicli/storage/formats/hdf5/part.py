"""A part of a result: a block of its rows, with what joining it to the others needs.

Beside what every HDF5 result holds stand ``/rows`` (k,), the rows' numbers in the whole, and
``/row_crc32`` (k,), the CRC-32 of each row of the features. The attributes are those of the whole,
and three more: which part it is, what the parts must agree in, and the CRC-32 of each table.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import h5py
import numpy as np

from roicli.core.exceptions import InputError, first_line
from roicli.core.types import Array, FloatArray, IntArray, as_bytes
from roicli.storage.address import check_regular_file
from roicli.storage.formats.hdf5.child import in_child_first
from roicli.storage.formats.hdf5.file import DAMAGE, close_file, naming_damage, open_file
from roicli.storage.formats.hdf5.links import find_object, trace_sources
from roicli.storage.formats.hdf5.write import ROI_FEATURES
from roicli.storage.limits import check_memory
from roicli.storage.result import ROIS_COLUMNS, ResultWriter, RowSource
from roicli.storage.row_file import narrow
from roicli.storage.shard import Shard

ROWS, ROW_CRC32 = "rows", "row_crc32"
SHARD, FINGERPRINT, TABLES_CRC32 = "shard", "part_fingerprint", "part_tables_crc32"
PART_TABLES = (ROWS, ROW_CRC32)
PART_ATTRIBUTES = (SHARD, FINGERPRINT, TABLES_CRC32)
BLOCK_ROWS = 1 << 16
BLOCK_BYTES = 16 << 20

# --- writing ------------------------------------------------------------------------------------


class PartWriter:
    """Hands rows on to ``writer``, and keeps the checksum of each.

    ``checksums`` (k,) float64, which holds 32 bits exactly, so that a resumed run keeps them as it
    keeps value columns.
    """

    def __init__(
        self,
        writer: ResultWriter,
        shard: Shard,
        dtype: np.dtype[np.floating],
        checksums: FloatArray,
    ) -> None:
        self._writer, self._shard, self._dtype = writer, shard, dtype
        self._checksums = checksums
        self.finished, self.takes_tables = writer.finished, writer.takes_tables

    def write_rows(self, rows: IntArray, block: Array) -> None:
        """Write ``block`` (k, C, P_h, P_w) to ``rows`` (k,) of the part."""
        data = narrow(block, self._dtype)
        self._checksums[rows] = [zlib.crc32(as_bytes(row)) for row in data]
        self._writer.write_rows(rows, data)

    def finish(self, tables: Mapping[str, RowSource], attributes: Mapping[str, Any]) -> None:
        """Add the tables, and the attributes of the whole in place of the part's."""
        checksums, rows = self._checksums.astype(np.uint32), self._shard.rows
        beside: dict[str, RowSource] = {
            **tables,
            ROWS: lambda start, stop: rows[start:stop],
            ROW_CRC32: lambda start, stop: checksums[start:stop],
        }
        count = len(checksums)
        found = {name: crc32_of_table(source, count) for name, source in beside.items()}
        self._writer.finish(
            beside,
            {
                **self._shard.attributes,
                SHARD: str(self._shard),
                FINGERPRINT: json.dumps(dict(self._shard.fingerprint)),
                TABLES_CRC32: json.dumps(found),
            },
        )


def crc32_of_table(source: RowSource, count: int) -> int:
    """The CRC-32 of a table's bytes, read in bounded blocks."""
    crc = 0
    for start in range(0, count, BLOCK_ROWS):
        rows = np.ascontiguousarray(source(start, min(start + BLOCK_ROWS, count)))
        crc = zlib.crc32(as_bytes(rows), crc)
    return crc


# --- reading, and telling a whole part from a damaged one ----------------------------------------


class ResultPart:
    """One part, open. ``shape`` (k, C, P_h, P_w); ``tables`` are the dtypes and row shapes of what
    stands beside the features in the whole.
    """

    def __init__(self, file: h5py.File, path: str) -> None:
        self.path, self._file = path, file
        for name in file:
            find_object(
                file, name, path, {}
            )  # refuses a link to another file before it is followed
        for name in (ROI_FEATURES, *PART_TABLES):
            if not isinstance(file.get(name), h5py.Dataset):
                raise InputError(f"{path}: is no part of a result: it has no dataset /{name}")
        features = file[ROI_FEATURES]
        if len(features.shape or ()) != 4 or features.dtype.kind != "f":
            raise InputError(
                f"{path}: is no part of a result: /{ROI_FEATURES} is {features.shape} "
                f"{features.dtype}, expected (K, C, P_h, P_w) floats"
            )
        self._datasets = _datasets_of(file, path)
        for name, dataset in self._datasets.items():
            if dataset.is_virtual:
                raise InputError(f"{path}: is no part of a result: /{name} holds no values")
            trace_sources(dataset, path, {})
        self._features = features
        self.shape: tuple[int, ...] = self._features.shape
        self.dtype: np.dtype[Any] = self._features.dtype
        self.is_chunked = self._features.chunks is not None
        attributes = dict(file.attrs)
        try:
            self.shard = str(attributes[SHARD])
            self.fingerprint: Mapping[str, str] = dict(json.loads(attributes[FINGERPRINT]))
            self._tables_crc32: Mapping[str, int] = dict(json.loads(attributes[TABLES_CRC32]))
            self.total = int(attributes["result_shape"][0])
        except (KeyError, TypeError, ValueError, IndexError):
            raise InputError(
                f"{path}: is no part of a result: it lacks the attributes "
                + ", ".join(PART_ATTRIBUTES),
                "parts are written with --shard or --dask",
            ) from None
        self.attributes = {k: v for k, v in attributes.items() if k not in PART_ATTRIBUTES}
        self.tables = {
            name: (dataset.dtype, dataset.shape[1:])
            for name, dataset in self._datasets.items()
            if name not in (ROI_FEATURES, *PART_TABLES)
        }
        for item in (item for value in self.attributes.values() for item in np.ravel(value)):
            if isinstance(item, str):
                item.encode()  # text that is none cannot be written to the whole
        self._check_lengths()

    def __len__(self) -> int:
        return self.shape[0]

    def _check_lengths(self) -> None:
        """Every dataset has a row for every RoI, and a checksum."""
        names = {name for name in self._datasets if name != ROI_FEATURES}
        if names != set(self._tables_crc32):
            raise InputError(f"{self.path}: its tables are {sorted(names)}, expected "
                             f"{sorted(self._tables_crc32)}")  # fmt: skip
        for name in names:
            if self._datasets[name].shape[:1] != self.shape[:1]:
                raise InputError(
                    f"{self.path}: /{name} has shape {self._datasets[name].shape}, expected "
                    f"{len(self)} rows as /{ROI_FEATURES} has"
                )

    def read_table(self, name: str, start: int, stop: int) -> Array:
        """Rows of a table, (stop - start, ...)."""
        dataset = self._datasets[name]
        needed = (stop - start) * math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
        check_memory(self.path, f"{stop - start:,} rows of /{name}", needed)
        try:
            return np.asarray(dataset[start:stop])
        except DAMAGE as error:
            raise InputError(f"{self.path}: /{name} cannot be read: {first_line(error)}") from error

    def read_rows(self) -> IntArray:
        """(k,) the rows' numbers in the whole. Raises InputError unless they ascend inside it."""
        rows = self.read_table(ROWS, 0, len(self))
        inside = len(rows) == 0 or (rows[0] >= 0 and rows[-1] < self.total)
        if rows.dtype.kind != "i" or rows.ndim != 1 or not inside or np.any(np.diff(rows) <= 0):
            raise InputError(f"{self.path}: /{ROWS} are not ascending rows of {self.total:,} RoIs")
        return rows

    def check_tables(self) -> None:
        """Raise InputError where a table is not what was written."""
        for name, written in self._tables_crc32.items():
            found = crc32_of_table(partial(self.read_table, name), len(self))
            if found != written:
                raise _damaged(self.path, f"/{name}")

    def read_features(self) -> Iterator[tuple[int, int, Array]]:
        """(start, stop, rows of the features), block by block, each checked against its checksum.

        Raises InputError for a row that is not what was written.
        """
        checksums = self.read_table(ROW_CRC32, 0, len(self))
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        step = min(max(1, BLOCK_BYTES // max(row_bytes, 1)), BLOCK_ROWS)
        for start in range(0, len(self), step):
            stop = min(start + step, len(self))
            block = self.read_table(ROI_FEATURES, start, stop)
            found = [zlib.crc32(as_bytes(row)) for row in block]
            wrong = np.flatnonzero(np.array(found, np.uint32) != checksums[start:stop])
            if len(wrong):
                raise _damaged(self.path, f"row {start + int(wrong[0])} of /{ROI_FEATURES}")
            yield start, stop, block


def _datasets_of(file: h5py.File, path: str) -> dict[str, h5py.Dataset]:
    """The datasets by name; those in the group of the RoIs' columns as GROUP/NAME."""
    found: dict[str, Any] = dict(file.items())
    group = found.pop(ROIS_COLUMNS, None)
    if isinstance(group, h5py.Group):
        for name in group:
            find_object(file, f"{ROIS_COLUMNS}/{name}", path, {})
        found |= {f"{ROIS_COLUMNS}/{name}": dataset for name, dataset in group.items()}
    for name, dataset in found.items():
        if not isinstance(dataset, h5py.Dataset):
            raise InputError(f"{path}: is no part of a result: /{name} holds no values")
    return found


def _damaged(path: str, what: str) -> InputError:
    return InputError(
        f"{path}: {what} is damaged: its checksum is not the one that was written",
        "make this part again",
    )


@contextmanager
def open_part(path: str) -> Iterator[ResultPart]:
    """A part, open for reading. Raises InputError where it is none."""
    check_regular_file(path)
    file = open_file(path, path)
    try:
        with naming_damage(path):
            part = ResultPart(file, path)
        yield part
    finally:
        close_file(file)


def try_part(path: str) -> None:
    """Read in a child process what opening and joining the part will read of HDF5's structures.

    Raises InputError for a damaged file, also where HDF5 crashes on it.
    """
    check_regular_file(path)

    def read() -> None:
        with open_part(path) as part:
            part.check_tables()
            if part.is_chunked:
                for _ in part.read_features():
                    pass

    in_child_first(read, path)


def check_part(path: str, shard: Shard) -> None:
    """Raise InputError unless the file is the whole shard."""
    try_part(path)
    with open_part(path) as part:
        if dict(part.fingerprint) != dict(shard.fingerprint):
            raise InputError(f"{path}: was made from other inputs or with other parameters")
        if not np.array_equal(part.read_rows(), shard.rows):
            raise InputError(f"{path}: holds other rows")
        part.check_tables()
        for _ in part.read_features():
            pass
