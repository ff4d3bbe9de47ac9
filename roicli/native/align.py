"""RoI Align, compiled: ONNX Runtime's arithmetic in its own order on 16 channels at a time.

Source of the order: RoiAlign-16 as onnxruntime's CPU provider computes it. A sample is
``w1*v1 + w2*v2 + w3*v3 + w4*v4`` from left to right, a bin adds its samples row by row and divides
by their number; nothing is fused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from roicli.native.lanes import LANES, add, divide, load, maximum, multiply, spread, store
from roicli.native.packing import COMPILE, pack, unpack

# How the samples of a bin become one value.
RUNNING_SUM, ROW_SUMS, MAXIMUM = 0, 1, 2


@njit(**COMPILE)
def place_points(
    start: Any, extent: Any, counts: Any, fine: Any, bins: int, cells: int,
    bin_ends: Any, lows: Any, shares: Any,
) -> None:
    """Where one axis of K RoIs is read: the cells and weights of its sampling points.

    ``start``, ``extent`` (K,) in cells; ``counts`` (K,) points a bin; ``fine`` (K,) 0, or the
    sub-bins a bin of a grid of single samples. A point outside the map is left out. Fills
    ``bin_ends`` (K * bins + 1,), the number of points before each bin; ``lows`` (points,) the lower
    of the two cells read; ``shares`` (points, 2) the weights of the lower and of the next cell.
    """
    kind = start.dtype.type
    point = 0
    for roi in range(len(start)):
        single = fine[roi] > 0
        pieces = bins * fine[roi] if single else bins
        size = extent[roi] / kind(pieces)
        grid = kind(1) if single else kind(counts[roi])
        for number in range(bins):
            for sample in range(counts[roi]):
                piece = number * fine[roi] + sample if single else number
                inside = kind(0.5) if single else kind(sample) + kind(0.5)
                place = start[roi] + kind(piece) * size + inside * size / grid
                if place < kind(-1) or place > kind(cells):
                    continue
                place = max(place, kind(0))
                low = min(np.int64(place), cells - 1)
                share = place - kind(low) if low < cells - 1 else kind(0)
                lows[point] = low
                shares[point, 0] = kind(1) - share
                shares[point, 1] = share
                point += 1
            bin_ends[roi * bins + number + 1] = point


@njit(**COMPILE)
def cover(spans: Any, rois: Any, y_ends: Any, y_lows: Any, x_ends: Any, x_lows: Any,
          bins_y: int, bins_x: int, height: int, width: int) -> None:
    for roi in rois:
        first, last = width, 0
        for point in range(x_ends[roi * bins_x], x_ends[(roi + 1) * bins_x]):
            first = min(first, x_lows[point])
            last = max(last, min(x_lows[point] + 2, width))
        for point in range(y_ends[roi * bins_y], y_ends[(roi + 1) * bins_y]):
            for row in range(y_lows[point], min(y_lows[point] + 2, height)):
                spans[row, 0] = min(spans[row, 0], first)
                spans[row, 1] = max(spans[row, 1], last)


@njit(inline="never", **COMPILE)
def sample(packed, low, high, step, wy, wyh, wx, wxh):
    value = multiply(spread(wy * wx), load(packed, low))
    value = add(value, multiply(spread(wy * wxh), load(packed, low + step)))
    value = add(value, multiply(spread(wyh * wx), load(packed, high)))
    return add(value, multiply(spread(wyh * wxh), load(packed, high + step)))


@njit(**COMPILE)
def align_block(feature_map, first_channel, height, width, spans, rois, bins_y, bins_x, counts, how,
                y_ends, y_lows, y_shares, x_ends, x_lows, x_shares, packed, block, out):
    kind = feature_map.dtype.type
    pack(feature_map, first_channel, spans, width, packed)
    channels = len(feature_map)
    bins = bins_y * bins_x
    for roi in rois:
        count = counts[roi]
        for ph in range(bins_y):
            y0, y1 = y_ends[roi * bins_y + ph], y_ends[roi * bins_y + ph + 1]
            for pw in range(bins_x):
                x0, x1 = x_ends[roi * bins_x + pw], x_ends[roi * bins_x + pw + 1]
                value = spread(kind(0))
                if how == RUNNING_SUM:
                    for y in range(y0, y1):
                        low = y_lows[y] * width
                        high = min(y_lows[y] + 1, height - 1) * width
                        for x in range(x0, x1):
                            xl = x_lows[x]
                            xh = min(xl + 1, width - 1)
                            value = add(value, sample(packed, (low + xl) * LANES, (high + xl) * LANES, (xh - xl) * LANES,
                                y_shares[y, 0], y_shares[y, 1], x_shares[x, 0], x_shares[x, 1]))
                    value = divide(value, spread(kind(count)))
                store(block, (ph * bins_x + pw) * LANES, value)
        unpack(block, bins, min(LANES, channels - first_channel), out, (roi * channels + first_channel) * bins)
