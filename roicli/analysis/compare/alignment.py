"""Two results brought to one shape: axes in one order, and rows of the same RoIs side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from roicli.analysis.result.axes import (
    Axes,
    RowsArray,
    advise_rows_first,
    distances,
    looks_channels_last,
    possible_axes,
)
from roicli.analysis.result.rows import RowMatch, match_rows
from roicli.core.exceptions import InputError
from roicli.core.types import FloatArray, IntArray
from roicli.storage.array import Shape, StoredArray

# Rows that say in which order axes are, and how near they must come.
SAMPLE_ROWS = 16
NEAR = 0.05
# Where none does, the nearest order must be so much nearer than the next.
TELLING = 0.8
# Two results are of the same RoIs where so many rows of the shorter one are found in the other.
SHARE_FOUND = 0.5


def align_axes(a: StoredArray, b: StoredArray) -> tuple[StoredArray, StoredArray, str | None]:
    """Both arrays with rows of one shape, and in words what was done; None where nothing was.

    The one that is nearer to (K, C, P_h, P_w) is left as it is, B where both are as near. Raises
    InputError where no order of axes makes them alike.
    """
    if a.shape[1:] == b.shape[1:] and a.shape and b.shape:
        return a, b, None
    pair, names = [a, b], ["A", "B"]
    for turned in _which_to_turn(a, b):
        other = pair[1 - turned]
        ways = list(possible_axes(pair[turned].shape, other.shape[1:])) if other.shape else []
        if not ways:
            continue
        chosen = _choose(pair[turned], other, ways)
        if chosen is None:
            shown = " or ".join(str(axes) for axes in ways[:6])
            raise InputError(
                f"{a.name} has shape {a.shape} and {b.name} {b.shape}: {names[turned]}'s axes may "
                f"be {shown}, and in none of these orders rows are alike",
                "give two results of the same RoIs, as (K, C, P_h, P_w)",
            )
        pair[turned] = RowsArray(pair[turned], chosen)
        return pair[0], pair[1], f"{names[turned]}'s axes are read as {chosen}"
    raise InputError(
        f"{a.name} has shape {a.shape} and {b.name} {b.shape}, expected two equal shapes",
        advise_rows_first(b.shape, a.shape),
    )


def _which_to_turn(a: StoredArray, b: StoredArray) -> tuple[int, int]:
    """0 and 1, the first the one to turn: that which is further from (K, C, P_h, P_w)."""

    def strangeness(shape: Shape) -> tuple[bool, bool]:
        return len(shape) != 4, looks_channels_last(shape[1:])

    return (0, 1) if strangeness(a.shape) >= strangeness(b.shape) else (1, 0)


def _choose(turned: StoredArray, other: StoredArray, ways: list[Axes]) -> Axes | None:
    """The order of axes in which rows are the other's; the plain one where nothing tells."""
    if len(ways) == 1:
        return ways[0]
    count = min(turned.shape[0] if ways[0].leading == 1 else other.shape[0], other.shape[0])
    rows = _spread(count)
    if count == 0:
        return ways[0]

    def measure(axes: Axes) -> float:
        read = RowsArray(turned, axes)
        known = rows[rows < read.shape[0]]
        return float(np.median(distances(take(read, known), take(other, known))))

    measured = [measure(axes) for axes in ways]
    nearest = ways[int(np.argmin(measured))]
    if min(measured) <= NEAR:
        return nearest
    # Rows may be in another order besides.
    for axes in ways:
        if _are_found(match_rows(RowsArray(turned, axes), other)):
            return axes
    # Or the values differ, in no other order less.
    first, second = sorted(measured)[:2]
    return nearest if first < TELLING * second else None


def _spread(count: int) -> IntArray:
    return np.unique(np.linspace(0, max(count - 1, 0), SAMPLE_ROWS).astype(np.int64))


def take(array: StoredArray, rows: IntArray) -> FloatArray:
    """(n, D) some rows of an array (K, ...), float64."""
    out = np.empty((len(rows), *array.shape[1:]), array.dtype)
    for place, row in enumerate(rows):
        array.read_item_into(int(row), out[place])
    with np.errstate(invalid="ignore"):  # a signalling NaN
        return out.reshape(len(rows), -1).astype(np.float64)


def _are_found(found: RowMatch) -> bool:
    shorter = min(len(found.a) + len(found.only_a), len(found.b) + len(found.only_b))
    return len(found.a) > SHARE_FOUND * shorter


def find_rows(a: StoredArray, b: StoredArray, worst: Sequence[int] = ()) -> RowMatch | None:
    """Which row of A is which of B, where that is not each one's own; None where it is, or where
    most rows of the shorter one are not found.

    Of two results with as many rows ``worst`` are those that differ most: where these are near each
    other, only values differ.
    """
    if 0 in (*a.shape, *b.shape) or len(a.shape) < 2:
        return None
    if a.shape == b.shape:
        rows = np.union1d(_spread(a.shape[0]), np.array(worst, np.int64))
        if distances(take(a, rows), take(b, rows)).max() <= NEAR:
            return None
    found = match_rows(a, b)
    return None if found.is_plain or not _are_found(found) else found


def find_turned_bins(
    a: StoredArray, b: StoredArray, is_equal: Callable[[StoredArray], bool]
) -> str | None:
    """In words, the order of A's axes in which it is equal to B of the same shape; None without."""
    if 0 in a.shape or len(a.shape) < 3:
        return None
    rows = _spread(a.shape[0])
    wanted = take(b, rows)
    for axes in possible_axes(a.shape, b.shape[1:]):
        turned = RowsArray(a, axes)
        if axes.is_plain or np.median(distances(take(turned, rows), wanted)) > NEAR:
            continue
        return f"A is as B with its axes read as {axes}" + (
            ": equal" if is_equal(turned) else ": nearly equal"
        )
    return None
