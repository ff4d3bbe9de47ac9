"""The safetensors format: a header in JSON, and the values of all tensors after it, in C order.

Source: huggingface/safetensors, README, "Format".
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from roicli.core.exceptions import InputError, first_line
from roicli.core.foreign import foreign
from roicli.storage.address import Address, check_regular_file
from roicli.storage.array import (
    FileContents,
    MemoryArray,
    RawArray,
    RawLayout,
    StoredArray,
    StoredDataset,
    is_numeric,
    name_of_dtype,
    narrow_float,
    plain_attributes,
)
from roicli.storage.choice import Candidate, Wanted, choose_only, list_names
from roicli.storage.file_state import FileState, read_state
from roicli.storage.formats import WayOf, names_below
from roicli.storage.limits import check_memory
from roicli.storage.shelf import Shelf, WayOfKey

LENGTH_BYTES = 8
# The reference implementation's own limit.
LONGEST_HEADER = 100_000_000
# Python's objects against the text that they are parsed from.
HEADER_IN_MEMORY = 20
METADATA = "__metadata__"
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "|b1", "C64": "<c8",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1",
}  # fmt: skip
NARROW_FLOATS = {
    "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip


class Tensor(NamedTuple):
    """A tensor of a file. ``dtype`` is None for one that is kept in less than a byte a value."""

    name: str
    dtype_name: str
    dtype: np.dtype[Any] | None
    shape: tuple[int, ...]
    start: int
    stop: int


class Tensors(NamedTuple):
    """What a header says: the tensors by name, the file's metadata, where the values begin."""

    shown: str
    by_name: dict[str, Tensor]
    metadata: Mapping[str, Any]

    def choose(self, address: Address, wanted: Wanted) -> Tensor:
        """The tensor that is named, or the only one that is wanted. Raises InputError."""
        name = address.dataset
        if name is None:
            if wanted.preferred in self.by_name:
                return self.by_name[str(wanted.preferred)]
            tensors = list(self.by_name.values())
            found = [
                Candidate(foreign(one.name), one.shape, one.dtype or np.dtype("V1"))
                for one in tensors
            ]
            return tensors[choose_only(address, found, wanted)]
        # Names may hold and begin with a slash; a dataset of HDF5 is often named with one.
        found_name = name if name in self.by_name else name.strip("/")
        if found_name not in self.by_name:
            names = list_names(self.by_name)
            raise InputError(f"{self.shown}: has no dataset {name!r}; its datasets are: {names}")
        return self.by_name[found_name]


def open_array(address: Address, wanted: Wanted) -> StoredArray:
    """The tensor that is named, or the file's only one that is wanted. Raises InputError."""
    path = address.path
    tensors, state = _look_at(path)
    return _open_tensor(path, tensors, tensors.choose(address, wanted), state)


def _open_tensor(path: str, tensors: Tensors, tensor: Tensor, state: FileState) -> StoredArray:
    name = f"{path}::{tensor.name}"
    layout = RawLayout(tensor.start, tensor.shape, _numbers(tensor, name))
    array = RawArray(path, layout, name, state)
    array.file_attributes = tensors.metadata
    return array


def _numbers(tensor: Tensor, name: str) -> np.dtype[Any]:
    if tensor.dtype is None:
        raise InputError(
            f"{name}: dtype is {tensor.dtype_name}, expected one of: "
            f"{', '.join((*DTYPES, *NARROW_FLOATS))}"
        )
    return tensor.dtype


def parse(data: bytes, address: Address, wanted: Wanted) -> StoredArray:
    """A file that was read from a pipe."""
    shown = str(Address(address.path))
    tensors = parse_header(data, shown, len(data))
    tensor = tensors.choose(address, wanted)
    name = f"{shown}::{tensor.name}"
    dtype = _numbers(tensor, name)
    values = np.frombuffer(data, dtype, math.prod(tensor.shape), tensor.start)
    array = MemoryArray(values.reshape(tensor.shape), name)
    array.file_attributes = tensors.metadata
    return array


class SafetensorsShelf(Shelf):
    """Tensors of one file, whose header is read once."""

    def __init__(self, path: str, way_of: WayOfKey, wanted: Wanted) -> None:
        self._path, self._way_of, self._wanted = path, way_of, wanted
        self._tensors, state = _look_at(path)
        self.files = {path: state}

    def open(self, key: str) -> StoredArray:
        """The tensor of a key."""
        tensor = self._tensors.choose(Address(self._path, self._way_of(key)), self._wanted)
        return _open_tensor(self._path, self._tensors, tensor, self.files[self._path])

    def path_of(self, key: str) -> str:
        """The one file."""
        return self._path


def open_shelf(path: str, way_of: WayOfKey, wanted: Wanted) -> SafetensorsShelf:
    """The tensors of a file. Raises InputError."""
    return SafetensorsShelf(path, way_of, wanted)


def find_names(path: str, group: str, way_of: WayOf) -> list[str]:
    """The names in a group of a file, where tensors have ways for names, whose way is there."""
    return names_below(_look_at(path)[0].by_name, group, way_of)


def contents(address: Address) -> FileContents:
    """The tensors of a file, or the one that the address names."""
    path = address.path
    tensors, _ = _look_at(path)
    if address.dataset is None:
        listed: Iterable[Tensor] = tensors.by_name.values()
    else:
        listed = [tensors.choose(address, Wanted("any"))]
    return FileContents(
        foreign(path),
        "safetensors",
        plain_attributes(tensors.metadata),
        tuple(_describe(path, tensor) for tensor in listed),
    )


def _describe(path: str, tensor: Tensor) -> StoredDataset:
    dtype = tensor.dtype
    address = Address(path, tensor.name)
    return StoredDataset(
        str(address),
        tensor.shape,
        foreign(tensor.dtype_name) if dtype is None else name_of_dtype(dtype),
        dtype is not None and is_numeric(dtype),
        "C order",
        stored_bytes=tensor.stop - tensor.start,
        open=partial(open_array, address, Wanted("any")),
    )


def _look_at(path: str) -> tuple[Tensors, FileState]:
    check_regular_file(path)
    state = read_state(path)
    with open(path, "rb") as stream:
        size = os.stat(stream.fileno()).st_size
        length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
        stream.seek(0)
        # What is longer is refused below, before it is read.
        head = stream.read(LENGTH_BYTES + min(length, LONGEST_HEADER))
    return parse_header(head, path, size), state


def parse_header(head: bytes, shown: str, size: int) -> Tensors:
    """The header of a file of ``size`` bytes, of which ``head`` are the first.

    Raises InputError unless the tensors fill the rest of the file, without gaps or overlaps.
    """
    length = int.from_bytes(head[:LENGTH_BYTES], "little")
    if size < LENGTH_BYTES or length > min(LONGEST_HEADER, size - LENGTH_BYTES):
        raise InputError(
            f"{shown}: is no safetensors file, or cut short: its header has {length:,} bytes, "
            f"expected at most {min(LONGEST_HEADER, max(size - LENGTH_BYTES, 0)):,}"
        )
    check_memory(shown, "its header", length * HEADER_IN_MEMORY)
    start = LENGTH_BYTES + length
    try:
        found = json.loads(head[LENGTH_BYTES:start], object_pairs_hook=_without_repeats)
        if not isinstance(found, dict):
            raise TypeError(f"it is a {type(found).__name__}, expected names of tensors")
        metadata = found.pop(METADATA, {})
        if not isinstance(metadata, dict):
            raise TypeError(f"{METADATA} is a {type(metadata).__name__}, expected texts")
        tensors = {name: _parse_tensor(name, given, start) for name, given in found.items()}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(
            f"{shown}: the safetensors header cannot be read: {first_line(error)}"
        ) from error
    reached = start
    for tensor in sorted(tensors.values(), key=lambda one: (one.start, one.stop)):
        if tensor.start != reached:
            raise InputError(
                f"{shown}::{tensor.name}: its values begin at byte {tensor.start:,}, expected "
                f"{reached:,}: tensors follow one another without gaps"
            )
        reached = tensor.stop
    if reached != size:
        raise InputError(
            f"{shown}: {'is cut short' if reached > size else 'has more than its tensors'}: the "
            f"header promises {reached:,} bytes, found {size:,}"
        )
    return Tensors(shown, tensors, {str(key): str(text) for key, text in metadata.items()})


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _parse_tensor(name: str, given: Any, base: int) -> Tensor:
    """One entry of the header. Raises ValueError, TypeError and KeyError."""
    if not isinstance(given, dict):
        raise TypeError(f"{name!r:.100} is a {type(given).__name__}, expected a tensor")
    dtype_name, shape, offsets = given["dtype"], given["shape"], given["data_offsets"]
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError(f"{name!r:.100} has {numbers!r:.100}, expected whole numbers from 0")
    first, last = offsets
    if last < first:
        raise ValueError(f"{name!r:.100} has data_offsets {offsets}, expected them in order")
    dtype = None
    if dtype_name in DTYPES:
        dtype = np.dtype(DTYPES[dtype_name])
    elif dtype_name in NARROW_FLOATS:
        dtype = narrow_float(NARROW_FLOATS[dtype_name])
    needed = last - first if dtype is None else math.prod(shape) * dtype.itemsize
    if needed != last - first:
        raise ValueError(
            f"{name!r:.100} is {shape} {dtype_name}, {needed:,} bytes, and has {last - first:,}"
        )
    return Tensor(name, str(dtype_name), dtype, tuple(shape), base + first, base + last)
