"""Opening an address, whatever its format."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import BinaryIO, TypeVar, cast

from roicli.core.exceptions import InputError
from roicli.core.system import available_bytes
from roicli.storage.address import Address, check_regular_file
from roicli.storage.array import FileContents, MemoryArray, StoredArray, check_numeric
from roicli.storage.choice import Role, Wanted
from roicli.storage.file_state import FileState, check_unchanged, read_state
from roicli.storage.formats import (
    FORMATS,
    TEXT_TRIED,
    Format,
    StreamReader,
    recognize,
    recognize_bytes,
    recognize_text,
)
from roicli.storage.table import RoiSource, Table, describe_table

PIECE_BYTES = 1 << 20

Source = TypeVar("Source", bound=RoiSource)

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
    source = _open(address, role)
    return _only_column(source, role) if isinstance(source, Table) else source


def open_rois(address: Address) -> RoiSource:
    """Open what RoIs are read from: an array, or a table, which is read. Raises InputError."""
    return _open(address, "rois")


def _open(address: Address, role: Role) -> RoiSource:
    wanted = Wanted(role)
    if address.is_stream:
        return _parse(_read_stream(address), address, wanted, {})
    found = recognize(address)
    if found.holds == "packed":
        state = read_state(address.path)
        files = {address.path: state}
        return _watch(_parse(_unpack(found, address), address, wanted, files, True))
    if found.holds != "several" and address.dataset is not None:
        raise holds_no_datasets(address)
    if found.holds == "table":
        return _watch(found.table_reader.open_table(address))
    return _watch(_check_dtype(found.reader.open_array(address, wanted), role))


def _check_dtype(source: RoiSource, role: Role) -> RoiSource:
    """Raise InputError for an array that holds no numbers, or records that are no RoIs."""
    if isinstance(source, StoredArray) and not (role == "rois" and source.dtype.names):
        try:
            check_numeric(source.dtype, source.name)
        except InputError:
            source.close()
            raise
    return source


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
        what = "a result is" if role == "result" else "features are"
        raise InputError(
            f"{table.name}: {what} read from a file of arrays, not from a table",
            "save it as .npy, with all its axes",
        )
    if len(table.columns) != 1 or table.columns[0].is_text:
        raise InputError(
            f"{table.name}: is a table of {len(table.columns)} columns, expected one of numbers"
        )
    return MemoryArray(table.columns[0].values, table.name, table.files)


def read_contents(address: Address) -> FileContents:
    """What a file holds. The address may name a group or an array of it. Raises InputError."""
    found = recognize(address)
    if found.holds == "packed":
        table = open_rois(address)
        if not isinstance(table, Table):
            raise InputError(f"{address}: inspect reads packed tables, not arrays", "unpack it")
        return describe_table(table, address, "gzip")
    if found.holds != "several" and address.dataset is not None:
        raise holds_no_datasets(address)
    if found.holds == "table":
        shown = "json" if found.name == "records" else found.name
        return describe_table(found.table_reader.open_table(address), address, shown)
    return found.reader.contents(address)


def holds_no_datasets(address: Address) -> InputError:
    """What is said of an address with a dataset in a file of one array."""
    several = ", ".join(found.name for found in FORMATS if found.holds == "several")
    return InputError(
        f"{address}: only files of several arrays hold datasets ({several})",
        f"write {address.path}",
    )


def _unpack(found: Format, address: Address) -> bytes:
    check_regular_file(address.path)
    with open(address.path, "rb") as stream:
        return found.unpacker.unpack(stream, address.path)


def _parse(
    data: bytes,
    address: Address,
    wanted: Wanted,
    files: Mapping[str, FileState],
    is_unpacked: bool = False,
) -> RoiSource:
    """What is in the bytes of a file, recognized by the first of them."""
    shown = str(Address(address.path))
    names = ", ".join(found.endings[0] for found in FORMATS if found.streams)
    if not data:
        raise InputError(f"{shown}: is empty, expected a file of one of: {names}")
    found = _recognize_head(data, shown)
    if found is None or not found.streams:
        raise InputError(f"{shown}: is none of {names}, its first bytes are {data[:8]!r}")
    if found.holds == "packed":
        if is_unpacked:
            raise InputError(f"{shown}: is packed twice", "unpack it")
        return _parse(found.unpacker.unpack(io.BytesIO(data), shown), address, wanted, files, True)
    if found.holds == "table":
        return found.table_reader.parse_table(data, shown, files)
    stored = cast("StreamReader", found.reader).parse(data, address, wanted)
    stored.files = files
    return _check_dtype(stored, wanted.role)


def _recognize_head(data: bytes, shown: str) -> Format | None:
    found = recognize_bytes(lambda at, size: data[at : at + size], shown)
    return found or recognize_text(data[:TEXT_TRIED])


def _read_stream(address: Address) -> bytes:
    """All of standard input or of a pipe."""
    shown = str(Address(address.path))
    if not address.is_stdin:
        with open(address.path, "rb") as stream:
            return _read_bounded(stream, shown)
    return _read_bounded(sys.stdin.buffer, shown) if sys.stdin else b""  # None: a shell closed it


def _read_bounded(stream: BinaryIO, shown: str) -> bytes:
    """All of a pipe, as far as half of the free memory goes; of anything else the first piece."""
    parts = [stream.read(PIECE_BYTES)]
    if _recognize_head(parts[0], shown) is None:
        return parts[0]
    room = available_bytes() // 2
    while parts[-1]:
        parts.append(stream.read(PIECE_BYTES))
        room -= PIECE_BYTES
        if room < 0:
            raise InputError(f"{shown}: does not end before memory does", "save it to a file")
    return b"".join(parts)
