"""Crop and resize: points from one end of the box to the other (TensorFlow).

Source: tensorflow/core/kernels/image/crop_and_resize_op.cc. Point i of P lies at
``a + i (b - a) / (P - 1)``, where a and b are the box's ends in cells, cell i centred at i: the
first and the last point are the ends themselves. One point is in the middle. What is off the map,
which ends at the centres of its first and last cell, has the extrapolation value.
"""

from __future__ import annotations

import math as real_math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, assert_never

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.operator_table import (
    CropNormalization,
    CropPoints,
    Interpolation,
    Operator,
    Outside,
)
from roicli.core.record import frozen
from roicli.core.types import FloatArray, IntArray, Size, check_word
from roicli.core.vocabulary import PixelModel
from roicli.operators.array_math import ArrayMath, Value
from roicli.operators.convention import CROPS, Convention
from roicli.operators.taps import Taps, TapSpec, cross


@frozen
class CropAndResizeSpec(TapSpec):
    """Crop and resize, as the pooling of detectors that came from TensorFlow.

    ``output_size`` (height, width) in bins, ``spatial_scale`` in cells per image pixel.
    ``normalization`` says how corners became shares of the map: "cells" x s, "image"
    x (W - 1) / W_image, "matterport" (x1, x2 - 1) (W - 1) / (W_image - 1), for a map of W cells and
    an image ``image_size`` (height, width); None is the map's size over the scale. ``crop_points``
    is "one" a bin, or 2 x 2 whose "max" or "avg" is taken. ``outside`` is "value" (whole points off
    the map have ``extrapolation_value``) or "zeros" (cells off the map count 0). Raises
    ParameterError.
    """

    operator: ClassVar[Operator] = "crop-and-resize"
    title: ClassVar[str] = "crop and resize"

    normalization: CropNormalization = "image"
    image_size: Size | None = None
    interpolation: Interpolation = "bilinear"
    crop_points: CropPoints = "one"
    outside_rule: Outside = "value"
    extrapolation_value: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word("normalization", self.normalization, CropNormalization)
        check_word("interpolation", self.interpolation, Interpolation)
        check_word("crop points", self.crop_points, CropPoints)
        check_word("outside rule", self.outside_rule, Outside)
        value = self.extrapolation_value
        if not real_math.isfinite(value) or abs(value) > float(np.finfo(np.float32).max):
            raise ParameterError(f"extrapolation value is {value}, expected a finite number")
        if self.outside_rule == "zeros" and value:
            raise ParameterError(
                f"extrapolation value is {value:g}, and outside rule zeros has none",
                "drop --extrapolation-value, or --outside-rule",
            )
        if self.image_size is not None and min(self.image_size) < 2:
            raise ParameterError(
                f"image size is {self.image_size[0]}x{self.image_size[1]}, expected sides of at "
                "least 2"
            )

    @property
    def pixel_model(self) -> PixelModel:
        """Cell i is centred at i, and nothing is shifted."""
        return "legacy"

    @property
    def convention(self) -> Convention:
        """The point of the space of conventions that it is."""
        return replace(
            CROPS[self.normalization],
            interpolation=self.interpolation,
            sampling_ratio=self._points,
            reduction="max" if self.takes_maximum else "mean",
            border="value" if self.outside_rule == "value" else "zero",
            border_value=self.extrapolation_value,
            reach=0.0 if self.outside_rule == "value" else 1.0,
        )

    @property
    def taps_a_sample(self) -> int:
        """Four cells, or the nearest one."""
        return 4 if self.interpolation == "bilinear" else 1

    @property
    def takes_maximum(self) -> bool:
        """Whether a bin is the maximum of 2 x 2 points."""
        return self.crop_points == "max"

    @property
    def outside(self) -> float:
        """The value of a point off the map."""
        return self.extrapolation_value

    @property
    def _points(self) -> int:
        """Points a bin and axis."""
        return 1 if self.crop_points == "one" else 2

    def counts(self, corners: FloatArray, map_size: Size) -> IntArray:
        """(k, 2) points a bin, the same for all."""
        return np.full((len(corners), 2), self._points, np.int64)

    def taps(self, math: ArrayMath, rois: Sequence[Value], map_size: tuple[Value, Value]) -> Taps:
        """The cells around each point."""
        x1, y1, x2, y2 = rois
        y = self._place(math, y1, y2, map_size[0], 0)
        x = self._place(math, x1, x2, map_size[1], 1)
        rows, y_on_map = self._neighbours(math, y, map_size[0])
        columns, x_on_map = self._neighbours(math, x, map_size[1])
        on_map = y_on_map & x_on_map
        share = math.exact(math.number(0.25 if self.crop_points == "avg" else 1))
        if self.outside_rule == "value":
            return Taps(cross(rows, columns, on_map), share, on_map | ~on_map, on_map, (y, x))
        # Each cell off the map counts 0 by itself.
        height, width = map_size
        taps = tuple(
            tap._replace(is_read=_is_cell(tap.y, height) & _is_cell(tap.x, width))
            for tap in cross(rows, columns, on_map)
        )
        anywhere = on_map | ~on_map
        return Taps(taps, share, anywhere, anywhere, (y, x))

    def _place(self, math: ArrayMath, low: Value, high: Value, cells: Value, axis: int) -> Value:
        """The points of one axis, in cells: the crop's own arithmetic."""
        bins, points = self.output_size[axis], self._points
        total = bins * points
        low, high, length = self._normalize(math, low, high, cells, axis)
        if total == 1:
            none = math.counting(1, 1 + axis) * math.counting(1, 3 + axis)
            return math.number(0.5) * (low + high) * length + math.real(none)
        step = (high - low) * length / math.number(total - 1)
        number = math.counting(bins, 1 + axis) * points + math.counting(points, 3 + axis)
        return low * length + math.real(number) * step

    def _normalize(
        self, math: ArrayMath, low: Value, high: Value, cells: Value, axis: int
    ) -> tuple[Value, Value, Value]:
        """The ends of the box, and by what they are multiplied to be cells."""
        scale = math.number(float(np.float32(self.spatial_scale)))
        one, length = math.number(1), math.real(cells - 1)
        side = math.real(cells) / scale
        if self.image_size is not None:
            side = math.number(self.image_size[axis])
        match self.normalization:
            case "image":
                return low / side, high / side, length
            case "matterport":
                return low / (side - one), (high - one) / (side - one), length
            case "cells":
                # As tf-faster-rcnn, but a map of one cell has an extent too.
                length = math.maximum(length, one)
                return low / (length / scale), high / (length / scale), length
            case _:
                assert_never(self.normalization)

    def _neighbours(
        self, math: ArrayMath, points: Value, cells: Value
    ) -> tuple[tuple[tuple[Value, Value], ...], Value]:
        """The cells around points of one axis, each with its weight; and which are on the map."""
        end = math.real(cells - 1)
        on_map = (points >= 0) & (points <= end)
        # What is far off the map has no cell; near it, half a cell more than one is enough.
        inside = math.minimum(math.maximum(points, -2), end + math.number(2))
        if self.outside_rule == "value":
            inside = math.where(on_map, points, 0)
        match self.interpolation:
            case "nearest":
                cell = math.whole(math.round_half_away(inside))
                return ((cell, math.exact(math.number(1))),), on_map
            case "bilinear":
                below = math.floor(inside)
                share = math.exact(inside - below)
                low = math.whole(below)
                high = math.whole(math.ceil(inside))
                return ((low, 1 - share), (high, share)), on_map
            case _:
                assert_never(self.interpolation)


def _is_cell(place: Value, cells: Value) -> Value:
    return (place >= 0) & (place < cells)
