"""Position-sensitive RoI Align: RoI Align whose bins each read channels of their own.

Source: torchvision.ops.ps_roi_align (half-pixel); the channels are R-FCN's (Dai et al. 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from roicli.core.operator_table import Operator
from roicli.core.record import frozen
from roicli.core.types import FloatArray, IntArray, Size, check_sampling
from roicli.core.vocabulary import PixelModel
from roicli.operators.array_math import ArrayMath, NumpyMath, Value
from roicli.operators.convention import HALF_PIXEL, LEGACY, PS_ALIGN, Convention
from roicli.operators.placed_bins import Span, count_points, cut_evenly, place_points, place_span
from roicli.operators.taps import (
    Taps,
    TapSpec,
    bilinear_taps,
    check_group_size,
    lattice,
    mask_below,
)


@frozen
class PsAlignSpec(TapSpec):
    """Position-sensitive RoI Align: the mean of interpolated points, on the bin's own channels.

    ``output_size`` (height, width) in bins, ``spatial_scale`` in cells per image pixel,
    ``sampling_ratio`` points per axis and bin (0 = adaptive), ``aligned`` True for half-pixel and
    False for legacy, ``group_size`` g groups of bins on each axis (0: as many as bins), so that C
    channels give C / g^2. Raises ParameterError.
    """

    operator: ClassVar[Operator] = "ps-align"
    title: ClassVar[str] = "position-sensitive RoI Align"

    sampling_ratio: int = 2
    aligned: bool = True
    group_size: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sampling(self.sampling_ratio, self.aligned)
        check_group_size(self.group_size, self.output_size)

    @property
    def pixel_model(self) -> PixelModel:
        """The pixel model that ``aligned`` implies."""
        return "half-pixel" if self.aligned else "legacy"

    @property
    def groups(self) -> int:
        """Groups of bins on an axis."""
        return self.group_size or self.output_size[0]

    @property
    def convention(self) -> Convention:
        """The point of the space of conventions that it is."""
        box = HALF_PIXEL if self.aligned else LEGACY
        ratio, groups = self.sampling_ratio, self.groups
        return replace(PS_ALIGN, box=box, sampling_ratio=ratio, group_size=groups)

    def _spans(self, math: ArrayMath, rois: Sequence[Value]) -> tuple[Span, Span]:
        """(y, x)."""
        box = HALF_PIXEL if self.aligned else LEGACY
        y, x = (place_span(math, rois[i], rois[i + 2], self.spatial_scale, box) for i in (1, 0))
        return y, x

    def counts(self, corners: FloatArray, map_size: Size) -> IntArray:
        """(k, 2) points a bin."""
        math = NumpyMath(corners.dtype)
        spans = self._spans(math, list(corners.T))
        y, x = (
            count_points(math, span, bins, self.sampling_ratio)
            for span, bins in zip(spans, self.output_size, strict=True)
        )
        return np.stack([x, y], axis=1)

    def bin_lines(self, corners: FloatArray, map_size: Size) -> FloatArray:
        """The edges of the bins."""
        spans = self._spans(NumpyMath(corners.dtype), list(corners))
        return lattice(*(cut_evenly(*pair) for pair in zip(spans, self.output_size, strict=True)))

    def taps(self, math: ArrayMath, rois: Sequence[Value], map_size: tuple[Value, Value]) -> Taps:
        """The cells around each point."""
        spans = self._spans(math, rois)
        counts = [
            count_points(math, span, bins, self.sampling_ratio)
            for span, bins in zip(spans, self.output_size, strict=True)
        ]
        y, x = (
            place_points(
                math, span, self.output_size[i], counts[i], 1 + i,
                math.counting(math.largest(counts[i]), 3 + i),
            )
            for i, span in enumerate(spans)
        )  # fmt: skip
        taps, on_map = bilinear_taps(math, y, x, map_size)
        points = math.real(math.maximum(counts[0] * counts[1], 1))
        share = math.exact(math.number(1)) / math.exact(points)
        return Taps(taps, share, mask_below(math, (counts[0], counts[1])), on_map, (y, x))
