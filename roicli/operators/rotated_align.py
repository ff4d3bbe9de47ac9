"""Rotated RoI Align: RoI Align whose grid of points is turned about the box's centre.

Source: detectron2 ROIAlignRotated; mmcv.ops.RoIAlignRotated; Ma et al. 2018. The point (u, v) from
the centre, on the plain grid, lies at ``y = v cos - u sin + cy``, ``x = v sin + u cos + cx``.
"""

from __future__ import annotations

import math as real_math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from roicli.core.operator_table import Operator
from roicli.core.record import frozen
from roicli.core.types import TURNED_COLUMNS, FloatArray, IntArray, Size, check_sampling, check_word
from roicli.core.vocabulary import AngleDirection, AngleUnit, PixelModel
from roicli.operators.array_math import ArrayMath, NumpyMath, Value
from roicli.operators.convention import HALF_PIXEL, LEGACY, ROTATED_ALIGN, Convention
from roicli.operators.placed_bins import Span, count_points, cut_evenly, place_points
from roicli.operators.point_taps import weigh_points
from roicli.operators.taps import Taps, TapSpec, lattice


@frozen
class RotatedAlignSpec(TapSpec):
    """Rotated RoI Align; its RoIs are ``cx, cy, w, h, angle``, lengths in image pixels.

    ``output_size`` (height, width) in bins, ``spatial_scale`` in cells per image pixel,
    ``sampling_ratio`` points per axis and bin (0 = adaptive), ``aligned`` True for half-pixel and
    False for legacy, where sides are at least one cell, about the centre. ``angle_unit`` is
    "degrees" or "radians", ``angle_direction`` "counter-clockwise" or "clockwise", as seen with y
    downwards. Raises ParameterError.
    """

    operator: ClassVar[Operator] = "rotated-align"
    title: ClassVar[str] = "rotated RoI Align"
    roi_columns: ClassVar[tuple[str, ...]] = TURNED_COLUMNS

    sampling_ratio: int = 2
    aligned: bool = True
    angle_unit: AngleUnit = "degrees"
    angle_direction: AngleDirection = "counter-clockwise"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sampling(self.sampling_ratio, self.aligned)
        check_word("angle unit", self.angle_unit, AngleUnit)
        check_word("angle direction", self.angle_direction, AngleDirection)

    @property
    def pixel_model(self) -> PixelModel:
        """The pixel model that ``aligned`` implies."""
        return "half-pixel" if self.aligned else "legacy"

    @property
    def convention(self) -> Convention:
        """The point of the space of conventions that it is; its angles are in degrees."""
        box = HALF_PIXEL if self.aligned else replace(LEGACY, about="centre")
        box = replace(box, turn=self.angle_direction)
        return replace(ROTATED_ALIGN, box=box, sampling_ratio=self.sampling_ratio)

    def _sides(self, math: ArrayMath, rois: Sequence[Value]) -> tuple[Span, Span]:
        """The box about its centre, as (rows, columns), before it is turned."""
        scale = math.number(float(np.float32(self.spatial_scale)))
        height, width = rois[3] * scale, rois[2] * scale
        if not self.aligned:
            height, width = math.maximum(height, 1), math.maximum(width, 1)
        return Span(height * -0.5, height), Span(width * -0.5, width)

    def _counts(self, math: ArrayMath, sides: tuple[Span, Span]) -> list[Value]:
        return [
            count_points(math, side, bins, self.sampling_ratio)
            for side, bins in zip(sides, self.output_size, strict=True)
        ]

    def _turn(
        self, math: ArrayMath, rois: Sequence[Value], v: Value, u: Value
    ) -> tuple[Value, Value]:
        """Places from the centre, down and across, to (y, x) on the map."""
        factor = real_math.pi / 180 if self.angle_unit == "degrees" else 1.0
        cosine, sine = math.cos_sin(
            rois[4], factor if self.angle_direction == "counter-clockwise" else -factor
        )
        scale = math.number(float(np.float32(self.spatial_scale)))
        centre_x, centre_y = (rois[k] * scale for k in (0, 1))
        if self.aligned:
            centre_x, centre_y = centre_x - 0.5, centre_y - 0.5
        return v * cosine - u * sine + centre_y, v * sine + u * cosine + centre_x

    def bin_lines(self, corners: FloatArray, map_size: Size) -> FloatArray:
        """The edges of the turned bins."""
        math, rois = NumpyMath(corners.dtype), list(corners)
        sides = zip(self._sides(math, rois), self.output_size, strict=True)
        lines = lattice(*(cut_evenly(*pair) for pair in sides))
        y, x = self._turn(math, rois, lines[:, :, 1], lines[:, :, 0])
        return np.stack([x, y], axis=2)

    def coordinate_slack(self, corners: FloatArray) -> float:
        """What the last digits of cosine and sine, in which libraries differ, can move a point."""
        sides = self._sides(NumpyMath(np.dtype(np.float64)), list(corners))
        reach = sum(float(np.abs(side.extent)) for side in sides)
        return 2 * float(np.finfo(np.float64).eps) * reach

    def counts(self, corners: FloatArray, map_size: Size) -> IntArray:
        """(k, 2) points a bin of RoIs (k, 5)."""
        math = NumpyMath(corners.dtype)
        down, across = self._counts(math, self._sides(math, list(corners.T)))
        return np.stack([across, down], axis=1)

    def taps(self, math: ArrayMath, rois: Sequence[Value], map_size: tuple[Value, Value]) -> Taps:
        """The cells around each point of the turned grid."""
        sides = self._sides(math, rois)
        counts = self._counts(math, sides)
        v, u = (
            place_points(math, side, self.output_size[i], counts[i], 1 + i)
            for i, side in enumerate(sides)
        )
        points = self._turn(math, rois, v, u)
        return weigh_points(math, points, (counts[0], counts[1]), map_size, self.convention)
