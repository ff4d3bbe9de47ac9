"""One dataset of an open HDF5 file: its values, its attributes, how exactly it is stored."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import h5py
import numpy as np

from roicli.core.exceptions import InputError, first_line
from roicli.core.foreign import foreign
from roicli.core.types import Array
from roicli.storage.address import Address
from roicli.storage.array import (
    Place,
    Precision,
    StoredArray,
    as_read,
    as_stored,
    check_readable,
    is_narrow_float,
    precision_of,
    unreadable,
    without_objects,
)
from roicli.storage.choice import list_names
from roicli.storage.formats.hdf5.child import (
    ContainedReader,
    OpeningChild,
    chunk_bytes,
    is_decoded,
)
from roicli.storage.formats.hdf5.file import DAMAGE, close_file, pass_over
from roicli.storage.formats.hdf5.filters import check_filters
from roicli.storage.formats.hdf5.links import OtherFiles, name_of
from roicli.storage.limits import check_memory

logger = logging.getLogger("roicli")

# A longer attribute is none that roicli reads or writes.
LONGEST_ATTRIBUTE = 1 << 20


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


def _attribute_bytes(attribute: Any) -> int:
    """What an attribute takes in the file; h5py takes the 0 of an empty one for an error."""
    try:
        return int(attribute.get_storage_size())
    except RuntimeError:
        return 0


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
