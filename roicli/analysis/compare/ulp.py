"""Distances in units in the last place, and rounding to bfloat16, which NumPy does not have."""

from __future__ import annotations

import numpy as np

from roicli.core.types import Array, FloatArray, IntArray
from roicli.storage.stored_array import BFLOAT16_NAME, Precision

# From narrow to wide: the narrower of two stored types is the one whose steps are counted.
FLOAT_NAMES = (BFLOAT16_NAME, "float16", "float32", "float64")
UNSIGNED = {2: np.uint16, 4: np.uint32, 8: np.uint64}


def round_to_bfloat16(values: FloatArray) -> FloatArray:
    """Finite float32 values rounded to bfloat16, to nearest even, kept as float32."""
    return (_bfloat16_bits(values).astype(np.uint32) << 16).view(np.float32)


def _bfloat16_bits(values: FloatArray) -> IntArray:
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    # Half a step, and a hair less where the last kept bit is even.
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype(np.uint16)


def shared_float_name(one: Precision, other: Precision) -> str | None:
    """The narrower of two float types, in which both are compared; None where one is whole."""
    names = (one.name, other.name)
    if not all(name in FLOAT_NAMES for name in names):
        return None
    return min(names, key=FLOAT_NAMES.index)


def ulp_distance(one: FloatArray, other: FloatArray, name: str) -> IntArray:
    """How many numbers of the float type ``name`` lie between two arrays of finite values; uint64.

    Both are rounded to that type first. 0 and -0 are one number. Source: Dawson 2012, "Comparing
    Floating Point Numbers"; the bits of ordered floats are ordered integers.
    """
    left, right = _ordered_bits(one, name), _ordered_bits(other, name)
    return np.where(left > right, left - right, right - left)


def _ordered_bits(values: FloatArray, name: str) -> Array:
    """uint64 that grow by one from each number of the type to the next, around 2^63."""
    if name == BFLOAT16_NAME:
        bits = _bfloat16_bits(values)
    else:
        with np.errstate(over="ignore"):
            narrow = np.ascontiguousarray(values, name)
        bits = narrow.view(UNSIGNED[narrow.itemsize])
    sign = np.asarray(1 << (bits.itemsize * 8 - 1), np.uint64)
    magnitude = bits.astype(np.uint64) & (sign - np.uint64(1))
    middle = np.uint64(1 << 63)
    negative = (bits.astype(np.uint64) & sign) != 0
    return np.where(negative, middle - magnitude, middle + magnitude)
