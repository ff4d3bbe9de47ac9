"""What conventions give, in NumPy: places in the operators' own type, values in float64.

The one evaluator of the whole space (``convention``); ``geometry`` says where the bins lie. The
operators' own graphs and kernels are not used: they compute some regions of the space only.
Conventions that read their bins alike are computed together, wherever they place their boxes.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import assert_never

import numpy as np

from roicli.core.types import Array, FloatArray
from roicli.core.vocabulary import Border
from roicli.operators.cell_bins import read_cells
from roicli.operators.convention import EMPTY_VALUES, Convention, Placement, Reduction
from roicli.operators.point_bins import read_points
from roicli.operators.precise_roi_pool import weigh_box
from roicli.operators.sampled_map import Bins, BoxValues, Placed, SampledMap, place_boxes

# The reductions of each placement of RoIs, and by which number each convention was asked for.
Wanted = dict[tuple[SampledMap, Placement], dict[Reduction, list[int]]]


def evaluate(convention: Convention, one: SampledMap, bins: Bins) -> FloatArray:
    """(k, C', r, c) float64 of RoIs on one map; C' is C, or C over the bins' groups."""
    return np.asarray(evaluate_all([(convention, one)], bins)[0])


@np.errstate(over="ignore", invalid="ignore")
def evaluate_all(asked: Sequence[tuple[Convention, SampledMap]], bins: Bins) -> FloatArray:
    """(n, k, C', r, c): ``evaluate`` of n conventions with k RoIs each, all of them on one map and
    with as many groups of channels. RoIs that are not finite are NaN.
    """
    alike: dict[Hashable, Wanted] = {}
    for number, (convention, one) in enumerate(asked):
        wanted = alike.setdefault(_way_of_reading(convention, one), {})
        numbers = wanted.setdefault((one, convention.box), {})
        numbers.setdefault(convention.reduction, []).append(number)
    first, one = asked[0]
    groups = 1 if first.channels == "all" else math.prod(_groups(first, bins))
    channels, boxes = len(one.feature_map) // groups, len(one.corners)
    out = np.empty((len(asked), boxes, channels, len(bins.rows), len(bins.columns)))
    for wanted in alike.values():
        for reductions, placed in _by_reductions(wanted).items():
            convention = asked[wanted[placed[0]][reductions[0]][0]][0]
            found = _read(placed, convention, reductions, bins)
            for start, place in zip(count(0, boxes), placed):
                rows = slice(start, start + boxes)
                empty = found.empty[rows, None] if found.empty[rows].any() else None
                for values, same in zip(found.values, wanted[place].values(), strict=True):
                    for number in same:
                        out[number] = _finish(
                            values[:, rows].swapaxes(0, 1), empty, asked[number][0], bins
                        )
    for number, (_, one) in enumerate(asked):
        if not one.fine.all():
            out[number, ~one.fine] = np.nan
    return out


def _way_of_reading(convention: Convention, one: SampledMap) -> Hashable:
    """The same for conventions whose boxes are read alike once they are placed."""
    if convention.reads_cells:
        return "cells", convention.cut, convention.last_cell, convention.box.rounding == "none"
    if convention.reduction == "integral":
        return "integral", convention.border
    splits = convention.reduction == "max-split-corners"
    turned = None if convention.box.turn == "none" else (convention.box, one)
    return (
        convention.cut, convention.grid, convention.sampling_ratio, convention.border,
        convention.reach, convention.border_value, convention.interpolation, splits, turned,
        convention.empty == "point",
    )  # fmt: skip


def _by_reductions(wanted: Wanted) -> Mapping[tuple[Reduction, ...], Placed]:
    """The placements that are reduced in the same ways."""
    placed: dict[tuple[Reduction, ...], list[tuple[SampledMap, Placement]]] = {}
    for place, reductions in wanted.items():
        placed.setdefault(tuple(reductions), []).append(place)
    return placed


def _read(
    placed: Placed, convention: Convention, wanted: Sequence[Reduction], bins: Bins
) -> BoxValues:
    if convention.reads_cells:
        return read_cells(placed, convention, wanted, bins)
    if convention.reduction == "integral":
        return _integrate(placed, convention, bins)
    return read_points(placed, convention, wanted, bins)


def _integrate(placed: Placed, convention: Convention, bins: Bins) -> BoxValues:
    """The exact mean of the surface over each bin (``precise_roi_pool``)."""
    feature_map = placed[0][0].feature_map
    height, width = feature_map.shape[1:]
    border: Border = "zero" if convention.border == "zero" else "clamp"
    found = BoxValues.without_bins(1, placed, bins)
    axes = place_boxes(placed, bins)
    starts, extents = (np.stack(part, axis=1).astype(np.float64) for part in
                       zip(*((axis.start, axis.extent) for axis in axes), strict=True))  # fmt: skip
    for k in np.flatnonzero((extents > 0).all(axis=1)):
        found.empty[k] = False
        box = weigh_box(starts[k], extents[k], bins.output_size, (height, width), border)
        if box.y.size and box.x.size:
            box = replace(box, y=box.y[bins.rows], x=box.x[bins.columns])
            found.values[0][:, k] = box.mean(feature_map)
    return found


def _finish(
    values: FloatArray, empty: Array | None, convention: Convention, bins: Bins
) -> FloatArray:
    """Values (k, C, r, c) with the convention's own of empty bins, and its channels of each bin."""
    if empty is not None:
        values = np.where(empty, EMPTY_VALUES[convention.empty], values)
    return _select_channels(values, convention, bins)


def _groups(convention: Convention, bins: Bins) -> tuple[int, int]:
    """Groups of bins that read channels of their own, down and across."""
    height, width = (convention.group_size or n for n in bins.output_size)
    return height, width


def _select_channels(values: FloatArray, convention: Convention, bins: Bins) -> FloatArray:
    """Of (k, C, r, c) what each bin reads: its group's channels."""
    if convention.channels == "all":
        return values
    height, width = bins.output_size
    down, across = _groups(convention, bins)
    count = values.shape[1] // (across * down)
    group = (bins.rows * down // height)[:, None] * across + bins.columns * across // width
    number = np.arange(count)[:, None, None]
    match convention.channels:
        case "class-major":
            channel = number * (across * down) + group
        case "position-major":
            channel = group * count + number
        case _:
            assert_never(convention.channels)
    rows, columns = np.arange(len(bins.rows))[:, None], np.arange(len(bins.columns))
    return values[:, channel, rows, columns]
