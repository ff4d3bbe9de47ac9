"""Feature maps to blocks of 16 channels a cell and back, the layout that the kernels work in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from roicli.runtime.native.lanes import transpose
from roicli.runtime.native.signatures import LANES

# The functions are called by each other alone, so ways to call them from Python or C are not made.
COMPILE = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


@njit(**COMPILE)
def pack(
    feature_map: Any,
    cells: int,
    first_channel: int,
    step: int,
    lanes: int,
    spans: Any,
    width: int,
    packed: Any,
) -> bool:
    """Copy the needed cells of 16 channels side by side; tell whether one of them is not finite.

    ``feature_map`` (C * H * W,) of H * W ``cells``; ``lanes`` channels from ``first_channel`` on,
    ``step`` apart; ``spans`` (H, 2) the half-open range of columns that is needed of each row;
    ``packed`` (H * W * 16,). The lanes past the last channel repeat it. A tile of 16 cells may
    reach past a span into its neighbours, which does no harm; that a map is called not finite
    although no cell of it is, as transpose may, only costs time.
    """
    last = lanes - 1
    odd = 0
    for row in range(len(spans)):
        start, end = row * width + spans[row, 0], row * width + spans[row, 1]
        if cells < LANES:
            for cell in range(start, end):
                for lane in range(LANES):
                    channel = first_channel + min(lane, last) * step
                    value = feature_map[channel * cells + cell]
                    packed[cell * LANES + lane] = value
                    odd |= not np.isfinite(value)
            continue
        for tile in range(start, end, LANES):
            cell = min(tile, cells - LANES)
            place = first_channel * cells + cell
            odd |= transpose(feature_map, place, step * cells, last, packed, cell * LANES, LANES)
    return odd != 0


@njit(**COMPILE)
def unpack(block: Any, bins: int, channels: int, out: Any, place: int) -> None:
    """Write a RoI's block (bins * 16,) as ``channels`` rows of ``bins`` at ``out[place:]``."""
    if bins < LANES or channels < LANES:
        for lane in range(channels):
            for number in range(bins):
                out[place + lane * bins + number] = block[number * LANES + lane]
        return
    for tile in range(0, bins, LANES):
        first = min(tile, bins - LANES)
        transpose(block, first * LANES, LANES, LANES - 1, out, place + first, bins)
