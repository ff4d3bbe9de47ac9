"""Opening the dataset that is wanted: in a child process first, then in this one."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from typing import Any

import h5py

from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign
from roicli.storage.address import Address, check_regular_file
from roicli.storage.array import MATLAB_CLASS, without_objects
from roicli.storage.choice import Candidate, Wanted, choose_only
from roicli.storage.file_state import read_state
from roicli.storage.formats.hdf5.array import Hdf5Array, lies_in_file, read_attributes
from roicli.storage.formats.hdf5.child import (
    ContainedReader,
    OpeningChild,
    Readable,
    is_contained,
)
from roicli.storage.formats.hdf5.file import (
    close_file,
    list_datasets,
    look_up,
    naming_damage,
    open_file,
)
from roicli.storage.formats.hdf5.links import (
    OtherFiles,
    check_parts_open,
    name_of,
    trace_sources,
)

# What a child has opened and then this process, so that a program that opens a file again and again
# forks once. What is decoded is read by a child every time.
_OPENED: set[tuple[Any, ...]] = set()
MOST_OPENED = 1 << 12
# What a child has opened among many files: 8 bytes each, for there may be one an image.
_SURVIVED: set[int] = set()


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
        if array.needs_child:
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

    def open_dataset() -> Readable | None:
        array = choose()
        return Readable(array.dataset, array.row_bytes) if array.needs_child else None

    child = OpeningChild(open_dataset, str(Address(address.path)), size)
    try:
        return choose().read_by(child)
    except BaseException:
        child.close()
        raise


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
    row_bytes = 0
    if not lies_in_file(node):
        row_bytes = trace_sources(node, path, others)
        if node.is_virtual:
            check_parts_open(node, address.path)
        if node.shape is None:
            raise InputError(f"{address}: the dataset is empty (a null dataspace)")
    return Hdf5Array(file, node, address, others, row_bytes)


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
