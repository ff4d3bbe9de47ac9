"""The shapes a result takes: an HDF5, .npy or Zarr file, an .npy on stdout, an array in memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from roicli.core.types import Array, FloatType, IntArray
from roicli.core.vocabulary import Compression
from roicli.storage.address import names_a_store
from roicli.storage.atomic import (
    OUTPUT_FORMATS,
    PartFile,
    as_output_errors,
    check_output,
    check_room,
)
from roicli.storage.formats import FORMAT_OF_ENDING, ZARR
from roicli.storage.resume import (
    ResumableRows,
    Resumption,
    Segment,
    find_kept,
    keep_rows,
)
from roicli.storage.row_file import Layout, RowFile, allocated_bytes, count_bytes, narrow

STDOUT = "-"
# The group of the other columns of the RoIs' source, with a dataset for each.
ROIS_COLUMNS = "rois_columns"
# Headers, attributes and the library's own structures in an HDF5 file.
HDF5_OVERHEAD = 1 << 16

# Gives the rows from start to stop of a table that stands beside the features.
RowSource = Callable[[int, int], Array]
Finish = Callable[[Mapping[str, RowSource], Mapping[str, Any]], None]


class ResultWriter(Protocol):
    """Takes rows while the run goes on, and the tables and attributes when it is over.

    Whoever opened the writer gives the result its name afterwards, when nothing can fail any more.
    ``finished`` RoIs, the first ones in the run's order, were written by an earlier run.
    """

    @property
    def finished(self) -> int:
        """How many RoIs need not be run."""

    @property
    def takes_tables(self) -> bool:
        """Whether ``finish`` writes the tables."""

    def write_rows(self, rows: IntArray, block: Array) -> None:
        """Write ``block`` (k, C, P_h, P_w) to ``rows`` (k,) of the result."""

    def finish(self, tables: Mapping[str, RowSource], attributes: Mapping[str, Any]) -> None:
        """Everything is written; add what stands beside it, where the format can hold it, and
        bring all of it to the disk. Raises OutputError where it cannot have its name.
        """


class FileWriter:
    """A file in the making; ``finish`` adds what its format holds beside the rows."""

    def __init__(
        self,
        rows: RowFile | ResumableRows,
        finish: Finish,
        takes_tables: bool,
    ) -> None:
        self.takes_tables = takes_tables
        self.finished = rows.finished if isinstance(rows, ResumableRows) else 0
        self.write_rows = rows.write_rows
        self.finish = finish


class MemoryWriter:
    """The result as an array in memory, for Python."""

    finished = 0
    takes_tables = False

    def __init__(self, shape: tuple[int, ...], dtype: FloatType) -> None:
        self.array: Array = np.empty(shape, dtype)

    def write_rows(self, rows: IntArray, block: Array) -> None:
        """Write ``block`` (k, C, P_h, P_w) to ``rows`` (k,) of the result."""
        self.array[rows] = narrow(block, self.array.dtype)

    def finish(self, tables: Mapping[str, RowSource], attributes: Mapping[str, Any]) -> None:
        """Nothing stands beside an array in memory."""


class NoWriter:
    """A run whose features nobody keeps: only its errors are wanted."""

    finished = 0
    takes_tables = False

    def write_rows(self, rows: IntArray, block: Array) -> None:
        """Drop the rows."""

    def finish(self, tables: Mapping[str, RowSource], attributes: Mapping[str, Any]) -> None:
        """Nothing to finish."""


# Shards of a Zarr result where memory allows: 6 TB are then 95,000 files.
SHARD_BYTES = 64 << 20


class ResultFile(NamedTuple):
    """What is to be written where. ``shape`` (K, C, P_h, P_w); ``row_beside_bytes`` is what the
    tables take for a RoI; with ``resumption`` an interruption keeps what is finished. A Zarr store
    of many chunks has them in shards of ``shard_bytes``.
    """

    path: str
    shape: tuple[int, ...]
    dtype: FloatType
    compression: Compression = "none"
    force: bool = False
    row_beside_bytes: int = 0
    resumption: Resumption | None = None
    shard_bytes: int = SHARD_BYTES

    @property
    def is_npy(self) -> bool:
        """Whether the result is an array alone."""
        return OUTPUT_FORMATS[Path(self.path).suffix.lower()] == "npy"

    @property
    def needed_bytes(self) -> int:
        """What the result takes at least; how far compression goes is not known."""
        beside = 0 if self.is_npy else HDF5_OVERHEAD + self.shape[0] * self.row_beside_bytes
        return count_bytes(self.shape, self.dtype) + beside


def check_place(path: str, taken: Iterable[str], force: bool) -> None:
    """Raise OutputError unless a result may be written to ``path``: a file's or a store's rules.

    ``taken`` are the files that it must not replace.
    """
    if not names_a_store(path):
        check_output(path, taken, force, tuple(OUTPUT_FORMATS))
        return
    from roicli.storage.formats.zarr import publish

    publish.check_place(path, taken, force, tuple(OUTPUT_FORMATS))


def open_result(result: ResultFile) -> AbstractContextManager[ResultWriter]:
    """A writer of the result; the final name appears when the block ends well.

    Raises OutputError where another run writes it, where it does not fit, and where an interrupted
    run's rows are there and nothing says what to do with them.
    """
    if names_a_store(result.path):
        return ZARR.writer.create(result)
    ending = ".npy" if result.path == STDOUT else Path(result.path).suffix.lower()
    return FORMAT_OF_ENDING[ending].writer.create(result)


LayOut = Callable[[PartFile, ResultFile], Layout]
FinishPart = Callable[
    [PartFile, ResultFile, RowFile, Mapping[str, RowSource], Mapping[str, Any]], None
]


@contextlib.contextmanager
def open_rows_result(
    result: ResultFile, lay_out: LayOut, finish_part: FinishPart, takes_tables: bool
) -> Iterator[FileWriter]:
    """A writer of a result whose rows are written at offsets, in the part or beside it.

    ``lay_out`` begins the part, ``finish_part`` adds what its format holds beside the rows.
    """
    with as_output_errors(result.path), PartFile(result.path) as part:
        layout, segments = _lay_out(part, result, lay_out)
        with contextlib.closing(layout.open_rows(part, result.shape, result.dtype)) as rows:

            def finish(tables: Mapping[str, RowSource], attributes: Mapping[str, Any]) -> None:
                finish_part(part, result, rows, tables, attributes)
                part.flush()
                part.check_name(result.force)

            if result.resumption is None:
                yield FileWriter(rows, finish, takes_tables)
            else:
                with keep_rows(rows, part, layout, segments, result.resumption) as kept:
                    yield FileWriter(kept, finish, takes_tables)
        part.publish(result.force)


def _lay_out(part: PartFile, result: ResultFile, lay_out: LayOut) -> tuple[Layout, list[Segment]]:
    """Begin the part, or take up what an interrupted run left of it."""
    layout, segments = find_kept(part, result.resumption, result.force)
    held = allocated_bytes(part.path) + allocated_bytes(part.companion("rows"))
    check_room(result.path, os.path.dirname(result.path), result.needed_bytes, held)
    if layout is not None:
        layout.restore(part, result.shape, result.dtype)
        return layout, segments
    part.clear()
    return lay_out(part, result), []
