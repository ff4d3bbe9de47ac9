"""RoI Pool's rounding rules, as data: NumPy and ONNX side by side.

A rule is one entry, and its word and meaning in ``core.vocabulary``, which the help reads.
``BOX_RULES`` round the box (``--quantization``), ``PARTITIONS`` cut it into bins (``--partition``).
Runs, the error table, the reference and the compiled kernels take their bins from the NumPy half;
an exported graph from the other, operation by operation the same. An entry cannot be written
without both, and a test holds them against each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, assert_never

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.types import FloatArray, IntArray, check_word
from roicli.core.vocabulary import Partition, Quantization
from roicli.operators.convention import BOXES, Placement
from roicli.operators.onnx_graph import Arithmetic


def round_half_away(values: FloatArray) -> FloatArray:
    """Round to whole numbers, halves away from zero, as C's ``round`` (numpy.round: to even).

    ``floor(x + 0.5)`` is wrong for the largest number below one half, whose sum rounds up to 1;
    the distance to the truncated value is exact.
    """
    whole = np.trunc(values)
    away = np.abs(values - whole) >= 0.5
    return np.where(away, whole + np.copysign(1, values), whole).astype(values.dtype)


def scale_to_cells(coordinates: FloatArray, spatial_scale: float) -> FloatArray:
    """Image pixels to cells, in the coordinates' dtype, with the scale as its float32 attribute."""
    return coordinates * coordinates.dtype.type(np.float32(spatial_scale))


def as_cells(values: FloatArray) -> IntArray:
    """Whole numbers to int64."""
    return values.astype(np.int64)


# The placing of a box -------------------------------------------------------------------------


class MapAxis(NamedTuple):
    """One axis of a map: its ``spatial_scale``, its ``cells``, and the image's pixels on it.

    Only a normalized placement needs the last two.
    """

    spatial_scale: float
    cells: int = 0
    image_px: float = 0.0


def place_edges(
    low: FloatArray, high: FloatArray, axis: MapAxis, box: Placement
) -> tuple[FloatArray, FloatArray]:
    """Image coordinates (K,) of one axis to real edges in cells, before any is rounded there."""
    kind = low.dtype.type
    edges = []
    for edge, offset in ((low, box.start_px), (high, box.end_px)):
        moved = round_half_away(edge) if box.pixel_rounding else edge
        moved = moved + kind(offset) if offset else moved
        match box.normalization:
            case "scale":
                cells = scale_to_cells(moved, axis.spatial_scale)
            case "image":
                cells = moved / kind(axis.image_px) * kind(axis.cells - 1)
            case "image-less-1":
                cells = moved / kind(axis.image_px - 1) * kind(axis.cells - 1)
            case _:
                assert_never(box.normalization)
        edges.append(cells + kind(box.shift_cells) if box.shift_cells else cells)
    return edges[0], edges[1]


def _share_extent(low: FloatArray, high: FloatArray, axis: MapAxis, box: Placement) -> FloatArray:
    """The extent in cells of corners that are shares of the image's size."""
    kind = low.dtype.type
    side = kind(axis.image_px - (1 if box.normalization == "image-less-1" else 0))
    first, last = (
        (edge + kind(px)) / side for edge, px in ((low, box.start_px), (high, box.end_px))
    )
    return np.asarray((last - first) * kind(axis.cells - 1))


def place_axis(low: FloatArray, high: FloatArray, axis: MapAxis, box: Placement) -> tuple[Any, Any]:
    """Image coordinates (K,) of one axis to (start, extent) in cells.

    Whole cells are int64, real ones have the coordinates' dtype.
    """
    start: Any
    extent: Any
    match box.rounding:
        case "none":
            start, last = place_edges(low, high, axis, box)
            # crop_and_resize takes the extent of the shares, and only then makes it cells.
            extent = (
                last - start
                if box.normalization == "scale"
                else _share_extent(low, high, axis, box)
            )
        case "half-away" | "half-even":
            to_whole: Callable[[FloatArray], FloatArray] = (
                round_half_away if box.rounding == "half-away" else np.rint
            )
            start, end = (as_cells(to_whole(edge)) for edge in place_edges(low, high, axis, box))
            extent = end - start
        case "floor":
            start, end = (as_cells(np.floor(edge)) for edge in place_edges(low, high, axis, box))
            extent = end - start
        case "floor-size" | "round-size":
            to_size: Callable[[FloatArray], FloatArray] = (
                np.floor if box.rounding == "floor-size" else round_half_away
            )
            start, extent = (
                as_cells(to_size(edge)) for edge in place_edges(low, high - low, axis, box)
            )
        case "hull":
            first, last = place_edges(low, high, axis, box)
            start = as_cells(np.floor(first))
            extent = as_cells(np.ceil(last)) - start
        case _:
            assert_never(box.rounding)
    if box.inclusive:
        extent = extent + 1
    return keep_minimum(start, extent, box)


def keep_minimum(start: Any, extent: Any, box: Placement) -> tuple[Any, Any]:
    """A box of at least the placement's minimum extent, about its corner or its centre."""
    if box.minimum is None:
        return start, extent
    least = np.maximum(extent, extent.dtype.type(box.minimum))
    match box.about:
        case "corner":
            return start, least
        case "centre":
            return start + (extent - least) / least.dtype.type(2), least
        case _:
            assert_never(box.about)


# The rounding of the box ----------------------------------------------------------------------


class BoxRule(NamedTuple):
    """How one axis of a box is rounded.

    ``box`` is the rule as data, which ``numpy`` computes; ``onnx`` gives the same as names of
    values (K, 1) int64. A rule with ``real_edges`` rounds nothing: both give the real (start, end)
    in cells, and the bins are ``hull_bins``. ``partitions`` are those that go with it.
    """

    source: str
    box: Placement
    onnx: Callable[[Arithmetic, str, str, float], tuple[str, str]]
    partitions: tuple[Partition, ...] = ("overlap", "disjoint", "floor-size")

    @property
    def real_edges(self) -> bool:
        """Whether the box is not rounded."""
        return self.box.rounding == "none"

    def numpy(self, low: FloatArray, high: FloatArray, scale: float) -> tuple[Any, Any]:
        """Image coordinates (K,) to (start, size) in whole cells, before it is made at least 1."""
        if self.real_edges:
            return place_edges(low, high, MapAxis(scale), self.box)
        return place_axis(low, high, MapAxis(scale), replace(self.box, minimum=None))


def _caffe_onnx(math: Arithmetic, low: str, high: str, scale: float) -> tuple[str, str]:
    start, size = _round_onnx(math, low, high, scale)
    return start, math.builder.add("Add", size, math.builder.integers(1))


def _round_onnx(math: Arithmetic, low: str, high: str, scale: float) -> tuple[str, str]:
    start, end = (
        math.whole(math.round_half_away(math.scaled(edge, scale))) for edge in (low, high)
    )
    return start, math.builder.add("Sub", end, start)


def _half_even_onnx(math: Arithmetic, low: str, high: str, scale: float) -> tuple[str, str]:
    add = math.builder.add
    start, end = (math.whole(add("Round", math.scaled(edge, scale))) for edge in (low, high))
    return start, add("Sub", end, start)


def _floor_onnx(math: Arithmetic, low: str, high: str, scale: float) -> tuple[str, str]:
    add = math.builder.add
    start, size = (
        math.whole(add("Floor", math.scaled(v, scale))) for v in (low, add("Sub", high, low))
    )
    return start, size


def _hull_onnx(math: Arithmetic, low: str, high: str, scale: float) -> tuple[str, str]:
    add = math.builder.add
    start = math.whole(add("Floor", math.scaled(low, scale)))
    return start, add("Sub", math.whole(add("Ceil", math.scaled(high, scale))), start)


def _mmcv_onnx(math: Arithmetic, low: str, high: str, scale: float) -> tuple[str, str]:
    above = math.builder.add("Add", high, math.number(1))
    return math.scaled(low, scale), math.scaled(above, scale)


BOX_RULES: dict[Quantization, BoxRule] = {
    "caffe": BoxRule(
        "Girshick 2015 (Fast R-CNN), roi_pooling_layer; ONNX MaxRoiPool-1",
        BOXES["caffe"],
        _caffe_onnx,
    ),
    "floor": BoxRule("docs/semantics.md, RoI Pool", BOXES["floor"], _floor_onnx),
    "round": BoxRule("docs/semantics.md, RoI Pool", BOXES["round"], _round_onnx),
    "half-even": BoxRule(
        "Chainer, functions/roi_pooling/roi_max_pooling_2d.py (Python's round)",
        BOXES["half-even"],
        _half_even_onnx,
    ),
    "hull": BoxRule("docs/semantics.md, RoI Pool", BOXES["hull"], _hull_onnx),
    "mmcv": BoxRule("mmcv ops, roi_pool", BOXES["mmcv"], _mmcv_onnx, ("overlap",)),
}


def quantize_box(
    low: FloatArray, high: FloatArray, spatial_scale: float, quantization: Quantization
) -> tuple[IntArray, IntArray]:
    """Quantization 1: image coordinates of one axis (K,) to B, (start, size) in whole cells.

    A box is at least one cell long. Not for a rule with ``real_edges``.
    """
    return place_axis(low, high, MapAxis(spatial_scale), BOX_RULES[quantization].box)


# The rounding of the bins ---------------------------------------------------------------------


class PartitionRule(NamedTuple):
    """How a box of whole cells is cut into bins.

    ``numpy(size, bins, dtype)`` takes sizes (K, 1) int64 to the (first, last) edges of the bins,
    (K, bins) int64, half-open, counted from the box's start; ``onnx`` gives the same as names.
    """

    source: str
    numpy: Callable[[IntArray, int, np.dtype[Any]], tuple[IntArray, IntArray]]
    onnx: Callable[[Arithmetic, str, int], tuple[str, str]]


def _overlap(size: IntArray, bins: int, dtype: np.dtype[Any]) -> tuple[IntArray, IntArray]:
    """The operators' own floating arithmetic, in ``dtype``."""
    edges = np.arange(bins + 1).astype(dtype) * (size.astype(dtype) / dtype.type(bins))
    return as_cells(np.floor(edges[:, :-1])), as_cells(np.ceil(edges[:, 1:]))


def _overlap_onnx(math: Arithmetic, size: str, bins: int) -> tuple[str, str]:
    add = math.builder.add
    step = add("Div", math.real(size), math.number(bins))
    first, last = (add("Mul", math.numbers(part), step) for part in _edge_numbers(bins))
    return math.whole(add("Floor", first)), math.whole(add("Ceil", last))


# No library computes these two in floating point, and a partition must neither drop nor repeat a
# cell, so they are whole-number arithmetic.


def _disjoint(size: IntArray, bins: int, dtype: np.dtype[Any]) -> tuple[IntArray, IntArray]:
    edges = np.arange(bins + 1) * size // bins
    return edges[:, :-1], edges[:, 1:]


def _disjoint_onnx(math: Arithmetic, size: str, bins: int) -> tuple[str, str]:
    add, builder = math.builder.add, math.builder
    count = builder.integers(bins)
    first, last = (
        add("Div", add("Mul", builder.constant(part), size), count) for part in _edge_numbers(bins)
    )
    return first, last


def _floor_size(size: IntArray, bins: int, dtype: np.dtype[Any]) -> tuple[IntArray, IntArray]:
    edges = np.arange(bins + 1) * (size // bins)
    return edges[:, :-1], edges[:, 1:]


def _floor_size_onnx(math: Arithmetic, size: str, bins: int) -> tuple[str, str]:
    add, builder = math.builder.add, math.builder
    bin_size = add("Div", size, builder.integers(bins))
    first, last = (add("Mul", builder.constant(part), bin_size) for part in _edge_numbers(bins))
    return first, last


def _edge_numbers(bins: int) -> tuple[IntArray, IntArray]:
    """0, 1, ... and 1, 2, ..., each (1, bins)."""
    index = np.arange(bins)[None]
    return index, index + 1


PARTITIONS: dict[Partition, PartitionRule] = {
    "overlap": PartitionRule(
        "Girshick 2015, roi_pooling_layer: from floor(p n / P) to ceil((p + 1) n / P)",
        _overlap, _overlap_onnx,
    ),
    "disjoint": PartitionRule(
        "docs/semantics.md: from floor(p n / P) to floor((p + 1) n / P)",
        _disjoint, _disjoint_onnx,
    ),
    "floor-size": PartitionRule(
        "docs/semantics.md: floor(n / P) cells each", _floor_size, _floor_size_onnx
    ),
}  # fmt: skip


def partition_box(
    start: IntArray, size: IntArray, bins: int, partition: Partition, dtype: np.dtype[Any]
) -> tuple[IntArray, IntArray]:
    """Quantization 2: a box of ``size`` cells (K,) to its bins: (start, end), each (K, bins)."""
    first, last = PARTITIONS[partition].numpy(size[:, None], bins, dtype)
    return start[:, None] + first, start[:, None] + last


def accumulated_bins(
    start: IntArray, size: IntArray, bins: int, dtype: np.dtype[Any]
) -> tuple[IntArray, IntArray]:
    """As "overlap", with edges that are added up bin by bin in single precision (MNN)."""
    step = (size.astype(dtype) / dtype.type(bins))[:, None]
    edges = np.cumsum(np.repeat(step, bins, axis=1), axis=1, dtype=dtype)
    edges = np.concatenate([np.zeros_like(step), edges], axis=1)
    first, last = as_cells(np.floor(edges[:, :-1])), as_cells(np.ceil(edges[:, 1:]))
    return start[:, None] + first, start[:, None] + last


# Real boxes -----------------------------------------------------------------------------------


def hull_bins(start: FloatArray, end: FloatArray, bins: int) -> tuple[IntArray, IntArray]:
    """The whole cells that each of ``bins`` equal parts of a real box (K,) touches (mmcv)."""
    return hull_parts(start, end - start, bins)


def hull_parts(start: FloatArray, extent: FloatArray, bins: int) -> tuple[IntArray, IntArray]:
    """``hull_bins`` of a start and an extent."""
    step = (extent / start.dtype.type(bins))[:, None]
    edges = np.arange(bins + 1).astype(start.dtype) * step + start[:, None]
    return as_cells(np.floor(edges[:, :-1])), as_cells(np.ceil(edges[:, 1:]))


def hull_bins_onnx(math: Arithmetic, start: str, end: str, bins: int) -> tuple[str, str]:
    """``hull_bins`` in a graph."""
    add = math.builder.add
    step = add("Div", add("Sub", end, start), math.number(bins))
    first, last = (
        add("Add", add("Mul", math.numbers(part), step), start) for part in _edge_numbers(bins)
    )
    return math.whole(add("Floor", first)), math.whole(add("Ceil", last))


def check_rule(quantization: Quantization, partition: Partition) -> None:
    """Raise ParameterError unless both are words, and boxes rounded so are cut so."""
    check_word("quantization", quantization, Quantization)
    check_word("partition", partition, Partition)
    allowed = BOX_RULES[quantization].partitions
    if partition not in allowed:
        raise ParameterError(
            f"quantization {quantization} has bins of its own, found partition {partition}, "
            f"expected {' or '.join(allowed)}",
            "drop --partition, or choose another --quantization",
        )
