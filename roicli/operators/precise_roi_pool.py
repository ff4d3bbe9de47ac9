"""Precise RoI Pooling: the exact mean of the interpolated map over each bin.

Jiang et al. 2018 (IoU-Net), section 3.2: the integral of the bilinear surface over a bin, divided
by the bin's area. Cell i is centred at i; nothing is rounded and nothing sampled. A cell's weight
is a product of two functions, one an axis, each linear between whole coordinates; so the mean over
a bin is a matrix of mean weights on either side of the map, and the mean of a linear piece is its
value in the middle. No difference of large numbers is taken, so tiny bins lose nothing. Those of
the operator are in ``array_math``, cell by cell; ``bin_weights`` are the same as matrices, which
``evaluate`` and ``sweep`` take.

The surface ends in one of two ways (``border``): "clamp" continues it by the edge cells up to one
cell outside and makes it 0 beyond (-1 and H), as RoI Align's border does; "zero" has zeros around
the map, as mmcv's prroi_pool and the authors' own code do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, NamedTuple, assert_never

import numpy as np

from roicli.core.operator_table import Operator
from roicli.core.record import frozen
from roicli.core.types import FloatArray, IntArray, Size, check_word
from roicli.core.vocabulary import Border, PixelModel
from roicli.operators.array_math import ArrayMath, NumpyMath, Value
from roicli.operators.convention import PRECISE_POOL, Convention
from roicli.operators.geometry import find_neighbours
from roicli.operators.rounding import scale_to_cells
from roicli.operators.taps import Tap, Taps, TapSpec, lattice, mask_below


def bin_weights(
    start: float, extent: float, bins: int, cells: int, border: Border = "clamp"
) -> FloatArray:
    """(bins, cells) float64: the mean weight of each cell over each bin of one axis.

    ``start`` and ``extent`` in cells, cell i centred at i; a bin without extent is a point. Under
    "clamp" the weights of a bin sum to the share of it that lies from -1 to ``cells``.
    """
    edges = start + extent * (np.arange(bins + 1) / bins)
    low, high = np.minimum(edges[:-1], edges[1:]), np.maximum(edges[:-1], edges[1:])
    cell = np.arange(cells, dtype=np.float64)
    match border:
        case "clamp":
            # Below the first cell and above the last the weight is flat.
            first, last = cell == 0, cell == cells - 1
        case "zero":
            first = last = np.zeros(cells, bool)
        case _:
            assert_never(border)
    pieces = (
        (np.where(first, -1.0, cell - 1), cell, np.where(first, 0.0, 1.0)),
        (cell, np.where(last, float(cells), cell + 1), np.where(last, 0.0, 1.0)),
    )
    total = np.zeros((bins, cells))
    for begin, end, slope in pieces:
        left, right = np.maximum(low[:, None], begin), np.minimum(high[:, None], end)
        middle = np.abs((left + right) / 2 - cell)
        total += np.maximum(right - left, 0.0) * (1 - slope * middle)
    size = (high - low)[:, None]
    mean = np.divide(total, size, out=np.zeros_like(total), where=size > 0)
    return np.where(size > 0, mean, find_neighbours(low, cells).matrix(cells))


@frozen
class BoxWeights:
    """What the bins of one RoI read: the cells ``down`` x ``across``, with the mean weights ``y``
    (P_h, h) and ``x`` (P_w, w), float64 and not negative.
    """

    down: slice
    across: slice
    y: FloatArray
    x: FloatArray

    def mean(self, feature_map: FloatArray) -> FloatArray:
        """(C, P_h, P_w) float64 of a map (C, H, W); a cell without weight is not read."""
        cells = feature_map[:, self.down, self.across].astype(np.float64)
        if np.isfinite(cells).all():
            return np.asarray(self.y @ cells @ self.x.T)
        read_y, read_x = (np.where(axis > 0, 1.0, 0.0) for axis in (self.y, self.x))
        nan, above, below = (
            read_y @ mark.astype(np.float64) @ read_x.T > 0
            for mark in (np.isnan(cells), cells == np.inf, cells == -np.inf)
        )
        mean = self.y @ np.where(np.isfinite(cells), cells, 0.0) @ self.x.T
        mean = np.where(above, np.inf, np.where(below, -np.inf, mean))
        return np.where(nan | (above & below), np.nan, mean)


def weigh_box(
    start: FloatArray, extent: FloatArray, output_size: Size, map_size: Size, border: Border
) -> BoxWeights:
    """The weights of a box from ``start`` (2,) over ``extent`` (2,), as (x, y) in cells."""
    (height, width), (bins_y, bins_x) = map_size, output_size
    x = bin_weights(float(start[0]), float(extent[0]), bins_x, width, border)
    y = bin_weights(float(start[1]), float(extent[1]), bins_y, height, border)
    across, down = _used(x), _used(y)
    return BoxWeights(down, across, y[:, down], x[:, across])


def _used(weights: FloatArray) -> slice:
    """The cells that have a weight in some bin, as a run."""
    cells = np.flatnonzero(weights.any(axis=0))
    return slice(int(cells[0]), int(cells[-1]) + 1) if len(cells) else slice(0, 0)


class BinsOfAxis(NamedTuple):
    """The bins of one axis: where they begin and end, float64, and the cells that they read, from
    ``first`` on, ``count`` of them.
    """

    low: Value
    high: Value
    first: Value
    count: Value


@frozen
class PrecisePoolSpec(TapSpec):
    """Precise RoI Pooling (Jiang et al. 2018, section 3.2); a box without area is zeros.

    ``output_size`` (height, width) in bins, ``spatial_scale`` in cells per image pixel, ``border``
    "clamp" or "zero". Raises ParameterError.

    Corners are scaled in the operator's float type; edges and weights are computed in float64, for
    a small bin far from the origin is a difference of large numbers.
    """

    operator: ClassVar[Operator] = "precise-pool"
    title: ClassVar[str] = "Precise RoI Pooling"

    border: Border = "clamp"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word("border", self.border, Border)

    @property
    def pixel_model(self) -> PixelModel:
        """Cell i is centred at i, and nothing is shifted."""
        return "legacy"

    @property
    def convention(self) -> Convention:
        """The exact mean, with its surface at the border."""
        return replace(PRECISE_POOL, border=self.border)

    @property
    def taps_a_sample(self) -> int:
        """A sample is a cell."""
        return 1

    def work(self, corners: FloatArray) -> FloatArray:
        """(k,) cells that are weighed for each bin, whatever the map's border cuts off."""
        scaled = scale_to_cells(corners, self.spatial_scale).astype(np.float64)
        height, width = self.output_size
        extent = np.maximum(scaled[:, 2:] - scaled[:, :2], 0)
        return np.asarray((extent[:, 0] / width + 2) * (extent[:, 1] / height + 2))

    def counts(self, corners: FloatArray, map_size: Size) -> IntArray:
        """(k, 2) cells of the longest bin on each axis; 0 without an area."""
        columns = self.values_of(corners)
        with np.errstate(over="ignore", invalid="ignore"):
            y, x = self._bins(NumpyMath(corners.dtype), columns, map_size)
        return np.stack([axis.count.max(axis=(1, 2, 3, 4)) for axis in (x, y)], axis=1)

    def bin_lines(self, corners: FloatArray, map_size: Size) -> FloatArray:
        """The edges of the bins."""
        columns = self.values_of(corners[None])
        axes = self._bins(NumpyMath(corners.dtype), columns, map_size)
        return lattice(*(np.append(axis.low.reshape(-1), axis.high.max()) for axis in axes))

    def _bins(
        self, math: ArrayMath, rois: Sequence[Value], map_size: tuple[Value, Value]
    ) -> tuple[BinsOfAxis, BinsOfAxis]:
        """(y, x)."""
        wide = math.double()
        scale = math.number(float(np.float32(self.spatial_scale)))
        x1, y1, x2, y2 = (wide.real(edge * scale) for edge in rois)
        is_sized = self._is_sized(wide, x2 - x1) & self._is_sized(wide, y2 - y1)
        axes = []
        for number, (start, end) in enumerate(((y1, y2), (x1, x2))):
            bins, last = self.output_size[number], map_size[number] - 1
            index = wide.real(wide.counting(bins, 1 + number))
            origin, extent = (wide.where(is_sized, part, 0) for part in (start, end - start))
            low, high = (origin + extent * (part / bins) for part in (index, index + 1))

            def cell(place: Value, last: Value = last) -> Value:
                # What is far off the map is no whole number that fits.
                inside = wide.minimum(wide.maximum(place, -1), wide.real(last + 1))
                return math.minimum(math.maximum(wide.whole(inside), 0), last)

            first = cell(wide.floor(low))
            count = math.where(is_sized, cell(wide.ceil(high)) - first + 1, first * 0)
            axes.append(BinsOfAxis(low, high, first, count))
        return axes[0], axes[1]

    def _is_sized(self, wide: ArrayMath, extent: Value) -> Value:
        return (extent > 0) & (extent < wide.number(np.inf))

    def taps(self, math: ArrayMath, rois: Sequence[Value], map_size: tuple[Value, Value]) -> Taps:
        """Each cell that a bin touches, with its mean weight over the bin."""
        wide, axes = math.double(), self._bins(math, rois, map_size)
        places, weights = [], []
        for number, (axis, cells) in enumerate(zip(axes, map_size, strict=True)):
            place = axis.first + math.counting(math.largest(axis.count), 3 + number)
            places.append(place)
            weights.append(self._mean_weight(wide, axis, place, cells))
        is_used = mask_below(math, (axes[0].count, axes[1].count))
        is_read = (weights[0] > 0) & (weights[1] > 0)
        weight = math.exact(weights[0] * weights[1])
        tap = Tap(places[0], places[1], weight, is_read)
        return Taps((tap,), math.exact(math.number(1)), is_used, is_used)

    def _mean_weight(self, wide: ArrayMath, bins: BinsOfAxis, cell: Value, cells: Value) -> Value:
        """``bin_weights``: the mean over bins of the weight of cells, which rises to a cell's
        centre and falls from it, but is flat below the first and above the last under "clamp".
        """
        low, high, centre = bins.low, bins.high, wide.real(cell)
        begin, end, rise, fall = centre - 1, centre + 1, 1, 1
        if self.border == "clamp":
            first, last = cell < 1, cell >= cells - 1
            begin, rise = wide.where(first, -1, begin), wide.where(first, 0, centre * 0 + 1)
            end = wide.where(last, wide.real(cells), end)
            fall = wide.where(last, 0, centre * 0 + 1)
        size = high - low
        total, point = centre * 0, centre * 0
        for left, right, slope, sign in ((begin, centre, rise, -1), (centre, end, fall, 1)):
            from_, to = wide.maximum(low, left), wide.minimum(high, right)
            middle = ((from_ + to) * 0.5 - centre) * sign
            total = total + wide.maximum(to - from_, 0) * (1 - slope * middle)
            # A bin so small that its ends are one number is a point.
            at_low = (low >= left) & (low <= right)
            value = 1 - slope * ((low - centre) * sign)
            point = wide.maximum(point, wide.where(at_low, value, 0))
        return wide.where(size > 0, total / wide.where(size > 0, size, 1), point)
