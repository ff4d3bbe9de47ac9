"""Deformable RoI Pool: RoI Align whose bins are each moved by an offset of their own.

Dai et al. 2017 (Deformable Convolutional Networks), section 2.2: the bin (i, j) of a RoI of extent
(w, h) cells is moved by ``gamma * (w * dx[i, j], h * dy[i, j])`` cells. Sources: mmcv
deform_roi_pool ("mmcv"); deformable position-sensitive RoI pooling, OpenVINO
DeformablePSROIPooling-1 ("r-fcn").
"""

from __future__ import annotations

import math as real_math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, assert_never

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.operator_table import DeformRule, Operator
from roicli.core.record import frozen
from roicli.core.types import FloatArray, Size, check_sampling, check_word
from roicli.core.vocabulary import PixelModel
from roicli.operators.array_math import ArrayMath, NumpyMath, Value
from roicli.operators.convention import ALIGN, DEFORM_POOL, Convention
from roicli.operators.placed_bins import Span
from roicli.operators.point_taps import PointSpec
from roicli.operators.taps import check_group_size, lattice


@frozen
class DeformPoolSpec(PointSpec):
    """Deformable RoI Pool (Dai et al. 2017, section 2.2); its RoIs have offsets (2, P_h, P_w).

    ``output_size`` (height, width) in bins, ``spatial_scale`` in cells per image pixel,
    ``sampling_ratio`` points per axis and bin, ``gamma`` what an offset of 1 moves a bin, as a
    share of the RoI's extent. ``deform_rule`` "mmcv" is half-pixel RoI Align (0 points are
    adaptive); "r-fcn" is position-sensitive: corners rounded before they are scaled, extent at
    least 0.1, points from the corner of the bin on, those off the map not counted, and
    ``group_size`` g groups of bins (0: as many as bins), so that C channels give C / g^2. Raises
    ParameterError.
    """

    operator: ClassVar[Operator] = "deform-pool"
    title: ClassVar[str] = "deformable RoI Pool"

    sampling_ratio: int = 2
    gamma: float = 0.1
    deform_rule: DeformRule = "mmcv"
    group_size: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word("deform rule", self.deform_rule, DeformRule)
        check_sampling(self.sampling_ratio, True)
        if not real_math.isfinite(self.gamma):
            raise ParameterError(f"gamma is {self.gamma}, expected a finite number")
        match self.deform_rule:
            case "mmcv":
                if self.group_size:
                    raise ParameterError(
                        f"group size is {self.group_size}, and deform rule mmcv has no groups",
                        "drop --group-size, or give --deform-rule r-fcn",
                    )
            case "r-fcn":
                check_group_size(self.group_size, self.output_size)
                if self.sampling_ratio == 0:
                    raise ParameterError(
                        "sampling ratio is 0 (adaptive), and deform rule r-fcn has a number of "
                        "points",
                        "give --sampling-ratio, 4 in the authors' code",
                    )
            case _:
                assert_never(self.deform_rule)

    @property
    def pixel_model(self) -> PixelModel:
        """Both rules are half a cell back."""
        return "half-pixel"

    @property
    def groups(self) -> int:
        """Groups of bins on an axis."""
        return 1 if self.deform_rule == "mmcv" else self.group_size or self.output_size[0]

    @property
    def convention(self) -> Convention:
        """What it is where nothing is moved."""
        match self.deform_rule:
            case "mmcv":
                return replace(ALIGN, sampling_ratio=self.sampling_ratio)
            case "r-fcn":
                ratio, groups = self.sampling_ratio, self.groups
                return replace(DEFORM_POOL, sampling_ratio=ratio, group_size=groups)
            case _:
                assert_never(self.deform_rule)

    @property
    def offset_shape(self) -> tuple[int, ...]:
        """(2, P_h, P_w): x and y of each bin."""
        return (2, *self.output_size)

    def _spans(self, math: ArrayMath, rois: Sequence[Value]) -> tuple[Span, Span]:
        """(y, x), where each bin's box begins elsewhere."""
        spans = super()._spans(math, rois[:4])
        y, x = (
            Span(span.start + span.extent * math.number(self.gamma) * offset, span.extent)
            for span, offset in zip(spans, (rois[5], rois[4]), strict=True)
        )
        return y, x

    def bin_lines(self, corners: FloatArray, map_size: Size) -> FloatArray:
        """The four edges of every bin, where it is moved to."""
        spans = self._spans(NumpyMath(corners.dtype), self.values_of(corners[None]))
        lines: list[FloatArray] = []
        for place in np.ndindex(self.output_size):
            edges = []
            for span, number, bins in zip(spans, place, self.output_size, strict=True):
                size = span.extent.item() / bins
                low = span.start[(0, *place)].item() + number * size
                edges.append([low, low + size])
            lines.extend(lattice(*edges))
        return np.array(lines)
