"""Reading HDF5 files: finding the dataset that is wanted, its values, and what a file holds.

A file is opened in a child process first, and only what came through there in this one.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import h5py
import numpy as np

from roicli.core.exceptions import DamagedFileError, InputError, first_line
from roicli.core.foreign import foreign
from roicli.core.system import renew_time
from roicli.core.types import Array
from roicli.storage.address import Address, check_regular_file
from roicli.storage.array import (
    MATLAB_CLASS,
    FileContents,
    Place,
    Precision,
    StoredArray,
    StoredDataset,
    as_read,
    as_stored,
    check_readable,
    headings_of_dtype,
    is_narrow_float,
    is_numeric,
    is_record,
    plain_attributes,
    precision_of,
    unreadable,
    without_objects,
)
from roicli.storage.choosing import RESULT, Candidate, Wanted, choose_only, list_names
from roicli.storage.file_state import read_state
from roicli.storage.formats import WayOf
from roicli.storage.formats.hdf5 import frames
from roicli.storage.formats.hdf5.contained import (
    ContainedReader,
    OpeningChild,
    Readable,
    chunk_bytes,
    is_contained,
    is_decoded,
    try_first,
)
from roicli.storage.formats.hdf5.filters import check_filters, list_filters
from roicli.storage.formats.hdf5.frames import Frame, is_frame, read_frame
from roicli.storage.formats.hdf5.frames import describe as describe_frame
from roicli.storage.formats.hdf5.links import (
    OtherFiles,
    check_parts_open,
    find_object,
    find_parts,
    leads_outside,
    name_of,
    split_way,
    trace_sources,
)
from roicli.storage.limits import check_memory
from roicli.storage.table import RoiSource, Table

logger = logging.getLogger("roicli")

# What h5py raises for a damaged file, wherever in it; its own words are kept.
DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError)
NO_MEMORY = "memory allocation failed"
# A longer attribute is none that roicli reads or writes.
LONGEST_ATTRIBUTE = 1 << 20
LOCKED, WRITING = "unable to lock file", "already open for write"
# Groups whose names begin so are indices of PyTables' tables.
INDEX_OF_PYTABLES = b"_i_"
# What a child has opened and then this process, so that a program that opens a file again and again
# forks once. What is decoded is read by a child every time.
_OPENED: set[tuple[Any, ...]] = set()
MOST_OPENED = 1 << 12
# What a child has opened among many files: 8 bytes each, for there may be one an image.
_SURVIVED: set[int] = set()

# --- opening --------------------------------------------------------------------------------------


def open_array(address: Address, wanted: Wanted) -> RoiSource:
    """The named dataset, or the file's (or group's) only one that is wanted. Raises InputError.

    Where RoIs are wanted and there is no such dataset, the only table of pandas is read.
    """
    try:
        return open_dataset(address, wanted)
    except InputError as error:
        if wanted.role != "rois" or isinstance(error, DamagedFileError):
            raise
        table = _read_frame(address)
        if table is None:
            raise
        return table


def _read_frame(address: Address) -> Table | None:
    """The only table of pandas in a file or group; None without one. Raises InputError."""
    check_regular_file(address.path)

    def find() -> list[Frame]:
        found: list[h5py.Group] = []
        with naming_damage(address.path), open_file(address.path, address.path) as file:
            group = file if address.dataset is None else file.get(address.dataset)
            if isinstance(group, h5py.Group):
                list_datasets(group, found)
            return [describe_frame(one) for one in found]

    try_first(find, address.path, os.path.getsize(address.path))
    tables = find()
    if len(tables) > 1:
        shown = list_names([one.name for one in tables])
        raise InputError(
            f"{address}: {len(tables)} tables of pandas fit: {shown}",
            f"name one: {Address(address.path)}::{tables[0].name}",
        )
    if not tables:
        return None
    return read_frame(address.path, tables[0], lambda one: open_dataset(one, Wanted("any")))


def open_dataset(address: Address, wanted: Wanted) -> Hdf5Array:
    """As ``open_array``, of datasets alone."""
    check_regular_file(address.path)
    state, status = read_state(address.path), os.stat(address.path)
    known = (*_identity(status), address, wanted.role)

    def choose() -> Hdf5Array:
        file = open_file(address.path, str(Address(address.path)))
        array = choose_dataset(file, address, wanted)
        array.files = {address.path: state, **array.files}
        return array

    if not is_contained() or known in _OPENED:
        return choose()
    if hash(known) in _SURVIVED:
        array = choose()
        if is_decoded(array.dataset):
            array.read_with(ContainedReader(array.dataset, array.name, array.row_bytes))
        return array
    array = _choose_in_child_first(choose, address, status.st_size)
    if array.is_copied_from(address.path) and len(_OPENED) < MOST_OPENED:
        _OPENED.add(known)
    return array


def trust(addresses: Sequence[Address], wanted: Wanted) -> None:
    """Open these here without a child from now on: one has opened all of them."""
    for address in addresses:
        status = os.stat(address.path)
        _SURVIVED.add(hash((*_identity(status), address, wanted.role)))


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """What changes when a file is written or replaced, even where its time is set back."""
    times = status.st_mtime_ns, status.st_ctime_ns
    return (status.st_dev, status.st_ino, status.st_size, *times)


def parse(data: bytes, address: Address, wanted: Wanted) -> Hdf5Array:
    """An HDF5 file that was read from a pipe; as ``open_array``."""

    def choose() -> Hdf5Array:
        file = open_file(io.BytesIO(data), str(Address(address.path)))
        return choose_dataset(file, address, wanted)

    return _choose_in_child_first(choose, address, len(data)) if is_contained() else choose()


def _choose_in_child_first(
    choose: Callable[[], Hdf5Array], address: Address, size: int
) -> Hdf5Array:
    """What ``choose`` gives here, once a child has come through it; ``size`` is the file's."""

    def open_dataset() -> Readable:
        array = choose()
        return Readable(array.dataset, array.row_bytes)

    child = OpeningChild(open_dataset, str(Address(address.path)), size)
    try:
        return choose().read_by(child)
    except BaseException:
        child.close()
        raise


class Hdf5Array(StoredArray):
    """One dataset of an open HDF5 file, in any dtype, layout and compression.

    Chunks and virtual datasets are read by a child process. ``others`` are the files that reading
    opens besides the one of the address, and ``row_bytes`` pass through their filters for one row.
    """

    def __init__(
        self,
        file: h5py.File | None,
        dataset: h5py.Dataset,
        address: Address,
        others: OtherFiles,
        row_bytes: int,
    ) -> None:
        self.name = str(Address(address.path, name_of(dataset)))
        self._path = address.path
        stored = as_stored(without_objects(dataset.dtype))
        if stored.names and stored.names != dataset.dtype.names:
            lost = [name for name in dataset.dtype.names if name not in stored.names]
            logger.info(f"{self.name}: texts of any length are left out: {list_names(lost)}")
        check_readable(stored, self.name)
        check_decodable(dataset, self.name)
        self.files = others
        self.row_bytes = row_bytes
        self.shape = dataset.shape
        self.dtype = as_read(stored)
        self.precision = stored_precision(dataset)
        self.attributes = read_attributes(dataset.attrs)
        self.dimension_names = read_dimension_names(dataset, self.attributes)
        self.reading_bytes = 2 * chunk_bytes(dataset)
        self.chunk_rows = dataset.chunks[0] if dataset.chunks and self.shape else 1
        self.dataset = dataset
        self._file = file
        self._opaque = stored if is_narrow_float(stored) else None
        self._reader: ContainedReader | None = None

    def read_by(self, child: OpeningChild) -> Hdf5Array:
        """Have the child that opened the dataset read what passes through filters and indices."""
        if is_decoded(self.dataset):
            self._reader = ContainedReader(self.dataset, self.name, self.row_bytes, child)
        else:
            child.close()
        return self

    def read_with(self, reader: ContainedReader) -> None:
        """Have a child of somebody else's read the values."""
        self._reader = reader

    def is_copied_from(self, path: str) -> bool:
        """Whether the values lie as they are in the file at ``path``, past no link to another."""
        return self._reader is None and set(self.files) == {path}

    def read(self, place: Place, out: Array) -> None:
        """The values at ``place`` into ``out``."""
        if out.size == 0:
            return
        raw = out if self._opaque is None else np.empty(out.shape, self.dataset.dtype)
        try:
            if self._reader is not None:
                self._reader.read(place, raw)
            else:
                self.dataset.read_direct(raw, place)
        except (OSError, RuntimeError, ValueError) as error:
            what = f"item {place[0].start} " if place and len(out) < self.shape[0] else ""
            raise InputError(f"{self.name}: {what}cannot be read: {first_line(error)}") from error
        if self._opaque is not None:
            out[...] = raw.view(self._opaque)

    def beside(self, name: str) -> str | None:
        """The address of the array ``name`` in the same group of the same file, if there is one."""
        group = self.dataset.parent
        with suppress(*DAMAGE):
            if isinstance(group.get(name), h5py.Dataset):
                return str(Address(self._path, f"{group.name.rstrip('/')}/{name}"))
        return None

    def close(self) -> None:
        """Let go of the file."""
        super().close()
        if self._reader is not None:
            self._reader.close()
        if self._file is not None:
            for file in (self.dataset.file, self._file):
                close_file(file)


def open_file(source: Any, name: str) -> h5py.File:
    """An HDF5 file or the bytes of one, open for reading. Raises InputError."""
    try:
        return h5py.File(source, "r")
    except Exception as error:
        text = str(error)
        hint = None
        if LOCKED in text:
            text, hint = (
                "another process has it open for writing, or its file system has no locks",
                ("wait until the writer is done, or set HDF5_USE_FILE_LOCKING=FALSE"),
            )
        elif WRITING in text:
            text, hint = (
                "it is open for writing, or its writer ended without closing it",
                (f"wait for the writer; if there is none: h5clear -s {name}"),
            )
        raise InputError(
            f"{name}: cannot be opened as HDF5: {text if hint else first_line(error)}", hint
        ) from error


def close_file(file: h5py.File) -> None:
    """Close a file that was only read; what a damaged one says to that changes nothing."""
    with suppress(*DAMAGE):
        file.close()


def pass_over(error: Exception) -> None:
    """Go on without what is damaged, unless HDF5 found no memory for it: MemoryError.

    A child has a limit, and the run, which repeats what came through there, has none.
    """
    if isinstance(error, MemoryError) or NO_MEMORY in str(error):
        raise MemoryError("it describes more than memory can hold") from error


@contextmanager
def naming_damage(name: str) -> Iterator[None]:
    """What h5py raises inside the block becomes one InputError.

    A refusal does not show that the file is damaged: it may be a type that NumPy has not.
    """
    try:
        yield
    except DAMAGE as error:
        raise InputError(
            f"{name}: cannot be read as HDF5: {first_line(error)}",
            "if the file is damaged, make it anew",
        ) from error


def choose_dataset(file: h5py.File, address: Address, wanted: Wanted) -> Hdf5Array:
    """The named dataset of an open file, or the only one that is wanted, as ``open_array``."""
    others: OtherFiles = {}
    try:
        with naming_damage(str(Address(address.path))):
            node, path = file, address.path
            if address.dataset is not None:
                node, path = look_up(file, address, others)
            array = choose_below(file, node, path, address, wanted, others)
            group = array.dataset.parent
            array.group_attributes = {} if group.name == "/" else read_attributes(group.attrs)
            array.file_attributes = read_attributes(array.dataset.file.attrs)
            return array
    except BaseException:
        close_file(file)
        raise


def choose_below(
    file: h5py.File | None,
    node: h5py.Group | h5py.Dataset,
    path: str,
    address: Address,
    wanted: Wanted,
    others: OtherFiles,
) -> Hdf5Array:
    """The dataset that ``node`` is, or the group's only one that is wanted.

    Closing the array closes ``file`` too; None where the file serves others.
    """
    preferred = wanted.preferred
    if preferred is not None and isinstance(node, h5py.Group) and preferred in node:
        named = Address(address.path, f"{name_of(node)}/{preferred}")
        inner, inner_path = look_up(node.file, named, others)
        if isinstance(inner, h5py.Dataset):
            node, path = inner, inner_path
    if isinstance(node, h5py.Group):
        node = _only_fitting(node, address, wanted)
    row_bytes = trace_sources(node, path, others)
    if node.is_virtual:
        check_parts_open(node, address.path)
    if node.shape is None:
        raise InputError(f"{address}: the dataset is empty (a null dataspace)")
    return Hdf5Array(file, node, address, others, row_bytes)


def look_up(
    file: h5py.File, address: Address, others: OtherFiles
) -> tuple[h5py.Group | h5py.Dataset, str]:
    """The group or dataset that the address names, and its file's path; as ``find_object``.

    Raises InputError.
    """
    name = address.dataset or "/"
    try:
        node, path = find_object(file, name, address.path, others)
    except DAMAGE as error:
        pass_over(error)
        found = ", ".join(foreign(path) for path, _ in list_datasets(file)) or "none"
        raise InputError(
            f"{Address(address.path)}: has no dataset {name!r}; its datasets are: {found}"
        ) from None
    if not isinstance(node, h5py.Group | h5py.Dataset):
        raise InputError(f"{address}: is a named datatype, expected a dataset")
    return node, path


def list_datasets(
    group: h5py.Group, frames: list[h5py.Group] | None = None
) -> list[tuple[str, h5py.Dataset]]:
    """Every dataset below a group; neither soft links nor links outside the file are followed.

    With ``frames`` the tables of pandas are put there, and their datasets are no others'; the
    indices of PyTables are nobody's.

    Groups are gone through one by one, because HDF5's own visit finds each object by its whole
    path: that takes time with the square of the depth.
    """
    found: list[tuple[str, h5py.Dataset]] = []
    if frames is not None and is_frame(group):
        frames.append(group)
        return found
    seen = {_place_of(group)}
    waiting = [(group, name) for name in reversed(_hard_links(group))]
    while waiting:
        parent, name = waiting.pop()
        node = parent[name]
        place = _place_of(node)
        if place in seen:
            continue
        seen.add(place)
        renew_time()
        if isinstance(node, h5py.Dataset):
            found.append((name_of(node), node))
        elif isinstance(node, h5py.Group) and name.startswith(INDEX_OF_PYTABLES):
            continue
        elif isinstance(node, h5py.Group) and frames is not None and is_frame(node):
            frames.append(node)
        elif isinstance(node, h5py.Group):
            waiting += [(node, inner) for inner in reversed(_hard_links(node))]
    return found


def _hard_links(group: h5py.Group) -> list[bytes]:
    """The names in a group that are objects of the same file, sorted."""
    links = group.id.links
    return [name for name in group.id if links.get_info(name).type == h5py.h5l.TYPE_HARD]


def _place_of(node: h5py.Group | h5py.Dataset | h5py.Datatype) -> tuple[int, int]:
    """Where an object stands: one that has several names is met once."""
    information = h5py.h5o.get_info(node.id)
    return information.fileno, information.addr


def _only_fitting(group: h5py.Group, address: Address, wanted: Wanted) -> h5py.Dataset:
    datasets = list_datasets(group, [] if wanted.role == "rois" else None)
    for _, node in datasets:
        # HDF5 opens the sources of a virtual dataset to say what shape it has.
        if node.is_virtual:
            trace_sources(node, address.path, {})
    candidates = [
        Candidate(
            foreign(name), node.shape, without_objects(node.dtype), MATLAB_CLASS in node.attrs
        )
        for name, node in datasets
    ]
    return datasets[choose_only(address, candidates, wanted)][1]


def check_decodable(dataset: h5py.Dataset, name: str) -> None:
    """Raise InputError where values lie behind unknown filters or in giant chunks."""
    check_filters(dataset, name)
    check_memory(name, f"one chunk of shape {dataset.chunks}", 2 * chunk_bytes(dataset))


def read_attributes(attributes: Any) -> dict[str, Any]:
    """The attributes by name; of one that cannot be read, or is very long, a text that says so."""
    found: dict[str, Any] = {}
    for name in attributes:
        try:
            is_long = _attribute_bytes(attributes.get_id(name)) > LONGEST_ATTRIBUTE
            found[name] = unreadable("it is too long") if is_long else attributes[name]
        except DAMAGE as error:
            pass_over(error)
            found[name] = unreadable(first_line(error))
    return found


def read_dimension_names(dataset: h5py.Dataset, attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """What the axes are called: by labels, or by the dimensions' scales, as netCDF has them."""
    if not ({"DIMENSION_LABELS", "DIMENSION_LIST"} & attributes.keys()):
        return ()
    names = []
    for dimension in dataset.dims:
        label = dimension.label
        if not label and len(dimension):
            label = name_of(dimension[0]).rpartition("/")[2]
        names.append(foreign(label))
    return tuple(names) if any(names) else ()


def _attribute_bytes(attribute: Any) -> int:
    """What an attribute takes in the file; h5py takes the 0 of an empty one for an error."""
    try:
        return int(attribute.get_storage_size())
    except RuntimeError:
        return 0


def stored_precision(dataset: h5py.Dataset) -> Precision:
    """From the stored type itself: h5py shows bfloat16 as float32, which would hide the loss."""
    stored = dataset.id.get_type()
    if not isinstance(stored, h5py.h5t.TypeFloatID):
        return precision_of(as_stored(dataset.dtype))
    *_, mantissa_bits = stored.get_fields()
    exponent_bits = stored.get_fields()[2]
    is_bfloat16 = (mantissa_bits, exponent_bits) == (7, 8)
    name = "bfloat16" if is_bfloat16 else dataset.dtype.newbyteorder("=").name
    return Precision(name, mantissa_bits, 1 - stored.get_ebias())


def find_sources(path: str) -> list[str] | None:
    """The parts that a virtual result stands on, or None where the file is no such result.

    Raises InputError for one that names a file outside its own folder of parts.
    """
    check_regular_file(path)

    def find() -> list[str] | None:
        with naming_damage(path), open_file(path, path) as file:
            features = file.get(RESULT)
            if not isinstance(features, h5py.Dataset) or not features.is_virtual:
                return None
            return find_parts(features, path)

    try_first(find, path, os.path.getsize(path))
    return find()


def find_names(path: str, group: str, way_of: WayOf) -> list[str]:
    """The names in a group whose way is there; no dataset is opened. Raises InputError."""
    check_regular_file(path)

    def find() -> list[str]:
        file = open_file(path, path)
        try:
            with naming_damage(path):
                node, _ = look_up(file, Address(path, group or "/"), {})
                if not isinstance(node, h5py.Group):
                    raise InputError(f"{Address(path, group)}: is a dataset, expected a group")
                names = [name.decode("utf-8", "surrogateescape") for name in node.id]
                return [name for name in names if _is_there(file, path, way_of(name))]
        finally:
            close_file(file)

    try_first(find, path, os.path.getsize(path))
    return find()


def _is_there(file: h5py.File, path: str, way: str | None) -> bool:
    """Whether a way leads to something, as far as can be said without opening a dataset."""
    if way is None:
        return False
    renew_time()
    links, parts = file.id.links, split_way(way)
    try:
        for count in range(1, len(parts)):
            if links.get_info(b"/".join(parts[:count])).type != h5py.h5l.TYPE_HARD:
                # Where links lead, and whether they may, is looked up step by step.
                find_object(file, way, path, {})
        return bool(links.exists(b"/".join(parts)))
    except (KeyError, RuntimeError):  # there is nothing, or it is no group
        return False


# --- what a file holds ----------------------------------------------------------------------------


def contents(address: Address) -> FileContents:
    """What the file, or its group or dataset that the address names, holds. Raises InputError."""
    path = address.path
    check_regular_file(path)

    def describe() -> FileContents:
        file = open_file(path, path)
        try:
            with naming_damage(path):
                named = address.dataset is not None
                node = look_up(file, address, {})[0] if named else file
                return _describe(node, path)
        finally:
            close_file(file)

    try_first(describe, path, os.stat(path).st_size)
    return describe()


def _describe(node: h5py.Group | h5py.Dataset, path: str) -> FileContents:
    """The datasets below a group, or the one dataset."""
    if isinstance(node, h5py.Dataset):
        return FileContents(foreign(path), "hdf5", {}, (_describe_dataset(node, path),))
    tables: list[h5py.Group] = []
    datasets = [_describe_dataset(dataset, path) for _, dataset in list_datasets(node, tables)]
    datasets += [_describe_frame(one, path) for one in tables]
    attributes = plain_attributes(_Readable(node.attrs))
    return FileContents(foreign(path), "hdf5", attributes, tuple(datasets))


def _describe_frame(group: h5py.Group, path: str) -> StoredDataset:
    """A table of pandas, which is one dataset to whoever reads it."""
    frame = describe_frame(group)
    headings, address = frames.headings_of(frame, group), Address(path, name_of(group))
    shape = frames.count_rows(frame, group), len(headings)
    return StoredDataset(str(address), shape, "pandas", True, "table of pandas", columns=headings)


def _describe_dataset(dataset: h5py.Dataset, path: str) -> StoredDataset:
    numeric, fields = is_numeric(as_stored(dataset.dtype)), without_objects(dataset.dtype)
    address = Address(path, name_of(dataset))
    # HDF5 opens the sources of a virtual dataset to say what shape it has.
    outside = leads_outside(dataset, path)
    shape = dataset.virtual_sources()[0].vspace.shape if outside else dataset.shape
    return StoredDataset(
        str(address),
        shape,
        stored_precision(dataset).name if numeric else str(dataset.dtype),
        numeric,
        _layout(dataset),
        dataset.chunks,
        ", ".join(text for _, text in list_filters(dataset)) or None,
        None if dataset.is_virtual else dataset.id.get_storage_size(),
        plain_attributes(_Readable(dataset.attrs)),
        partial(open_dataset, address, Wanted("any")),
        headings_of_dtype(fields) if is_record(fields) else None,
    )


def _layout(dataset: h5py.Dataset) -> str:
    if dataset.is_virtual:
        return "virtual"
    if dataset.chunks is not None:
        return "chunked"
    compact = dataset.id.get_create_plist().get_layout() == h5py.h5d.COMPACT
    return "compact" if compact else "contiguous"


class _Readable:
    """Attributes that say why one is not read."""

    def __init__(self, attributes: Any) -> None:
        self._attributes = attributes

    def __iter__(self) -> Iterator[str]:
        return iter(self._attributes)

    def __getitem__(self, name: str) -> Any:
        try:
            found = self._attributes.get_id(name)
            if found.shape is None:  # nothing at all: how PyTables keeps an empty text
                return ""
            if found.get_storage_size() <= LONGEST_ATTRIBUTE:
                return self._attributes[name]
        except DAMAGE as error:
            pass_over(error)
            raise ValueError(first_line(error)) from error
        raise ValueError(f"longer than {LONGEST_ATTRIBUTE:,} bytes")
