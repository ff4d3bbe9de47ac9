"""Tensors that torch.save wrote, where torch is installed. A pickle that runs code is never loaded.

A file holds one tensor, or tensors in dictionaries, lists and tuples, whose keys and places are
ways to them: ``x.pt::boxes``, ``x.pt::features/p3``, ``x.pt::0``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from roicli.core.exceptions import InputError, MissingPackageError, first_line
from roicli.core.foreign import foreign
from roicli.core.types import Array
from roicli.storage.address import Address, check_regular_file
from roicli.storage.array import (
    FileContents,
    MemoryArray,
    StoredArray,
    StoredDataset,
    is_numeric,
    name_of_dtype,
    narrow_float,
)
from roicli.storage.choice import Candidate, Wanted, choose_only, list_names
from roicli.storage.file_state import FileState, read_state
from roicli.storage.formats import WayOf, names_below
from roicli.storage.limits import check_memory
from roicli.storage.shelf import Shelf, WayOfKey

# The name of a file's only tensor.
WHOLE = ""
# What torch colours its messages with.
COLOURS = r"\x1b\[[0-9;]*m"


def open_array(address: Address, wanted: Wanted) -> StoredArray:
    """The tensor that is named, or the only one that is wanted. Raises InputError."""
    return _open_one(*_load(address.path), address, wanted)


def _open_one(
    tensors: Mapping[str, Array], state: FileState, address: Address, wanted: Wanted
) -> MemoryArray:
    name = _choose(tensors, address, wanted)
    return MemoryArray(tensors[name], _shown(address.path, name), {address.path: state})


def _choose(tensors: Mapping[str, Array], address: Address, wanted: Wanted) -> str:
    """The name of the tensor that is named, or of the only one that is wanted."""
    name = (address.dataset or WHOLE).strip("/")
    if name not in tensors and address.dataset is None:
        found = [Candidate(foreign(name), v.shape, v.dtype) for name, v in tensors.items()]
        name = list(tensors)[choose_only(address, found, wanted)]
    if name not in tensors:
        raise InputError(
            f"{address.path}: has no tensor {name!r}; its tensors are: {list_names(tensors)}"
        )
    return name


def _shown(path: str, name: str) -> str:
    return str(Address(path, name or None))


class TensorShelf(Shelf):
    """The tensors of one file, which is read once: torch loads all of it whatever is asked for."""

    def __init__(self, path: str, way_of: WayOfKey, wanted: Wanted) -> None:
        self._path, self._way_of, self._wanted = path, way_of, wanted
        self._tensors, self._state = _load(path)
        self.files = {path: self._state}

    def open(self, key: str) -> StoredArray:
        """The tensor of a key."""
        address = Address(self._path, self._way_of(key))
        return _open_one(self._tensors, self._state, address, self._wanted)

    def path_of(self, key: str) -> str:
        """The one file."""
        return self._path


def open_shelf(path: str, way_of: WayOfKey, wanted: Wanted) -> TensorShelf:
    """The tensors of a file. Raises InputError."""
    return TensorShelf(path, way_of, wanted)


def contents(address: Address) -> FileContents:
    """The tensors of a file, or the one that the address names."""
    tensors, _ = _load(address.path)
    listed = list(tensors)
    if address.dataset is not None:
        listed = [_choose(tensors, address, Wanted("any"))]
    described = tuple(_describe(address.path, name, tensors[name]) for name in listed)
    return FileContents(foreign(address.path), "pytorch", {}, described)


def find_names(path: str, group: str, way_of: WayOf) -> list[str]:
    """The names in a group of a file, where tensors have ways for names, whose way is there."""
    return names_below(_load(path)[0], group, way_of)


def _describe(path: str, name: str, values: Array) -> StoredDataset:
    address = Address(path, name or None)
    return StoredDataset(
        _shown(path, name), values.shape, name_of_dtype(values.dtype), is_numeric(values.dtype),
        "C order", stored_bytes=values.nbytes, open=partial(open_array, address, Wanted("any")),
    )  # fmt: skip


def _load(path: str) -> tuple[dict[str, Array], FileState]:
    """All tensors by their ways, and the file's state before they were read."""
    check_regular_file(path)
    try:
        import torch
    except ImportError as error:
        raise MissingPackageError(
            f"{path}: files of torch.save are read by torch, which is not installed",
            "install torch, or save the tensors as .safetensors or .npz",
        ) from error
    state = read_state(path)
    check_memory(path, "its tensors", os.path.getsize(path))
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        tensors = {way: _as_numpy(torch, one) for way, one in _walk(torch, found, WHOLE)}
    except Exception as error:  # whatever a foreign pickle leads torch to
        raise InputError(
            f"{path}: cannot be read: {re.sub(COLOURS, '', first_line(error))}",
            "save tensors in dictionaries and lists alone, or as .safetensors",
        ) from error
    if not tensors:
        raise InputError(f"{path}: holds no tensor")
    return tensors, state


def _walk(torch: Any, found: Any, way: str) -> Iterator[tuple[str, Any]]:
    """Every tensor with its way; what is none is passed over."""
    if isinstance(found, torch.Tensor):
        yield way, found
        return
    items: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(found, Mapping):
        items = iter(found.items())
    elif isinstance(found, list | tuple):
        items = iter(enumerate(found))
    for key, one in items:
        yield from _walk(torch, one, f"{way}/{key}".lstrip("/"))


def _as_numpy(torch: Any, tensor: Any) -> Array:
    """The values; those of narrow floats by their bits, for which NumPy has no name of its own."""
    plain = tensor.detach().resolve_conj().resolve_neg().to_dense().contiguous()
    name = str(tensor.dtype).removeprefix("torch.")
    if not name.startswith(("bfloat", "float8")):
        return np.asarray(plain.numpy())
    dtype = narrow_float(name)
    bits = torch.int16 if dtype.itemsize == 2 else torch.uint8
    return np.asarray(plain.view(bits).numpy()).view(dtype)
