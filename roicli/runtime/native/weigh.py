"""Operators that read cells with weights, compiled: any table of taps, on 16 channels at a time.

The order is that of ONNX Runtime's product of one row with a matrix on x86-64, by which the graph
sums a bin: four products from left to right, added to the bin; then a pair, then a single one.
Nothing is fused.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from roicli.runtime.native.lanes import add, item, load, maximum, multiply, nan_or, spread, store
from roicli.runtime.native.pack import COMPILE, pack, unpack
from roicli.runtime.native.signatures import LANES, BinGroups, TapTable


@njit(**COMPILE)
def _cover(rois: Any, taps: TapTable, width: int, spans: Any) -> None:
    """Fill ``spans`` (H, 2), the columns that the RoIs need of each row."""
    spans[:, 0] = width
    spans[:, 1] = 0
    for roi in rois:
        for row in range(taps.regions[roi, 0], taps.regions[roi, 1]):
            spans[row, 0] = min(spans[row, 0], taps.regions[roi, 2])
            spans[row, 1] = max(spans[row, 1], taps.regions[roi, 3])


@njit(forceinline=True, **COMPILE)
def _product(packed: Any, taps: TapTable, tap: int) -> Any:
    """16 channels of a tap's cell times its weight."""
    cell = load(packed, item(taps.cells, tap) * LANES)
    return multiply(spread(item(taps.weights, tap)), cell)


@njit(forceinline=True, **COMPILE)
def _weigh(packed: Any, taps: TapTable, first: int, end: int) -> Any:
    """The sum of the taps from ``first`` to ``end``."""
    total = spread(packed.dtype.type(0))
    tap = first
    while tap + 4 <= end:
        four = _product(packed, taps, tap)
        for next_tap in range(tap + 1, tap + 4):
            four = add(four, _product(packed, taps, next_tap))
        total = add(total, four)
        tap += 4
    if tap + 2 <= end:
        pair = add(_product(packed, taps, tap), _product(packed, taps, tap + 1))
        total = add(total, pair)
        tap += 2
    if tap < end:
        total = add(total, _product(packed, taps, tap))
    return total


@njit(forceinline=True, **COMPILE)
def _greatest(packed: Any, taps: TapTable, first: int, end: int, size: int) -> Any:
    """The greatest of samples of ``size`` taps each, or NaN where one is."""
    value = _weigh(packed, taps, first, first + size)
    tap = first + size
    while tap < end:
        sample = _weigh(packed, taps, tap, tap + size)
        value = nan_or(sample, maximum(sample, value))
        tap += size
    return value


@njit(**COMPILE)
def weigh_blocks(
    feature_map: Any,
    channels: int,
    first_channel: int,
    end_channel: int,
    rois: Any,
    spans: Any,
    width: int,
    taps: TapTable,
    groups: BinGroups,
    outside: Any,
    packed: Any,
    block: Any,
    out: Any,
) -> None:
    """The weighted sums, or their maxima, of some of the RoIs on some of the result's channels.

    ``feature_map`` (C * G * H * W,), where channel c of the result reads channels c * G to
    c * G + G - 1, one for each of the G groups of bins; ``channels`` C; ``rois`` (n,) row numbers;
    ``outside`` (1,) the value of the cell number H * W; ``spans`` (H, 2), ``packed``
    ((H * W + 1) * 16,) and ``block`` (P_h * P_w * 16,) are room to work in; ``out`` is
    (K * C * P_h * P_w,).
    """
    count, bins = len(groups.ends) - 1, len(groups.bins)
    cells = len(feature_map) // (channels * count)
    _cover(rois, taps, width, spans)
    store(packed, cells * LANES, spread(outside[0]))
    for channel in range(first_channel, end_channel, LANES):
        lanes = min(LANES, end_channel - channel)
        for group in range(count):
            pack(feature_map, cells, channel * count + group, count, lanes, spans, width, packed)
            first_bin, end_bin = groups.ends[group], groups.ends[group + 1]
            for roi in rois:
                place = (roi * channels + channel) * bins
                size = item(taps.taps_a_bin, roi)
                # A sum is a maximum of one sample.
                sample = taps.taps_a_sample or size
                for number in range(first_bin, end_bin):
                    one = item(groups.bins, number)
                    first = item(taps.starts, roi) + one * size
                    value = _greatest(packed, taps, first, first + size, sample)
                    store(block, one * LANES, value)
                if count == 1:
                    unpack(block, bins, lanes, out, place)
                    continue
                for number in range(first_bin, end_bin):
                    one = item(groups.bins, number)
                    for lane in range(lanes):
                        out[place + lane * bins + one] = block[one * LANES + lane]
