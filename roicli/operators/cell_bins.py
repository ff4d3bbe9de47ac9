"""Bins that are windows of whole cells: the values of many boxes on one map, whatever placed them.

Rules have most of their windows in common, so each window is reduced once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from roicli.core.types import FloatArray, IntArray
from roicli.operators.convention import Convention, Reduction
from roicli.operators.geometry import bin_windows
from roicli.operators.reference import channel_steps
from roicli.operators.sampled_map import Bins, BoxValues, Placed, place_boxes

# Cells of the windows of one step.
STEP_CELLS = 1 << 15


def read_cells(
    placed: Placed, convention: Convention, wanted: Sequence[Reduction], bins: Bins
) -> BoxValues:
    """The boxes of all placements, one after another, cut and clipped as a convention says and
    reduced in each way that is ``wanted``.
    """
    one = placed[0][0]
    axes, edges = place_boxes(placed, bins), []
    for axis in axes:
        first, last = bin_windows(
            axis.start, axis.extent, axis.bins, convention.cut, one.corners.dtype
        )
        most = axis.cells if convention.last_cell else axis.cells - 1
        edges.append([np.clip(edge[:, axis.picked], 0, most) for edge in (first, last)])
    (left, right), (top, bottom) = edges
    empty = (bottom <= top)[:, :, None] | (right <= left)[:, None]
    empty |= ((axes[0].extent <= 0) | (axes[1].extent <= 0))[:, None, None]
    found = BoxValues.without_bins(len(wanted), placed, bins)
    found.empty[:] = empty
    edges_of = (top[:, :, None], bottom[:, :, None], left[:, None], right[:, None])
    some = ~empty
    windows = np.stack([np.broadcast_to(edge, empty.shape)[some] for edge in edges_of], axis=1)
    different, which = _once(windows)
    for out, reduction in zip(found.values, wanted, strict=True):
        values = _reduce_windows(one.feature_map, different, reduction)
        out[:, some] = values[:, which]
    return found


def _once(whole: IntArray) -> tuple[IntArray, IntArray]:
    """The different rows of whole numbers (n, m), none of them negative, and which each is."""
    key = np.ravel_multi_index(tuple(whole.T), tuple(whole.max(axis=0, initial=0) + 1))
    _, index, inverse = np.unique(key, return_index=True, return_inverse=True)
    return whole[index], inverse


def _reduce_windows(feature_map: FloatArray, windows: IntArray, reduction: Reduction) -> FloatArray:
    """(C, n) of windows (n, 4): top, bottom, left and right, half-open, none of them empty."""
    channels, _, width = feature_map.shape
    flat = feature_map.reshape(channels, -1)
    join = np.maximum if reduction == "cell-max" else np.add
    out = np.empty((channels, len(windows)))
    sizes = (windows[:, 1::2] - windows[:, ::2]).prod(axis=1)
    last_of_step = np.flatnonzero(np.diff(np.cumsum(sizes) // STEP_CELLS)) + 1
    for step in np.split(np.arange(len(windows)), last_of_step) if len(windows) else ():
        top, bottom, left, right = windows[step].T
        heights = bottom - top
        lines = np.repeat(top * width + left, heights) + width * _count_each(heights)
        lengths = np.repeat(right - left, heights)
        cells = np.repeat(lines, lengths) + _count_each(lengths)
        starts = np.cumsum(sizes[step]) - sizes[step]
        for part in channel_steps(channels, len(cells)):
            out[part, step] = join.reduceat(flat[part].take(cells, axis=1), starts, axis=1)
    return out if reduction == "cell-max" else out / sizes


def _count_each(lengths: IntArray) -> IntArray:
    """0, 1, ... up to each of the lengths, one after another."""
    ends = np.cumsum(lengths)
    return np.arange(lengths.sum()) - np.repeat(ends - lengths, lengths)
