"""The exact mean of the interpolated map over each bin: what RoI Align's samples approximate.

Precise RoI Pooling (Jiang et al. 2018, IoU-Net, section 3.2), with RoI Align's border: the map is
continued by its edge cells up to one cell outside, and is 0 beyond (-1 and H; SEMANTICS, RoI
Align). A cell's weight is a product of two functions, one an axis, each linear between whole
coordinates; so the mean over a bin is a matrix of mean weights on either side of the map, and the
mean of a linear piece is its value in the middle. No difference of large numbers is taken, so tiny
bins lose nothing.
"""

from __future__ import annotations

import numpy as np

from roicli.core.types import AlignSpec, FloatArray
from roicli.operators.geometry import align_boxes, find_neighbours


def bin_weights(start: float, extent: float, bins: int, cells: int) -> FloatArray:
    """(bins, cells) float64: the mean weight of each cell over each bin of one axis.

    ``start`` and ``extent`` in cells, cell i centred at i; a bin without extent is a point. Weights
    of a bin sum to the share of it that lies from -1 to ``cells``.
    """
    edges = start + extent * (np.arange(bins + 1) / bins)
    low, high = np.minimum(edges[:-1], edges[1:]), np.maximum(edges[:-1], edges[1:])
    cell = np.arange(cells, dtype=np.float64)
    # Below the first cell and above the last the weight is flat; elsewhere it rises and falls.
    first, last = cell == 0, cell == cells - 1
    pieces = (
        (np.where(first, -1.0, cell - 1), cell, np.where(first, 0.0, 1.0)),
        (cell, np.where(last, float(cells), cell + 1), np.where(last, 0.0, 1.0)),
    )
    total = np.zeros((bins, cells))
    for begin, end, slope in pieces:
        left, right = np.maximum(low[:, None], begin), np.minimum(high[:, None], end)
        middle = np.abs((left + right) / 2 - cell)
        total += np.maximum(right - left, 0.0) * (1 - slope * middle)
    size = (high - low)[:, None]
    mean = np.divide(total, size, out=np.zeros_like(total), where=size > 0)
    return np.where(size > 0, mean, point_weights(low, cells))


def point_weights(points: FloatArray, cells: int) -> FloatArray:
    """(n, cells): the weight of each cell at points (n,) of one axis; 0 off the map."""
    found, rows = find_neighbours(points, cells), np.arange(len(points))
    weights = np.zeros((len(points), cells))
    np.add.at(weights, (rows, found.low), (1 - found.share) * found.on_map)
    np.add.at(weights, (rows, found.high), found.share * found.on_map)
    return weights


def pool_precisely(feature_map: FloatArray, corners: FloatArray, spec: AlignSpec) -> FloatArray:
    """(k, C, P_h, P_w) float64: the exact mean over the bins that RoI Align samples.

    ``feature_map`` (C, H, W); ``corners`` (k, 4) in image pixels, in the operator's dtype, so that
    bins start where the operator's do. Of ``spec`` only output size, scale and ``aligned`` matter.
    """
    height, width = feature_map.shape[1:]
    start, extent = (table.astype(np.float64) for table in align_boxes(corners, spec))
    out = np.zeros((len(corners), len(feature_map), *spec.output_size))
    for row in range(len(corners)):
        x_weights = bin_weights(start[row, 0], extent[row, 0], spec.output_size[1], width)
        y_weights = bin_weights(start[row, 1], extent[row, 1], spec.output_size[0], height)
        across, down = _used(x_weights), _used(y_weights)
        cells = feature_map[:, down, across].astype(np.float64)
        out[row] = y_weights[:, down] @ cells @ x_weights[:, across].T
    return out


def _used(weights: FloatArray) -> slice:
    """The cells that have a weight in some bin, as a run."""
    cells = np.flatnonzero(weights.any(axis=0))
    return slice(int(cells[0]), int(cells[-1]) + 1) if len(cells) else slice(0, 0)
