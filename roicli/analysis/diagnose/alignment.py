"""A stored result brought to its RoIs: its axes in order, and row by row the RoI that it is of.

What a row should be like is what plain RoI Align, RoI Pool or crop_and_resize gives for the RoI, or
rotated RoI Align for a turned one: every convention is nearer to one of them than to what other
RoIs have. Rows that are like no RoI then may be so under the convention that the others have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, get_args

import numpy as np

from roicli.analysis.result.axes import (
    Axes,
    RowsArray,
    TakenRows,
    distances,
    possible_axes,
    unit_rows,
)
from roicli.analysis.result.rows import RowMatch
from roicli.analysis.roi_sample import spread
from roicli.core.record import frozen
from roicli.core.system import usable_cores
from roicli.core.types import Array, FloatArray, IntArray, Size
from roicli.core.vocabulary import AngleDirection
from roicli.operators.convention import Convention
from roicli.operators.crop_and_resize import CropAndResizeSpec
from roicli.operators.interface import OperatorSpec
from roicli.operators.phrases import as_options
from roicli.operators.preset_rule import build_preset_spec, has_graph
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.operators.rotated_align import RotatedAlignSpec
from roicli.operators.table import operator_type
from roicli.pipeline.features import MapBuffer
from roicli.pipeline.inputs import Inputs
from roicli.pipeline.order import plan_visits
from roicli.pipeline.stream import Engine
from roicli.storage.array import StoredArray

CHANNELS, BINS = 16, 4
# RoIs that say in which order axes are, and so many more than that are no order to be found.
SAMPLE_ROIS, MOST_ROIS = 16, 20_000
BLOCK_ROWS = 1024
# A row is the RoI's that it is most like, if it is as like it as this, and that RoI to no other.
LEAST_ALIKE = 0.3
# Axes are another's that bring rows this much nearer.
CLEARLY_NEARER = 0.9
# Rows that are so much alike in the mean need no other rule to be told by.
SURELY = 0.9
# So many rows must be somebody's; against their mean two rows are alike but for the sign.
SHARE_FOUND, FEWEST_FOUND = 0.5, 3


@frozen
class Alignment:
    """How a result was read: ``axes`` in words where not as (K, C, P_h, P_w), and ``rows``, its
    rows and the RoIs that they are of, None where each is its own number's.
    """

    axes: str | None = None
    rows: RowMatch | None = None

    def describe(self) -> Iterator[str]:
        """In words, a line each."""
        if self.axes is not None:
            yield f"the result's axes are read as {self.axes}"
        if self.rows is not None:
            yield self.rows.describe("the result", "the RoIs")


def read_axes(inputs: Inputs, result: StoredArray) -> tuple[StoredArray, str | None]:
    """The result as rows (C, P_h, P_w), and its axes in words where they are another's.

    It is handed back as it is where it has such rows, or none can be made of it.
    """
    assert inputs.pyramid is not None
    count, channels, shape = len(inputs.rois), inputs.pyramid.channels, result.shape
    if (len(shape) == 4 and shape[1] == channels) or 0 in (count, *shape):
        return result, None
    grouped = len(shape) == 4 and shape[0] == count and channels not in shape
    if grouped and find_group_size(shape, channels) is not None:
        return result, None
    ways = list(_possible(shape, channels, count))
    if not ways:
        return result, None
    chosen = ways[0]
    if len(ways) > 1:
        chosen = ways[int(np.argmin(_measure(inputs, result, ways)))]
    return RowsArray(result, chosen), str(chosen)


def find_group_size(shape: Sequence[int], channels: int) -> int | None:
    """Groups of bins on an axis of a position-sensitive result (K, C', P_h, P_w): 0 where each bin
    is one, None where its channels are no such share of the map's.
    """
    groups, rest = divmod(channels, shape[1])
    if rest or groups < 2:
        return None
    if groups == shape[2] * shape[3]:
        return 0
    side = math.isqrt(groups)
    return side if side * side == groups else None


class TurnedAxes(NamedTuple):
    """A result with its axes exchanged, these axes in words, and whether rows are clearly more like
    their RoIs so; where rows are in another order too they are not.
    """

    result: StoredArray
    axes: str
    is_clear: bool


def find_turned_axes(inputs: Inputs, result: StoredArray) -> TurnedAxes | None:
    """The result (K, C, P_h, P_w) with its axes exchanged, where rows are more like their RoIs so:
    those of its bins, or any that have as many channels.
    """
    channels, height, width = result.shape[1:]
    sizes = dict.fromkeys([(height, width), (width, height)])
    ways = [
        way
        for size in sizes
        for way in possible_axes(result.shape, (channels, *size), len(inputs.rois))
    ]
    if result.shape[0] != len(inputs.rois) or height == width == 1:
        return None
    measured = _measure(inputs, result, ways)
    nearest = ways[int(np.argmin(measured))]
    plain = min(far for way, far in zip(ways, measured, strict=True) if way.is_plain)
    if nearest.is_plain:
        return None
    return TurnedAxes(
        RowsArray(result, nearest), str(nearest), min(measured) < CLEARLY_NEARER * plain
    )


def _possible(shape: tuple[int, ...], channels: int, count: int) -> Iterator[Axes]:
    """Every way to read a shape as ``count`` rows of so many channels, or as fewer rows."""
    leadings = range(1, len(shape))
    whole = [leading for leading in leadings if math.prod(shape[:leading]) == count]
    for leading in whole[:1] or [1]:
        rows, tail = math.prod(shape[:leading]), shape[leading:]
        bins, rest = divmod(math.prod(tail), channels)
        if rest or rows > count:
            continue
        for size in _bin_sizes(tail, channels, bins):
            yield from possible_axes(shape, (channels, *size), rows)


def _bin_sizes(tail: tuple[int, ...], channels: int, bins: int) -> list[Size]:
    """(P_h, P_w) that a row's axes may have: as they stand, else a square, else any."""
    sides = [side for side in tail if side != 1]
    if len(sides) == 3 and channels in sides:
        sides.remove(channels)
        return [(sides[0], sides[1])]
    side = math.isqrt(bins)
    if side * side == bins:
        return [(side, side)]
    return [(n, bins // n) for n in range(1, bins + 1) if bins % n == 0]


def _measure(inputs: Inputs, result: StoredArray, ways: list[Axes]) -> list[float]:
    """How far rows are from their RoIs in each order of axes, against how rows vary."""
    rows = spread(np.arange(min(len(inputs.rois), math.prod(result.shape[: ways[0].leading]))),
                  SAMPLE_ROIS)  # fmt: skip
    measured = []
    expected: dict[Size, list[FloatArray]] = {}
    for axes in ways:
        read = RowsArray(result, axes)
        channels = _some(read.shape[1], CHANNELS)
        size = (read.shape[2], read.shape[3])
        found = _flat(read_parts(read, rows, channels))
        if size not in expected:
            expected[size] = [
                _flat(expect(inputs, rows, channels, spec))
                for spec in _plain_operators(inputs, size)
            ]
        measured.append(min(float(np.median(distances(found, one))) for one in expected[size]))
    return measured


def _plain_operators(inputs: Inputs, size: Size) -> list[OperatorSpec]:
    """What a row may be like, the most usual first."""
    if inputs.rois.turned is None:
        aligns = AlignSpec(size), AlignSpec(size, aligned=False)
        return [*aligns, PoolSpec(size), CropAndResizeSpec(size)]
    return [
        RotatedAlignSpec(size, aligned=aligned, angle_direction=direction)
        for aligned in (True, False)
        for direction in get_args(AngleDirection)
    ]


def spec_of(convention: Convention, size: Size) -> OperatorSpec | None:
    """What runs a convention for upright or for turned RoIs, where something does."""
    found = as_options(convention)
    if found is None:
        return build_preset_spec("", convention, size) if has_graph(convention) else None
    operator, options = found
    return operator_type(operator)(size, **options)


def match_to_rois(
    inputs: Inputs, result: StoredArray, convention: Convention | None = None
) -> RowMatch | None:
    """Which RoI each row of a result (M, C, P_h, P_w) is of, where it follows a ``convention`` or
    any; None where each is its own number's, or where that cannot be told.
    """
    count, rois = result.shape[0], len(inputs.rois)
    if not 2 <= max(count, rois) <= MOST_ROIS or 0 in (*result.shape, rois):
        return None
    if inputs.pyramid is None or inputs.pyramid.channels % result.shape[1]:
        return None
    channels, size = _some(result.shape[1], CHANNELS), (result.shape[2], result.shape[3])
    height, width = (_some(side, BINS) for side in size)
    stored = read_parts(result, np.arange(count), channels)
    found = unit_rows(stored[:, :, height][:, :, :, width]).astype(np.float32)
    likeness = []
    specs: list[OperatorSpec] = _plain_operators(inputs, size)
    if convention is not None:
        known = spec_of(convention, size)
        if known is None:
            return None
        specs = [known]
    for spec in specs:
        expected = expect(inputs, np.arange(rois), channels, spec)
        other = unit_rows(expected[:, :, height][:, :, :, width]).astype(np.float32)
        pairs = _pair(found, other, LEAST_ALIKE)
        likeness.append((pairs, other))
        if pairs[2].sum() > SURELY * min(count, rois):
            break
    (rows, of_rois, _), other = max(likeness, key=lambda pairs: float(pairs[0][2].sum()))
    if len(rows) < max(SHARE_FOUND * min(count, rois), FEWEST_FOUND):
        return None
    # What is left is among what is left, if there is a row for every RoI.
    while count == rois and len(rows) < count:
        left = np.setdiff1d(np.arange(count), rows)
        left_rois = np.setdiff1d(np.arange(rois), of_rois)
        more, their, _ = _pair(found[left], other[left_rois], -1.0)
        rows = np.concatenate([rows, left[more]])
        of_rois = np.concatenate([of_rois, left_rois[their]])
    order = np.argsort(of_rois, kind="stable")
    rows, of_rois = rows[order], of_rois[order]
    match = RowMatch(
        rows, of_rois, np.setdiff1d(np.arange(count), rows), np.setdiff1d(np.arange(rois), of_rois)
    )
    # Rows in order that are like no RoI are a matter of conventions.
    return None if count == rois and not match.moved else match


def _pair(
    one: FloatArray, other: FloatArray, least: float
) -> tuple[IntArray, IntArray, FloatArray]:
    """Rows of (k, D) and of (l, D), unit vectors, that are each other's most alike, and how alike:
    from ``least`` on, at least one pair where that is -1.
    """
    best, alike = np.zeros(len(one), np.int64), np.full(len(one), -1.0)
    taken_by, most = np.full(len(other), -1, np.int64), np.full(len(other), -2.0)
    for start in range(0, len(one), BLOCK_ROWS):
        part = one[start : start + BLOCK_ROWS] @ other.T
        # Of RoIs that are alike, a row's own comes first.
        here = np.arange(start, min(start + BLOCK_ROWS, len(one)))
        own = here[here < len(other)]
        part[own - start, own] += 1e-6
        best[here], alike[here] = part.argmax(axis=1), part.max(axis=1)
        column = part.argmax(axis=0)
        better = part[column, np.arange(len(other))] > most
        most[better] = part[column, np.arange(len(other))][better]
        taken_by[better] = column[better] + start
    rows = np.flatnonzero((alike >= least) & (taken_by[best] == np.arange(len(one))))
    return rows, best[rows], alike[rows]


def expect(inputs: Inputs, rows: IntArray, channels: IntArray, spec: OperatorSpec) -> FloatArray:
    """(n, c, P_h, P_w) that an operator gives for the RoIs ``rows``."""
    pyramid = inputs.pyramid
    assert pyramid is not None
    dtype = pyramid.compute_dtype
    out = np.empty((len(rows), len(channels), *spec.output_size), dtype)
    place = np.full(len(inputs.rois), -1, np.int64)
    place[rows] = np.arange(len(rows))
    engine, buffer = Engine("cpu", usable_cores()), MapBuffer(dtype)
    for visit in plan_visits(inputs.rois, inputs.map_of_roi):
        here = visit.rows[place[visit.rows] >= 0]
        if not len(here):
            continue
        level = pyramid.levels[visit.level]
        feature_map = np.ascontiguousarray(level.read_image(visit.image, buffer)[channels])
        runner = engine.build_runner(spec.at_scale(level.spatial_scale), dtype)
        runner.load(np.where(np.isfinite(feature_map), feature_map, dtype.type(0)))
        values = np.empty((len(here), *out.shape[1:]), dtype)
        runner.run(inputs.rois.numbers(spec.roi_columns)[here].astype(dtype), values)
        out[place[here]] = values
    return out


def read_parts(result: StoredArray, rows: IntArray, channels: IntArray) -> FloatArray:
    """(n, c, P_h, P_w) some channels of some rows."""
    item = np.empty(result.shape[1:], result.dtype)
    out = np.empty((len(rows), len(channels), *result.shape[2:]), np.float64)
    for place, row in enumerate(rows):
        result.read_item_into(int(row), item)
        out[place] = item[channels]
    return out


def take_rows(inputs: Inputs, result: StoredArray, rows: RowMatch) -> tuple[Inputs, StoredArray]:
    """The RoIs that the result has rows of, and these rows, side by side."""
    taken = inputs if not len(rows.only_b) else inputs.take(rows.b)
    return taken, TakenRows(result, rows.a)


def _some(count: int, most: int) -> IntArray:
    return spread(np.arange(count), most)


def _flat(values: Array) -> FloatArray:
    return np.asarray(values.reshape(len(values), -1), np.float64)
