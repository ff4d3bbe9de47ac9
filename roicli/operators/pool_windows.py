"""RoI Pool's bins as windows of map cells, in few groups of similar size.

A group's windows are looked up with the length of its largest, the shorter ones repeating their
last cell, which a maximum does not mind. The repeated look-ups are the padding: a window joins a
group only where it adds less than a quarter to its own cells, so the whole adds less than a
quarter whatever the boxes are.
"""

from __future__ import annotations

import numpy as np

from roicli.core.record import frozen
from roicli.core.types import FloatArray, IntArray, Size
from roicli.operators.geometry import PoolLike, quantize_rois

# A window of n cells joins a group of length L where L / n is less than 5 / 4.
PADDED, NEEDED = 5, 4


@frozen
class Windows:
    """The bins of K RoIs on a map (H, W): bin (k, i, j) is number (k * P_h + i) * P_w + j.

    Each array is (K * P_h * P_w,) int64: ``first`` is the window's first cell, row * W + column;
    ``width`` the cells of one of its rows; ``cells`` all of them, 0 for an empty bin. ``map_width``
    is W.
    """

    first: IntArray
    width: IntArray
    cells: IntArray
    map_width: int

    def of_rois(self, rows: IntArray, count: int) -> Windows:
        """The windows of some of the ``count`` RoIs, in the order of ``rows``."""
        first, width, cells = (
            values.reshape(count, -1)[rows].reshape(-1)
            for values in (self.first, self.width, self.cells)
        )
        return Windows(first, width, cells, self.map_width)


def find_windows(corners: FloatArray, spec: PoolLike, map_size: Size) -> Windows:
    """The windows of RoIs (K, 4) in image pixels, clipped to a map of ``map_size`` (H, W)."""
    height, width = map_size
    x_bins, y_bins = quantize_rois(corners, spec)
    top, bottom = (edge[:, :, None] for edge in y_bins.clipped(height))
    left, right = (edge[:, None, :] for edge in x_bins.clipped(width))
    tall, wide = np.maximum(bottom - top, 0), np.maximum(right - left, 0)
    shape = (len(corners), *spec.output_size)
    return Windows(
        (top * width + left).reshape(-1),
        np.broadcast_to(wide, shape).reshape(-1),
        (tall * wide).reshape(-1),
        width,
    )


@frozen
class WindowGroups:
    """B windows in G groups.

    ``order`` (B,) lists the windows group by group, ``counts`` (G,) how many a group has,
    ``lengths`` (G,) the cells that each of them is looked up with; all int64. ``needed`` and
    ``padded`` are the look-ups of all windows without and with padding.
    """

    order: IntArray
    counts: IntArray
    lengths: IntArray
    needed: int
    padded: int

    @property
    def padding(self) -> float:
        """Padded look-ups over needed ones, less 1; below 0.25."""
        return self.padded / self.needed - 1 if self.needed else 0.0


def group_windows(cells: IntArray, exact_sizes: int = 0) -> WindowGroups:
    """Group windows of ``cells`` (B,), each at least 1, so that the padding stays below a quarter.

    Groups are cut from the longest window down, each as wide as it may be, which is the fewest.
    Up to ``exact_sizes`` sizes are a group each, without padding.
    """
    found = np.flatnonzero(np.bincount(cells, minlength=1))
    group_of = np.zeros(found[-1] + 1 if len(found) else 1, np.int16)
    lengths: list[int] = []
    for length in found[::-1].tolist():
        exact = len(found) <= exact_sizes
        if exact or not lengths or PADDED * length <= NEEDED * lengths[-1]:
            lengths.append(length)
        group_of[length] = len(lengths) - 1
    group = group_of[cells]
    counts = np.bincount(group, minlength=len(lengths))
    sizes = np.array(lengths, np.int64)
    return WindowGroups(
        np.argsort(group, kind="stable"), counts, sizes, int(cells.sum()), int(counts @ sizes)
    )


def split_by_cells(cells: IntArray, most: int) -> list[slice]:
    """Rows cut into runs whose ``cells`` (K,) sum to ``most`` at most, or one row that has more."""
    ends = np.cumsum(cells)
    parts, start = [], 0
    while start < len(cells):
        before = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, before + most, side="right")), start + 1)
        parts.append(slice(start, stop))
        start = stop
    return parts
