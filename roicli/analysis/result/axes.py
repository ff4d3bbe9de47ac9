"""The axes of a stored result: other runtimes put channels last, flatten bins, add axes of one.

A result has a row for each RoI, (K, C, P_h, P_w). Whatever its shape, the same numbers in the same
order are the same result; where axes stand in another order, the values say in which.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise, permutations
from typing import NamedTuple

import numpy as np

from roicli.core.types import Array, FloatArray
from roicli.storage.array import Place, Shape, StoredArray
from roicli.storage.views import View

NAMES = ("C", "P_h", "P_w")
CHANNELS_LAST = ("P_h", "P_w", "C")


class Axes(NamedTuple):
    """A way to read an array as rows: ``order`` of their axes as they are stored.

    ``leading`` axes count rows; a row has ``row_shape`` once its axes are in order.
    """

    leading: int
    row_shape: Shape
    order: tuple[int, ...]

    @property
    def stored_row(self) -> Shape:
        """The axes of a row as they are stored, none of them merged."""
        return tuple(self.row_shape[axis] for axis in self.order)

    @property
    def is_plain(self) -> bool:
        """Whether the numbers are in order as they are."""
        return self.order == tuple(range(len(self.order)))

    def __str__(self) -> str:
        """The axes as they are stored."""
        names: Sequence[str] = CHANNELS_LAST if looks_channels_last(self.row_shape) else NAMES
        if len(self.order) != len(names):
            names = [f"axis {n + 1}" for n in range(len(self.order))]
        return f"(K, {', '.join(names[axis] for axis in self.order)})"


def looks_channels_last(row_shape: Shape) -> bool:
    """Whether a row looks like (P_h, P_w, C): the first two axes alike, and not the third."""
    return len(row_shape) == 3 and row_shape[0] == row_shape[1] != row_shape[2]


def possible_axes(shape: Shape, row_shape: Shape, rows: int | None = None) -> Iterator[Axes]:
    """Every way to read an array of ``shape`` as rows of ``row_shape``, the plainest first.

    Of so many ``rows``, where that is known. Axes of one may stand anywhere, neighbours may be
    merged, and axes be in another order.
    """
    size = math.prod(row_shape)
    for leading in range(1, len(shape) + 1):
        count, tail = math.prod(shape[:leading]), shape[leading:]
        if math.prod(tail) != size or (rows is not None and count != rows):
            continue
        for order in permutations(range(len(row_shape))):
            if _is_merged(tail, tuple(row_shape[axis] for axis in order)):
                yield Axes(leading, row_shape, order)
        return


def _is_merged(merged: Sequence[int], whole: Sequence[int]) -> bool:
    """Whether axes are others of which neighbours are merged; those of one count nowhere."""
    left = [side for side in whole if side != 1]
    for side in (side for side in merged if side != 1):
        found = 1
        while left and found < side:
            found *= left.pop(0)
        if found != side:
            return False
    return not left


def advise_rows_first(shape: Shape, wanted: Sequence[int | None]) -> str | None:
    """What to do with a result whose rows are not along the first axis, where it would be of the
    shape ``wanted`` with them there; None stands for any side.
    """
    ways: dict[tuple[int, ...], tuple[int, ...]] = {}
    for order in permutations(range(len(shape)) if len(shape) == len(wanted) else ()):
        sides = zip(wanted, order, strict=False)
        if order and order[0] != 0 and all(one in (None, shape[axis]) for one, axis in sides):
            ways.setdefault(order[:2], order)  # bins of equal sides are as they stand
    if not ways:
        return None
    shown = list(map(str, ways.values()))
    which = ", whichever of these has the RoIs first" if len(shown) > 1 else ""
    return f"its axes fit as {' or '.join(shown)}: save numpy.transpose(result, {shown[0]}){which}"


class RowsArray(View):
    """A stored array read as rows, (K, *row_shape)."""

    def __init__(self, stored: StoredArray, axes: Axes) -> None:
        before = stored.shape[: axes.leading]
        super().__init__(stored, (math.prod(before), *axes.row_shape))
        # Rows are counted along one axis, unless several are longer than one.
        long = [axis for axis, side in enumerate(before) if side != 1]
        self._axes, self._before = axes, before
        self._along = long[0] if len(long) == 1 else None if long else axes.leading - 1
        self.chunk_rows = stored.chunk_rows if self._along == 0 else 1

    def read(self, place: Place, out: Array) -> None:
        """The values at ``place`` into ``out``: whole rows are read."""
        rows, inner = place[0], place[1:]
        tail = self.stored.shape[self._axes.leading :]
        held = np.empty((rows.stop - rows.start, *tail), self.dtype)
        whole = tuple(slice(0, side) for side in tail)
        if self._along is not None:
            there = [slice(0, 1)] * len(self._before)
            there[self._along] = rows
            shape = tuple(part.stop - part.start for part in there)
            self.stored.read((*there, *whole), held.reshape(*shape, *tail))
        else:
            for n, row in enumerate(range(rows.start, rows.stop)):
                at = np.unravel_index(row, self._before)
                there = [slice(int(i), int(i) + 1) for i in at]
                self.stored.read((*there, *whole), held[n : n + 1].reshape(*[1] * len(at), *tail))
        values = held.reshape(len(held), *self._axes.stored_row)
        back = [0, *(1 + self._axes.order.index(axis) for axis in range(len(self._axes.order)))]
        out[...] = values.transpose(back)[(slice(None), *inner)]


class TakenRows(View):
    """Rows of a stored array, in any order: ``rows`` (k,) of (K, ...), as (k, ...)."""

    def __init__(self, stored: StoredArray, rows: Array) -> None:
        super().__init__(stored, (len(rows), *stored.shape[1:]))
        self._rows = rows
        self.chunk_rows = 1

    def read(self, place: Place, out: Array) -> None:
        """The values at ``place`` into ``out``, run by run of rows that follow one another."""
        rows = self._rows[place[0]]
        cuts = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        for start, stop in pairwise(cuts):
            if stop > start:
                first = int(rows[start])
                there = (slice(first, first + stop - start), *place[1:])
                self.stored.read(there, out[start:stop])


def distances(one: FloatArray, other: FloatArray) -> FloatArray:
    """(n,) how far each row of (n, D) is from another's, against how the other's rows vary.

    0 where they are equal, about 1.4 where they have nothing in common. Not finite counts as 0.
    """
    one, other = (np.where(np.isfinite(side), side, 0.0) for side in (one, other))
    with np.errstate(over="ignore", invalid="ignore"):
        centre = other.mean(axis=0)
        variation = ((other - centre) ** 2).sum(axis=1)
        usual = float(np.median(variation)) if len(variation) else 0.0
        squared = ((one - other) ** 2).sum(axis=1)
        limit = np.maximum(variation, usual)
        found = np.sqrt(squared / np.where(limit > 0, limit, 1.0))
    return np.asarray(np.where(squared == 0, 0.0, found))


def unit_rows(values: Array) -> FloatArray:
    """(n, D) unit vectors of rows (n, ...), against their median row; what is not finite counts as
    0. Their products say how alike rows are.
    """
    flat = np.asarray(values.reshape(len(values), -1), np.float64)
    flat = np.where(np.isfinite(flat), flat, 0.0)
    largest = np.abs(flat).max(initial=0.0)
    flat = flat / (largest or 1.0)
    # A fill of -FLT_MAX in a few rows does not move their median.
    flat = flat - (np.median(flat, axis=0) if len(flat) else 0.0)
    lengths = np.sqrt((flat**2).sum(axis=1, keepdims=True))
    return np.asarray(flat / np.where(lengths > 0, lengths, 1.0))
