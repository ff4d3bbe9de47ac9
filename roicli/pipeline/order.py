"""The order in which a run comes to its RoIs: map by map, so that every map is read once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from roicli.core.types import IntArray, RoIs


class MapVisit(NamedTuple):
    """One map to read, and the rows of the RoIs on it, in the RoIs' order."""

    level: int
    image: int
    rows: IntArray


def plan_visits(rois: RoIs, map_of_roi: IntArray) -> list[MapVisit]:
    """Every map that has RoIs, image by image and level by level."""
    order = np.lexsort((np.arange(len(rois)), map_of_roi, rois.batch_index))
    keys = np.stack([rois.batch_index[order], map_of_roi[order]], axis=1)
    cuts = np.flatnonzero(np.any(np.diff(keys, axis=0), axis=1)) + 1
    groups = np.split(order, cuts) if len(order) else []
    return [MapVisit(int(map_of_roi[g[0]]), int(rois.batch_index[g[0]]), g) for g in groups]


def visiting_order(rois: RoIs, map_of_roi: IntArray) -> IntArray:
    """(K,) the rows in the order in which a run comes to them, whatever its blocks are."""
    visits = plan_visits(rois, map_of_roi)
    return np.concatenate([visit.rows for visit in visits] or [np.empty(0, np.int64)])


def skip_finished(visits: Sequence[MapVisit], finished: int) -> list[MapVisit]:
    """What is left of the visits behind the first ``finished`` RoIs."""
    left = []
    for visit in visits:
        rows = visit.rows[finished:]
        finished = max(finished - len(visit.rows), 0)
        if len(rows):
            left.append(visit._replace(rows=rows))
    return left
