"""What an HDF5 file holds, dataset by dataset."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import h5py
import numpy as np

from roicli.core.exceptions import first_line
from roicli.core.foreign import foreign
from roicli.core.types import Array
from roicli.storage.address import Address, check_regular_file
from roicli.storage.attributes import plain_attributes
from roicli.storage.contents import FileContents, StoredDataset, is_numeric
from roicli.storage.formats.hdf5.array import (
    DAMAGE,
    LONGEST_ATTRIBUTE,
    check_decodable,
    close_file,
    list_datasets,
    look_up,
    naming_damage,
    open_file,
    pass_over,
    stored_precision,
)
from roicli.storage.formats.hdf5.containment import (
    ContainedReader,
    is_contained,
    is_decoded,
    try_first,
)
from roicli.storage.formats.hdf5.filters import list_filters
from roicli.storage.formats.hdf5.links import name_of
from roicli.storage.formats.hdf5.outside import leads_outside, trace_sources


@contextmanager
def open_hdf5_contents(address: Address) -> Iterator[FileContents]:
    """What the file, or its group or dataset that the address names, holds. Raises InputError."""
    check_regular_file(address.path)
    size = os.stat(address.path).st_size

    @contextmanager
    def described() -> Iterator[FileContents]:
        file = open_file(address.path, address.path)
        try:
            with naming_damage(address.path):
                named = address.dataset is not None
                node = look_up(file, address, {})[0] if named else file
                contents = _describe(node, address.path)
            yield contents
        finally:
            close_file(file)

    def attempt() -> None:
        with described():
            pass

    try_first(attempt, address.path, size)
    with described() as contents:
        yield contents


def _describe(node: h5py.Group | h5py.Dataset, path: str) -> FileContents:
    """The datasets below a group, or the one dataset."""
    if isinstance(node, h5py.Dataset):
        return FileContents(foreign(path), "hdf5", {}, (_describe_dataset(node, path),))
    datasets = tuple(_describe_dataset(dataset, path) for _, dataset in list_datasets(node))
    return FileContents(foreign(path), "hdf5", plain_attributes(_Readable(node.attrs)), datasets)


def _describe_dataset(dataset: h5py.Dataset, path: str) -> StoredDataset:
    numeric = is_numeric(dataset.dtype)
    # HDF5 opens the sources of a virtual dataset to say what shape it has.
    outside = leads_outside(dataset, path)
    shape = dataset.virtual_sources()[0].vspace.shape if outside else dataset.shape
    return StoredDataset(
        str(Address(path, name_of(dataset))),
        shape,
        stored_precision(dataset).name if numeric else str(dataset.dtype),
        numeric,
        _layout(dataset),
        dataset.chunks,
        ", ".join(text for _, text in list_filters(dataset)) or None,
        None if dataset.is_virtual else dataset.id.get_storage_size(),
        plain_attributes(_Readable(dataset.attrs)),
        Hdf5Source(dataset, path, shape),
    )


class Hdf5Source:
    """The values of a dataset, read block by block, in a child process where that is needed."""

    def __init__(self, dataset: h5py.Dataset, path: str, shape: tuple[int, ...] | None) -> None:
        self.shape, self.dtype = shape, dataset.dtype.newbyteorder("=")
        self._dataset, self._path = dataset, path
        self._name = str(Address(path, name_of(dataset)))

    def __getitem__(self, place: tuple[slice, ...]) -> Array:
        row_bytes = trace_sources(self._dataset, self._path, {})
        check_decodable(self._dataset, self._name)
        if not (is_contained() and is_decoded(self._dataset)):
            return np.asarray(self._dataset[place])
        out = np.empty([part.stop - part.start for part in place], self.dtype)
        with closing(ContainedReader(self._dataset, self._name, row_bytes)) as reader:
            reader.read(place, out)
        return out


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
            if self._attributes.get_id(name).get_storage_size() <= LONGEST_ATTRIBUTE:
                return self._attributes[name]
        except DAMAGE as error:
            pass_over(error)
            raise ValueError(first_line(error)) from error
        raise ValueError(f"longer than {LONGEST_ATTRIBUTE:,} bytes")
