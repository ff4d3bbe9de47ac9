"""Distances in units in the last place."""

from __future__ import annotations

import numpy as np

from roicli.core.types import Array, FloatArray, IntArray
from roicli.storage.array import Precision

DOUBLE_BITS, DOUBLE_BIAS = 52, 1023


def shared_float_type(one: Precision, other: Precision) -> Precision | None:
    """The narrower of two float types, in which both are compared; None where one is whole."""
    if one.mantissa_bits is None or other.mantissa_bits is None:
        return None
    return one if one.mantissa_bits <= other.mantissa_bits else other


def ulp_distance(one: FloatArray, other: FloatArray, float_type: Precision) -> Array:
    """How many numbers of a float type lie between two arrays of finite values; uint64.

    Both are rounded to that type first, once, to nearest even; past its largest number its steps go
    on as they would with larger exponents. 0 and -0 are one number. Source of the idea, that floats
    can be numbered in their order: Dawson 2012, "Comparing Floating Point Numbers".
    """
    left, right = (_number(values, float_type) for values in (one, other))
    unsigned = left.view(np.uint64), right.view(np.uint64)
    # Two numbers of opposite sign may be further apart than int64 reaches; uint64 wraps to it.
    return np.where(left > right, unsigned[0] - unsigned[1], unsigned[1] - unsigned[0])


def _number(values: FloatArray, float_type: Precision) -> IntArray:
    """int64 that grow by one from each number of the type to the next, 0 at 0."""
    bits, lowest = float_type.mantissa_bits, float_type.minimum_exponent
    assert bits is not None
    magnitude = np.abs(values, dtype=np.float64)
    number: IntArray = magnitude.view(np.int64).copy()
    dropped = DOUBLE_BITS - bits
    if dropped:
        # Half a step, and a hair less where the last kept bit is even; a carry goes on to the
        # exponent, which is as it should be.
        number += ((1 << (dropped - 1)) - 1) + ((number >> dropped) & 1)
        number >>= dropped
    number -= (DOUBLE_BIAS - 1 + lowest) << bits
    small = magnitude < 2.0**lowest
    if small.any():
        number[small] = np.rint(np.ldexp(magnitude[small], bits - lowest)).astype(np.int64)
    return np.negative(number, out=number, where=np.signbit(values))
