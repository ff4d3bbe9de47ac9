"""What is summed over two results as they are read, block after block (see ``comparison``)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from roicli.analysis.compare.magnitudes import MagnitudeCounts
from roicli.analysis.compare.ulp import ulp_distance
from roicli.core.exceptions import ParameterError
from roicli.core.types import Array, FloatArray, check_word
from roicli.core.vocabulary import ComparedStatistic
from roicli.error_table.geometric import divide_where_positive


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class GroupDifference:
    """How one RoI (row) or channel differs; ``max_difference`` is inf where one is not finite.

    ``relative_l2`` is |a - b| / |b| over its elements, ``cosine`` that of a and b; NaN where a norm
    is 0.
    """

    index: int
    max_difference: float
    mean_difference: float
    relative_l2: float
    cosine: float


class Block(NamedTuple):
    """Rows ``first`` onwards of both results, (n, C, rest) float64, as they were stored too."""

    first: int
    a: FloatArray
    b: FloatArray
    stored_a: Array
    stored_b: Array


class GroupSums:
    """Sums over the elements of each of ``count`` rows or channels."""

    def __init__(self, count: int) -> None:
        self.largest = np.zeros(count)
        self.total, self.squared, self.dot = np.zeros(count), np.zeros(count), np.zeros(count)
        self.norm_a, self.norm_b = np.zeros(count), np.zeros(count)
        self._elements = np.zeros(count)

    def add(
        self, groups: slice, axes: tuple[int, int], difference: Array, a: Array, b: Array
    ) -> None:
        """Add a block (n, C, rest), summed over ``axes``, to ``groups``."""
        finite = np.where(np.isfinite(difference), difference, 0.0)
        largest = self.largest[groups]
        np.maximum(largest, difference.max(axis=axes, initial=0.0), out=largest)
        subscripts = "ncr,ncr->n" if axes == (1, 2) else "ncr,ncr->c"
        self.total[groups] += finite.sum(axis=axes)
        self._elements[groups] += difference.size // max(len(largest), 1)
        pairs = ((self.squared, finite, finite), (self.dot, a, b))
        for sums, left, right in (*pairs, (self.norm_a, a, a), (self.norm_b, b, b)):
            sums[groups] += np.einsum(subscripts, left, right)

    def worst(self, count: int | None) -> tuple[GroupDifference, ...]:
        """The groups with the largest differences, those without any left out."""
        order = np.argsort(-self.largest, kind="stable")[:count]
        relative = divide_where_positive(np.sqrt(self.squared), np.sqrt(self.norm_b))
        cosine = divide_where_positive(self.dot, np.sqrt(self.norm_a) * np.sqrt(self.norm_b))
        mean = divide_where_positive(self.total, self._elements)
        columns = (self.largest, mean, relative, cosine)
        return tuple(
            GroupDifference(int(i), *(float(column[i]) for column in columns))
            for i in order
            if self.largest[i] > 0
        )

    def overall(self) -> tuple[float, float]:
        """Relative L2 and cosine of everything; NaN where a norm is 0."""
        norm_a, norm_b = math.sqrt(self.norm_a.sum()), math.sqrt(self.norm_b.sum())
        relative = math.sqrt(self.squared.sum()) / norm_b if norm_b else math.nan
        return relative, float(self.dot.sum()) / (norm_a * norm_b) if norm_a * norm_b else math.nan


class Totals:
    """Everything that is counted over all blocks."""

    def __init__(self, shape: tuple[int, ...], tolerance: Tolerance, ulp_name: str | None) -> None:
        self._tolerance, self.ulp_name = tolerance, ulp_name
        self.rows = GroupSums(shape[0])
        self.channels = GroupSums(shape[1] if len(shape) > 1 else 1)
        self.differences, self.references = MagnitudeCounts(), MagnitudeCounts()
        self.excess, self.largest_reference, self.reference_sum = -math.inf, 0.0, 0.0
        self.identical = self.outside = self.not_finite = self.finite = self.ulp_max = 0
        self.ulp_sum = 0.0

    def add(self, block: Block) -> None:
        """Add a block of rows."""
        difference = _differences(block.a, block.b, self._tolerance.equal_nan)
        comparable = np.isfinite(difference)
        self.not_finite += int(comparable.size - comparable.sum())
        # What is not finite has its place in no sum; where it is not equal it counts on its own.
        usable = np.isfinite(block.a) & np.isfinite(block.b)
        a, b = np.where(usable, block.a, 0.0), np.where(usable, block.b, 0.0)
        rows = slice(block.first, block.first + len(a))
        self.rows.add(rows, (1, 2), difference, a, b)
        self.channels.add(slice(None), (0, 2), difference, a, b)
        finite, reference = difference[comparable], np.abs(b[comparable])
        self.identical += int((finite == 0).sum())
        self._add_finite(finite, reference)
        if self.ulp_name is not None:
            here = usable.reshape(block.stored_a.shape)
            ulps = ulp_distance(block.stored_a[here], block.stored_b[here], self.ulp_name)
            self.ulp_max = max(self.ulp_max, int(ulps.max(initial=np.uint64(0))))
            self.ulp_sum += float(ulps.sum(dtype=np.float64))

    def _add_finite(self, difference: FloatArray, reference: FloatArray) -> None:
        self.finite += difference.size
        self.differences.add(difference)
        if self._tolerance.statistic == "p99":
            self.references.add(reference)
        excess = difference - (self._tolerance.absolute + self._tolerance.relative * reference)
        self.outside += int((excess > 0).sum())
        self.excess = max(self.excess, float(excess.max(initial=-math.inf)))
        self.largest_reference = max(self.largest_reference, float(reference.max(initial=0.0)))
        self.reference_sum += float(reference.sum())

    def max_difference(self) -> float:
        """Over the finite differences."""
        return self.differences.quantile(1.0)

    def mean_difference(self) -> float:
        """Over the finite differences."""
        return float(self.rows.total.sum()) / max(self.finite, 1)

    def measured_and_limit(self) -> tuple[float, float]:
        """What the statistic came to, and what it may come to."""
        tolerance = self._tolerance
        if tolerance.statistic == "elementwise":
            return (max(self.excess, 0.0) if self.finite else 0.0), 0.0
        measured, reference = {
            "max": (self.max_difference(), self.largest_reference),
            "mean": (self.mean_difference(), self.reference_sum / max(self.finite, 1)),
            "p99": (self.differences.quantile(0.99), self.references.quantile(0.99)),
        }[tolerance.statistic]
        return measured, tolerance.absolute + tolerance.relative * reference


def _differences(a: FloatArray, b: FloatArray, equal_nan: bool) -> FloatArray:
    """|a - b|; 0 for equal infinities and, if asked, two NaN; inf where anything else is."""
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(a - b)
    same = a == b
    if equal_nan:
        same |= np.isnan(a) & np.isnan(b)
    difference[np.isnan(difference)] = math.inf
    difference[same] = 0.0
    return difference
