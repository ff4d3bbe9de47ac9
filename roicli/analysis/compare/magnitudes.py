"""The distribution of a stream of magnitudes in bounded memory: log-spaced counting bins.

The bits of a positive float64 are ordered as the numbers are. Cutting them after seven bits of the
mantissa gives bins that are 1/128 of their value wide, over the whole range of float64, in 2 MiB
(the idea of HdrHistogram). A quantile is the upper edge of its bin: never too small, and at most
0.8 % too large.
"""

from __future__ import annotations

import math

import numpy as np

from roicli.core.record import frozen
from roicli.core.types import Array, FloatArray

MANTISSA_BITS = 7
SHIFT = np.finfo(np.float64).nmant - MANTISSA_BITS
# Decades past these are counted with the outermost one.
DECADES = (-30, 30)
# Numbers below the least normal one have fewer bits of mantissa: they are counted times 2^52, in
# bins that come before.
SUBNORMAL = np.finfo(np.float64).nmant
BEFORE = SUBNORMAL << MANTISSA_BITS
BINS = ((np.finfo(np.float64).maxexp * 2 - 1) << MANTISSA_BITS) + BEFORE
FIRST_NORMAL = BEFORE + (1 << MANTISSA_BITS)


@frozen
class HistogramBin:
    """``count`` magnitudes from ``lower`` to below ``upper``; both are 0 for exact zeros."""

    lower: float
    upper: float
    count: int


class MagnitudeCounts:
    """Counts finite magnitudes (>= 0) as they come."""

    def __init__(self) -> None:
        self._counts = np.zeros(BINS, np.int64)
        self._zeros = 0
        self._largest = 0.0

    def add(self, magnitudes: FloatArray) -> None:
        """Count finite, non-negative float64 values (n,)."""
        if magnitudes.size == 0:
            return
        positive = magnitudes[magnitudes > 0]
        self._zeros += magnitudes.size - positive.size
        least = positive.min(initial=np.inf)
        index = (positive.view(np.int64) >> SHIFT) + BEFORE
        if least < np.finfo(np.float64).smallest_normal:
            scaled = np.ldexp(positive, SUBNORMAL).view(np.int64) >> SHIFT
            index = np.where(index < FIRST_NORMAL, scaled, index)
        self._counts += np.bincount(index, minlength=BINS)
        self._largest = max(self._largest, float(magnitudes.max()))

    def quantile(self, share: float) -> float:
        """The smallest value that at least ``share`` of the magnitudes do not pass (see above)."""
        total = self._zeros + int(self._counts.sum())
        rank = math.ceil(share * total)
        if rank <= self._zeros:
            return 0.0
        index = int(np.searchsorted(np.cumsum(self._counts), rank - self._zeros))
        return min(float(_lower_edges(np.array([index + 1]))[0]), self._largest)

    def decades(self) -> tuple[HistogramBin, ...]:
        """Counts by power of ten, its edges met to 1/128; zeros first, gaps filled."""
        found = [HistogramBin(0.0, 0.0, self._zeros)] if self._zeros else []
        filled = np.flatnonzero(self._counts)
        if len(filled) == 0:
            return tuple(found)
        # Upper edges, so that a power of ten itself starts its own decade.
        with np.errstate(over="ignore"):
            exponents = np.ceil(np.log10(_lower_edges(filled + 1))) - 1
        exponents = np.clip(exponents, *DECADES).astype(np.int64)
        first = int(exponents[0])
        counts = np.bincount(exponents - first, weights=self._counts[filled].astype(np.float64))
        return tuple(found) + tuple(
            HistogramBin(10.0 ** (first + i), 10.0 ** (first + i + 1), int(count))
            for i, count in enumerate(counts)
        )


def _lower_edges(index: Array) -> FloatArray:
    bits = index.astype(np.int64) << SHIFT
    normal = (np.maximum(bits - (BEFORE << SHIFT), 0)).view(np.float64)
    return np.where(index < FIRST_NORMAL, np.ldexp(bits.view(np.float64), -SUBNORMAL), normal)
