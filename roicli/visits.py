"""The order in which a run comes to its RoIs: map by map, so that every map is read once.

RoIs that are shuffled over images would write every row at another place of the result. Where maps
are small beside it, a run goes through the result in windows instead, and map by map in each: rows
that are neighbours are then computed before they must reach the disk, and get there together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from roicli.datatypes import IntArray, RoIs
from roicli.features import FeaturePyramid
from roicli.storage.row_file import rows_a_window

# A row that is written by itself costs clearly more than so many bytes of maps that are read again,
# and every visit of a map costs about what so many bytes do.
BYTES_A_SCATTERED_ROW = 32 << 10
BYTES_A_VISIT = 512 << 10


@dataclass(frozen=True)
class MapVisit:
    """One map to read, and the rows of the RoIs on it, in the RoIs' order."""

    level: int
    image: int
    rows: IntArray


def plan_visits(rois: RoIs, map_of_roi: IntArray, window_rows: int | None = None) -> list[MapVisit]:
    """Every map that has RoIs, image by image and level by level.

    With ``window_rows`` the first so many rows come first, then as many again, and so on.
    """
    rows = np.arange(len(rois))
    window = rows // (window_rows or max(len(rois), 1))
    order = np.lexsort((rows, map_of_roi, rois.batch_index, window))
    keys = np.stack([window[order], rois.batch_index[order], map_of_roi[order]], axis=1)
    cuts = np.flatnonzero(np.any(np.diff(keys, axis=0), axis=1)) + 1
    groups = np.split(order, cuts) if len(order) else []
    return [MapVisit(int(map_of_roi[g[0]]), int(rois.batch_index[g[0]]), g) for g in groups]


def visiting_order(rois: RoIs, map_of_roi: IntArray) -> IntArray:
    """(K,) the rows in the order in which a run comes to them, whatever its blocks are."""
    return _rows_of(plan_visits(rois, map_of_roi))


def _rows_of(visits: Sequence[MapVisit]) -> IntArray:
    return np.concatenate([visit.rows for visit in visits] or [np.empty(0, np.int64)])


def choose_window(
    pyramid: FeaturePyramid, rois: RoIs, map_of_roi: IntArray, row_bytes: int
) -> int | None:
    """The ``window_rows`` of a result in a file with rows of ``row_bytes``.

    None where every map is better read once.
    """
    window_rows = rows_a_window(row_bytes)
    if len(rois) <= window_rows or not all(level.is_plain for level in pyramid.levels):
        return None
    once = plan_visits(rois, map_of_roi)
    windows = _rows_of(once) // window_rows
    scattered = np.count_nonzero(windows != np.arange(len(rois)) // window_rows)
    again = _cost(pyramid, plan_visits(rois, map_of_roi, window_rows)) - _cost(pyramid, once)
    return window_rows if again < int(scattered) * BYTES_A_SCATTERED_ROW else None


def _cost(pyramid: FeaturePyramid, visits: Sequence[MapVisit]) -> int:
    """What the visits cost, in bytes read."""
    return sum(pyramid.levels[visit.level].buffer_bytes + BYTES_A_VISIT for visit in visits)


def skip_finished(visits: Sequence[MapVisit], finished: int) -> list[MapVisit]:
    """What is left of the visits behind the first ``finished`` RoIs."""
    left = []
    for visit in visits:
        rows = visit.rows[finished:]
        finished = max(finished - len(visit.rows), 0)
        if len(rows):
            left.append(replace(visit, rows=rows))
    return left
