"""What is summed over two results as they are read, block after block (see ``comparison``)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from roicli.analysis.compare.magnitudes import MagnitudeCounts
from roicli.analysis.compare.ulp import ulp_distance
from roicli.core.exceptions import ParameterError
from roicli.core.norms import (
    LARGEST,
    Rows,
    Sums,
    Widened,
    difference_rows,
    divide_norms,
    divide_where_positive,
    find_cosine,
    measure_distance,
    no_sums,
    widen,
)
from roicli.core.record import frozen
from roicli.core.types import Array, FloatArray, check_word
from roicli.core.vocabulary import ComparedStatistic
from roicli.storage.array import Precision

SUMMED = ("total", "squared", "dot", "norm_a", "norm_b")


@frozen
class Tolerance:
    """When two results count as equal. Raises ParameterError.

    ``elementwise``: every |a - b| is at most ``absolute + relative * |b|``. ``max``, ``mean`` and
    ``p99``: that statistic of |a - b| is at most ``absolute + relative *`` the same of |b|.
    """

    absolute: float = 1e-5
    relative: float = 1e-5
    statistic: ComparedStatistic = "elementwise"
    equal_nan: bool = False

    def __post_init__(self) -> None:
        check_word("stat", self.statistic, ComparedStatistic)
        for name, value in (("atol", self.absolute), ("rtol", self.relative)):
            if not (math.isfinite(value) and value >= 0):
                raise ParameterError(f"{name} is {value:g}, expected a finite number from 0")


@frozen
class GroupDifference:
    """How one RoI (row) or channel differs; ``max_difference`` is inf where one is not finite.

    ``mean_difference`` is over its finite differences, ``relative_l2`` is |a - b| / |b| and
    ``cosine`` that of a and b; NaN where a norm is 0.
    """

    index: int
    max_difference: float
    mean_difference: float
    relative_l2: float
    cosine: float


class Block(NamedTuple):
    """Rows ``first`` onwards of both results, (n, C, rest), as they are stored."""

    first: int
    a: Array
    b: Array


class Parts(NamedTuple):
    """What a block has in each channel of each row, all (n, C)."""

    largest: FloatArray
    finite: FloatArray
    total: Sums
    squared: Sums
    dot: Sums
    norm_a: Sums
    norm_b: Sums


def _sum_parts(difference: FloatArray, a: Widened, b: Widened) -> Parts:
    """The sums over the last axis of a block; ``a`` and ``b`` are finite."""
    finite = np.isfinite(difference)
    rows = difference_rows(a, b, np.where(finite, difference, 0.0))
    rows_a, rows_b = Rows(a.high), Rows(b.high)
    return Parts(
        difference.max(axis=2, initial=0.0),
        finite.sum(axis=2).astype(np.float64),
        rows.sum(),
        rows.dot(rows),
        rows_a.dot(rows_b),
        rows_a.dot(rows_a),
        rows_b.dot(rows_b),
    )


class GroupSums:
    """Sums over the elements of each of ``count`` rows or channels."""

    def __init__(self, count: int) -> None:
        self.largest, self.finite = np.zeros(count), np.zeros(count)
        self._sums = {name: no_sums(count) for name in SUMMED}

    def add(self, groups: slice, axis: int, parts: Parts) -> None:
        """Add what ``parts`` has along ``axis`` to ``groups``."""
        largest = self.largest[groups]
        np.maximum(largest, parts.largest.max(axis=axis, initial=0.0), out=largest)
        self.finite[groups] += parts.finite.sum(axis=axis)
        for name, sums in self._sums.items():
            part: Sums = getattr(parts, name)
            sums.add(groups, part.total(axis))

    def worst(self, count: int | None) -> tuple[GroupDifference, ...]:
        """The groups with the largest differences, those without any left out."""
        order = np.argsort(-self.largest, kind="stable")[:count]
        columns = (self.largest, *self._measure(self._sums, self.finite))
        return tuple(
            GroupDifference(int(i), *(float(column[i]) for column in columns))
            for i in order
            if self.largest[i] > 0
        )

    def overall(self) -> tuple[float, float, float]:
        """Mean difference, relative L2 and cosine of everything; NaN where a norm is 0."""
        sums = {name: part.total(0) for name, part in self._sums.items()}
        mean, relative, cosine = self._measure(sums, self.finite.sum())
        return float(np.nan_to_num(mean)), float(relative), float(cosine)

    @staticmethod
    def _measure(sums: Mapping[str, Sums], finite: Array) -> tuple[FloatArray, ...]:
        total, squared, dot, norm_a, norm_b = (sums[name] for name in SUMMED)
        mean = Sums(divide_where_positive(total.values, finite), total.exponents)
        return (
            mean.to_float64(),
            divide_norms(squared, norm_b),
            find_cosine(dot, norm_a, norm_b),
        )


class Totals:
    """Everything that is counted over all blocks."""

    def __init__(
        self, shape: tuple[int, ...], tolerance: Tolerance, ulp_type: Precision | None
    ) -> None:
        self._tolerance, self.ulp_type = tolerance, ulp_type
        self.rows = GroupSums(shape[0])
        self.channels = GroupSums(shape[1] if len(shape) > 1 else 1)
        self.differences, self.references = MagnitudeCounts(), MagnitudeCounts()
        self.excess, self.largest_reference = -math.inf, 0.0
        self._reference_sum = no_sums(1)
        self.identical = self.outside = self.not_finite = self.finite = 0
        self.ulp_max = self._ulp_count = 0
        self._ulp_sum = 0.0

    def add(self, block: Block) -> None:
        """Add a block of rows."""
        a, b = widen(block.a), widen(block.b)
        difference = _find_differences(a, b, self._tolerance.equal_nan)
        # What is not finite has its place in no sum; where it is not equal it counts on its own.
        usable = np.isfinite(a.high) & np.isfinite(b.high)
        comparable = usable
        if not usable.all():
            comparable = np.isfinite(difference)
            self.not_finite += int(comparable.size - comparable.sum())
            a, b = (Widened(np.where(usable, side.high, 0.0), side.low) for side in (a, b))
        parts = _sum_parts(difference, a, b)
        self.rows.add(slice(block.first, block.first + len(block.a)), 1, parts)
        self.channels.add(slice(None), 0, parts)
        excess = find_excess(difference, a.high, b.high, self._tolerance)
        self._add_finite(*(_take(part, comparable) for part in (difference, b.high, excess)))
        if self.ulp_type is not None:
            self._add_ulps(_take(block.a, usable), _take(block.b, usable), self.ulp_type)

    def _add_ulps(self, a: Array, b: Array, ulp_type: Precision) -> None:
        ulps = ulp_distance(a, b, ulp_type)
        self.ulp_max = max(self.ulp_max, int(ulps.max(initial=np.uint64(0))))
        self._ulp_sum += float(ulps.sum(dtype=np.float64))
        self._ulp_count += len(ulps)

    def _add_finite(self, difference: FloatArray, b: FloatArray, excess: FloatArray) -> None:
        reference = np.abs(b)
        self.finite += difference.size
        self.identical += int((difference == 0).sum())
        self.outside += int((excess > 0).sum())
        self.excess = max(self.excess, float(excess.max(initial=-math.inf)))
        self.differences.add(difference)
        self.largest_reference = max(self.largest_reference, float(reference.max(initial=0.0)))
        if self._tolerance.statistic == "p99":
            self.references.add(reference)
        if self._tolerance.statistic == "mean":
            self._reference_sum.add(slice(None), Rows(reference[None]).sum())

    @property
    def ulp_mean(self) -> float:
        """Over the pairs of finite elements."""
        return self._ulp_sum / max(self._ulp_count, 1)

    def max_difference(self) -> float:
        """Over the finite differences."""
        return self.differences.quantile(1.0)

    def mean_difference(self) -> float:
        """Over the finite differences."""
        return self.rows.overall()[0]

    def measured_and_limit(self) -> tuple[float, float]:
        """What the statistic came to, and what it may come to."""
        tolerance = self._tolerance
        if tolerance.statistic == "elementwise":
            return (max(self.excess, 0.0) if self.finite else 0.0), 0.0
        measured, reference = {
            "max": (self.max_difference(), self.largest_reference),
            "mean": (self.mean_difference(), self._mean_reference()),
            "p99": (self.differences.quantile(0.99), self.references.quantile(0.99)),
        }[tolerance.statistic]
        return measured, tolerance.absolute + tolerance.relative * reference

    def _mean_reference(self) -> float:
        sums = self._reference_sum
        return float(Sums(sums.values / max(self.finite, 1), sums.exponents).to_float64()[0])


def _take(values: Array, mask: Array) -> Array:
    """The elements of a mask, (n,); no copy where it is all of them."""
    return values.reshape(-1) if mask.all() else values[mask]


def _find_differences(a: Widened, b: Widened, equal_nan: bool) -> FloatArray:
    """|a - b|; 0 for equal infinities and, if asked, two NaN; inf where anything else is."""
    difference = measure_distance(a, b)
    # An infinity is equal to itself; every integer past 2^53 has a float64 that others have too.
    same = (a.high == b.high) & np.isinf(a.high)
    if equal_nan:
        same |= np.isnan(a.high) & np.isnan(b.high)
    difference[np.isnan(difference)] = math.inf
    difference[same] = 0.0
    return difference


def find_excess(
    difference: FloatArray, a: FloatArray, b: FloatArray, tolerance: Tolerance
) -> FloatArray:
    """How far each |a - b| is past the elementwise limit; not over 0 where it is within.

    ``difference`` is |a - b|; ``a`` and ``b`` are finite.
    """
    absolute, relative = tolerance.absolute, tolerance.relative
    with np.errstate(over="ignore", invalid="ignore"):
        excess = difference - (absolute + relative * np.abs(b))
        # Differences past float64 are compared in halves, which it holds.
        past = difference == LARGEST
        if past.any():
            half_a, half_b = a[past] / 2, b[past] / 2
            limit = absolute / 2 + relative * np.abs(half_b)
            excess[past] = np.minimum(2 * (np.abs(half_a - half_b) - limit), LARGEST)
    return np.asarray(excess)
