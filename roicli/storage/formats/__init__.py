"""How arrays stand in files: a file or a package for each format, and a line in the table here."""

from __future__ import annotations

import importlib
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, NoReturn, Protocol, cast

from roicli.core.exceptions import InputError
from roicli.core.foreign import MARKS
from roicli.storage.address import IMAGE, SEPARATOR, Address, is_url

if TYPE_CHECKING:  # NumPy, which --help does not wait for
    from roicli.core.types import Array
    from roicli.storage.array import FileContents, StoredArray
    from roicli.storage.choice import Wanted
    from roicli.storage.file_state import FileState
    from roicli.storage.shelf import Shelf, WayOfKey
    from roicli.storage.table import RoiSource, Table


# From a name in a group to the whole way that it would stand for; None where it does not fit.
WayOf = Callable[[str], str | None]


class Reader(Protocol):
    """What the module of a format has."""

    def open_array(self, address: Address, wanted: Wanted) -> RoiSource:
        """The array at an address, or the file's only one that is ``wanted``. Raises InputError.

        Where RoIs are wanted it may be a table.
        """

    def contents(self, address: Address) -> FileContents:
        """What the file holds, or its group or array that the address names. Raises InputError."""


class TableReader(Protocol):
    """What the module of a format of tables has instead."""

    def open_table(self, address: Address) -> Table:
        """The table of a file, or the one that the address names. Raises InputError."""

    def parse_table(
        self, data: bytes, name: str, files: Mapping[str, FileState] | None = None
    ) -> Table:
        """The table in the bytes of a file, of a format that may come through a pipe."""


class Unpacker(Protocol):
    """What the module of a format has that packs files of others."""

    def unpack(self, stream: BinaryIO, name: str) -> bytes:
        """The bytes of the file that is packed. Raises InputError."""


class Lister(Protocol):
    """What the module of a format has besides, if its files hold several arrays."""

    def find_names(self, path: str, group: str, way_of: WayOf) -> list[str]:
        """The names in a group of the file ("" is its root) whose way is there.

        Arrays are not opened for that. Raises InputError.
        """


class TextReader(Protocol):
    """What the module of a format has besides, if its arrays may be of texts."""

    def read_texts(self, address: Address) -> list[Any] | None:
        """The texts of an array, in order; None where it is of something else, or none is named.

        Raises InputError, OSError, ValueError and KeyError.
        """


class ShelfReader(Protocol):
    """What the module has that keeps a file open for many arrays; in a package it is ``shelf``."""

    def open_shelf(self, path: str, way_of: WayOfKey, wanted: Wanted) -> Shelf:
        """The arrays of a file, each at its key's way and ``wanted``. Raises InputError."""

    def look_at_files(
        self,
        addresses: Sequence[Address],
        wanted: Wanted,
        fill: Callable[[Array], None],
        width: int,
    ) -> Array:
        """The numbers (n, width) that ``fill`` finds of an array in each of many files, of a format
        that ``is_contained``: one child opens all of them.
        """


class StreamReader(Protocol):
    """What the module of a format has besides, if files of it may come through a pipe."""

    def parse(self, data: bytes, address: Address, wanted: Wanted) -> StoredArray:
        """The array in the bytes of a file, as ``open_array``. Raises InputError."""


class Writer(Protocol):
    """What the module that writes a format has."""

    def create(self, result: Any) -> AbstractContextManager[Any]:
        """A ``ResultWriter`` of a ``ResultFile`` (``storage.result``), which import this table.

        The result's name appears when the block ends well. Raises OutputError.
        """


class Format(NamedTuple):
    """One file format. A module with its name reads and writes it; in a package two do.

    A file of it has one of the ``endings``, or ``magic`` at one of the ``offsets``, or as a text
    one of the bytes ``first`` before all others but blanks, or what matches ``beginning``. It
    ``holds`` several arrays with names, or "one" without, or a "table", or another file "packed".
    Files with an ending in ``written`` can be results. ``streams``: it may come through a pipe.
    ``of_folder`` is the ending of the files of a folder that is one table. ``keeps_open``: many
    arrays of one file are read without opening it again. ``is_contained``: a file is opened in a
    child process first. ``module`` is that of a format that another package brings.
    """

    name: str
    endings: tuple[str, ...]
    magic: bytes = b""
    offsets: tuple[int, ...] = (0,)
    first: bytes = b""
    beginning: re.Pattern[bytes] | None = None
    holds: Literal["several", "one", "table", "packed"] = "several"
    written: tuple[str, ...] = ()
    of_folder: str | None = None
    streams: bool = False
    keeps_open: bool = False
    is_contained: bool = False
    is_package: bool = False
    module: str = ""

    @property
    def reader(self) -> Reader:
        """The module, imported when the first file of the format is met."""
        return cast("Reader", self._import("read"))

    @property
    def unpacker(self) -> Unpacker:
        """The module of a format that packs others."""
        return cast("Unpacker", self._import("read"))

    @property
    def shelves(self) -> ShelfReader:
        """The module that keeps files open, of a format that can."""
        return cast("ShelfReader", self._import("shelf"))

    @property
    def writer(self) -> Writer:
        """The module that writes results, of a format that can be written."""
        return cast("Writer", self._import("write"))

    @property
    def table_reader(self) -> TableReader:
        """The module of a format that holds a table."""
        return cast("TableReader", self._import("read"))

    def _import(self, part: str) -> object:
        module = self.module or f"{__name__}.{self.name}"
        return importlib.import_module(f"{module}.{part}" if self.is_package else module)

    def begins(self, read_at: Callable[[int, int], bytes]) -> bool:
        """Whether the magic bytes are there; ``read_at`` gives so many bytes from an offset on."""
        size = len(self.magic)
        return bool(size) and any(read_at(at, size) == self.magic for at in self.offsets)


# An HDF5 file may have a block of another's before it, of 512 bytes or twice that, and so on.
_HDF5_OFFSETS = (0, *(512 << n for n in range(12)))
_TRTEXEC = re.compile(rb'\[\s*\{\s*"name"\s*:\s*"[^"]*"\s*,\s*"dimensions"\s*:')

FORMATS = (
    Format("npy", (".npy",), b"\x93NUMPY", holds="one", written=(".npy",), streams=True),
    Format("npz", (".npz",), b"PK\x03\x04", streams=True, keeps_open=True),
    Format("safetensors", (".safetensors",), b"\0\0\0{", (5,), streams=True, keeps_open=True),
    Format(
        "hdf5", (".h5", ".hdf5", ".hf5", ".hdf", ".he5", ".nc", ".mat"), b"\x89HDF\r\n\x1a\n",
        _HDF5_OFFSETS, written=(".h5", ".hdf5"), streams=True, keeps_open=True, is_contained=True,
        is_package=True,
    ),
    Format("pytorch", (".pt", ".pth"), keeps_open=True),
    Format("raw", (".bin", ".raw", ".dat")),
    Format("zarr", (".zarr",), written=(".zarr",), is_package=True),
    Format("trtexec", (), beginning=_TRTEXEC),
    Format(
        "records", (".json", ".jsonl", ".ndjson"), first=b"[{", holds="table", streams=True,
    ),
    Format("parquet", (".parquet", ".pq"), b"PAR1", holds="table", streams=True),
    Format("feather", (".feather", ".arrow"), b"ARROW1", holds="table", streams=True),
    Format("yolo", (), holds="table", of_folder=".txt"),
    Format("voc", (".xml",), first=b"<", holds="table", streams=True, of_folder=".xml"),
    Format("text", (".csv", ".tsv", ".txt"), holds="table", streams=True),
    Format("gzip_stream", (".gz",), b"\x1f\x8b", holds="packed", streams=True),
)  # fmt: skip
# What follows :: in an address of raw binary, like float32[15,8,7,7].
_DESCRIPTION = r"[<>]?[a-z]+[0-9a-z_]*\[[0-9, ]+\]"
ZARR, RAW, TEXT = (
    next(one for one in FORMATS if one.name == name) for name in ("zarr", "raw", "text")
)
NPZ, PYTORCH = (next(o for o in FORMATS if o.name == name) for name in ("npz", "pytorch"))
# URLs of kerchunk's references to other files.
REFERENCE = "reference:"
# Packages bring formats of their own by entry points of this group.
ENTRY_POINTS = "roicli.formats"
FORMAT_OF_ENDING = {ending: one for one in FORMATS for ending in one.endings}
ARRAY_ENDINGS = {end for one in FORMATS if one.holds in ("one", "several") for end in one.endings}
# So many bytes of a file show whether it is a text.
TEXT_TRIED = 4096
# One of these makes a folder a Zarr store.
STORE_NAMES = ("zarr.json", ".zgroup", ".zarray")
# What an archive of torch.save has, in a folder of any name.
PICKLE_OF_TORCH = "data.pkl"
# What is often met and not read, by its first bytes: what it is, and what to do.
OTHERS = {
    b"MATLAB 5.0 MAT-file": ("a MAT-file of version 5", "save it in MATLAB with -v7.3"),
    b"CDF\x01": ("a netCDF file of the classic format", "convert it: nccopy -k nc4 OLD NEW"),
    b"CDF\x02": ("a netCDF file of the classic format", "convert it: nccopy -k nc4 OLD NEW"),
    b"CDF\x05": ("a netCDF file of the classic format", "convert it: nccopy -k nc4 OLD NEW"),
    b"\x0e\x03\x13\x01": ("an HDF4 file", "convert it to HDF5"),
    **dict.fromkeys(
        (b"\x80\x04\x95", b"\x80\x05\x95"),
        (
            "a pickle",
            "it might run any code: save its arrays as .npy, its tables as .csv",
        ),
    ),
    b"BZh91AY&SY": ("packed by bzip2", "unpack it first, or pack it by gzip"),
    b"\xfd7zXZ\x00": ("packed by xz", "unpack it first, or pack it by gzip"),
    b"\x28\xb5\x2f\xfd": ("packed by zstd", "unpack it first, or pack it by gzip"),
    b"SQLite format 3\x00": ("a database of SQLite", "save its table as .csv"),
    **dict.fromkeys(
        (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"),
        ("an image", "FEATURES are maps that a network gave, as roicli capture stores them"),
    ),
}


def names_below(ways: Iterable[str], group: str, way_of: WayOf) -> list[str]:
    """``Lister.find_names`` of a file that knows all ways to its arrays, as ``group/array``."""
    known = {way.strip("/") for way in ways}
    before = f"{group}/" if group else ""
    inside = (way[len(before) :] for way in known if way.startswith(before))
    names = dict.fromkeys(way.partition("/")[0] for way in inside)
    # A way may end at a group, whose arrays are looked for later.
    groups = {way[:at] for way in known for at in _slashes(way)}
    there = known | groups
    return [name for name in names if way_of(name) in there]


def _slashes(way: str) -> list[int]:
    return [at for at, letter in enumerate(way) if letter == "/"]


def _is_description(dataset: str | None) -> bool:
    return re.fullmatch(_DESCRIPTION, dataset or "") is not None


def is_empty_text(address: Address) -> bool:
    """Whether a file has no bytes and an ending of texts, whose table then has no rows."""
    ending = Path(address.path).suffix.lower()
    is_text = FORMAT_OF_ENDING.get(ending) is TEXT
    return is_text and os.path.isfile(address.path) and os.path.getsize(address.path) == 0


def refuse_references(name: str) -> NoReturn:
    """Raise InputError for kerchunk's references to other files, by a URL or as their JSON."""
    raise InputError(
        f"{name}: is a set of references to other files, which are not followed",
        "give the file that they lead to, which holds the same arrays",
    )


def recognize(address: Address) -> Format:
    """The format of a file by its first bytes, or where they say nothing by its ending.

    Raises InputError where neither is known.
    """
    path = address.path
    ending = Path(path).suffix.lower()
    if path.startswith(REFERENCE):
        return ZARR  # which says that it follows none
    if is_url(path):
        # Where in the store the URL points is the store's own matter: s3://bucket/x.zarr/p3.
        if FORMAT_OF_ENDING.get(ending, ZARR) is not ZARR:
            raise InputError(
                f"{path}: a URL is read as a Zarr store, not as {ending}",
                "copy the file here first",
            )
        return ZARR
    if os.path.isdir(path):
        known = any(os.path.exists(os.path.join(path, name)) for name in STORE_NAMES)
        found = ZARR if known else FORMAT_OF_ENDING.get(ending) or _by_listing(path)
        if found is None:
            raise InputError(
                f"{path}: is a folder, expected a file or a Zarr store", _advise_pattern(path)
            )
        return found
    found = _by_bytes(path, FORMAT_OF_ENDING.get(ending))
    if (found is None or not found.magic) and _is_description(address.dataset):
        return RAW
    if found is NPZ and ending != ".npz":
        found = _of_archive(path)
    if found is None or not (found.magic or ending in found.endings):
        found = _of_others(path, ending) or found  # whose bytes and endings are more than a guess
    if found is None:
        _check_there(address)
        endings = " ".join(FORMAT_OF_ENDING)
        raise InputError(
            f"{path}: unknown ending {ending!r}, expected one of: {endings}; its first bytes are "
            "of none of these either"
        )
    return found


def _check_there(address: Address) -> None:
    """Raise InputError where there is nothing under the name."""
    if os.path.exists(address.path):
        return
    hint = None
    if address.dataset and os.path.exists(f"{address.path}{SEPARATOR}{address.dataset}"):
        hint = f"the first {SEPARATOR} of a name ends the file: rename or link what is called so"
    raise InputError(f"{address.path}: no such file or folder", hint)


def _of_archive(path: str) -> Format:
    """The format of a ZIP archive, which is written by others than numpy.savez, too."""
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return NPZ
    if not names.isdisjoint(STORE_NAMES):
        return ZARR
    return PYTORCH if PICKLE_OF_TORCH in names else NPZ


@cache
def formats_of_others() -> tuple[Format, ...]:
    """The formats that installed packages bring. Raises InputError for one that is none."""
    from roicli.core.entry_points import load_entry_points

    return load_entry_points(ENTRY_POINTS, Format)


def _of_others(path: str, ending: str) -> Format | None:
    """A format of another package, by its bytes or else by its ending."""
    formats = formats_of_others()
    if not formats or not os.path.isfile(path):
        return None
    with open(path, "rb", buffering=0) as stream:
        for one in formats:
            if one.begins(lambda at, size: _read_at(stream, at, size)):
                return one
    return next((one for one in formats if ending in one.endings), None)


def _by_listing(folder: str) -> Format | None:
    """The format of a folder of tables, one an image; None of any other folder."""
    endings = {Path(name).suffix.lower() for name in os.listdir(folder) if name[0] != "."}
    found = [one for one in FORMATS if one.of_folder in endings]
    return found[0] if len(found) == 1 and not endings & ARRAY_ENDINGS else None


def _advise_pattern(folder: str) -> str | None:
    """How to write a folder of files, one an image, by the ending that most of them have."""
    endings = Counter(Path(name).suffix.lower() for name in os.listdir(folder))
    known = [(count, ending) for ending, count in endings.items() if ending in FORMAT_OF_ENDING]
    if not known:
        return None
    pattern = os.path.join(folder, IMAGE + max(known)[1])
    return f"one file an image is written '{pattern}'"


def _by_bytes(path: str, by_ending: Format | None) -> Format | None:
    """The format that a file's bytes tell; that of its ending where they do not, or none do."""
    try:
        # Opening a pipe would wait for a writer.
        if not stat.S_ISREG(os.stat(path).st_mode):
            return by_ending
        with open(path, "rb", buffering=0) as stream:
            found = recognize_bytes(lambda at, size: _read_at(stream, at, size), path)
            if found is None and (
                by_ending is None or by_ending is RAW or by_ending.holds in ("table", "packed")
            ):
                found = recognize_text(_read_at(stream, 0, TEXT_TRIED))
                # What has no bytes of its own yields to the ending of another table.
                if found is TEXT and by_ending is not None and by_ending.holds == "table":
                    found = by_ending
            return found or by_ending
    except (OSError, ValueError):
        return by_ending


def _read_at(stream: BinaryIO, at: int, size: int) -> bytes:
    stream.seek(at)
    return stream.read(size)


def recognize_bytes(read_at: Callable[[int, int], bytes], name: str) -> Format | None:
    """The format whose magic bytes there are. Raises InputError for a format that is not read."""
    for found in FORMATS:
        if found.begins(read_at):
            return found
    for magic, (what, hint) in OTHERS.items():
        if read_at(0, len(magic)) == magic:
            raise InputError(f"{name}: is {what}, which is not read", hint)
    return None


def recognize_text(head: bytes) -> Format | None:
    """The format of a text by its beginning; None of what is no text."""
    head = _as_utf8(head)
    text = head.lstrip()
    for found in FORMATS:
        if found.beginning is not None and found.beginning.match(text):
            return found
        if text[:1] and text[:1] in found.first:
            return found
    # The last character may be cut.
    shown = head.decode("utf-8", "replace").rstrip("\ufffd")
    is_text = bool(text) and all(mark.isprintable() or mark in "\t\r\n\f" for mark in shown)
    return TEXT if is_text and "\ufffd" not in shown else None


def _as_utf8(head: bytes) -> bytes:
    """The beginning of a text without its mark, in UTF-8; of what has none as it is."""
    mark, encoding = next((one for one in MARKS if head.startswith(one[0])), (b"", "utf-8"))
    if encoding.startswith("utf-8"):
        return head.removeprefix(mark)
    return head.decode(encoding, "ignore").removeprefix("\ufeff").encode()
