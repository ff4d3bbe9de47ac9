"""Opening an address, whatever its format."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import BinaryIO, TypeVar, cast

from roicli.core.exceptions import InputError
from roicli.core.system import available_bytes
from roicli.storage.address import Address
from roicli.storage.array import FileContents, MemoryArray, StoredArray
from roicli.storage.choosing import Role, Wanted
from roicli.storage.file_state import FileState, check_unchanged
from roicli.storage.formats import FORMATS, StreamReader, recognize, recognize_bytes
from roicli.storage.table import RoiSource, Table

PIECE_BYTES = 1 << 20

Source = TypeVar("Source", StoredArray, Table)

# The files that are read inside the innermost ``inputs_unchanged`` block.
_watched: ContextVar[dict[str, FileState] | None] = ContextVar("watched", default=None)


@contextmanager
def inputs_unchanged() -> Iterator[None]:
    """A block that ends well ends so only if no file that was read in it has changed meanwhile.

    All files that ``open_array`` gave count, and those that they led to. Raises InputError.
    """
    files: dict[str, FileState] = {}
    token = _watched.set(files)
    try:
        yield
    finally:
        _watched.reset(token)
    check_unchanged(files)


def open_array(address: Address, role: Role) -> StoredArray:
    """Open the array at ``address`` that plays ``role``. Raises InputError."""
    wanted = Wanted(role)
    if address.is_stdin:
        return _open_stdin(address, wanted)
    found = recognize(address)
    if found.holds != "several" and address.dataset is not None:
        raise holds_no_datasets(address)
    if found.holds == "table":
        return _watch(_only_column(found.table_reader.open_table(address), role))
    return _watch(found.reader.open_array(address, wanted))


def open_rois(address: Address) -> RoiSource:
    """Open what RoIs are read from: an array, or a table, which is read. Raises InputError."""
    if not address.is_stdin:
        found = recognize(address)
        if found.holds == "table":
            if address.dataset is not None:
                raise holds_no_datasets(address)
            return _watch(found.table_reader.open_table(address))
    return open_array(address, "rois")


def _watch(source: Source) -> Source:
    """Have ``inputs_unchanged`` know the files of what was opened."""
    watch(source.files)
    return source


def watch(files: Mapping[str, FileState]) -> None:
    """Have these files be what they are now when the ``inputs_unchanged`` block ends."""
    watched = _watched.get()
    if watched is not None:
        for path, state in files.items():
            watched.setdefault(path, state)


def _only_column(table: Table, role: Role) -> StoredArray:
    """The numbers of a table of one column, where a vector is wanted."""
    if role in ("features", "result"):
        raise InputError(f"{table.name}: {role} are read from files of arrays, not from a table")
    if len(table.columns) != 1 or table.columns[0].is_text:
        raise InputError(
            f"{table.name}: is a table of {len(table.columns)} columns, expected one of numbers"
        )
    return MemoryArray(table.columns[0].values, table.name, table.files)


def read_contents(address: Address) -> FileContents:
    """What a file holds. The address may name a group or an array of it. Raises InputError."""
    found = recognize(address)
    if found.holds != "several" and address.dataset is not None:
        raise holds_no_datasets(address)
    reader = found.table_reader if found.holds == "table" else found.reader
    return reader.contents(address)


def holds_no_datasets(address: Address) -> InputError:
    """What is said of an address with a dataset in a file of one array."""
    several = ", ".join(found.name for found in FORMATS if found.holds == "several")
    return InputError(
        f"{address}: only files of several arrays hold datasets ({several})",
        f"write {address.path}",
    )


def _open_stdin(address: Address, wanted: Wanted) -> StoredArray:
    """A file on standard input, recognized by its first bytes."""
    data = _read_bounded(sys.stdin.buffer) if sys.stdin else b""  # None where a shell closed it
    names = ", ".join(found.endings[0] for found in FORMATS if found.streams)
    if not data:
        raise InputError(f"stdin: is empty, expected a file of one of: {names}")
    found = recognize_bytes(lambda at, size: data[at : at + size], "stdin")
    if found is None or not found.streams:
        raise InputError(f"stdin: is none of {names}, its first bytes are {data[:8]!r}")
    return cast("StreamReader", found.reader).parse(data, address, wanted)


def _read_bounded(stream: BinaryIO) -> bytes:
    """All of a pipe, as far as half of the free memory goes; of anything else the first piece."""
    parts = [stream.read(PIECE_BYTES)]
    first = parts[0]
    if recognize_bytes(lambda at, size: first[at : at + size], "stdin") is None:
        return first
    room = available_bytes() // 2
    while parts[-1]:
        parts.append(stream.read(PIECE_BYTES))
        room -= PIECE_BYTES
        if room < 0:
            raise InputError("stdin: does not end before memory does", "save it to a file")
    return b"".join(parts)
