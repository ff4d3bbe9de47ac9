"""RoIs on one map, the bins of them that are looked at, and boxes in cells: what is evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from roicli.core.record import frozen
from roicli.core.types import Array, FloatArray, IntArray, Size
from roicli.operators.convention import Placement
from roicli.operators.rounding import MapAxis, place_axis


@frozen
class SampledMap:
    """RoIs on one map: ``feature_map`` (C, H, W) float64, ``corners`` (k, 4) in image pixels in
    the operators' float type, or (k, 5) turned boxes; ``spatial_scale`` in cells per pixel.

    ``image_size`` (height, width) in pixels; None: that of the map over its scale. ``angle`` in
    degrees is what a rule for turned boxes takes of upright ones.
    """

    feature_map: FloatArray
    corners: FloatArray
    spatial_scale: float
    image_size: tuple[float, float] | None = None
    angle: float = 0.0
    _placed: dict[Placement, list[tuple[Any, Any]]] = field(
        default_factory=dict, init=False, repr=False
    )

    # Arrays have no equality that says yes or no: a map is itself.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    @cached_property
    def axes(self) -> tuple[MapAxis, MapAxis]:
        """(x, y)."""
        height, width = self.feature_map.shape[1:]
        pixels = self.image_size or (height / self.spatial_scale, width / self.spatial_scale)
        return (
            MapAxis(self.spatial_scale, width, pixels[1]),
            MapAxis(self.spatial_scale, height, pixels[0]),
        )

    @cached_property
    def fine(self) -> Array:
        """(k,) RoIs that are finite."""
        return np.asarray(np.isfinite(self.corners).all(axis=1))

    @cached_property
    def usable_corners(self) -> FloatArray:
        """``corners``, 0 for RoIs that are not finite."""
        return np.where(self.fine[:, None], self.corners, self.corners.dtype.type(0))

    def place(self, box: Placement) -> list[tuple[Any, Any]]:
        """Start and extent (k,) of upright RoIs in cells, along x and y; computed once."""
        if box not in self._placed:
            corners = self.usable_corners
            self._placed[box] = [
                place_axis(corners[:, i], corners[:, i + 2], axis, box)
                for i, axis in enumerate(self.axes)
            ]
        return self._placed[box]


@frozen
class Bins:
    """Which ``rows`` (r,) and ``columns`` (c,) of the ``output_size`` bins are looked at."""

    output_size: Size
    rows: IntArray
    columns: IntArray


def all_bins(output_size: Size) -> Bins:
    """Every bin."""
    return Bins(output_size, np.arange(output_size[0]), np.arange(output_size[1]))


Placed = Sequence[tuple[SampledMap, Placement]]


@frozen
class BoxValues:
    """What n boxes give: ``values`` of each reduction (C, n, r, c), and ``empty`` (n, r, c), the
    bins that have nothing to reduce.
    """

    values: tuple[FloatArray, ...]
    empty: Array

    @staticmethod
    def without_bins(reductions: int, placed: Placed, bins: Bins) -> BoxValues:
        """All bins empty."""
        count = sum(len(one.corners) for one, _ in placed)
        channels, looked_at = len(placed[0][0].feature_map), (len(bins.rows), len(bins.columns))
        values = tuple(np.zeros((channels, count, *looked_at)) for _ in range(reductions))
        return BoxValues(values, np.ones((count, *looked_at), bool))

    def put(self, rows: IntArray, reduced: Sequence[FloatArray], empty: Array) -> None:
        """Values (C, k, r, c) of each reduction, and empty bins (k, r, c), of some of the boxes."""
        for out, values in zip(self.values, reduced, strict=True):
            out[:, rows] = values
        self.empty[rows] = empty


class BoxAxis(NamedTuple):
    """One axis of n boxes in cells: ``start`` and ``extent`` (n,), int64 where the placement rounds
    to whole cells; the map's ``cells``, the number of ``bins``, and the ``picked`` ones.
    """

    start: Any
    extent: Any
    cells: int
    bins: int
    picked: IntArray

    def take(self, rows: IntArray) -> BoxAxis:
        """Some of the boxes."""
        return self._replace(start=self.start[rows], extent=self.extent[rows])


def place_boxes(placed: Placed, bins: Bins) -> tuple[BoxAxis, BoxAxis]:
    """(x, y) of upright RoIs on one map, placed one way after another."""
    axes = []
    for i, picked in enumerate((bins.columns, bins.rows)):
        edges = zip(*(one.place(box)[i] for one, box in placed), strict=True)
        start, extent = (np.concatenate(part) for part in edges)
        cells = placed[0][0].axes[i].cells
        axes.append(BoxAxis(start, extent, cells, bins.output_size[1 - i], picked))
    return axes[0], axes[1]


def turn_corners(corners: FloatArray, angle: float) -> FloatArray:
    """Upright RoIs (K, 4) as (K, 5): cx, cy, w, h and ``angle`` in degrees, about their centres."""
    half = corners.dtype.type(2)
    centre, sides = (corners[:, :2] + corners[:, 2:]) / half, corners[:, 2:] - corners[:, :2]
    angles = np.full((len(corners), 1), angle, corners.dtype)
    return np.concatenate([centre, sides, angles], axis=1)
