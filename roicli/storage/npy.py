"""The NPY format (numpy.lib.format). A pickle is never loaded."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from roicli.datatypes import Array
from roicli.exceptions import InputError
from roicli.storage.address import check_regular_file
from roicli.storage.stored_array import (
    BFLOAT16,
    MemoryArray,
    NpyArray,
    Precision,
    StoredArray,
    check_numeric,
    precision_of,
)

MAGIC = b"\x93NUMPY"
# NumPy has no bfloat16: ml_dtypes' arrays are saved as two opaque bytes an element.
OPAQUE_BFLOAT16 = np.dtype("V2")


def open_npy(path: str) -> StoredArray:
    """Open a .npy file. Raises InputError: not one, cut short, or without numbers."""
    check_regular_file(path)
    with open(path, "rb") as stream:
        magic = stream.read(len(MAGIC))
    if magic != MAGIC:
        raise InputError(f"{path}: is not a .npy file, its first bytes are {magic!r}")
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        raise InputError(f"{path}: {_reason(error)}") from error
    if mapped.dtype == OPAQUE_BFLOAT16:
        return MemoryArray(widen_bfloat16(mapped), path, BFLOAT16)
    check_numeric(mapped.dtype, path)
    if not isinstance(mapped, np.memmap) or mapped.ndim == 0 or not mapped.flags.c_contiguous:
        return MemoryArray(mapped, path)
    return NpyArray(path, mapped, precision_of(mapped.dtype))


def parse_npy(data: bytes, name: str) -> StoredArray:
    """A .npy file that was read from a pipe."""
    try:
        values: Array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:
        raise InputError(f"{name}: {_reason(error)}") from error
    precision: Precision | None = None
    if values.dtype == OPAQUE_BFLOAT16:
        values, precision = widen_bfloat16(values), BFLOAT16
    return MemoryArray(values, name, precision)


def widen_bfloat16(opaque: Array) -> Array:
    """bfloat16 bits to float32: the upper half of the word."""
    return (np.ascontiguousarray(opaque).view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _reason(error: Exception) -> str:
    """NumPy's message in this project's words."""
    text: Any = str(error)
    if "allow_pickle" in text or "Object arrays" in text:
        return "holds pickled Python objects, expected numbers; a pickle is never loaded"
    if "mmap length" in text or "EOF" in text or "cannot reshape" in text or "expected" in text:
        return f"the file is cut short or its header promises more than it holds ({text})"
    return f"the .npy header cannot be read ({text.splitlines()[0] if text else error!r})"
