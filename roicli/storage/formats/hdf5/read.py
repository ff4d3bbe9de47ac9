"""Reading HDF5 files: the array or table that is wanted, names, and what a file holds.

A file is opened in a child process first, and only what came through there in this one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import h5py

from roicli.core.exceptions import DamagedFileError, InputError, first_line
from roicli.core.foreign import foreign
from roicli.core.system import renew_time
from roicli.storage.address import Address, check_regular_file
from roicli.storage.array import (
    FileContents,
    StoredDataset,
    as_stored,
    headings_of_dtype,
    is_numeric,
    is_record,
    plain_attributes,
    without_objects,
)
from roicli.storage.choice import RESULT, Wanted, list_names
from roicli.storage.formats import WayOf
from roicli.storage.formats.hdf5 import frames
from roicli.storage.formats.hdf5.array import LONGEST_ATTRIBUTE, attribute_bytes, stored_precision
from roicli.storage.formats.hdf5.child import (
    in_child_first,
    is_contained,
    reads_whole_chunks,
    shared_array,
    try_parts_first,
)
from roicli.storage.formats.hdf5.dataset import open_dataset
from roicli.storage.formats.hdf5.dataset import parse as parse
from roicli.storage.formats.hdf5.file import (
    DAMAGE,
    close_file,
    list_datasets,
    look_up,
    naming_damage,
    open_file,
    pass_over,
)
from roicli.storage.formats.hdf5.frames import Frame, read_frame
from roicli.storage.formats.hdf5.frames import describe as describe_frame
from roicli.storage.formats.hdf5.links import (
    find_object,
    find_parts,
    find_within,
    leads_outside,
    name_of,
    split_way,
    trace_sources,
)
from roicli.storage.limits import check_memory
from roicli.storage.table import RoiSource, Table

# What a child says of a name.
THERE, NOT_THERE = 1.0, 2.0
# What a text takes in memory, about.
BYTES_OF_A_TEXT = 100


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
            group = find_within(file, address.dataset or "/")
            if isinstance(group, h5py.Group):
                list_datasets(group, found)
            return [describe_frame(one) for one in found]

    tables = in_child_first(find, address.path)
    if len(tables) > 1:
        shown = list_names([one.name for one in tables])
        raise InputError(
            f"{address}: {len(tables)} tables of pandas fit: {shown}",
            f"name one: {Address(address.path)}::{tables[0].name}",
        )
    if not tables:
        return None
    return read_frame(address.path, tables[0], lambda one: open_dataset(one, Wanted("any")))


def find_sources(path: str) -> list[str] | None:
    """The parts that a virtual result stands on, or None where the file is no such result.

    Raises InputError for one that names a file outside its own folder of parts.
    """
    check_regular_file(path)

    def find() -> list[str] | None:
        with naming_damage(path), open_file(path, path) as file:
            features = find_within(file, RESULT)
            if not isinstance(features, h5py.Dataset) or not features.is_virtual:
                return None
            return find_parts(features, path)

    return in_child_first(find, path)


def find_names(path: str, group: str, way_of: WayOf) -> list[str]:
    """The names in a group whose way is there; no dataset is opened. Raises InputError."""
    check_regular_file(path)

    file: h5py.File | None = None

    def names_there() -> list[str]:
        nonlocal file
        file = open_file(path, path)
        with naming_damage(path):
            node, _ = look_up(file, Address(path, group or "/"), {})
            if not isinstance(node, h5py.Group):
                raise InputError(f"{Address(path, group)}: is a dataset, expected a group")
            return [name.decode("utf-8", "surrogateescape") for name in node.id]

    def look(part: slice) -> None:
        for place in range(*part.indices(len(names))):
            found[place] = THERE if is_there(names[place]) else NOT_THERE

    def is_there(name: str) -> bool:
        assert file is not None
        with naming_damage(path):
            return _is_there(file, path, way_of(name))

    try:
        names = in_child_first(names_there, path)
        found = shared_array(len(names), 1)
        if is_contained():
            try_parts_first(look, 0, len(names), path, os.path.getsize(path))
        # Of the others something else than a crash kept the child.
        return [
            name
            for name, (word,) in zip(names, found, strict=True)
            if word == THERE or (word != NOT_THERE and is_there(name))
        ]
    finally:
        if file is not None:
            close_file(file)


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


def read_texts(address: Address) -> list[Any] | None:
    """The texts (n,) of a dataset; None where it holds something else. Raises InputError."""
    if address.dataset is None:
        return None
    check_regular_file(address.path)

    def read() -> list[Any] | None:
        file = open_file(address.path, address.path)
        try:
            with naming_damage(str(address)):
                node, path = look_up(file, address, {})
                if (
                    not isinstance(node, h5py.Dataset)
                    or h5py.check_string_dtype(node.dtype) is None
                ):
                    return None
                if len(node.shape or ()) != 1:
                    raise InputError(f"{address}: has shape {node.shape}, expected a list of texts")
                trace_sources(node, path, {})
                check_memory(str(address), "its texts", node.shape[0] * BYTES_OF_A_TEXT)
                return list(node[()].tolist())
        finally:
            close_file(file)

    return in_child_first(read, address.path)


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

    return in_child_first(describe, path)


def _describe(node: h5py.Group | h5py.Dataset, path: str) -> FileContents:
    """The datasets below a group, or the one dataset."""
    if isinstance(node, h5py.Dataset):
        return FileContents(foreign(path), "hdf5", {}, (_describe_dataset(node, path),))
    tables: list[h5py.Group] = []
    datasets = [_describe_dataset(dataset, path) for _, dataset in list_datasets(node, tables)]
    datasets += [_describe_frame(one, path) for one in tables]
    attributes = plain_attributes(_Attributes(node.attrs))
    return FileContents(foreign(path), "hdf5", attributes, tuple(datasets))


def _describe_frame(group: h5py.Group, path: str) -> StoredDataset:
    """A table of pandas, which is one dataset to whoever reads it."""
    frame = describe_frame(group)
    headings, address = frames.headings_of(frame, group), Address(path, name_of(group))
    shape = frames.count_rows(frame, group), len(headings)
    return StoredDataset(str(address), shape, "pandas", True, "table of pandas", columns=headings)


def _describe_dataset(dataset: h5py.Dataset, path: str) -> StoredDataset:
    numeric, fields = is_numeric(as_stored(dataset.dtype)), without_objects(dataset.dtype)
    from roicli.storage.formats.hdf5.filters import list_filters  # plain datasets have none

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
        plain_attributes(_Attributes(dataset.attrs)),
        partial(open_dataset, address, Wanted("any")),
        headings_of_dtype(fields) if is_record(fields) else None,
        reads_whole_chunks(dataset),
    )


def _layout(dataset: h5py.Dataset) -> str:
    if dataset.is_virtual:
        return "virtual"
    if dataset.chunks is not None:
        return "chunked"
    compact = dataset.id.get_create_plist().get_layout() == h5py.h5d.COMPACT
    return "compact" if compact else "contiguous"


class _Attributes:
    """The attributes of an object; of one that is not read, why."""

    def __init__(self, attributes: Any) -> None:
        self._attributes = attributes

    def __iter__(self) -> Iterator[str]:
        return iter(self._attributes)

    def __getitem__(self, name: str) -> Any:
        try:
            found = self._attributes.get_id(name)
            if found.shape is None:  # nothing at all: how PyTables keeps an empty text
                return ""
            if attribute_bytes(found) <= LONGEST_ATTRIBUTE:
                return self._attributes[name]
        except DAMAGE as error:
            pass_over(error)
            raise ValueError(first_line(error)) from error
        raise ValueError(f"longer than {LONGEST_ATTRIBUTE:,} bytes")
