"""What the compiled functions take, and how it reaches them: as slots of 8 bytes.

Each compiled function is a C function of one pointer, to its arguments one after another: a whole
number is one slot; an array is its address and its shape; a record is its fields. So nothing of how
Numba passes arguments is relied on, and a function can be called without Numba.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

# Channels that a compiled function handles at once, as one vector.
LANES = 16
# How the samples of a bin become one value: added one by one, rows first, or the greatest; the
# last is for maps that are not finite.
RUNNING_SUM, ROW_SUMS, MAXIMUM, MAXIMUM_OR_NAN = 0, 1, 2, 3


class AxisBoxes(NamedTuple):
    """One axis of K RoIs: where they lie and how often each bin of them is sampled.

    ``start``, ``extent`` (K,) in cells, in the map's dtype; ``counts`` (K,) int64 points a bin;
    ``sub_bins`` (K,) int64: 0 where the points divide their bin (RoiAlign), else how many pieces a
    bin has in a grid of single samples, whose first ``counts`` are taken. ``bins`` a RoI; the map
    is ``cells`` long; ``cell_stride`` values of the packed map from one cell to the next.
    """

    start: Any
    extent: Any
    counts: Any
    sub_bins: Any
    bins: Any
    cells: Any
    cell_stride: Any


class AxisPoints(NamedTuple):
    """The sampling points of one axis that lie on the map, bin by bin, shared by all channels.

    ``ends`` (K * bins + 1,) int64 the points before each bin; ``offsets`` (points * 2,) int64 where
    the lower and the next cell lie in the packed map; ``weights`` (points * 2,) what each counts.
    """

    ends: Any
    offsets: Any
    weights: Any


class AxisWindows(NamedTuple):
    """One axis of the bins of K RoIs, clipped to the map, in cells and half-open.

    ``start``, ``end`` (K * bins,) int64; the bins of a RoI lie in order.
    """

    start: Any
    end: Any
    bins: Any


class TapTable(NamedTuple):
    """The cells that the bins of K RoIs read, with their weights, in the order of their sum.

    Bin b of RoI k has ``taps_a_bin[k]`` taps from ``starts[k] + b * taps_a_bin[k]`` on (both (K,)
    int64); ``taps_a_sample`` are those of one sample under a maximum, 0 under a sum. ``cells``
    (taps,) int32 are numbers of cells, row by row; ``weights`` (taps,). ``regions`` (K, 4) int64
    are the rows and columns read of the map, half-open: top, bottom, left, right.
    """

    starts: Any
    taps_a_bin: Any
    taps_a_sample: Any
    regions: Any
    cells: Any
    weights: Any


class BinGroups(NamedTuple):
    """Which bins read the same channels: group g has ``bins[ends[g] : ends[g + 1]]``, int64."""

    bins: Any
    ends: Any


class ArrayKind(NamedTuple):
    """A C-contiguous array of the map's dtype or of whole numbers, with so many ``dimensions``."""

    element: Literal["real", "int32", "int64"]
    dimensions: int


WHOLE = "a whole number"
WHOLES, TABLE, STACK = (ArrayKind("int64", dimensions) for dimensions in (1, 2, 3))
SHORT_WHOLES = ArrayKind("int32", 1)
REALS = ArrayKind("real", 1)

_BOXES = AxisBoxes(REALS, REALS, WHOLES, WHOLES, WHOLE, WHOLE, WHOLE)
_POINTS = AxisPoints(WHOLES, WHOLES, REALS)
_WINDOWS = AxisWindows(WHOLES, WHOLES, WHOLE)
_TAPS = TapTable(WHOLES, WHOLES, WHOLE, TABLE, SHORT_WHOLES, REALS)
_GROUPS = BinGroups(WHOLES, WHOLES)
_MAP = (REALS, WHOLE, WHOLE, WHOLE)

# The arguments of each function, as native.align, native.pool and native.weigh describe them.
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "plan_align": (_BOXES, _POINTS, _BOXES, _POINTS, WHOLES, WHOLES, STACK),
    "align_blocks": (
        *_MAP, WHOLES, TABLE, WHOLES, WHOLE, (WHOLE, WHOLE, WHOLE), _POINTS, _POINTS,
        REALS, REALS, REALS,
    ),
    "pool_blocks": (
        *_MAP, WHOLES, TABLE, WHOLE, _WINDOWS, _WINDOWS, REALS, REALS, REALS, REALS,
    ),
    "weigh_blocks": (
        *_MAP, WHOLES, TABLE, WHOLE, _TAPS, _GROUPS, REALS, REALS, REALS, REALS,
    ),
}  # fmt: skip


def slots_of(arguments: Sequence[Any], kinds: Sequence[Any], real: np.dtype[Any]) -> Iterator[int]:
    """The slots of ``arguments``; ``real`` is the map's dtype.

    Raises TypeError where an array is not what its kind says: the function would read elsewhere.
    """
    for argument, kind in zip(arguments, kinds, strict=True):
        if kind is WHOLE:
            yield operator.index(argument)
        elif isinstance(kind, ArrayKind):
            dtype = real if kind.element == "real" else np.dtype(kind.element)
            if (argument.dtype, argument.ndim) != (dtype, kind.dimensions) or not (
                argument.flags.c_contiguous
            ):
                raise TypeError(f"{argument.dtype} {argument.shape} is not {dtype}, {kind}")
            yield argument.ctypes.data
            yield from argument.shape
        else:
            yield from slots_of(argument, kind, real)
