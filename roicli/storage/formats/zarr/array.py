"""Zarr arrays: finding the one that fits, and reading it image by image."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign
from roicli.core.types import Array
from roicli.storage.address import Address
from roicli.storage.choosing import Candidate, choose_only
from roicli.storage.file_state import FileState
from roicli.storage.formats.npy import widen_bfloat16
from roicli.storage.formats.zarr.bfloat16 import is_bfloat16
from roicli.storage.formats.zarr.store import (
    import_zarr,
    list_arrays,
    name_codec,
    open_node,
    opening,
    read_root_attributes,
    reading,
    states_of,
)
from roicli.storage.stored_array import BFLOAT16, check_numeric, precision_of

Shape = tuple[int, ...]
# A chunk is decoded whole, whatever is read of it, and metadata may promise any size.
MAX_CHUNK_BYTES = 2 << 30
# Chunks that hold several rows are kept decoded up to this size, so that each is decoded once.
KEPT_BYTES = 32 << 20


class ZarrArray:
    """One array of a Zarr store, in any dtype, chunking and compression."""

    def __init__(self, array: Any, path: str) -> None:
        self.name = address_of(array, path)
        self.files: Mapping[str, FileState] = states_of(path, array.path)
        self._bfloat16 = is_bfloat16(array)
        if not self._bfloat16:
            check_numeric(array.dtype, self.name)
        _check_chunks(array, self.name)
        self.shape: Shape = tuple(array.shape)
        self.dtype = np.dtype(np.float32) if self._bfloat16 else array.dtype.newbyteorder("=")
        self.precision = BFLOAT16 if self._bfloat16 else precision_of(array.dtype)
        self.attributes: Mapping[str, Any] = dict(array.attrs)
        self.file_attributes: Mapping[str, Any] = read_root_attributes(array)
        if array.compressors and name_codec(array.compressors[-1])[0].endswith("blosc"):
            array.store.blosc_arrays.add(array.path)
        self._array = array
        self._chunk_rows = array.chunks[0] if self.shape else 1
        self._kept: tuple[int, Array] | None = None

    def read_item_into(self, index: int, out: Array) -> None:
        """Item ``index`` along the first axis into ``out``."""
        self.read_rows_into(index, out[np.newaxis])

    def read_rows_into(self, first: int, out: Array) -> None:
        """As many items as ``out`` has, from ``first`` on."""
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        if self._chunk_rows == 1 or self._chunk_rows * row_bytes > KEPT_BYTES:
            self._read(np.s_[first : first + len(out)], out)
            return
        done = 0
        while done < len(out):
            start, values = self._keep_chunks_of(first + done)
            found = values[first + done - start :][: len(out) - done]
            out[done : done + len(found)] = found
            done += len(found)

    def _keep_chunks_of(self, row: int) -> tuple[int, Array]:
        """The first row and the values of the row of chunks that ``row`` is in."""
        start = row - row % self._chunk_rows
        if self._kept is None or self._kept[0] != start:
            stop = min(start + self._chunk_rows, self.shape[0])
            values = np.empty((stop - start, *self.shape[1:]), self.dtype)
            self._read(np.s_[start:stop], values)
            self._kept = (start, values)
        return self._kept

    def read_all(self) -> Array:
        """The whole array, C-contiguous, in native byte order."""
        out = np.empty(self.shape, self.dtype)
        self._read(..., out)
        return out

    def read_block(self, place: tuple[slice, ...]) -> Array:
        """The values at one slice an axis."""
        out = np.empty([part.stop - part.start for part in place], self.dtype)
        self._read(place, out)
        return out

    def _read(self, place: Any, out: Array) -> None:
        if out.size == 0:
            return
        with reading(self.name, "its values "):
            if self._bfloat16:
                out[...] = widen_bfloat16(np.asarray(self._array[place]))
                return
            from zarr.buffer.cpu import NDBuffer

            self._array.get_basic_selection(place, out=NDBuffer.from_numpy_array(out))

    def close(self) -> None:
        """Let go of the chunks that are kept; a store holds no file open."""
        self._kept = None


def address_of(array: Any, path: str) -> str:
    """The address of an array in the store at ``path``: the store alone where it is the array."""
    return str(Address(path, array.name if array.path else None))


def _check_chunks(array: Any, name: str) -> None:
    size = math.prod(array.chunks) * array.dtype.itemsize
    if size > MAX_CHUNK_BYTES:
        raise InputError(
            f"{name}: a chunk of shape {tuple(array.chunks)} takes {size:,} bytes, "
            f"expected at most {MAX_CHUNK_BYTES:,}"
        )


def open_zarr(
    address: Address, fits: Callable[[Shape], bool], wanted: str, preferred: str | None = None
) -> ZarrArray:
    """The named array, or the store's (or group's) only one that ``fits``.

    ``wanted`` says in words what fits; of several, ``preferred`` is taken. Raises InputError.
    """
    zarr = import_zarr(address.path)
    node = open_node(address)
    if isinstance(node, zarr.Group) and preferred is not None:
        with opening(str(address)):
            found = node.get(preferred)
        node = found if isinstance(found, zarr.Array) else node
    if isinstance(node, zarr.Group):
        arrays = list_arrays(node, address)
        candidates = [Candidate(foreign(a.name), tuple(a.shape), _shown_dtype(a)) for a in arrays]
        node = arrays[choose_only(address, candidates, fits, wanted)]
    return ZarrArray(node, address.path)


def _shown_dtype(array: Any) -> np.dtype[Any]:
    return np.dtype(np.float32) if is_bfloat16(array) else array.dtype
