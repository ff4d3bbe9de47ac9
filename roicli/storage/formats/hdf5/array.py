"""Datasets of HDF5 files: finding the one that fits, and reading it image by image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import h5py
import numpy as np

from roicli.core.exceptions import InputError, first_line
from roicli.core.foreign import foreign
from roicli.core.types import Array
from roicli.storage.address import Address
from roicli.storage.choosing import Candidate, choose_only
from roicli.storage.file_state import FileState
from roicli.storage.formats.hdf5.child import renew_time
from roicli.storage.formats.hdf5.containment import (
    ContainedReader,
    OpeningChild,
    chunk_bytes,
    is_decoded,
)
from roicli.storage.formats.hdf5.filters import check_filters
from roicli.storage.formats.hdf5.links import OtherFiles, find_object, name_of
from roicli.storage.formats.hdf5.outside import trace_sources
from roicli.storage.formats.hdf5.virtual_sources import check_parts_open
from roicli.storage.limits import check_memory
from roicli.storage.stored_array import Precision, check_numeric, precision_of

# What h5py raises for a damaged file, wherever in it; its own words are kept.
DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError)
NO_MEMORY = "memory allocation failed"
# A longer attribute is none that roicli reads or writes.
LONGEST_ATTRIBUTE = 1 << 20
LOCKED, WRITING = "unable to lock file", "already open for write"
Shape = tuple[int, ...]


class Hdf5Array:
    """One dataset of an open HDF5 file, in any dtype, layout and compression.

    Chunks and virtual datasets are read by a child process.
    ``reading_bytes`` is what reading holds besides what it is read into; ``others`` are the files
    that reading opens besides the one of the address, and ``row_bytes`` pass through their filters
    for one row.
    """

    def __init__(
        self, dataset: h5py.Dataset, address: Address, others: OtherFiles, row_bytes: int
    ) -> None:
        self.name = str(Address(address.path, name_of(dataset)))
        check_numeric(dataset.dtype, self.name)
        check_decodable(dataset, self.name)
        self.files: Mapping[str, FileState] = others
        self.row_bytes = row_bytes
        self.shape: Shape = dataset.shape
        self.dtype = dataset.dtype.newbyteorder("=")
        self.precision = stored_precision(dataset)
        self.attributes: Mapping[str, Any] = read_attributes(dataset.attrs)
        self.file_attributes: Mapping[str, Any] = read_attributes(dataset.file.attrs)
        self.reading_bytes = 2 * chunk_bytes(dataset)
        self.dataset = dataset
        self._reader: ContainedReader | None = None

    def read_by(self, child: OpeningChild) -> Hdf5Array:
        """Have the child that opened the dataset read what passes through filters and indices."""
        if is_decoded(self.dataset):
            self._reader = ContainedReader(self.dataset, self.name, self.row_bytes, child)
        else:
            child.close()
        return self

    def is_copied_from(self, path: str) -> bool:
        """Whether the values lie as they are in the file at ``path``, past no link to another."""
        return self._reader is None and set(self.files) == {path}

    def read_item_into(self, index: int, out: Array) -> None:
        """Item ``index`` along the first axis into ``out``."""
        self._read(slice(index, index + 1), out[None], f"item {index} ")

    def read_rows_into(self, first: int, out: Array) -> None:
        """As many items as ``out`` has, from ``first`` on."""
        self._read(slice(first, first + len(out)), out, f"item {first} ")

    def read_all(self) -> Array:
        """The whole array, C-contiguous, in native byte order."""
        out = np.empty(self.shape, self.dtype)
        self._read(slice(0, len(out)) if self.shape else None, out, "")
        return out

    def _read(self, items: slice | None, out: Array, what: str) -> None:
        place = () if items is None else (items, *(slice(0, side) for side in self.shape[1:]))
        try:
            if out.size and self._reader is not None:
                self._reader.read(place, out)
            elif out.size:
                self.dataset.read_direct(out, place)
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(f"{self.name}: {what}cannot be read: {first_line(error)}") from error

    def close(self) -> None:
        """Let go of the file."""
        if self._reader is not None:
            self._reader.close()
        close_file(self.dataset.file)


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


def choose_dataset(
    file: h5py.File,
    address: Address,
    fits: Callable[[Shape], bool],
    wanted: str,
    preferred: str | None,
) -> Hdf5Array:
    """The named dataset of an open file, or the only one that ``fits``; see ``open_hdf5``."""
    others: OtherFiles = {}
    try:
        with naming_damage(str(Address(address.path))):
            node, path = file, address.path
            if address.dataset is not None:
                node, path = look_up(file, address, others)
            if preferred is not None and isinstance(node, h5py.Group) and preferred in node:
                named = Address(address.path, f"{name_of(node)}/{preferred}")
                inner, inner_path = look_up(file, named, others)
                if isinstance(inner, h5py.Dataset):
                    node, path = inner, inner_path
            if isinstance(node, h5py.Group):
                node = _only_fitting(node, address, fits, wanted)
            row_bytes = trace_sources(node, path, others)
            if node.is_virtual:
                check_parts_open(node, address.path)
            if node.shape is None:
                raise InputError(f"{address}: the dataset is empty (a null dataspace)")
            return Hdf5Array(node, address, others, row_bytes)
    except BaseException:
        close_file(file)
        raise


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


def list_datasets(group: h5py.Group) -> list[tuple[str, h5py.Dataset]]:
    """Every dataset below a group; neither soft links nor links outside the file are followed.

    Groups are gone through one by one, because HDF5's own visit finds each object by its whole
    path: that takes time with the square of the depth.
    """
    found: list[tuple[str, h5py.Dataset]] = []
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


def _only_fitting(
    group: h5py.Group, address: Address, fits: Callable[[Shape], bool], wanted: str
) -> h5py.Dataset:
    datasets = list_datasets(group)
    for _, node in datasets:
        # HDF5 opens the sources of a virtual dataset to say what shape it has.
        if node.is_virtual:
            trace_sources(node, address.path, {})
    candidates = [Candidate(foreign(name), node.shape, node.dtype) for name, node in datasets]
    return datasets[choose_only(address, candidates, fits, wanted)][1]


def check_decodable(dataset: h5py.Dataset, name: str) -> None:
    """Raise InputError where values lie behind unknown filters or in giant chunks."""
    check_filters(dataset, name)
    check_memory(name, f"one chunk of shape {dataset.chunks}", 2 * chunk_bytes(dataset))


def read_attributes(attributes: Any) -> dict[str, Any]:
    """The attributes that can be read, but for very long ones."""
    found = {}
    for name in attributes:
        try:
            if attributes.get_id(name).get_storage_size() <= LONGEST_ATTRIBUTE:
                found[name] = attributes[name]
        except DAMAGE as error:
            pass_over(error)  # whatever needs it says that it is not there
    return found


def stored_precision(dataset: h5py.Dataset) -> Precision:
    """From the stored type itself: h5py shows bfloat16 as float32, which would hide the loss."""
    stored = dataset.id.get_type()
    if not isinstance(stored, h5py.h5t.TypeFloatID):
        return precision_of(dataset.dtype)
    *_, mantissa_bits = stored.get_fields()
    exponent_bits = stored.get_fields()[2]
    is_bfloat16 = (mantissa_bits, exponent_bits) == (7, 8)
    name = "bfloat16" if is_bfloat16 else dataset.dtype.newbyteorder("=").name
    return Precision(name, mantissa_bits, 1 - stored.get_ebias())
