"""How far a candidate is from a result, against how much the result varies.

A distance is ``|result - candidate| / max(|result - m|, |candidate - m|)`` in L2 norms, with ``m``
the median of the result in each channel: against the size of the values a map of 1000 plus or minus
1 would match anything. It is 0 where all numbers agree, and at most 2. Medians, so that a few fill
values of 1e38 do not decide what is usual.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from roicli.core.types import Array, FloatArray
from roicli.operators.convention import EMPTY_VALUES

FILLS = [fill for fill in EMPTY_VALUES.values() if fill and np.isfinite(fill)]
# Of values that do not vary.
MOST_GROWTH = 2.0**60


class RoiDistances(NamedTuple):
    """Of each RoI (..., S): the squared norms of a difference and of both sides, and the largest
    difference. Infinite where one side is finite and the other is not.
    """

    squared: FloatArray
    norm_one: FloatArray
    norm_other: FloatArray
    largest: FloatArray

    def overall(self, rois: Array) -> FloatArray:
        """(...) the distance over some RoIs (a mask); infinite where no distance can be given."""
        squared, *norms = (
            np.where(rois, part, 0.0).sum(axis=-1)
            for part in (self.squared, self.norm_one, self.norm_other)
        )
        norm = np.maximum(*norms)
        usable = np.isfinite(squared) & rois.any(axis=-1)
        with np.errstate(invalid="ignore"):
            distance = np.sqrt(np.where(usable, squared, 0.0) / np.where(norm > 0, norm, 1.0))
        return np.where(usable, np.where(norm > 0, distance, 0.0), np.inf)


class Yardstick:
    """How the values of a result (S, C, r, c) vary; not finite values have no part in that.

    ``rounding`` is what was lost of a value, relative to its size.
    """

    def __init__(self, result: FloatArray, rounding: float = 0.0) -> None:
        # A fill says that a bin is empty, and nothing of how values vary.
        is_fill = np.isin(result, FILLS)
        self._fills = is_fill if is_fill.any() else None
        self._known = np.isfinite(result) & ~is_fill
        # A RoI that hardly varies is as rounded as its values are large.
        self._lost = rounding**2 * _squared(np.where(self._known, result, 0.0))
        # One value does not vary about itself, but the channels' do about each other.
        alone = result[:, :1].size == 1
        channels = [result] * result.shape[1] if alone else result.swapaxes(0, 1)
        known = [self._known] * len(channels) if alone else self._known.swapaxes(0, 1)
        self._centre = np.array(
            [_median(values[mask]) for values, mask in zip(channels, known, strict=True)]
        )[:, None, None]
        self._result = result
        own = _squared(np.where(self._known, result - self._centre, 0.0))
        self._usual = float(np.median(own)) if len(own) else 0.0

    def measure(self, values: FloatArray) -> RoiDistances:
        """The distances of candidates' values (..., S, C, r, c) from the result, RoI by RoI."""
        return self.between(self._result, values)

    def between(self, one: FloatArray, other: FloatArray) -> RoiDistances:
        """The distances of values (S, C, r, c) from others (..., S, C, r, c), RoI by RoI."""
        with np.errstate(invalid="ignore", over="ignore"):
            difference = np.abs(one - other)
            moved = [side - self._centre for side in (one, other)]
        if self._fills is not None:
            moved = [np.where(self._fills, 0.0, side) for side in moved]
        known_one, known_other = np.isfinite(one), np.isfinite(other)
        if known_one.all() and known_other.all():
            squared, norm_one, norm_other = (_squared(part) for part in (difference, *moved))
            return RoiDistances(squared, norm_one, norm_other, _largest(difference))
        # NaN where the other side is NaN, and the same infinity, are a rule's or the map's own.
        same = (one == other) | (np.isnan(one) & np.isnan(other))
        difference[~known_one | ~known_other] = np.inf
        difference[same] = 0.0
        known = known_one & known_other
        norm_one, norm_other = (_squared(np.where(known, side, 0.0)) for side in moved)
        return RoiDistances(_squared(difference), norm_one, norm_other, _largest(difference))

    def are_near(self, found: RoiDistances, limit: float) -> Array:
        """(..., S) RoIs that are within a distance, against their own or the usual variation, or
        within what rounding does to them.
        """
        norm = np.maximum(np.maximum(found.norm_one, found.norm_other), self._usual)
        return np.asarray(found.squared <= np.maximum(limit**2 * norm, self._lost))

    def comparable(self, found: RoiDistances) -> Array:
        """(..., S) RoIs on which a candidate could be right: those whose result is all numbers, and
        those that are not finite in the same places.
        """
        is_finite = np.isfinite(self._result).all(axis=(1, 2, 3))
        return np.asarray(is_finite | np.isfinite(found.squared))

    def growth(self, values: FloatArray) -> float:
        """The norm of values over that of their variation, from 1 on: what rounding grows by."""
        known = np.isfinite(values)
        parts = (np.where(known, side, 0.0) for side in (values, values - self._centre))
        size, variation = (float(np.sqrt(_squared(part).sum())) for part in parts)
        return float(np.clip(size / variation, 1.0, MOST_GROWTH)) if variation else MOST_GROWTH


def _squared(values: FloatArray) -> FloatArray:
    """(..., S) squared norms."""
    # No matrix library: its threads cost more than arrays this small do.
    flat = values.reshape(*values.shape[:-3], -1)
    with np.errstate(over="ignore"):
        return np.asarray(np.einsum("...v,...v->...", flat, flat))


def _median(values: FloatArray) -> float:
    """Of (n,); 0 where there is none."""
    return float(np.median(values)) if len(values) else 0.0


def _largest(values: FloatArray) -> FloatArray:
    return np.asarray(values.max(axis=(-3, -2, -1), initial=0.0))
