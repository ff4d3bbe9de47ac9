"""Many datasets of one HDF5 file, which is opened once: children open and read all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

import h5py

from roicli.core.exceptions import InputError
from roicli.core.types import Array, as_bytes
from roicli.storage.address import Address, check_regular_file
from roicli.storage.array import read_whole
from roicli.storage.choice import Wanted
from roicli.storage.file_state import FileState, read_state
from roicli.storage.formats.hdf5.array import (
    Hdf5Array,
    LaterAttributes,
    OpenObject,
    plain_numbers,
    read_attributes,
)
from roicli.storage.formats.hdf5.child import (
    FEWEST_A_PART,
    SWITCH,
    ContainedReader,
    Datasets,
    OpeningChild,
    Readable,
    is_contained,
    shared_array,
    try_first,
    try_parts_first,
)
from roicli.storage.formats.hdf5.chunks import descriptor_of, is_plain_file
from roicli.storage.formats.hdf5.dataset import choose_below, trust
from roicli.storage.formats.hdf5.file import close_file, look_up, naming_damage, open_file
from roicli.storage.formats.hdf5.links import split_way
from roicli.storage.limits import external_files, external_is_allowed
from roicli.storage.shelf import Fill, Look, Plain, Shelf, WayOfKey


class Hdf5Shelf(Shelf):
    """Datasets of one file. What is chunked is read by one child, which opens them as asked."""

    def __init__(self, path: str, way_of: WayOfKey, wanted: Wanted) -> None:
        check_regular_file(path)
        self.files = {path: read_state(path)}
        self._path, self._way_of, self._wanted = path, way_of, wanted
        self._may_lead_out = external_is_allowed()
        self._size = os.path.getsize(path)
        self._numbers: dict[str, int] = {}
        self._fill_part: Callable[[slice], None] = lambda part: None
        self._child: OpeningChild | None = None
        try_first(lambda: close_file(open_file(path, path)), path, self._size)
        self._file = open_file(path, path)
        self._is_plain = is_plain_file(self._file.id)
        self._file_attributes = read_attributes(self._file.attrs)

    def path_of(self, key: str) -> str:
        """The one file."""
        return self._path

    def begin_look(self, keys: Sequence[str], fill: Fill, width: int) -> Look:
        """What ``fill`` finds in a child: what it opened there can be opened here.

        Where there is much to look at, children do so side by side.
        """
        if not is_contained():
            return super().begin_look(keys, fill, width)
        found = shared_array(len(keys), width)

        def fill_part(part: slice) -> None:
            fill(keys[part], found[part])

        def look(start: int, stop: int) -> Array:
            if stop - start > FEWEST_A_PART:
                try_parts_first(fill_part, start, stop, self._path, self._size)
            elif stop > start:
                self._child_for_all().look_at(start, stop)
            return found[start:stop]

        self._numbers, self._fill_part = {key: n for n, key in enumerate(keys)}, fill_part
        self._end_child()
        return look

    def read_piece(self, key: str, offset: int, out: Array) -> None:
        """The values of an array that said that it has them at ``offset``. Raises InputError."""
        try:
            read_whole(descriptor_of(self._file.id), as_bytes(out), offset)
        except (OSError, EOFError) as error:
            raise InputError(f"{self._path}: cannot be read: {error}") from error

    def open(self, key: str) -> Hdf5Array:
        """The dataset of a key; the file stays open when it is closed."""
        array = self._choose(key)
        if is_contained() and array.needs_child:
            number = self._numbers.get(key)
            child = None if number is None else self._child_for_all()
            array.read_with(
                ContainedReader(array.dataset, array.name, array.row_bytes, child, number)
            )
        return array

    def peek(self, key: str, telling: AbstractSet[str]) -> Plain | None:
        """A dataset in one piece, on no link, without attributes that tell something."""
        *above, name = split_way(self._way_of(key))
        try:
            group = self._file.id
            for part in above:
                if not _is_own(group, part):
                    return None
                group = h5py.h5g.open(group, part)
            numbers = None
            if self._is_plain and _is_own(group, name):
                dataset = h5py.h5d.open(group, name)
                numbers = plain_numbers(dataset)
            if numbers is None:
                return None
            own = LaterAttributes(lambda: OpenObject(dataset))
            of_group = LaterAttributes(lambda: OpenObject(group) if above else None)
            if not (telling.isdisjoint(own) and telling.isdisjoint(of_group)):
                return None
            way = f"/{b'/'.join((*above, name)).decode()}"
        except (KeyError, RuntimeError, TypeError, UnicodeDecodeError):
            return None  # whatever it is, ``open`` says it
        address = str(Address(self._path, way))
        return Plain(address, *numbers, own, of_group, self._file_attributes)

    def _choose(self, key: str) -> Hdf5Array:
        way = self._way_of(key)
        address, others = Address(self._path, way), dict[str, FileState]()
        with external_files(self._may_lead_out), naming_damage(str(address)):
            node, path = self._find(way), self._path
            if node is None:
                node, path = look_up(self._file, address, others)
            array = choose_below(None, node, path, address, self._wanted, others)
            if others or not self._is_plain:
                array.offset = None
            array.files = {**self.files, **others}
            dataset = array.dataset
            array.group_attributes = LaterAttributes(lambda: _group_of(dataset))
            array.file_attributes = self._file_attributes
        return array

    def _find(self, way: str) -> h5py.Dataset | None:
        """The dataset at a way that no link is on; None where it has to be looked up."""
        parts, file = split_way(way), self._file.id
        try:
            for count in range(1, len(parts) + 1):
                if file.links.get_info(b"/".join(parts[:count])).type != h5py.h5l.TYPE_HARD:
                    return None
            return h5py.Dataset(h5py.h5d.open(file, b"/".join(parts)))
        except (KeyError, RuntimeError):  # a group, or nothing
            return None

    def _child_for_all(self) -> OpeningChild:
        if self._child is None:
            keys = list(self._numbers)

            def readable(number: int) -> Readable:
                array = self._choose(keys[number])
                return Readable(array.dataset, array.row_bytes)

            datasets = Datasets(readable, lambda start, stop: self._fill_part(slice(start, stop)))
            self._child = OpeningChild(lambda: datasets, self._path, self._size)
        return self._child

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None

    def close(self) -> None:
        """Let go of the file, and end the child."""
        self._end_child()
        close_file(self._file)


def _is_own(group: h5py.h5g.GroupID | h5py.h5f.FileID, name: bytes) -> bool:
    """Whether a name in a group is an object of the same file."""
    return bool(group.links.get_info(name).type == h5py.h5l.TYPE_HARD)


def _group_of(dataset: h5py.Dataset) -> h5py.Group | None:
    """The group that a dataset stands in; None for the file's root."""
    group = dataset.parent
    return None if group.name == "/" else group


def look_at_files(
    addresses: Sequence[Address], wanted: Wanted, fill: Callable[[Array], None], width: int
) -> Array:
    """The numbers that ``fill`` finds of an array in each of many files, in one child."""
    found = shared_array(len(addresses), width)

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


def open_shelf(path: str, way_of: WayOfKey, wanted: Wanted) -> Hdf5Shelf:
    """The datasets of a file. Raises InputError."""
    return Hdf5Shelf(path, way_of, wanted)
