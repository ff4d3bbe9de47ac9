"""The NPY format (numpy.lib.format). A pickle is never loaded."""

from __future__ import annotations

import ast
import contextlib
import math
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from roicli.core.exceptions import InputError, OutputError
from roicli.core.foreign import foreign
from roicli.core.types import Array, FloatType
from roicli.storage.address import Address, check_regular_file
from roicli.storage.array import (
    FileContents,
    MemoryArray,
    RawArray,
    RawLayout,
    StoredArray,
    StoredDataset,
    as_stored,
    check_readable,
    headings_of_dtype,
    is_numeric,
    is_record,
    name_of_dtype,
    narrow_float,
)
from roicli.storage.choice import Wanted
from roicli.storage.file_state import FileState, read_state

if TYPE_CHECKING:  # what writes is imported where something is written
    from roicli.storage.atomic import PartFile
    from roicli.storage.result import ResultFile, ResultWriter
    from roicli.storage.row_file import Layout

MAGIC = b"\x93NUMPY"
# The lengths of a header stand in two bytes, since version 2 in four. NumPy takes so long a header.
LENGTH_BYTES = {1: 2, 2: 4, 3: 4}
LONGEST_HEADER = 10_000
COPY_BYTES = 1 << 24
# Python 2 wrote sides as long integers, like 3L.
_LONG = r"(?<=\d)L\b"
# What ml_dtypes' float8_e5m2 is saved as, which NumPy does not read back.
_FLOAT8_E5M2 = r"[<>|=]?f1"


class PickledError(InputError):
    """An array of Python objects, which only unpickling would give."""


class Header(NamedTuple):
    """What an NPY header says; the values begin at byte ``offset``."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool
    offset: int

    @property
    def is_plain(self) -> bool:
        """Whether the values lie in C order."""
        # Of fewer than two axes, or with one long axis, both orders are the same.
        return not self.is_fortran or sum(side > 1 for side in self.shape) < 2


def open_array(address: Address, wanted: Wanted) -> StoredArray:
    """Open a .npy file. Raises InputError unless it is whole and holds numbers."""
    return open_npy(address.path)


def open_npy(path: str) -> StoredArray:
    """As ``open_array``, of the file's path."""
    header, state = _look_at(path)
    return array_in_file(path, header, path, state)


def read_texts(address: Address) -> list[Any] | None:
    """The texts of the array; None of numbers."""
    values = np.load(address.path, mmap_mode="r", allow_pickle=False)
    return values.reshape(-1).tolist() if values.dtype.kind in "US" else None


def contents(address: Address) -> FileContents:
    """The one array of a .npy file."""
    path = address.path
    header, _ = _look_at(path)
    dataset = describe(header, foreign(path), partial(open_npy, path))
    return FileContents(foreign(path), "npy", {}, (dataset,))


def parse(data: bytes, address: Address, wanted: Wanted) -> StoredArray:
    """A .npy file that was read from a pipe."""
    return parse_npy(data, str(address))


def parse_npy(data: bytes, name: str) -> StoredArray:
    """As ``parse``, of the bytes alone."""
    header = read_header(lambda at, size: data[at : at + size], name, len(data))
    check_readable(header.dtype, name)
    count = math.prod(header.shape)
    values = np.frombuffer(data, header.dtype, count, header.offset)
    order = "F" if header.is_fortran else "C"
    with _of_possible_shape(header, name):
        values = values.reshape(header.shape, order=order)  # type: ignore[call-overload]
    return MemoryArray(values, name, may_be_table=True)


@contextlib.contextmanager
def _of_possible_shape(header: Header, name: str) -> Iterator[None]:
    """Where one side is 0, nothing bounds the others but NumPy."""
    try:
        yield
    except ValueError as error:
        raise InputError(f"{name}: shape is {header.shape}, which no array can have") from error


def describe(header: Header, address: str, opener: Callable[[], StoredArray]) -> StoredDataset:
    """An array as its header says it is stored."""
    return StoredDataset(
        address,
        header.shape,
        name_of_dtype(header.dtype),
        is_numeric(header.dtype),
        "C order" if header.is_plain else "Fortran order",
        stored_bytes=math.prod(header.shape) * header.dtype.itemsize,
        open=opener,
        columns=headings_of_dtype(header.dtype) if is_record(header.dtype) else None,
    )


def array_in_file(path: str, header: Header, name: str, state: FileState) -> StoredArray:
    """The array whose values lie in a file, at ``header.offset``."""
    if header.is_plain:
        layout = RawLayout(header.offset, header.shape, header.dtype)
        return RawArray(path, layout, name, state)
    check_readable(header.dtype, name)
    with _of_possible_shape(header, name):
        values: Array = np.empty(header.shape, header.dtype)
    if values.size:
        values = np.memmap(path, header.dtype, "r", header.offset, header.shape, "F")
    return MemoryArray(values, name, {path: state}, may_be_table=True)


def _look_at(path: str) -> tuple[Header, FileState]:
    check_regular_file(path)
    state = read_state(path)
    with open(path, "rb") as stream:
        size = os.stat(stream.fileno()).st_size
        return read_header(partial(_read_at, stream), path, size), state


def _read_at(stream: BinaryIO, at: int, size: int) -> bytes:
    stream.seek(at)
    return stream.read(size)


def read_header(read_at: Callable[[int, int], bytes], name: str, size: int) -> Header:
    """The header of an array in ``size`` bytes; ``read_at`` gives so many bytes from an offset on.

    A header is believed only as far as the file goes. Raises InputError.
    """
    magic = read_at(0, len(MAGIC))
    if magic != MAGIC:
        raise InputError(f"{name}: is not a .npy file, its first bytes are {magic!r}")
    try:
        header = _parse_header(read_at)
    except Exception as error:
        raise InputError(f"{name}: the .npy header cannot be read: {error}") from error
    if header.dtype.hasobject:
        raise PickledError(
            f"{name}: holds pickled Python objects, expected numbers; a pickle is never loaded"
        )
    if any(side < 0 for side in header.shape):
        raise InputError(
            f"{name}: the .npy header has shape {header.shape}, expected no negative side"
        )
    held, promised = size - header.offset, math.prod(header.shape) * header.dtype.itemsize
    if promised > held:
        raise InputError(
            f"{name}: is cut short: its header promises {promised:,} bytes of data "
            f"({header.shape} {header.dtype}), found {held:,}"
        )
    if held > promised and read_at(header.offset + promised, len(MAGIC)) == MAGIC:
        raise InputError(
            f"{name}: holds several arrays one after another, of which the first is "
            f"{header.shape} {header.dtype}",
            "save them by their names with numpy.savez, or a file each",
        )
    return header


def _parse_header(read_at: Callable[[int, int], bytes]) -> Header:
    """The header, whatever it says. Raises ValueError and others."""
    major, minor = read_at(len(MAGIC), 2)
    if major not in LENGTH_BYTES or minor != 0:
        raise ValueError(f"version is {major}.{minor}, expected 1.0, 2.0 or 3.0")
    start = len(MAGIC) + 2 + LENGTH_BYTES[major]
    length = int.from_bytes(read_at(len(MAGIC) + 2, LENGTH_BYTES[major]), "little")
    if length > LONGEST_HEADER:
        raise ValueError(f"it has {length:,} bytes, expected at most {LONGEST_HEADER:,}")
    data = read_at(start, length)
    if len(data) < length:
        raise ValueError(f"it has {length:,} bytes, found {len(data):,}")
    text = data.decode("utf-8" if major >= 3 else "latin1")
    found = ast.literal_eval(re.sub(_LONG, "", text).strip())
    if not isinstance(found, dict) or set(found) != {"descr", "fortran_order", "shape"}:
        raise ValueError(f"it is {text.strip()!r:.100}, expected descr, fortran_order and shape")
    shape, order = found["shape"], found["fortran_order"]
    if type(shape) is not tuple or any(type(side) is not int for side in shape):
        raise ValueError(f"shape is {shape!r:.100}, expected whole numbers")
    if order not in (False, True):
        raise ValueError(f"fortran_order is {order!r:.100}, expected True or False")
    return Header(shape, _parse_dtype(found["descr"]), order, start + length)


def _parse_dtype(description: Any) -> np.dtype[Any]:
    if isinstance(description, str) and re.fullmatch(_FLOAT8_E5M2, description):
        return narrow_float("float8_e5m2")
    return as_stored(np.lib.format.descr_to_dtype(description))


# --- writing --------------------------------------------------------------------------------------


def create(result: ResultFile) -> AbstractContextManager[ResultWriter]:
    """A writer of an .npy result, the features alone; the name appears when the block ends well.

    Raises OutputError.
    """
    from roicli.storage.result import STDOUT, open_rows_result

    if result.path == STDOUT:
        return _stdout_writer(result.shape, result.dtype)
    return open_rows_result(result, _lay_out, _finish, takes_tables=False)


def _lay_out(part: PartFile, result: ResultFile) -> Layout:
    """Write the header."""
    from roicli.storage.row_file import Layout

    with open(part.path, "wb") as stream:
        write_header(stream, result.shape, result.dtype)
        size = stream.tell()
    with open(part.path, "rb") as stream:
        return Layout(head=stream.read(size))


def write_header(stream: object, shape: tuple[int, ...], dtype: FloatType) -> None:
    """The header of an array, at the stream's place."""
    description = np.lib.format.dtype_to_descr(dtype)
    header = {"descr": description, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)  # type: ignore[arg-type]


def _finish(*_: object) -> None:
    """The file holds nothing beside the rows."""


@contextlib.contextmanager
def _stdout_writer(shape: tuple[int, ...], dtype: FloatType) -> Iterator[ResultWriter]:
    """Rows arrive in any order and a pipe takes them in one: they wait in a scratch file.

    The file has no name, so nothing stays however the run ends.
    """
    import tempfile

    from roicli.storage.atomic import check_room
    from roicli.storage.result import FileWriter
    from roicli.storage.row_file import RowFile, count_bytes

    folder = tempfile.gettempdir()
    check_room(f"the scratch file in {folder}", folder, count_bytes(shape, dtype))
    with tempfile.TemporaryFile(dir=folder) as stream:
        try:
            write_header(stream, shape, dtype)
            stream.flush()
            with contextlib.closing(
                RowFile(os.dup(stream.fileno()), stream.tell(), shape, dtype)
            ) as rows:
                yield FileWriter(rows, lambda tables, attributes: None, takes_tables=False)
        except OSError as error:
            raise OutputError(f"{folder}: the scratch file failed: {error.strerror}") from error
        stream.seek(0)
        # Whoever closes the pipe has what they wanted; the table and the exit code are still due.
        with contextlib.suppress(BrokenPipeError):
            shutil.copyfileobj(stream, sys.stdout.buffer, COPY_BYTES)
            sys.stdout.buffer.flush()
