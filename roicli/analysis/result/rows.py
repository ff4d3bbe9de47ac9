"""Which row of one result is which of another, where they are in another order or some are missing.

Rows are matched by a few random projections of them: equal rows have equal projections, rows that
differ by rounding nearly equal ones, and all others differ in some. So K rows are sorted once, and
not compared with K others each.
"""

from __future__ import annotations

import numpy as np

from roicli.core.record import frozen
from roicli.core.types import Array, FloatArray, IntArray
from roicli.storage.array import StoredArray

PROJECTIONS = 8
SEED = 20170  # any: the same rows are matched in every run
BLOCK_BYTES = 16 << 20
# Rows that rounding to float16 or bfloat16 moved, against how rows vary.
NEAR = 0.02
# Projections of equal rows, against the largest: sums may be taken in another order.
SAME = 1e-11
# Rows whose first projection is near; more are not looked through for one.
MOST_TRIED = 1 << 14
SHOWN = 5


@frozen
class RowMatch:
    """Rows ``a`` (m,) of one result that are rows ``b`` (m,), ascending, of the other.

    ``only_a`` and ``only_b`` are rows of either that are none of the other's.
    """

    a: IntArray
    b: IntArray
    only_a: IntArray
    only_b: IntArray

    @property
    def moved(self) -> int:
        """How many rows stand at another place, apart from what is missing before them."""
        return 0 if np.all(np.diff(self.a) > 0) else int(np.count_nonzero(self.a != self.b))

    @property
    def is_plain(self) -> bool:
        """Whether each row is the other's of the same number."""
        return not (self.moved or len(self.only_a) or len(self.only_b))

    def describe(self, name_a: str = "A", name_b: str = "B") -> str:
        """In words, how rows are ordered and which are missing."""
        words = []
        if self.moved:
            order = np.argsort(self.a, kind="stable")
            pairs = zip(self.a[order].tolist(), self.b[order].tolist(), strict=True)
            shown = [f"{i} is {j}" for i, j in pairs if i != j][:SHOWN]
            more = ", ..." if self.moved > SHOWN else ""
            words.append(
                f"rows are in another order ({self.moved:,} of {len(self.a):,} moved): of {name_a} "
                f"in {name_b}, {', '.join(shown)}{more}"
            )
        for rows, has, lacks in ((self.only_b, name_b, name_a), (self.only_a, name_a, name_b)):
            if len(rows):
                numbers = ", ".join(map(str, rows[: 2 * SHOWN].tolist()))
                more = ", ..." if len(rows) > 2 * SHOWN else ""
                some = "1 row" if len(rows) == 1 else f"{len(rows):,} rows"
                words.append(f"not in {lacks}, {some} of {has}: {numbers}{more}")
        return "; ".join(words)


def match_rows(a: StoredArray, b: StoredArray) -> RowMatch:
    """Pair the rows of two arrays (K, ...) and (L, ...) whose rows have one shape."""
    projected_a, projected_b = project_rows(a), project_rows(b)
    with np.errstate(over="ignore", invalid="ignore"):
        centre = projected_b.mean(axis=0) if len(projected_b) else 0.0
        variation = np.sqrt(((projected_b - centre) ** 2).sum(axis=1))
        tolerance = NEAR * float(np.median(variation)) if len(variation) else 0.0
    if not np.isfinite(tolerance):  # numbers whose squares no float64 holds
        tolerance = 0.0
    partner = pair_rows(projected_a, projected_b, tolerance)
    rows_a = np.flatnonzero(partner >= 0)
    rows_b = partner[rows_a]
    order = np.argsort(rows_b, kind="stable")
    rows_a, rows_b = rows_a[order], rows_b[order]
    return RowMatch(
        rows_a,
        rows_b,
        np.setdiff1d(np.arange(len(projected_a)), rows_a),
        np.setdiff1d(np.arange(len(projected_b)), rows_b),
    )


def project_rows(array: StoredArray) -> FloatArray:
    """(K, 8) random projections of every row, block by block; what is not finite counts as 0."""
    width = int(np.prod(array.shape[1:], dtype=np.int64))
    directions = np.random.default_rng(SEED).standard_normal((width, PROJECTIONS))
    step = max(1, BLOCK_BYTES // max(width * 8, 1))
    found = np.empty((array.shape[0], PROJECTIONS))
    for first in range(0, array.shape[0], step):
        values = np.empty((min(step, array.shape[0] - first), *array.shape[1:]), array.dtype)
        array.read_rows_into(first, values)
        with np.errstate(invalid="ignore"):  # a signalling NaN
            wide = values.reshape(len(values), width).astype(np.float64)
        known = np.isfinite(wide)
        if not known.all():
            wide = np.where(known, wide, 0.0)
        with np.errstate(over="ignore", invalid="ignore"):
            found[first : first + len(values)] = wide @ directions
    return found


def pair_rows(one: FloatArray, other: FloatArray, tolerance: float) -> IntArray:
    """(k,) for each row of ``one`` (k, d) the row of ``other`` (l, d) that it is, -1 for none.

    A row within the distance of its own number is that one. Each is paired once; of rows that are
    all alike the first is with the first.
    """
    partner = np.full(len(one), -1, np.int64)
    both = min(len(one), len(other))
    with np.errstate(over="ignore", invalid="ignore"):
        own = _lengths(one[:both] - other[:both])
    partner[:both][own <= tolerance] = np.flatnonzero(own <= tolerance)
    _pair_equal(one, other, partner)
    left = np.setdiff1d(np.arange(len(other)), partner[partner >= 0])
    left = left[np.argsort(other[left, 0], kind="stable")]
    sorted_other, taken = other[left], np.zeros(len(left), bool)
    rows = np.flatnonzero(partner < 0)
    first = np.searchsorted(sorted_other[:, 0], one[rows, 0] - tolerance, "left")
    stop = np.searchsorted(sorted_other[:, 0], one[rows, 0] + tolerance, "right")
    stop = np.minimum(stop, first + MOST_TRIED)
    for row, start, end in zip(rows.tolist(), first.tolist(), stop.tolist(), strict=True):
        with np.errstate(over="ignore", invalid="ignore"):
            lengths = _lengths(sorted_other[start:end] - one[row])
        lengths[taken[start:end]] = np.inf
        if len(lengths) and lengths.min() <= tolerance:
            place = start + int(np.argmin(lengths))
            partner[row], taken[place] = left[place], True
    return partner


def _pair_equal(one: FloatArray, other: FloatArray, partner: IntArray) -> None:
    """Pair rows that are equal but for the order in which a sum was taken, the first first."""
    size = float(np.abs(other[np.isfinite(other)]).max(initial=0.0))
    step = SAME * size or 1.0
    free = np.setdiff1d(np.arange(len(other)), partner[partner >= 0])
    places: dict[bytes, list[int]] = {}
    for row in free[::-1].tolist():
        places.setdefault(_key(other[row], step), []).append(row)
    for row in np.flatnonzero(partner < 0).tolist():
        found = places.get(_key(one[row], step))
        if found:
            partner[row] = found.pop()


def _key(row: FloatArray, step: float) -> bytes:
    with np.errstate(over="ignore", invalid="ignore"):
        return bytes((np.rint(row / step) + 0.0).tobytes())


def _lengths(differences: Array) -> FloatArray:
    with np.errstate(over="ignore", invalid="ignore"):
        found: FloatArray = np.sqrt((differences**2).sum(axis=-1))
    return np.where(np.isnan(found), np.inf, found)
