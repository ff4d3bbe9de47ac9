"""The NPY format (numpy.lib.format). A pickle is never loaded."""

from __future__ import annotations

import io
import math
import os
import warnings
from typing import Any, BinaryIO, Literal

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.types import Array
from roicli.storage.address import check_regular_file
from roicli.storage.file_state import read_state
from roicli.storage.limits import check_memory
from roicli.storage.stored_array import (
    BFLOAT16,
    MemoryArray,
    NpyArray,
    Precision,
    StoredArray,
    check_numeric,
)

MAGIC = b"\x93NUMPY"
# NumPy's own limit.
LONGEST_HEADER = 10_000
# NumPy has no bfloat16: ml_dtypes' arrays are saved as two opaque bytes an element.
OPAQUE_BFLOAT16 = np.dtype("V2")


def open_npy(path: str) -> StoredArray:
    """Open a .npy file. Raises InputError unless it is whole and holds numbers."""
    check_regular_file(path)
    state = read_state(path)
    mapped = map_npy(path)
    if mapped.dtype == OPAQUE_BFLOAT16:
        check_memory(path, "its bfloat16 values", 5 * mapped.nbytes)
        return MemoryArray(widen_bfloat16(mapped), path, BFLOAT16, {path: state})
    check_numeric(mapped.dtype, path)
    if not isinstance(mapped, np.memmap) or mapped.ndim == 0 or not mapped.flags.c_contiguous:
        return MemoryArray(mapped, path, files={path: state})
    return NpyArray(path, mapped, state)


def map_npy(path: str) -> Array:
    """The array of a .npy file, mapped where NumPy can, whatever its dtype. Raises InputError."""
    check_regular_file(path)
    with open(path, "rb") as stream:
        _check_header(stream, path, os.fstat(stream.fileno()).st_size)
    return load_checked(path, path, mmap_mode="r")


def parse_npy(data: bytes, name: str) -> StoredArray:
    """A .npy file that was read from a pipe."""
    stream = io.BytesIO(data)
    _check_header(stream, name, len(data))
    stream.seek(0)
    values = load_checked(stream, name)
    precision: Precision | None = None
    if values.dtype == OPAQUE_BFLOAT16:
        values, precision = widen_bfloat16(values), BFLOAT16
    return MemoryArray(values, name, precision)


def load_checked(source: str | BinaryIO, name: str, mmap_mode: Literal["r"] | None = None) -> Array:
    """``np.load`` of a file whose header was looked at; what NumPy still refuses is named."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on headers of old NumPy, which are read all the same
            loaded: Array = np.load(source, mmap_mode=mmap_mode, allow_pickle=False)
            return loaded
    except (ValueError, OSError, OverflowError, MemoryError) as error:
        raise InputError(f"{name}: cannot be read: {error}") from error


def widen_bfloat16(opaque: Array) -> Array:
    """bfloat16 bits to float32: the upper half of the word."""
    return (np.ascontiguousarray(opaque).view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _parse_header(stream: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype; ``stream`` is left at the first value. Raises ValueError and others."""
    version = np.lib.format.read_magic(stream)
    read, size = np.lib.format.read_array_header_1_0, 2
    if version != (1, 0):  # 2.0 is for headers past 64 KiB, 3.0 for names past latin1
        read, size = np.lib.format.read_array_header_2_0, 4
    start = stream.tell()
    length = int.from_bytes(stream.read(size), "little")
    # NumPy would read all of it before it finds it too long.
    if length > LONGEST_HEADER:
        raise ValueError(f"it has {length:,} bytes, expected at most {LONGEST_HEADER:,}")
    stream.seek(start)
    shape, _, dtype = read(stream)
    return shape, dtype


def _check_header(stream: BinaryIO, name: str, size: int) -> None:
    """Raise InputError unless NumPy can load the ``size`` bytes of ``stream`` without surprises.

    A header is believed only as far as the file goes: NumPy would allocate what it promises.
    """
    magic = stream.read(len(MAGIC))
    if magic != MAGIC:
        raise InputError(f"{name}: is not a .npy file, its first bytes are {magic!r}")
    stream.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on what stands in the header, which is refused below
            shape, dtype = _parse_header(stream)
    except Exception as error:
        raise InputError(f"{name}: the .npy header cannot be read: {error}") from error
    if dtype.hasobject:
        raise InputError(
            f"{name}: holds pickled Python objects, expected numbers; a pickle is never loaded"
        )
    if any(side < 0 for side in shape):
        raise InputError(f"{name}: the .npy header has shape {shape}, expected no negative side")
    held, promised = size - stream.tell(), math.prod(shape) * dtype.itemsize
    if promised > held:
        raise InputError(
            f"{name}: is cut short: its header promises {promised:,} bytes of data "
            f"({shape} {dtype}), found {held:,}"
        )
