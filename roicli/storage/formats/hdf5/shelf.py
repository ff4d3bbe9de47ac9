"""Many datasets of one HDF5 file, which is opened once: children open and read all of them."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import h5py
import numpy as np

from roicli.core.types import Array
from roicli.storage.address import Address, check_regular_file
from roicli.storage.choice import Wanted
from roicli.storage.file_state import FileState, read_state
from roicli.storage.formats.hdf5.array import Hdf5Array, read_attributes
from roicli.storage.formats.hdf5.child import (
    SWITCH,
    ContainedReader,
    OpeningChild,
    Readable,
    is_contained,
    is_decoded,
    try_first,
)
from roicli.storage.formats.hdf5.dataset import choose_below, trust
from roicli.storage.formats.hdf5.file import close_file, look_up, naming_damage, open_file
from roicli.storage.formats.hdf5.links import split_way
from roicli.storage.shelf import Fill, Shelf, WayOfKey


class ReadLater(Mapping[str, Any]):
    """The attributes of a group, which is looked for when somebody asks for one."""

    def __init__(self, find: Callable[[], h5py.Group]) -> None:
        self._find = find

    @cached_property
    def _found(self) -> Mapping[str, Any]:
        group = self._find()
        return {} if group.name == "/" else read_attributes(group.attrs)

    def __getitem__(self, name: str) -> Any:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


class Hdf5Shelf(Shelf):
    """Datasets of one file. What is chunked is read by one child, which opens them as asked."""

    def __init__(self, path: str, way_of: WayOfKey, wanted: Wanted) -> None:
        check_regular_file(path)
        self.files = {path: read_state(path)}
        self._path, self._way_of, self._wanted = path, way_of, wanted
        self._size = os.path.getsize(path)
        self._numbers: dict[str, int] = {}
        self._child: OpeningChild | None = None
        try_first(lambda: close_file(open_file(path, path)), path, self._size)
        self._file = open_file(path, path)
        self._file_attributes = read_attributes(self._file.attrs)

    def look_at(self, keys: Sequence[str], fill: Fill, width: int) -> Array:
        """What ``fill`` finds in a child: what it opened there can be opened here."""
        self._numbers = {key: number for number, key in enumerate(keys)}
        self._end_child()
        if not is_contained() or not keys:
            return super().look_at(keys, fill, width)
        found = _shared_array(len(keys), width)
        try_first(lambda: fill(keys, found), self._path, self._size)
        return found

    def open(self, key: str) -> Hdf5Array:
        """The dataset of a key; the file stays open when it is closed."""
        array = self._choose(key)
        if is_contained() and is_decoded(array.dataset):
            number = self._numbers.get(key)
            child = None if number is None else self._child_for_all()
            array.read_with(
                ContainedReader(array.dataset, array.name, array.row_bytes, child, number)
            )
        return array

    def _choose(self, key: str) -> Hdf5Array:
        address, others = Address(self._path, self._way_of(key)), dict[str, FileState]()
        with naming_damage(str(address)):
            node, path = self._find(str(address.dataset)), self._path
            if node is None:
                node, path = look_up(self._file, address, others)
            array = choose_below(None, node, path, address, self._wanted, others)
            array.files = {**self.files, **others}
            dataset = array.dataset
            array.group_attributes = ReadLater(lambda: dataset.parent)
            array.file_attributes = self._file_attributes
        return array

    def _find(self, way: str) -> h5py.Dataset | None:
        """The dataset at a way that no link is on; None where it has to be looked up."""
        parts, links = split_way(way), self._file.id.links
        try:
            for count in range(1, len(parts) + 1):
                if links.get_info(b"/".join(parts[:count])).type != h5py.h5l.TYPE_HARD:
                    return None
            found = h5py.h5o.open(self._file.id, b"/".join(parts))
        except (KeyError, RuntimeError):
            return None
        return h5py.Dataset(found) if isinstance(found, h5py.h5d.DatasetID) else None

    def _child_for_all(self) -> OpeningChild:
        if self._child is None:
            keys = list(self._numbers)

            def readable(number: int) -> Readable:
                array = self._choose(keys[number])
                return Readable(array.dataset, array.row_bytes)

            self._child = OpeningChild(lambda: readable, self._path, self._size)
        return self._child

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None

    def close(self) -> None:
        """Let go of the file, and end the child."""
        self._end_child()
        close_file(self._file)


def look_at_files(
    addresses: Sequence[Address], wanted: Wanted, fill: Callable[[Array], None], width: int
) -> Array:
    """As ``Shelf.look_at``, of an array in each of many files: one child opens all of them."""
    found = _shared_array(len(addresses), width)

    def fill_in_child() -> None:
        os.environ[SWITCH] = "0"  # this is the child
        fill(found)

    if is_contained():
        try_first(fill_in_child, str(addresses[0]), 0)
        # Where something else than a crash ended it, the rest is for this process to meet.
        trust([one for one, row in zip(addresses, found, strict=True) if row.any()], wanted)
    else:
        fill(found)
    return found


def _shared_array(rows: int, width: int) -> Array:
    """Zeros (rows, width) that a child's numbers come back in."""
    shared = mmap.mmap(-1, max(rows * width * 8, 1))
    return np.frombuffer(shared, np.float64, rows * width).reshape(rows, width)


def open_shelf(path: str, way_of: WayOfKey, wanted: Wanted) -> Hdf5Shelf:
    """The datasets of a file. Raises InputError."""
    return Hdf5Shelf(path, way_of, wanted)
