"""Differences, sums and norms that neither overflow nor vanish, and that tell integers apart.

float64 holds no square of 1e200 or of 1e-200, no sum of two numbers of 1.7e308, and not every
integer past 2^53. Rows of numbers are divided by a power of two before they are summed, which
rounds nothing (the idea of LAPACK's ``dlassq``), and a 64-bit integer is the sum of two float64.
A number past the largest float64, such as 1.7e308 - (-1.7e308), is given as the largest.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from roicli.core.types import Array, FloatArray, IntArray

LARGEST = float(np.finfo(np.float64).max)
# Between these powers of two squares fit float64, and so do sums of 2^200 of them.
ORDINARY_EXPONENT = 400
# 2^1000 is far from the ends of float64, and what it scales is near enough to 1.
MOST_SCALED = 1000
# The exponent of a sum of zeros: below that of any other, so that it never pushes one aside.
OF_ZERO = -(1 << 14)
# einsum adds longer rows in another order when there are several of them (NumPy's buffer).
BUFFERED = 8192


class Widened(NamedTuple):
    """Numbers as ``high`` + ``low``, both float64; ``low`` is None where ``high`` is exact."""

    high: FloatArray
    low: FloatArray | None = None


def widen(values: Array) -> Widened:
    """Stored numbers of any integer or float type of at most 64 bits, exactly."""
    if values.dtype.kind == "f" or values.dtype.itemsize < 8:
        return Widened(values.astype(np.float64))
    upper = (values >> 32).astype(np.float64) * 2.0**32
    lower = (values & 0xFFFFFFFF).astype(np.float64)
    high = upper + lower
    low = lower - (high - upper)
    return Widened(high, low if low.any() else None)


def measure_distance(one: Widened, other: Widened) -> FloatArray:
    """|one - other| in float64: 0 only where they are equal, NaN where there is none.

    Source of the exact sum of two numbers: Knuth, The Art of Computer Programming 2, 4.2.2.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        difference = one.high - other.high
        if one.low is not None or other.low is not None:
            step = difference - one.high
            lost = (one.high - (difference - step)) - (other.high + step)
            lost = lost + _low(one) - _low(other)
            difference = np.where(np.isfinite(lost), difference + lost, difference)
    np.abs(difference, out=difference)
    overflowed = np.isinf(difference) & np.isfinite(one.high) & np.isfinite(other.high)
    difference[overflowed] = LARGEST
    return difference


def _low(numbers: Widened) -> FloatArray | float:
    return 0.0 if numbers.low is None else numbers.low


def divide_where_positive(numerator: Array, denominator: Array) -> FloatArray:
    """Quotient, float64, where the denominator is positive; NaN (not defined) elsewhere."""
    quotient = np.full(np.shape(denominator), np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


class Sums(NamedTuple):
    """Sums ``values * 2 ** exponents``, two arrays of one shape."""

    values: FloatArray
    exponents: IntArray

    def add(self, groups: slice, other: Sums) -> None:
        """Add other sums to those of ``groups``, in place."""
        here = Sums(self.values[groups], self.exponents[groups])
        exponents = np.maximum(here.exponents, other.exponents)
        self.values[groups] = _shift(here, exponents) + _shift(other, exponents)
        self.exponents[groups] = exponents

    def times(self, factor: float) -> Sums:
        """Each sum times an ordinary number."""
        return Sums(self.values * factor, self.exponents)

    def total(self, axis: int) -> Sums:
        """Added along an axis."""
        exponents = self.exponents.max(axis=axis, initial=OF_ZERO)
        return Sums(_shift(self, np.expand_dims(exponents, axis)).sum(axis=axis), exponents)

    def to_float64(self) -> FloatArray:
        """Plain numbers; the largest float64 where one is past it."""
        with np.errstate(over="ignore", under="ignore"):
            found = np.ldexp(self.values, _as_c(self.exponents))
        return np.where(np.isfinite(self.values), np.clip(found, -LARGEST, LARGEST), found)


def no_sums(count: int) -> Sums:
    """``count`` sums of nothing."""
    return Sums(np.zeros(count), np.full(count, OF_ZERO))


def find_exponents(*rows: FloatArray) -> IntArray:
    """The powers of two by which to divide rows (..., n) that go together: 0 for ordinary ones.

    For rows of zeros it is the lowest of all. What is not finite is let be.
    """
    largest = np.zeros(rows[0].shape[:-1])
    for values in rows:
        for end in (values.max(axis=-1, initial=0.0), -values.min(axis=-1, initial=0.0)):
            np.maximum(largest, end, out=largest)
    exponents = np.where(np.isfinite(largest), np.frexp(largest)[1], 0).astype(np.int64)
    if np.abs(exponents).max(initial=0) <= ORDINARY_EXPONENT:
        exponents[...] = 0
    exponents = np.clip(exponents, -MOST_SCALED, MOST_SCALED)
    exponents[largest == 0] = OF_ZERO
    return exponents


def scale_down(rows: FloatArray, exponents: IntArray) -> FloatArray:
    """Rows (..., n) over 2 to the power of their exponents."""
    if not exponents[exponents != OF_ZERO].any():
        return rows
    return rows * np.ldexp(1.0, _as_c(-np.maximum(exponents, -MOST_SCALED)))[..., None]


class Rows:
    """Rows of finite numbers (..., n) for sums over the last axis."""

    def __init__(self, values: FloatArray, exponents: IntArray | int = 0) -> None:
        """``exponents`` (...,): the powers of two by which the rows are divided already."""
        values = np.asarray(values, np.float64)
        own = find_exponents(values)
        self._values, self._exponents = scale_down(values, own), own + exponents

    def sum(self) -> Sums:
        """The sum of each row."""
        return Sums(self._values.sum(axis=-1), self._exponents)

    def dot(self, other: Rows) -> Sums:
        """The products of two sets of rows; with itself, the squared norms.

        A row gives the same bits alone and among others.
        """
        pair = self._values, other._values
        if pair[0].shape[-1] <= BUFFERED:
            products = np.einsum("...n,...n->...", *pair)
        else:
            flat = (part.reshape(-1, part.shape[-1]) for part in pair)
            products = np.array([np.einsum("n,n->", *rows) for rows in zip(*flat, strict=True)])
        return Sums(
            np.asarray(products, np.float64).reshape(self._exponents.shape),
            self._exponents + other._exponents,
        )


def difference_rows(one: Widened, other: Widened, distance: FloatArray) -> Rows:
    """Rows of |one - other| for sums; ``distance`` is what ``measure_distance`` gives, all finite.

    Differences past the largest float64 are taken anew of smaller numbers.
    """
    if not (distance == LARGEST).any():
        return Rows(distance)
    exponents = find_exponents(one.high, other.high)
    smaller = (_scale_both(numbers, exponents) for numbers in (one, other))
    return Rows(measure_distance(*smaller), exponents)


def deviation_rows(rows: FloatArray, centre: float) -> Rows:
    """Rows (..., n) of |row - centre| for sums."""
    one, other = Widened(rows), Widened(np.full_like(rows, centre))
    return difference_rows(one, other, measure_distance(one, other))


def _scale_both(numbers: Widened, exponents: IntArray) -> Widened:
    low = None if numbers.low is None else scale_down(numbers.low, exponents)
    return Widened(scale_down(numbers.high, exponents), low)


def divide_norms(squared: Sums, squared_reference: Sums) -> FloatArray:
    """Roots of sums of squares over roots of others; NaN where the second are 0."""
    quotient = divide_where_positive(np.sqrt(squared.values), np.sqrt(squared_reference.values))
    return Sums(quotient, (squared.exponents - squared_reference.exponents) // 2).to_float64()


def find_cosine(dot: Sums, squared: Sums, other_squared: Sums) -> FloatArray:
    """Products over both norms; NaN where a norm is 0."""
    norms = np.sqrt(squared.values) * np.sqrt(other_squared.values)
    exponents = dot.exponents - (squared.exponents + other_squared.exponents) // 2
    return Sums(divide_where_positive(dot.values, norms), exponents).to_float64()


def root_mean(squared: Sums, count: float) -> FloatArray:
    """Roots of sums of squares over a count."""
    return Sums(np.sqrt(squared.values / count), squared.exponents // 2).to_float64()


def divide_sums(numerator: Sums, denominator: Sums) -> FloatArray:
    """Quotients; NaN where the denominator is not positive."""
    quotient = divide_where_positive(numerator.values, denominator.values)
    return Sums(quotient, numerator.exponents - denominator.exponents).to_float64()


def mean_of(values: FloatArray) -> float:
    """The mean of some finite numbers (n,), n > 0."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(np.mean(values, dtype=np.float64))
    if np.isfinite(mean):
        return mean
    found = Rows(values[None]).sum()
    return float(Sums(found.values / len(values), found.exponents).to_float64()[0])


def _shift(sums: Sums, exponents: IntArray) -> FloatArray:
    """The values of sums at other exponents; what is too small beside the others becomes 0."""
    with np.errstate(under="ignore"):
        return np.ldexp(sums.values, _as_c(sums.exponents - exponents))


def _as_c(exponents: IntArray) -> Array:
    """What ``ldexp`` takes on every system."""
    return np.asarray(exponents).astype(np.intc)
