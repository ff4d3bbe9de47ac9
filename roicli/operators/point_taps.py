"""Bins that are read at interpolated points, as any convention says: RoI Align and its kin.

The convention says where a box lies, how many points a bin has and where, what the border does and
what becomes of the points; so an operator of this kind is its options and its ``convention``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, assert_never

import numpy as np

from roicli.core.record import frozen
from roicli.core.types import FloatArray, IntArray, Size
from roicli.operators.array_math import ArrayMath, NumpyMath, Value
from roicli.operators.convention import BorderRule, Convention
from roicli.operators.placed_bins import (
    Span,
    clip_points,
    count_points,
    cut_evenly,
    place_points,
    place_span,
)
from roicli.operators.taps import Tap, Taps, TapSpec, lattice, mask_below


class AxisNeighbours(NamedTuple):
    """The two cells around points of one axis: ``cells`` with their ``weights``, each read where
    ``is_cell``; and which points are ``on_map``.
    """

    cells: tuple[Value, Value]
    weights: tuple[Value, Value]
    is_cell: tuple[Value, Value]
    on_map: Value


def find_cells(
    math: ArrayMath,
    points: Value,
    cells: Value,
    border: BorderRule = "clamp",
    reach: float = 1.0,
    splits_past_end: bool = False,
) -> AxisNeighbours:
    """``geometry.find_neighbours``, along one axis of ``cells``.

    ``splits_past_end``: past the last cell, which is both neighbours, the fraction goes on.
    """
    size, last = math.real(cells), cells - 1
    match border:
        case "clamp" | "skip" | "value":
            end = size if reach == 1 else math.real(last) + reach
            on_map = (points >= -reach) & (points <= end)
            # What is not finite would be no cell; off the map any cell does.
            inside = math.where(on_map, math.minimum(math.maximum(points, 0), size), 0)
            low = math.minimum(math.whole(inside), last)
            share = inside - math.real(low)
            if not splits_past_end:
                share = math.where(low < last, share, 0)
        case "zero":
            on_map = (points > -1) & (points < size)
            inside = math.where(on_map, points, 0)
            below = math.floor(inside)
            low, share = math.whole(below), inside - below
        case "extrapolate":
            on_map = points >= -np.inf  # any but NaN
            below = math.minimum(math.maximum(math.floor(points), 0), math.real(last))
            low = math.whole(math.where(on_map, below, 0))
            share = points - math.real(low)
        case _:
            assert_never(border)
    share = math.exact(share)
    high = low + 1 if border == "zero" else math.minimum(low + 1, last)
    both = (low >= 0, high <= last) if border == "zero" else (on_map, on_map)
    return AxisNeighbours((low, high), (1 - share, share), both, on_map)


def bilinear_taps(
    math: ArrayMath,
    points: tuple[Value, Value],
    map_size: tuple[Value, Value],
    convention: Convention,
) -> tuple[tuple[Tap, ...], Value]:
    """The four cells around ``points`` (y, x), and which points are on the map."""
    splits = convention.reduction == "max-split-corners"
    y, x = (
        find_cells(math, axis, cells, convention.border, convention.reach, splits)
        for axis, cells in zip(points, map_size, strict=True)
    )
    taps = tuple(
        Tap(y.cells[i], x.cells[j], y.weights[i] * x.weights[j], y.is_cell[i] & x.is_cell[j])
        for i in (0, 1)
        for j in (0, 1)
    )
    return taps, y.on_map & x.on_map


def weigh_points(
    math: ArrayMath,
    points: tuple[Value, Value],
    counts: tuple[Value, Value],
    map_size: tuple[Value, Value],
    convention: Convention,
) -> Taps:
    """What bins read that have ``counts`` (rows, columns) of samples, at ``points`` (y, x)."""
    taps, on_map = bilinear_taps(math, points, map_size, convention)
    is_used, count = mask_below(math, counts), counts[0] * counts[1]
    if convention.border == "skip":
        is_used = is_used & on_map
        count = math.how_many(is_used)
    share = math.exact(math.number(1))
    if convention.reduction == "mean":
        share = share / math.exact(math.real(math.maximum(count, 1)))
    return Taps(taps, share, is_used, on_map, points)


@frozen
class PointSpec(TapSpec):
    """An operator whose upright boxes are read at points, where ``convention`` says which."""

    @property
    def takes_maximum(self) -> bool:
        """Whether samples are compared, and not added."""
        return self.convention.reduction != "mean"

    @property
    def outside(self) -> float:
        """The value of a sample off the map."""
        return self.convention.border_value if self.convention.border == "value" else 0.0

    def _spans(self, math: ArrayMath, rois: Sequence[Value]) -> tuple[Span, Span]:
        """(y, x)."""
        box = self.convention.box
        y, x = (place_span(math, rois[i], rois[i + 2], self.spatial_scale, box) for i in (1, 0))
        return y, x

    def _points(
        self, math: ArrayMath, rois: Sequence[Value], map_size: tuple[Value, Value]
    ) -> tuple[tuple[Value, Value], tuple[Value, Value]]:
        """The points (y, x), and how many of them each bin has."""
        rule, points, counts = self.convention, [], []
        for number, span in enumerate(self._spans(math, rois)):
            bins, axis, cells = self.output_size[number], 1 + number, map_size[number]
            if rule.cut == "clipped":
                place, count = clip_points(math, span, bins, rule.sampling_ratio, axis, cells)
            else:
                least = int(rule.empty == "point")
                count = count_points(math, span, bins, rule.sampling_ratio, least)
                place = place_points(math, span, bins, count, axis, rule.grid)
            points.append(place)
            counts.append(count)
        return (points[0], points[1]), (counts[0], counts[1])

    def counts(self, corners: FloatArray, map_size: Size) -> IntArray:
        """(k, 2) points of the bin that has most."""
        columns = self.values_of(corners)
        with np.errstate(over="ignore", invalid="ignore"):
            _, (y, x) = self._points(NumpyMath(corners.dtype), columns, map_size)
        return np.stack([count.max(axis=(1, 2, 3, 4)) for count in (x, y)], axis=1)

    def bin_lines(self, corners: FloatArray, map_size: Size) -> FloatArray:
        """The edges of the bins."""
        spans = self._spans(NumpyMath(corners.dtype), list(corners))
        return lattice(*(cut_evenly(*pair) for pair in zip(spans, self.output_size, strict=True)))

    def taps(self, math: ArrayMath, rois: Sequence[Value], map_size: tuple[Value, Value]) -> Taps:
        """The cells around each point."""
        points, counts = self._points(math, rois, map_size)
        return weigh_points(math, points, counts, map_size, self.convention)
