"""Operators that read cells with weights: what is common to all of them, given where they read.

A *tap* is one cell with its weight. An operator of this kind says, for each bin, its samples, and
for each sample its taps (``TapSpec.taps``), once, in ``array_math``. The graph that runs and that
is exported, the float64 reference with its bound, and what explains and draws a RoI follow from it.

The graph looks the cells up as rows of all channels and multiplies them by their weights, a matrix
product a bin. What is not read (a point off the map, a sample that another RoI has and this one has
not) is a row after the last cell, which holds the value outside; so NaN and infinities of a cell
reach those bins alone that read it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.record import frozen
from roicli.core.types import Array, FloatArray, FloatType, IntArray, Size
from roicli.operators.array_math import ArrayMath, NumpyMath, OnnxMath, Tensor, Value
from roicli.operators.convention import Convention
from roicli.operators.graphs import add_nan_safe_maximum
from roicli.operators.interface import Compiled, GraphWay, OperatorSpec, Sampling
from roicli.operators.onnx_graph import (
    INT64,
    TO_THE_END,
    Arithmetic,
    Graph,
    GraphBuilder,
    finish_graph,
)
from roicli.operators.onnx_protobuf import Dimension
from roicli.operators.reference import Expected, channel_steps, rounding_gamma

# Roundings of one weight and its product with the cell: 1 - l on both axes, their product, the
# sample's share and the product with it, the product with the cell.
TAP_ROUNDINGS = 6


class Tap(NamedTuple):
    """A cell (``y``, ``x``), whole, with its ``weight``, where ``is_read`` holds."""

    y: Value
    x: Value
    weight: Value
    is_read: Value


class Taps(NamedTuple):
    """What bins read. All values go along five axes, of size 1 where they are the same there: RoI,
    row and column of the bin, row and column of the sample in it.

    ``share`` is what a sample counts in its bin's mean (1 under a maximum). ``is_used`` says which
    samples there are, ``is_read`` which of these are on the map: others have the value outside.
    ``points`` (y, x) are where samples lie, in cells, cell i centred at i; None for whole cells.
    """

    taps: tuple[Tap, ...]
    share: Value
    is_used: Value
    is_read: Value
    points: tuple[Value, Value] | None = None


class Sketch(NamedTuple):
    """What a picture shows of an operator, in cells, cell i centred at i: the ``lines`` (m, 2, 2)
    between its bins, each from (x, y) to (x, y), and its sampling ``points`` (n, 2).
    """

    lines: FloatArray
    points: FloatArray


def lattice(ys: Sequence[float] | FloatArray, xs: Sequence[float] | FloatArray) -> FloatArray:
    """(m, 2, 2): a line across at every y and down at every x."""
    across = [((xs[0], y), (xs[-1], y)) for y in ys]
    return np.array([*across, *(((x, ys[0]), (x, ys[-1])) for x in xs)], np.float64)


@frozen
class TapSpec(OperatorSpec):
    """An operator that reads cells with weights."""

    @property
    def compiled(self) -> Compiled | None:
        """The kernel of any table of taps."""
        return Compiled("run_taps", ("weigh_blocks",))

    @property
    @abstractmethod
    def convention(self) -> Convention:
        """The point of the space of conventions that it is."""

    @abstractmethod
    def taps(self, math: ArrayMath, rois: Sequence[Value], map_size: tuple[Value, Value]) -> Taps:
        """What the bins of some RoIs read.

        ``rois`` are the columns of ``roi_columns``, real, along the first axis, and then the
        offsets, along the first three; ``map_size`` is (height, width) in cells, whole.
        """

    @abstractmethod
    def counts(self, corners: FloatArray, map_size: Size) -> IntArray:
        """(k, 2) samples a bin of RoIs (k, n), as (x, y): those of equal counts run together."""

    @property
    def taps_a_sample(self) -> int:
        """How many cells a sample is made of."""
        return 4

    @property
    def takes_maximum(self) -> bool:
        """Whether a bin is the maximum of its samples; else their mean."""
        return False

    @property
    def outside(self) -> float:
        """The value of a sample off the map."""
        return 0.0

    @property
    def corners_apart(self) -> bool:
        """Whether a maximum is taken over the weighted cells, and not over their sums."""
        return "corners" in self.convention.reduction

    @property
    def empty(self) -> float:
        """The value of a bin without samples."""
        return 0.0

    @property
    def groups(self) -> int:
        """Position-sensitive groups on an axis; 1 where every bin reads every channel."""
        return 1

    def output_channels(self, channels: int) -> int:
        """C / groups^2. Raises ParameterError where that is no whole number."""
        square = self.groups**2
        if channels % square:
            raise ParameterError(
                f"the map has {channels} channels, which group size {self.groups} cannot divide: "
                f"{self.name} needs a multiple of {square}",
                "give the --group-size that the map was made for",
            )
        return channels // square

    def input_channels(self, part: slice) -> slice:
        """The channels of the map that some channels of the result are read from."""
        square = self.groups**2
        return slice(part.start * square, part.stop * square)

    def work(self, corners: FloatArray) -> FloatArray:
        """(k,) cells that are weighed for each bin."""
        counts = self.counts(corners, (1, 1)).prod(axis=1, dtype=np.float64)
        return np.asarray(np.maximum(counts, 1) * self.taps_a_sample)

    def sampling(self, corners: FloatArray, channels: int, dtype: FloatType) -> Sampling:
        """The cells that are looked up."""
        counts = self.counts(corners.astype(dtype), (1, 1))
        row = self.taps_a_sample * self.output_channels(channels) * dtype.itemsize
        bins = self.output_size[0] * self.output_size[1]
        return Sampling(np.prod(counts + 0.0, axis=1) * (bins * row), counts, "sampling")

    # The graph --------------------------------------------------------------------------------

    def graph_way(self, dtype: FloatType, resident: bool) -> GraphWay:
        """Cells looked up as rows, for many RoIs at once."""
        return "taps"

    def graph(self, dtype: FloatType) -> Graph:
        """``rows`` (H * W * g^2 + 1, C / g^2) of one map, ``map_size`` (2,) and ``rois`` (K, n) to
        (K, C / g^2, P_h, P_w).
        """
        builder = GraphBuilder()
        math = OnnxMath(builder, dtype)
        sides = [
            Tensor(math, builder.add("Gather", "map_size", builder.constant(np.array(axis))), True)
            for axis in (0, 1)
        ]
        width, offsets = len(self.roi_columns), ""
        if self.offset_shape:
            offsets = Arithmetic(builder, dtype).column("rois", width, TO_THE_END)
            width += prod(self.offset_shape)
        output = self._add(math, "rows", (sides[0], sides[1]), 0, offsets)
        inputs: dict[str, tuple[np.dtype[np.generic], Sequence[Dimension]]] = {
            "rows": (dtype, ("rows", "C")),
            "map_size": (INT64, (2,)),
            "rois": (dtype, ("K", width)),
        }
        return finish_graph(builder, inputs, output, dtype, ("K", "C", *self.output_size))

    def rows_graph(self, dtype: FloatType) -> Graph:
        """``features`` (N, C, H, W) to ``rows``: the channels of a cell, and the value outside."""
        builder = GraphBuilder()
        output = self._add_rows(builder, dtype)
        shapes: dict[str, tuple[np.dtype[np.generic], Sequence[Dimension]]] = {
            "features": (dtype, ("N", "C", "H", "W"))
        }
        return finish_graph(builder, shapes, output, dtype, ("rows", "channels"))

    def add_export(self, builder: GraphBuilder, dtype: FloatType) -> str:
        """The same nodes, over RoIs with their image's number in front."""
        math = OnnxMath(builder, dtype)
        shape = builder.add("Shape", "features")
        sides = [
            Tensor(math, builder.add("Gather", shape, builder.constant(np.array(axis))), True)
            for axis in (2, 3)
        ]
        rows = self._add_rows(builder, dtype)
        return self._add(math, rows, (sides[0], sides[1]), 1, "offsets")

    def _add_rows(self, builder: GraphBuilder, dtype: FloatType) -> str:
        add, integers = builder.add, builder.integers
        square = self.groups**2
        count = add("Div", add("Slice", add("Shape", "features"), integers(1), integers(2)),
                    integers(square))  # fmt: skip
        split = add("Concat", integers(0), count, integers(square), integers(-1), axis=0)
        cells = add("Transpose", add("Reshape", "features", split), perm=(0, 3, 2, 1))
        flat = add("Reshape", cells, add("Concat", integers(-1), count, axis=0))
        outside = builder.constant(np.array(self.outside, dtype))
        last = add("Expand", outside, add("Concat", integers(1), count, axis=0))
        return add("Concat", flat, last, name="rows", axis=0)

    def _add(
        self,
        math: OnnxMath,
        rows: str,
        map_size: tuple[Tensor, Tensor],
        first_column: int,
        offsets: str,
    ) -> str:
        """The nodes from the rows of the cells, and of the ``rois`` and their offsets, to the
        result.
        """
        builder, arithmetic = math.builder, Arithmetic(math.builder, math.dtype)
        add, integers = builder.add, builder.integers
        apart = integers(-1, 1, 1, 1, 1)

        def column(number: int) -> Tensor:
            name = add("Reshape", arithmetic.column("rois", number, number + 1), apart)
            return Tensor(math, name, False)

        columns = [column(first_column + number) for number in range(len(self.roi_columns))]
        if self.offset_shape:
            each = add("Reshape", offsets, integers(-1, *self.offset_shape, 1, 1))
            for number in range(self.offset_shape[0]):
                name = add("Gather", each, builder.constant(np.array(number)), axis=1)
                columns.append(Tensor(math, name, False))
        taps = self.taps(math, columns, map_size)
        first_cell = math.whole(column(0)) * (map_size[0] * map_size[1]) if first_column else None
        end = Tensor(math, add("Gather", add("Shape", rows), builder.constant(np.array(0))), True)

        def row_of(cell: Value) -> Value:
            row = cell if first_cell is None else cell + first_cell
            if self.groups == 1:
                return row
            return row * self.groups**2 + self._group_of_bins(math)

        looked_up = [
            (math.where(is_read, row_of(cell), end - 1), weight)
            for cell, weight, is_read in self.look_up(math, taps, map_size[1])
        ]
        last = integers(5)
        index, weight = (
            add("Concat", *(add("Unsqueeze", part[k].name, last) for part in looked_up), axis=5)
            for k in (0, 1)
        )
        reduce = self._add_maximum if self.takes_maximum else self._add_mean
        found = reduce(arithmetic, rows, index, weight, taps.is_used)
        if self.takes_maximum or self.empty != 0:
            has_samples = add("Squeeze", (math.how_many(taps.is_used) > 0).name, integers(4))
            found = add("Where", has_samples, found, arithmetic.number(self.empty))
        return add("Transpose", found, name="roi_features", perm=(0, 3, 1, 2))

    def _add_mean(
        self, math: Arithmetic, rows: str, index: str, weight: str, is_used: Tensor
    ) -> str:
        """(k, P_h, P_w, C): a matrix product a bin. What is not used has no weight."""
        add, integers = math.builder.add, math.builder.integers
        shape = add("Shape", weight)
        bins = add("Slice", shape, integers(0), integers(3))
        # CUDA has no ReduceProd of int64.
        rows_of, columns_of, taps = (
            add("Slice", shape, integers(axis), integers(axis + 1)) for axis in (3, 4, 5)
        )
        each = add("Mul", add("Mul", rows_of, columns_of), taps)
        index = add("Reshape", index, add("Concat", bins, each, axis=0))
        weight = add("Reshape", weight, add("Concat", bins, integers(1), each, axis=0))
        products = add("MatMul", weight, add("Gather", rows, index, axis=0))
        return add("Squeeze", products, integers(3))

    def _add_maximum(
        self, math: Arithmetic, rows: str, index: str, weight: str, is_used: Tensor
    ) -> str:
        """(k, P_h, P_w, C): the greatest of the samples that there are, or of their weighted cells.

        A sample that is not used is less than any.
        """
        add, integers = math.builder.add, math.builder.integers
        cells, used = (
            add("Gather", rows, index, axis=0),
            add("Unsqueeze", is_used.name, integers(5)),
        )
        axes: tuple[int, ...] = (3, 4)
        if self.corners_apart:
            samples = add("Mul", add("Unsqueeze", weight, integers(6)), cells)
            used, axes = add("Unsqueeze", used, integers(6)), (3, 4, 5)
        else:
            products = add("MatMul", add("Unsqueeze", weight, integers(5)), cells)
            samples = add("Squeeze", products, integers(5))
        samples = add("Where", used, samples, math.number(-np.inf))
        found = add_nan_safe_maximum(math, samples, axes)
        if self.convention.reduction != "max-floored":
            return found
        # A NaN is not below 0, and stays.
        return add("Where", add("Less", found, math.number(0)), math.number(0), found)

    def look_up(
        self, math: ArrayMath, taps: Taps, width: Value
    ) -> Iterator[tuple[Value, Value, Value]]:
        """The number of each tap's cell, row by row, its weight in the bin, and whether it is read.

        What is not read weighs 0, but the first tap of a sample off the map, which is the sample's
        share of the value outside.
        """
        for number, tap in enumerate(taps.taps):
            is_read = taps.is_used & taps.is_read & tap.is_read
            weight = math.where(is_read, tap.weight * taps.share, 0)
            if number == 0:
                weight = math.where(taps.is_used & ~taps.is_read, taps.share, weight)
            yield tap.y * width + tap.x, weight, is_read

    def _group_of_bins(self, math: ArrayMath) -> Value:
        """Which group a bin reads, row by row."""
        height, width = self.output_size
        row, column = math.counting(height, 1), math.counting(width, 2)
        return (row * self.groups) // height * self.groups + (column * self.groups) // width

    def group_of_bin(self, bin_index: Size) -> int:
        """Which group one bin reads."""
        (row, column), (height, width), size = bin_index, self.output_size, self.groups
        return row * size // height * size + column * size // width

    # The reference ----------------------------------------------------------------------------

    def values_of(self, corners: FloatArray) -> list[Value]:
        """RoIs (k, n) as what ``taps`` takes."""
        count, k = len(self.roi_columns), len(corners)
        columns: list[Value] = [column.reshape(-1, 1, 1, 1, 1) for column in corners.T[:count]]
        if self.offset_shape:
            each = corners[:, count:].reshape(k, *self.offset_shape, 1, 1)
            columns.extend(each[:, number] for number in range(self.offset_shape[0]))
        return columns

    def taps_of(self, corners: FloatArray, map_size: Size, is_exact: bool = False) -> Taps:
        """The taps of RoIs (k, n), in their dtype; with ``is_exact`` the weights in float64."""
        math, columns = NumpyMath(corners.dtype, is_exact), self.values_of(corners)
        # A coordinate may be so large that it overflows: then it is off the map.
        with np.errstate(over="ignore", invalid="ignore"):
            return self.taps(math, columns, map_size)

    def sketch(self, corners: FloatArray, map_size: Size) -> Sketch:
        """What a picture shows of one RoI (n,)."""
        taps = self.taps_of(corners[None], map_size)
        if taps.points is None:
            return Sketch(self.bin_lines(corners, map_size), np.empty((0, 2)))
        y, x, is_used = np.broadcast_arrays(*taps.points, taps.is_used)
        points = np.stack([x[is_used], y[is_used]], axis=1).astype(np.float64)
        return Sketch(self.bin_lines(corners, map_size), points)

    def bin_lines(self, corners: FloatArray, map_size: Size) -> FloatArray:
        """The lines between the bins of one RoI; here the box from its first to its last point."""
        taps = self.taps_of(corners[None], map_size)
        assert taps.points is not None
        ys, xs = ([axis.min(), axis.max()] for axis in taps.points)
        return lattice(ys, xs)

    def expect(
        self, feature_map: FloatArray, corners: FloatArray, coordinate_ulp: float = 0.0
    ) -> Iterator[tuple[slice, Expected]]:
        """The weighted cells in float64.

        Every step of the coordinates is a node of its own, which rounds as NumPy does wherever it
        runs; so the points are the same ones, but for ``coordinate_slack``, and ``coordinate_ulp``
        does not matter.
        """
        channels, height, width = feature_map.shape
        taps = self.taps_of(corners[None], (height, width), is_exact=True)
        group = np.broadcast_to(
            np.asarray(self._group_of_bins(NumpyMath(corners.dtype))), (1, *self.output_size, 1, 1)
        )[0]
        whole = np.broadcast_shapes(
            *(np.shape(part) for part in (taps.is_used, taps.is_read, *taps.taps[0]))
        )
        for part in channel_steps(self.output_channels(channels), int(np.prod(whole))):
            number = np.arange(part.start, part.stop).reshape(-1, 1, 1, 1, 1)
            channel = number * self.groups**2 + group
            yield part, self._weigh(feature_map, taps, channel, self.coordinate_slack(corners))

    def coordinate_slack(self, corners: FloatArray) -> float:
        """Cells by which a point of a RoI (n,) may lie elsewhere with another library."""
        return 0.0

    def _weigh(
        self, feature_map: FloatArray, taps: Taps, channel: IntArray, slack: float
    ) -> Expected:
        """Some channels of the result, each bin of which reads ``channel`` (c, P_h, P_w, 1, 1).

        Points are where they are but for ``slack`` cells along each axis.
        """
        unread = taps.is_used & ~taps.is_read
        share = np.asarray(taps.share, np.float64)
        values: Array = np.where(unread, share * self.outside, 0.0)
        magnitude: Array = np.abs(values)
        largest = abs(self.outside)
        with np.errstate(invalid="ignore", over="ignore"):
            for number, tap in enumerate(taps.taps):
                is_read = taps.is_used & taps.is_read & tap.is_read
                y, x = (np.where(is_read, cell, 0) for cell in (tap.y, tap.x))
                cells = feature_map[channel, y, x].astype(np.float64)
                weight = tap.weight * share
                product = np.where(is_read, weight * cells, 0.0)
                if self.corners_apart:
                    values = product if number == 0 else np.maximum(values, product)
                else:
                    values = values + product
                finite = np.where(np.isfinite(cells) & is_read, cells, 0.0)
                magnitude = magnitude + np.abs(weight * finite)
                largest = max(largest, float(np.abs(finite).max(initial=0)))
            samples = values.shape[3] * values.shape[4]
            reduce = np.max if self.takes_maximum else np.sum
            if self.takes_maximum:
                values = np.where(taps.is_used, values, -np.inf)
            values, magnitude = (reduce(part, axis=(3, 4)) for part in (values, magnitude))
            if self.convention.reduction == "max-floored":
                values = np.maximum(values, 0)
            values = np.where(np.any(taps.is_used, axis=(3, 4)), values, self.empty)
        added = len(taps.taps) * (1 if self.takes_maximum else samples)
        kind = np.finfo(feature_map.dtype)
        gamma = sum(
            rounding_gamma(TAP_ROUNDINGS + added, float(np.finfo(real).eps) / 2)
            for real in (feature_map.dtype, float)
        )
        bound = gamma * magnitude + (TAP_ROUNDINGS + added) * float(kind.smallest_normal) * (
            1 + largest
        )
        # Along each axis neighbours differ by twice the largest cell at most.
        bound = bound + 4 * slack * largest
        bound = np.where(magnitude * (1 + gamma) <= float(kind.max), bound, np.inf)
        return Expected(values, magnitude, np.where(np.isfinite(values), bound, 0))


def check_group_size(group_size: int, output_size: Size) -> None:
    """Raise ParameterError unless bins fall into so many groups on each axis; 0 is a group each."""
    height, width = output_size
    if not isinstance(group_size, int) or group_size < 0:
        raise ParameterError(f"group size is {group_size!r}, expected a whole number from 1")
    if group_size == 0 and height != width:
        raise ParameterError(
            f"output size is {height}x{width}, and bins have one number of groups on both axes",
            "give --group-size, or a square --output-size",
        )
    if group_size > min(height, width):
        raise ParameterError(
            f"group size is {group_size}, expected at most the {min(height, width)} bins of an axis"
        )


def cross(
    rows: Sequence[tuple[Value, Value]], columns: Sequence[tuple[Value, Value]], is_read: Value
) -> tuple[Tap, ...]:
    """A tap for each row with each column, both as (cell, weight)."""
    return tuple(Tap(y, x, height * width, is_read) for y, height in rows for x, width in columns)


def mask_below(math: ArrayMath, counts: tuple[Value, Value]) -> Value:
    """Which of the samples there are, where RoIs or bins have ``counts`` (rows, columns)."""
    down = math.counting(math.largest(counts[0]), 3)
    across = math.counting(math.largest(counts[1]), 4)
    return (down < counts[0]) & (across < counts[1])
