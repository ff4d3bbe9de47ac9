"""Boxes on the map, and their bins, in ``array_math``: a convention's placement and cut in a graph.

``rounding`` and ``geometry`` say the same in NumPy; tests hold the two against each other. Values
go along the five axes of ``taps.Taps``.
"""

from __future__ import annotations

from typing import NamedTuple, assert_never

import numpy as np

from roicli.core.types import FloatArray
from roicli.operators.array_math import ArrayMath, Value
from roicli.operators.convention import Cut, Grid, Placement


class Span(NamedTuple):
    """One axis of boxes, in cells: whole where the placement rounds, else real."""

    start: Value
    extent: Value


def place_span(
    math: ArrayMath, low: Value, high: Value, spatial_scale: float, box: Placement
) -> Span:
    """``rounding.place_axis`` for placements by the scale."""
    assert box.normalization == "scale"
    scale = math.number(float(np.float32(spatial_scale)))

    def scaled(edge: Value, offset: float) -> Value:
        moved = math.round_half_away(edge) if box.pixel_rounding else edge
        moved = moved + offset if offset else moved
        cells = moved * scale
        return cells + box.shift_cells if box.shift_cells else cells

    start, end = scaled(low, box.start_px), scaled(high, box.end_px)
    match box.rounding:
        case "none":
            pass
        case "half-away":
            start, end = (math.whole(math.round_half_away(edge)) for edge in (start, end))
        case "half-even":
            start, end = (math.whole(math.round_half_even(edge)) for edge in (start, end))
        case "floor":
            start, end = (math.whole(math.floor(edge)) for edge in (start, end))
        case "hull":
            start, end = math.whole(math.floor(start)), math.whole(math.ceil(end))
        case "floor-size" | "round-size":
            to_size = math.floor if box.rounding == "floor-size" else math.round_half_away
            start = math.whole(to_size(start))
            end = start + math.whole(to_size(scaled(high - low, box.end_px)))
        case _:
            assert_never(box.rounding)
    extent = end - start + (1 if box.inclusive else 0)
    return keep_least(math, Span(start, extent), box)


def keep_least(math: ArrayMath, span: Span, box: Placement) -> Span:
    """``rounding.keep_minimum``."""
    if box.minimum is None:
        return span
    least = math.maximum(span.extent, box.minimum if box.rounding == "none" else int(box.minimum))
    match box.about:
        case "corner":
            return Span(span.start, least)
        case "centre":
            return Span(span.start + (span.extent - least) / 2, least)
        case _:
            assert_never(box.about)


def cut_cells(
    math: ArrayMath, span: Span, bins: int, axis: int, box: Placement, cut: Cut
) -> tuple[Value, Value]:
    """``geometry.bin_windows``: (first, last) of the bins' cells along ``axis``, half-open."""
    number = math.counting(bins, axis)
    match cut:
        case "disjoint":
            edges = (number * span.extent // bins, (number + 1) * span.extent // bins)
        case "floor-size":
            size = span.extent // bins
            edges = (number * size, (number + 1) * size)
        case "overlap":
            step = math.real(span.extent) / bins
            first, last = math.real(number) * step, math.real(number + 1) * step
            edges = (math.whole(math.floor(first)), math.whole(math.ceil(last)))
        case "hull":
            start, extent = (part if box.rounding == "none" else math.real(part) for part in span)
            step = extent / bins
            first, last = math.real(number) * step + start, math.real(number + 1) * step + start
            return math.whole(math.floor(first)), math.whole(math.ceil(last))
        case "accumulated":
            step = math.real(span.extent) / bins
            first = last = step * math.real(number * 0)
            for before in range(bins):
                first = math.where(number > before, first + step, first)
                last = math.where(number >= before, last + step, last)
            edges = (math.whole(math.floor(first)), math.whole(math.ceil(last)))
        case "equal" | "clipped":
            raise ValueError(f"cut {cut} has no whole cells")
        case _:
            assert_never(cut)
    return span.start + edges[0], span.start + edges[1]


def cut_evenly(span: Span, bins: int) -> FloatArray:
    """(bins + 1,) the edges of bins of one size, of one box."""
    return np.asarray(span.start + span.extent * (np.arange(bins + 1) / bins), np.float64)


def count_points(
    math: ArrayMath, span: Span, bins: int, sampling_ratio: int, least: int = 0
) -> Value:
    """Points a bin, whole: ``sampling_ratio``, or where that is 0 ceil(extent / bins), which may be
    0 or is at ``least`` so many.
    """
    needed = math.whole(math.maximum(math.ceil(span.extent / bins), least))
    return needed if sampling_ratio == 0 else needed * 0 + sampling_ratio


def place_points(
    math: ArrayMath, span: Span, bins: int, count: Value, axis: int, grid: Grid = "quarters"
) -> Value:
    """``geometry.bin_points``: ``count`` points of every bin of the axis 1 or 2, along 3 or 4."""
    size = span.extent / bins
    parts = math.real(math.maximum(count, 1))
    index = math.real(math.counting(math.largest(count), axis + 2))
    number = math.real(math.counting(bins, axis))
    low, reach = span
    edge, in_box, total = low + number * size, number * parts + index, parts * bins
    match grid:
        case "quarters":
            place = edge + (index + 0.5) * size / parts
        case "thirds":
            place = edge + (index + 1) * size / (parts + 1)
        case "corners":
            place = edge + index * size / parts
        case "edges":
            place = edge + index * size / math.maximum(parts - 1, 1)
        case "even":
            place = low + (in_box + 0.5) * (reach / total)
        case "upsample":
            place = low + math.minimum(in_box * ((reach + 1) / total), reach)
        case "unalign-corners":
            step = (reach + 1) / total
            inside = math.maximum(in_box * step + step * 0.5 - 0.5, 0)
            place = low + math.minimum(inside, reach)
        case "offset-corners":
            step = math.maximum(reach, 1) / total
            place = low + math.minimum(step * 0.5 + in_box * step, reach)
        case "ends":
            raise ValueError("points from end to end are crop_and_resize's own")
        case _:
            assert_never(grid)
    return place


def clip_points(
    math: ArrayMath, span: Span, bins: int, sampling_ratio: int, axis: int, cells: Value
) -> tuple[Value, Value]:
    """``geometry.clipped_points``: points of bins that are clipped to the map first, and how many
    each bin has.
    """
    size, end = span.extent / bins, math.real(cells)
    number = math.real(math.counting(bins, axis))
    low, high = (
        math.minimum(math.maximum(span.start + step * size, 0), end)
        for step in (number, number + 1)
    )
    count = math.whole(math.ceil(high - low))
    if sampling_ratio:
        count = math.where(high > low, count * 0 + sampling_ratio, 0)
    index = math.real(math.counting(math.largest(count), axis + 2))
    points = low + (index + 0.5) * (size / math.real(math.maximum(count, 1)))
    return math.minimum(math.maximum(points, 0), math.real(cells - 1)), count
