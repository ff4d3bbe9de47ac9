"""A few RoIs that stand for all: of all sizes, on few maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from roicli.core.types import Array, FloatArray, IntArray, RoIs
from roicli.pipeline.order import MapVisit, plan_visits


def spread(values: Array, count: int | None) -> IntArray:
    """Places of ``count`` of the values, evenly through their order; all places where None."""
    if count is None or count >= len(values):
        return np.arange(len(values))
    order = np.argsort(values, kind="stable")
    return np.sort(order[np.arange(count) * len(values) // count])


def areas(corners: FloatArray) -> FloatArray:
    """(K,) areas of RoIs (K, 4), in square pixels, positive for crossed ones too."""
    return np.abs((corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1]))


def choose_visits(
    rois: RoIs, map_of_roi: IntArray, usable: Array, count: int | None, maps: int
) -> list[MapVisit]:
    """At most ``count`` of the usable RoIs (a mask (K,)), on at most ``maps`` maps."""
    visits = [_only(visit, usable[visit.rows]) for visit in plan_visits(rois, map_of_roi)]
    visits = [visit for visit in visits if len(visit.rows)]
    chosen = [visits[i] for i in spread(np.arange(len(visits)), maps)]
    if not chosen:
        return []
    rows = np.concatenate([visit.rows for visit in chosen])
    kept = np.zeros(len(rois), bool)
    kept[rows[spread(areas(rois.corners[rows]), count)]] = True
    return [v for v in (_only(visit, kept[visit.rows]) for visit in chosen) if len(v.rows)]


def _only(visit: MapVisit, mask: Array) -> MapVisit:
    return MapVisit(visit.level, visit.image, visit.rows[mask])


def rows_of(visits: Sequence[MapVisit]) -> IntArray:
    """The rows of all visits, one after another."""
    return np.concatenate([visit.rows for visit in visits])
