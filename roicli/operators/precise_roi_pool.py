"""Precise RoI Pooling: the exact mean of the interpolated map over each bin.

Jiang et al. 2018 (IoU-Net), section 3.2: the integral of the bilinear surface over a bin, divided
by the bin's area. Cell i is centred at i; nothing is rounded and nothing sampled. A cell's weight
is a product of two functions, one an axis, each linear between whole coordinates; so the mean over
a bin is a matrix of mean weights on either side of the map, and the mean of a linear piece is its
value in the middle. No difference of large numbers is taken, so tiny bins lose nothing.

The surface ends in one of two ways (``border``): "clamp" continues it by the edge cells up to one
cell outside and makes it 0 beyond (-1 and H), as RoI Align's border does; "zero" has zeros around
the map, as mmcv's prroi_pool and the authors' own code do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, assert_never

import numpy as np

from roicli.core.operator_table import Operator
from roicli.core.record import frozen
from roicli.core.types import (
    Array,
    FloatArray,
    FloatType,
    Size,
    check_word,
)
from roicli.core.vocabulary import Border, PixelModel
from roicli.operators.geometry import find_neighbours
from roicli.operators.interface import GraphWay, OperatorSpec, join_odd
from roicli.operators.onnx_graph import INT64, Graph, GraphBuilder, finish_graph
from roicli.operators.onnx_protobuf import Dimension
from roicli.operators.reference import Expected, channel_steps, rounding_gamma
from roicli.operators.rounding import scale_to_cells


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
        return join_odd(mean, nan, above, below)


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


@frozen
class PrecisePoolSpec(OperatorSpec):
    """Precise RoI Pooling (Jiang et al. 2018, section 3.2); a box without area is zeros.

    ``output_size`` (height, width) in bins, ``spatial_scale`` in cells per image pixel, ``border``
    "clamp" or "zero". Raises ParameterError.

    It runs as two matrix products a RoI, whose weights are computed here: no ONNX operator knows
    them, and a graph for all RoIs at once would hold a copy of the map for each.
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

    def weigh(self, corners: FloatArray, map_size: Size) -> BoxWeights | None:
        """The weights of a RoI (4,) in image pixels; None without an area."""
        scaled = scale_to_cells(corners, self.spatial_scale).astype(np.float64)
        start, extent = scaled[:2], scaled[2:] - scaled[:2]
        if not (extent > 0).all():
            return None
        found = weigh_box(start, extent, self.output_size, map_size, self.border)
        return found if found.y.size and found.x.size else None

    def work(self, corners: FloatArray) -> FloatArray:
        """(k,) cells that are weighed for each bin, whatever the map's border cuts off."""
        scaled = scale_to_cells(corners, self.spatial_scale).astype(np.float64)
        height, width = self.output_size
        extent = np.maximum(scaled[:, 2:] - scaled[:, :2], 0)
        return np.asarray(extent[:, 1] * (extent[:, 0] / width + 1) / height + 1)

    def expect(
        self, feature_map: FloatArray, corners: FloatArray, coordinate_ulp: float = 0.0
    ) -> Iterator[tuple[slice, Expected]]:
        """The weights and the sums in float64.

        A result has each weight rounded to the map's type, two products a cell, and the additions
        of its rows and columns; the weights are computed on the host, so ``coordinate_ulp`` is 0.
        """
        channels, *map_size = feature_map.shape
        box = self.weigh(corners, (map_size[0], map_size[1]))
        if box is None:
            zeros = np.zeros((channels, *self.output_size))
            yield slice(0, channels), Expected(zeros, zeros, zeros)
            return
        kind = np.finfo(feature_map.dtype)
        (rows, columns) = box.y.shape[1], box.x.shape[1]
        roundings = rows + columns + 4
        units = (float(np.finfo(real).eps) / 2 for real in (feature_map.dtype, float))
        gamma = sum(rounding_gamma(roundings, unit) for unit in units)
        for part in channel_steps(channels, rows * columns):
            here = feature_map[part]
            values = box.mean(here)
            finite = np.where(np.isfinite(here), here, 0)
            magnitude = box.mean(np.abs(finite))
            largest = np.abs(finite).max(initial=0)
            bound = gamma * magnitude + roundings * float(kind.smallest_normal) * (1 + largest)
            bound = np.where(magnitude * (1 + gamma) <= float(kind.max), bound, np.inf)
            yield part, Expected(values, magnitude, np.where(np.isfinite(values), bound, 0))

    def graph_way(self, dtype: FloatType, resident: bool) -> GraphWay:
        """One RoI after another, on the cells that it reads."""
        return "one by one"

    def graph(self, dtype: FloatType) -> Graph:
        """``features`` (1, C, H, W), ``first`` and ``end`` (2,) cells, ``y`` (P_h, h), ``x`` (w,
        P_w) to (1, C, P_h, P_w).
        """
        builder = GraphBuilder()
        add = builder.add
        cells = add("Slice", "features", "first", "end", builder.integers(2, 3))
        output = add("MatMul", add("MatMul", "y", cells), "x", name="roi_features")
        inputs: dict[str, tuple[np.dtype[np.generic], Sequence[Dimension]]] = {
            "features": (dtype, (1, "C", "H", "W")),
            "first": (INT64, (2,)),
            "end": (INT64, (2,)),
            "y": (dtype, (self.output_size[0], "h")),
            "x": (dtype, ("w", self.output_size[1])),
        }
        return finish_graph(builder, inputs, output, dtype, (1, "C", *self.output_size))

    def feeds(
        self, corners: FloatArray, map_size: Size, dtype: FloatType
    ) -> dict[str, Array] | None:
        """The cells and the weights of a RoI (4,)."""
        box = self.weigh(corners, map_size)
        if box is None:
            return None
        return {
            "first": np.array([box.down.start, box.across.start], np.int64),
            "end": np.array([box.down.stop, box.across.stop], np.int64),
            "y": np.ascontiguousarray(box.y, dtype),
            "x": np.ascontiguousarray(box.x.T, dtype),
        }
