"""The NPZ format (numpy.savez): a ZIP archive of .npy members. A pickle is never loaded.

Members that are only stored are read at their place in the file. Compressed ones are decompressed
as far as they are asked for, from front to back.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import IO, Any, NamedTuple, cast

import numpy as np

from roicli.core.exceptions import InputError, first_line
from roicli.core.foreign import foreign
from roicli.storage.address import Address, check_regular_file
from roicli.storage.array import (
    FileContents,
    MemoryArray,
    Place,
    StoredArray,
    StoredDataset,
    as_read,
    check_readable,
    contiguous_runs,
    precision_of,
)
from roicli.storage.choice import Candidate, Wanted, choose_only, list_names
from roicli.storage.file_state import FileState, read_state
from roicli.storage.formats import WayOf, names_below, npy
from roicli.storage.limits import check_memory
from roicli.storage.shelf import Shelf, WayOfKey

ENDING = ".npy"
METHODS = {zipfile.ZIP_DEFLATED: "deflate", zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "lzma"}
PIECE_BYTES = 1 << 20
# A local header: a signature, and in the last four of its bytes the lengths of a name and of more.
LOCAL_HEADER = struct.Struct("<4s22xHH")
# The end of the archive's list of members, with the list's size; a comment may follow it.
END_OF_LIST = b"PK\x05\x06"
END_BYTES, SIZE_AT = 22 + (1 << 16), 12
# Python's record of a member, against 46 bytes and a name in the list.
LIST_IN_MEMORY = 32
FAILURES = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError,
    ValueError, struct.error,
)  # fmt: skip


class Member(NamedTuple):
    """An array of an archive: its name, its entry in the list and its header."""

    name: str
    entry: zipfile.ZipInfo
    header: npy.Header


class Archive:
    """An open archive, in a file or in memory. ``path`` is None for one in memory."""

    def __init__(self, source: IO[bytes], path: str | None, shown: str) -> None:
        self.path, self.shown, self._source = path, shown, source
        size = source.seek(0, os.SEEK_END)
        check_memory(shown, "the list of its members", _list_bytes(source, size) * LIST_IN_MEMORY)
        with self.naming(shown):
            self.zip = zipfile.ZipFile(source)
        self.entries = {
            name.removesuffix(ENDING): entry
            for name, entry in self.zip.NameToInfo.items()
            if name.endswith(ENDING)
        }
        if not self.entries:
            others = ", ".join(list(self.zip.NameToInfo)[:3]) or "nothing"
            raise InputError(
                f"{shown}: is an archive without arrays: no member ends in {ENDING}, found: "
                f"{others}",
                "save arrays with numpy.savez, or as .safetensors; unpack what holds other files",
            )

    @contextmanager
    def naming(self, name: str) -> Iterator[None]:
        """What is wrong with the archive, as one InputError."""
        try:
            yield
        except FAILURES as error:
            raise InputError(f"{name}: cannot be read: {first_line(error)}") from error

    def member(self, name: str) -> Member:
        """An array of the archive, with its header. Raises InputError."""
        address = f"{self.shown}::{name}"
        entry = self.entries[name]
        with self.naming(address), self.zip.open(entry) as stream:
            head = stream.read(npy.LONGEST_HEADER + 16)
        # A stored member has the bytes of the archive, whatever its entry says besides.
        held = min(entry.file_size, entry.compress_size) if _is_stored(entry) else entry.file_size
        header = npy.read_header(lambda at, size: head[at : at + size], address, held)
        return Member(name, entry, header)

    def members(self) -> tuple[list[Member], npy.PickledError | None]:
        """All arrays but those of Python objects, and why the first of these is none."""
        found, refused = [], None
        for name in self.entries:
            try:
                found.append(self.member(name))
            except npy.PickledError as error:
                refused = refused or error
        return found, refused

    def choose(self, address: Address, wanted: Wanted) -> Member:
        """The array that is named, or the only one that is wanted."""
        name = (address.dataset or "").strip("/")
        if not name:
            if wanted.preferred in self.entries:
                return self.member(str(wanted.preferred))
            members, refused = self.members()
            found = [Candidate(foreign(m.name), m.header.shape, m.header.dtype) for m in members]
            try:
                return members[choose_only(address, found, wanted)]
            except InputError as error:
                raise refused or error from None
        if name not in self.entries:
            names = list_names(self.entries)
            raise InputError(f"{self.shown}: has no dataset {name!r}; its datasets are: {names}")
        return self.member(name)

    def values_at(self, member: Member) -> int:
        """Where the bytes of a stored member begin in the file."""
        with self.naming(f"{self.shown}::{member.name}"):
            self._source.seek(member.entry.header_offset)
            _, name, more = LOCAL_HEADER.unpack(self._source.read(LOCAL_HEADER.size))
        return int(member.entry.header_offset + LOCAL_HEADER.size + name + more)


def _is_stored(entry: zipfile.ZipInfo) -> bool:
    """Whether a member is neither compressed nor encrypted."""
    return entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & 1


def _list_bytes(source: IO[bytes], size: int) -> int:
    """The size that the end of an archive gives for its list of members; 0 without an end."""
    source.seek(max(size - END_BYTES, 0))
    tail = source.read(END_BYTES)
    at = tail.rfind(END_OF_LIST)
    if at < 0 or at + SIZE_AT + 4 > len(tail):
        return 0
    return min(int.from_bytes(tail[at + SIZE_AT : at + SIZE_AT + 4], "little"), size)


@contextmanager
def _open_archive(path: str) -> Iterator[tuple[Archive, FileState]]:
    check_regular_file(path)
    state = read_state(path)
    with open(path, "rb") as source:
        yield Archive(source, path, path), state


def open_array(address: Address, wanted: Wanted) -> StoredArray:
    """The array of an archive that is named, or its only one that is wanted. Raises InputError."""
    with _open_archive(address.path) as (archive, state):
        return _open_member(archive, address, wanted, state)


def _open_member(
    archive: Archive, address: Address, wanted: Wanted, state: FileState
) -> StoredArray:
    path = address.path
    member = archive.choose(address, wanted)
    name = f"{path}::{member.name}"
    check_readable(member.header.dtype, name)
    if _is_stored(member.entry):
        offset = archive.values_at(member) + member.header.offset
        header = member.header._replace(offset=offset)
        return npy.array_in_file(path, header, name, state)
    return _open_compressed(lambda: open(path, "rb"), member, name, {path: state})


def parse(data: bytes, address: Address, wanted: Wanted) -> StoredArray:
    """An archive that was read from a pipe."""
    member = Archive(io.BytesIO(data), None, str(Address(address.path))).choose(address, wanted)
    return _open_compressed(lambda: io.BytesIO(data), member, f"stdin::{member.name}", {})


def read_texts(address: Address) -> list[Any] | None:
    """The texts of a member, whose size is looked at before it is unpacked; None of numbers."""
    if address.dataset is None:
        return None
    member = address.dataset.removesuffix(ENDING)
    with np.load(address.path, allow_pickle=False) as archive:
        size = archive.zip.getinfo(member + ENDING).file_size
        check_memory(address.path, "its texts", size)
        values = archive[member]
    return values.reshape(-1).tolist() if values.dtype.kind in "US" else None


def contents(address: Address) -> FileContents:
    """The arrays of an archive, or the one that the address names."""
    path = address.path
    with _open_archive(path) as (archive, _):
        named = (address.dataset or "").strip("/")
        if named:
            members = [archive.choose(address, Wanted("any"))]
        else:
            members, refused = archive.members()
            if refused is not None and not members:
                raise refused
    return FileContents(foreign(path), "npz", {}, tuple(_describe(path, one) for one in members))


class NpzShelf(Shelf):
    """Members of one archive, whose list is read once."""

    def __init__(self, path: str, way_of: WayOfKey, wanted: Wanted) -> None:
        self._path, self._way_of, self._wanted = path, way_of, wanted
        with ExitStack() as stack:
            self._archive, state = stack.enter_context(_open_archive(path))
            self._stack = stack.pop_all()
        self.files = {path: state}

    def open(self, key: str) -> StoredArray:
        """The member of a key."""
        address = Address(self._path, self._way_of(key))
        return _open_member(self._archive, address, self._wanted, self.files[self._path])

    def path_of(self, key: str) -> str:
        """The one file."""
        return self._path

    def close(self) -> None:
        """Let go of the archive."""
        self._stack.close()


def open_shelf(path: str, way_of: WayOfKey, wanted: Wanted) -> NpzShelf:
    """The members of an archive. Raises InputError."""
    return NpzShelf(path, way_of, wanted)


def find_names(path: str, group: str, way_of: WayOf) -> list[str]:
    """The names in a group of an archive whose way is there."""
    with _open_archive(path) as (archive, _):
        return names_below(archive.entries, group, way_of)


def _describe(path: str, member: Member) -> StoredDataset:
    address = Address(path, member.name)
    opener = partial(open_array, address, Wanted("any"))
    described = npy.describe(member.header, str(address), opener)
    method = member.entry.compress_type
    return replace(
        described,
        compression=None if _is_stored(member.entry) else METHODS.get(method, f"method {method}"),
        stored_bytes=member.entry.compress_size,
    )


def _open_compressed(
    opener: Callable[[], IO[bytes]], member: Member, name: str, files: dict[str, FileState]
) -> StoredArray:
    """A member that is decompressed as it is read; one in Fortran order at once."""
    plain = member.header
    array = CompressedArray(opener, member, name, files)
    if plain.is_plain:
        return array
    with closing(array):
        check_memory(name, "its values, which are compressed and in Fortran order", 2 * array.size)
        return MemoryArray(array.read_fortran(), name, files, may_be_table=True)


class CompressedArray(StoredArray):
    """A compressed member of an archive, read from front to back; what lies before is passed over.

    Going back begins anew. What was cut short or altered is found by the archive's checksum, if
    all of it is read.
    """

    def __init__(
        self,
        opener: Callable[[], IO[bytes]],
        member: Member,
        name: str,
        files: dict[str, FileState],
    ) -> None:
        check_readable(member.header.dtype, name)
        self.name = foreign(name)
        self.files = files
        self.shape = member.header.shape
        self.dtype = as_read(member.header.dtype)
        self.precision = precision_of(member.header.dtype)
        self.reading_bytes = PIECE_BYTES
        self._member, self._source = member, opener()
        self._archive: zipfile.ZipFile | None = None
        self._stream: IO[bytes] | None = None
        self._at = 0

    @property
    def size(self) -> int:
        """Bytes of all values as stored."""
        return int(np.prod(self.shape, dtype=np.float64)) * self._member.header.dtype.itemsize

    def read(self, place: Place, out: Any) -> None:
        """The values at ``place`` into ``out``, run by run."""
        if out.size == 0:
            return
        stored = self._member.header.dtype
        raw = out if stored == out.dtype else np.empty(out.shape, stored)
        view = memoryview(cast("Any", raw.reshape(-1).view(np.uint8)))
        done = 0
        for first, count in contiguous_runs(self.shape, place):
            size = count * stored.itemsize
            self._read_at(
                self._member.header.offset + first * stored.itemsize, view[done : done + size]
            )
            done += size
        if raw is not out:
            out[...] = raw

    def read_fortran(self) -> Any:
        """All values of an array in Fortran order."""
        flat = np.empty(int(np.prod(self.shape)), self._member.header.dtype)
        view = memoryview(cast("Any", flat.view(np.uint8)))
        self._read_at(self._member.header.offset, view)
        return flat.reshape(self.shape, order="F")

    def _read_at(self, offset: int, view: memoryview) -> None:
        try:
            stream = self._go_to(offset)
            while view:
                piece = stream.read(min(len(view), PIECE_BYTES))
                if not piece:
                    raise EOFError(f"it ends at byte {self._at:,}, the header promised more")
                view[: len(piece)] = piece
                view, self._at = view[len(piece) :], self._at + len(piece)
        except FAILURES as error:
            raise InputError(f"{self.name}: cannot be read: {first_line(error)}") from error

    def _go_to(self, offset: int) -> IO[bytes]:
        """The stream at an offset of the member."""
        if self._stream is None or offset < self._at:
            if self._archive is None:
                self._archive = zipfile.ZipFile(self._source)
            if self._stream is not None:
                self._stream.close()
            self._stream, self._at = self._archive.open(self._member.entry), 0
        while self._at < offset:
            passed = self._stream.read(min(offset - self._at, PIECE_BYTES))
            if not passed:
                raise EOFError(f"it ends at byte {self._at:,}, the header promised more")
            self._at += len(passed)
        return self._stream

    def close(self) -> None:
        """Let go of the file."""
        for opened in (self._stream, self._archive, self._source):
            if opened is not None:
                opened.close()
