"""When RoIs are visited stretch by stretch, so that their rows are written in order.

Visited map by map, RoIs in random order leave single rows all over the result, each of which costs
the disk a write of its own. Instead a stretch of neighbouring rows is gathered in memory and
written at once. Maps that more than one stretch needs stay in memory meanwhile, so that each is
still read once.
"""

from __future__ import annotations

import numpy as np

from roicli.core.types import IntArray, RoIs
from roicli.pipeline.features import FeaturePyramid
from roicli.storage.direct_write import WORTH_BYTES

# The shorter a stretch, the sooner the disk begins, and the more visits there are.
STRETCH_BYTES = tuple(size << 20 for size in (64, 128, 256))
# While one stretch is written the next is filled, so results of fewer gain nothing.
FEWEST_STRETCHES = 4


def choose_stretch(
    pyramid: FeaturePyramid, rois: RoIs, map_of_roi: IntArray, row_bytes: int, spare_bytes: int
) -> int | None:
    """How many rows make a stretch; None where writing map by map is as good.

    That is where neighbours are on one map anyhow, where the result is small, where the maps to be
    gone over have more bytes than the result, or where two stretches and their maps do not fit in
    ``spare_bytes``.
    """
    result_bytes = len(rois) * row_bytes
    changes = (np.diff(rois.batch_index) != 0) | (np.diff(map_of_roi) != 0)
    if result_bytes >= WORTH_BYTES * (np.count_nonzero(changes) + 1):
        return None
    sizes = np.array(pyramid.buffer_bytes)
    map_number = rois.batch_index * len(sizes) + map_of_roi
    for size in STRETCH_BYTES:
        if size < row_bytes or size * FEWEST_STRETCHES > result_bytes:
            continue
        visited, kept = _map_bytes(map_number, sizes, size // row_bytes)
        if visited <= result_bytes and kept + 2 * size <= spare_bytes:
            return size // row_bytes
    return None


def _map_bytes(map_number: IntArray, sizes: IntArray, stretch_rows: int) -> tuple[int, int]:
    """Bytes of the maps of all visits; and of those in memory at once, each from its first stretch
    to its last.

    ``map_number`` (K,); the map numbered n has the size ``sizes[n % len(sizes)]``.
    """
    stretch = np.arange(len(map_number)) // stretch_rows
    numbers = int(map_number.max()) + 1
    stretch, maps = np.divmod(np.unique(stretch * numbers + map_number), numbers)
    bytes_of_visit = sizes[maps % len(sizes)]
    # The visits are sorted by stretch, so a map's first is the first that is found.
    first = np.unique(maps, return_index=True)[1]
    last = len(maps) - 1 - np.unique(maps[::-1], return_index=True)[1]
    count = int(stretch[-1]) + 1
    begun = np.bincount(stretch[first], bytes_of_visit[first], count).cumsum()
    ended = np.bincount(stretch[last] + 1, bytes_of_visit[last], count + 1)[:count].cumsum()
    return int(bytes_of_visit.sum()), int((begun - ended).max())
