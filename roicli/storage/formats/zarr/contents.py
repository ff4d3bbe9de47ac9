"""What a Zarr store holds, array by array, and its attributes."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

import numpy as np

from roicli.core.foreign import foreign
from roicli.core.types import Array
from roicli.storage.address import Address, is_url
from roicli.storage.attributes import plain_attributes
from roicli.storage.contents import FileContents, StoredDataset, is_numeric
from roicli.storage.formats.zarr.array import ZarrArray, address_of
from roicli.storage.formats.zarr.bfloat16 import is_bfloat16
from roicli.storage.formats.zarr.store import (
    METADATA_NAMES,
    import_zarr,
    list_arrays,
    name_codec,
    open_node,
)
from roicli.storage.stored_array import BFLOAT16_NAME, precision_of


def describe_zarr(address: Address) -> FileContents:
    """The arrays below the store's root or the group that the address names, or the one array."""
    zarr = import_zarr(address.path)
    node = open_node(address)
    if isinstance(node, zarr.Array):
        return FileContents(
            foreign(address.path), "zarr", {}, (_describe_array(node, address.path),)
        )
    datasets = tuple(_describe_array(a, address.path) for a in list_arrays(node, address))
    return FileContents(foreign(address.path), "zarr", plain_attributes(dict(node.attrs)), datasets)


def _describe_array(array: Any, path: str) -> StoredDataset:
    opaque, numeric = is_bfloat16(array), is_numeric(array.dtype)
    name = precision_of(array.dtype).name if numeric else str(array.dtype)
    return StoredDataset(
        address_of(array, path),
        tuple(array.shape),
        BFLOAT16_NAME if opaque else name,
        opaque or numeric,
        "chunked" if array.shards is None else "sharded",
        tuple(array.chunks),
        ", ".join(map(_describe_codec, (*array.filters, *array.compressors))) or None,
        # Over a network the size of every chunk would be a request of its own.
        None if is_url(path) else _measure_chunks(os.path.join(path, array.path)),
        plain_attributes(dict(array.attrs)),
        _OpenedLater(array, path),
    )


def _measure_chunks(folder: str) -> int:
    """Bytes of all that is stored of an array, without its metadata."""
    return sum(
        os.lstat(os.path.join(place, name)).st_size
        for place, _, names in os.walk(folder)
        for name in names
        if name not in METADATA_NAMES
    )


def _describe_codec(codec: Any) -> str:
    """A codec and what it is set to, like ``gzip 5`` or ``blosc zstd 5 shuffle``."""
    name, settings = name_codec(codec)
    shown = [settings.get(key) for key in ("cname", "level", "clevel", "shuffle")]
    return " ".join([name, *(str(setting) for setting in shown if setting is not None)])


class _OpenedLater:
    """An array's values; what is odd about its chunks matters only to who reads them."""

    def __init__(self, array: Any, path: str) -> None:
        self.shape, self._array, self._path = tuple(array.shape), array, path
        self.dtype = np.dtype(np.float32) if is_bfloat16(array) else array.dtype

    @cached_property
    def _opened(self) -> ZarrArray:
        return ZarrArray(self._array, self._path)

    def __getitem__(self, place: tuple[slice, ...]) -> Array:
        return self._opened.read_block(place)
