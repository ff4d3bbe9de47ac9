"""What the bins of many RoIs read, as one table for the compiled kernel ``weigh_blocks``.

The formula is the operator's own (``TapSpec.taps``), computed by NumPy for RoIs of about the same
number of samples at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from roicli.core.types import FloatArray, IntArray, Size
from roicli.operators.array_math import NumpyMath
from roicli.operators.taps import TapSpec
from roicli.runtime.native.jobs import share_out
from roicli.runtime.native.signatures import BinGroups, TapTable

# Taps that are computed at once, so that the arrays between stay in the cache.
TAPS_AT_ONCE = 1 << 16


def count_samples(spec: TapSpec, corners: FloatArray, map_size: Size) -> IntArray:
    """Samples a bin (K, 2) as (x, y); none on both axes where there are none on one."""
    counts = spec.counts(corners, map_size)
    counts[counts.prod(axis=1) == 0] = 0
    return counts


def tabulate(
    spec: TapSpec, corners: FloatArray, counts: IntArray, map_size: Size, threads: int
) -> TapTable:
    """The taps of RoIs (K, n) of ``counts`` (K, 2) samples a bin, as (x, y)."""
    bins, sizes = math.prod(spec.output_size), counts.prod(axis=1) * spec.taps_a_sample
    ends = np.cumsum(sizes * bins)
    total = int(ends[-1]) if len(ends) else 0
    sample = spec.taps_a_sample if spec.takes_maximum else 0
    table = TapTable(
        ends - sizes * bins, sizes, sample, np.zeros((len(corners), 4), np.int64),
        np.empty(total, np.int32), np.empty(total, corners.dtype),
    )  # fmt: skip
    most = TAPS_AT_ONCE // (bins * spec.taps_a_sample)

    def fill(rows: IntArray) -> None:
        _fill(table, rows, spec, corners[rows], counts[rows], map_size)

    share_out(list(_alike(counts, most)), lambda: fill, threads)
    return table


def _alike(counts: IntArray, most_samples: int) -> Iterator[IntArray]:
    """Rows of ``counts`` (K, 2) that are about the same, as many as have so many samples or one.

    None are where there is nothing to sample.
    """
    steps = np.ceil(2 * np.log2(np.maximum(counts, 1))).astype(np.int64)
    order = np.lexsort(steps.T)
    order = order[counts[order].all(axis=1)]
    cuts = np.flatnonzero(np.any(np.diff(steps[order], axis=0), axis=1)) + 1
    for rows in np.split(order, cuts) if len(order) else []:
        block = max(1, most_samples // int(counts[rows].max(axis=0).prod()))
        for start in range(0, len(rows), block):
            yield rows[start : start + block]


def _fill(
    table: TapTable,
    rows: IntArray,
    spec: TapSpec,
    corners: FloatArray,
    counts: IntArray,
    map_size: Size,
) -> None:
    """Write the taps of some RoIs into the table, where they are the ``rows``."""
    height, width = map_size
    taps = spec.taps_of(corners, map_size)
    table.regions[rows, :2] = _reach([tap.y for tap in taps.taps], height)
    table.regions[rows, 2:] = _reach([tap.x for tap in taps.taps], width)
    samples = int(counts[:, 1].max()), int(counts[:, 0].max())
    shape = (len(rows), *spec.output_size, *samples, len(taps.taps))
    cells, weights = np.empty(shape, np.int32), np.empty(shape, corners.dtype)
    looked_up = spec.look_up(NumpyMath(corners.dtype), taps, width)
    for number, (cell, weight, is_read) in enumerate(looked_up):
        cells[..., number] = np.where(is_read, cell, height * width)
        weights[..., number] = weight
    bins = math.prod(spec.output_size)
    for number, (row, (across, down)) in enumerate(zip(rows, counts, strict=True)):
        place = slice(table.starts[row], table.starts[row] + bins * table.taps_a_bin[row])
        own = number, slice(None), slice(None), slice(down), slice(across)
        table.cells[place] = cells[own].reshape(-1)
        table.weights[place] = weights[own].reshape(-1)


def _reach(places: list[IntArray], cells: int) -> IntArray:
    """(k, 2) from the first to the last of ``places`` of each RoI that is on the map, half-open."""
    flat = [np.clip(part.reshape(len(part), -1), 0, cells - 1) for part in places]
    first = np.min([part.min(axis=1) for part in flat], axis=0)
    last = np.max([part.max(axis=1) for part in flat], axis=0)
    return np.stack([first, last + 1], axis=1)


def group_bins(spec: TapSpec) -> BinGroups:
    """The bins of each group of channels."""
    group = [spec.group_of_bin(bin_index) for bin_index in np.ndindex(spec.output_size)]
    counts = np.bincount(group, minlength=spec.groups**2)
    return BinGroups(np.argsort(group, kind="stable"), np.append(0, np.cumsum(counts)))
