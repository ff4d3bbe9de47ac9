"""One dataset of an open HDF5 file: its values, its attributes, how exactly it is stored."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import h5py
import numpy as np

from roicli.core.exceptions import InputError, first_line
from roicli.core.foreign import foreign
from roicli.core.types import Array
from roicli.storage.address import Address
from roicli.storage.array import (
    Place,
    Precision,
    Shape,
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
    reads_whole_chunks,
)
from roicli.storage.formats.hdf5.file import DAMAGE, close_file, pass_over
from roicli.storage.formats.hdf5.links import OtherFiles, find_within, name_of
from roicli.storage.limits import check_memory
from roicli.storage.roi_columns import is_image_name, plain_name

if TYPE_CHECKING:
    from roicli.storage.formats.hdf5.chunks import ChunkReader

logger = logging.getLogger("roicli")

# A longer attribute is none that roicli reads or writes.
LONGEST_ATTRIBUTE = 1 << 20


class ValueType(NamedTuple):
    """A type of values: as NumPy names what the file has, as it is meant, and as it is read.

    ``is_read_as_is``: the bytes in the file are those that are handed over.
    """

    in_file: np.dtype[Any]
    stored: np.dtype[Any]
    read: np.dtype[Any]
    precision: Precision
    is_read_as_is: bool


@lru_cache(maxsize=256)
def _describe_type(encoded: bytes) -> ValueType:
    """The type that HDF5 writes so; a file of many datasets has few."""
    kind = h5py.h5t.decode(encoded)
    in_file = kind.dtype
    stored = as_stored(without_objects(in_file))
    read = as_read(stored)
    is_read_as_is = in_file == read and bool(h5py.h5t.py_create(in_file).equal(kind))
    precision = _precision_of_type(kind, in_file)
    return ValueType(in_file, stored, read, precision, is_read_as_is)


class Hdf5Array(StoredArray):
    """One dataset of an open HDF5 file, in any dtype, layout and compression.

    What lies in the file as it is is copied, chunks are read as ``chunks`` says, and what HDF5
    itself has to decode by a child process. ``others`` are the files that reading opens besides the
    one of the address, and ``row_bytes`` pass through their filters for one row; ``needs_child``
    says that HDF5 itself decodes the values.
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
        kind = _describe_type(dataset.id.get_type().encode())
        in_file, stored = kind.in_file, kind.stored
        if stored.names and stored.names != in_file.names:
            lost = [name for name in in_file.names or () if name not in stored.names]
            named = [name for name in stored.names if is_image_name(plain_name(name))]
            images = [name for name in lost if is_image_name(plain_name(name))]
            if images and not named:
                raise InputError(
                    f"{self.name}: column {foreign(images[0])} seems to name images, in texts of "
                    "any length, which are not read from records",
                    "save it as texts of one length (NumPy's S), or the table as .csv",
                )
            logger.info(f"{self.name}: texts of any length are left out: {list_names(lost)}")
        check_readable(stored, self.name)
        self.files = others
        self.row_bytes = row_bytes
        self.shape = dataset.id.shape
        self.dtype, self.precision = kind.read, kind.precision
        # A file that serves others stays open, and few ask for all attributes of all of them.
        is_one_of_many = file is None
        self.attributes = (
            LaterAttributes(lambda: dataset) if is_one_of_many else read_attributes(dataset.attrs)
        )
        self.dataset = dataset
        self._file = file
        self._opaque = stored if is_narrow_float(stored) else None
        self._reader: ContainedReader | ChunkReader | None = None
        self.needs_child = False
        offset = dataset.id.get_offset()
        if offset is not None:
            self.offset = offset if kind.is_read_as_is and is_one_of_many else None
            return
        from roicli.storage.formats.hdf5.chunks import find_chunks  # plain datasets have none

        check_decodable(dataset, self.name)
        self.reading_bytes = 2 * chunk_bytes(dataset)
        self._reader = find_chunks(dataset.id, in_file)
        if dataset.chunks and self.shape and (self._reader is None or reads_whole_chunks(dataset)):
            self.chunk_rows = dataset.chunks[0]
        self.needs_child = self._reader is None and is_decoded(dataset)

    @property
    def dimension_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """What the file calls the axes."""
        return read_dimension_names(self.dataset, self.attributes)

    def read_by(self, child: OpeningChild) -> Hdf5Array:
        """Have the child that opened the dataset read what passes through filters and indices."""
        if self.needs_child:
            self._reader = ContainedReader(self.dataset, self.name, self.row_bytes, child)
        else:
            child.close()
        return self

    def read_with(self, reader: ContainedReader) -> None:
        """Have a child of somebody else's read the values."""
        self._reader = reader

    def is_copied_from(self, path: str) -> bool:
        """Whether the values lie as they are in the file at ``path``, past no link to another."""
        return not isinstance(self._reader, ContainedReader) and set(self.files) == {path}

    def read(self, place: Place, out: Array) -> None:
        """The values at ``place`` into ``out``."""
        if out.size == 0:
            return
        raw = out if self._opaque is None else np.empty(out.shape, self.dataset.dtype)
        try:
            if self._reader is not None:
                self._reader.read(place, raw)
            elif out.shape == self.shape:
                self.dataset.id.read(h5py.h5s.ALL, h5py.h5s.ALL, raw)
            else:
                self.dataset.read_direct(raw, place)
        except (OSError, EOFError, RuntimeError, ValueError) as error:
            what = f"item {place[0].start} " if place and len(out) < self.shape[0] else ""
            raise InputError(f"{self.name}: {what}cannot be read: {first_line(error)}") from error
        if self._opaque is not None:
            out[...] = raw.view(self._opaque)

    def beside(self, name: str) -> str | None:
        """The address of the array ``name`` in the same group of the same file, if there is one."""
        neighbour = f"{name_of(self.dataset.parent).rstrip('/')}/{name}"
        with suppress(*DAMAGE):
            if isinstance(find_within(self.dataset.file, neighbour), h5py.Dataset):
                return str(Address(self._path, neighbour))
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
    from roicli.storage.formats.hdf5.filters import check_filters  # plain datasets have none

    check_filters(dataset, name)
    check_memory(name, f"one chunk of shape {dataset.chunks}", 2 * chunk_bytes(dataset))


class OpenObject:
    """An open group or dataset with its attributes, made in a part of h5py's time."""

    def __init__(self, place: h5py.h5g.GroupID | h5py.h5d.DatasetID) -> None:
        self.id = place

    @property
    def attrs(self) -> h5py.AttributeManager:
        """As an object's of h5py."""
        return h5py.AttributeManager(self)


AnyObject: TypeAlias = h5py.Dataset | h5py.Group | OpenObject


class LaterAttributes(Mapping[str, Any]):
    """The attributes of an open object, each read when somebody asks for it.

    ``find`` gives the object; None for one whose attributes do not count.
    """

    def __init__(self, find: Callable[[], AnyObject | None]) -> None:
        self._find = find
        self._read: dict[str, Any] = {}

    @cached_property
    def _object(self) -> AnyObject | None:
        return self._find()

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return () if self._object is None else _names_of_attributes(self._object.id)

    def __getitem__(self, name: str) -> Any:
        if name not in self._read:
            if self._object is None or name not in self._names:
                raise KeyError(name)
            self._read[name] = _read_attribute(self._object.attrs, name)
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _names_of_attributes(place: h5py.h5g.GroupID | h5py.h5d.DatasetID) -> tuple[str, ...]:
    if h5py.h5a.get_num_attrs(place) == 0:
        return ()
    names: list[bytes] = []
    h5py.h5a.iterate(place, names.append)
    return tuple(name.decode("utf-8", "surrogateescape") for name in names)


def read_attributes(attributes: Any) -> dict[str, Any]:
    """The attributes by name; of one that cannot be read, or is very long, a text that says so."""
    return {name: _read_attribute(attributes, name) for name in attributes}


def _read_attribute(attributes: Any, name: str) -> Any:
    try:
        one = attributes.get_id(name)
        if attribute_bytes(one) > LONGEST_ATTRIBUTE:
            return unreadable("it is too long")
        kind = _describe_type(one.get_type().encode())
        if kind.in_file.kind in "iuf" and one.shape == ():  # in half the time that h5py takes
            number = np.empty((), kind.in_file)
            one.read(number)
            return number[()]
        return attributes[name]
    except DAMAGE as error:
        pass_over(error)
        return unreadable(first_line(error))


def attribute_bytes(attribute: Any) -> int:
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


def plain_numbers(dataset: h5py.h5d.DatasetID) -> tuple[Shape, np.dtype[Any], int] | None:
    """The shape, dtype and place in the file of numbers in one piece; None of other datasets."""
    shape = dataset.shape
    offset = dataset.get_offset() if shape and min(shape) else 0
    kind = _describe_type(dataset.get_type().encode())
    if offset is None or not kind.is_read_as_is or kind.in_file.kind not in "iuf":
        return None
    return shape, kind.read, offset


def lies_in_file(dataset: h5py.Dataset) -> bool:
    """Whether the values are in one piece in the dataset's own file, past no filter or index."""
    return dataset.id.get_offset() is not None


def stored_precision(dataset: h5py.Dataset) -> Precision:
    """How finely a dataset holds its values."""
    return _describe_type(dataset.id.get_type().encode()).precision


def _precision_of_type(kind: h5py.h5t.TypeID, in_file: np.dtype[Any]) -> Precision:
    """From the type itself: h5py shows bfloat16 as float32, which would hide the loss."""
    if not isinstance(kind, h5py.h5t.TypeFloatID):
        return precision_of(as_stored(in_file))
    *_, mantissa_bits = kind.get_fields()
    exponent_bits = kind.get_fields()[2]
    is_bfloat16 = (mantissa_bits, exponent_bits) == (7, 8)
    name = "bfloat16" if is_bfloat16 else in_file.newbyteorder("=").name
    return Precision(name, mantissa_bits, 1 - kind.get_ebias())
