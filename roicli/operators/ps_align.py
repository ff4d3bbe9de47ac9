"""Position-sensitive RoI Align: RoI Align whose bins each read channels of their own.

Source: torchvision.ops.ps_roi_align (half-pixel); the channels are R-FCN's (Dai et al. 2016).
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from roicli.core.operator_table import Operator
from roicli.core.record import frozen
from roicli.core.types import check_sampling
from roicli.core.vocabulary import PixelModel
from roicli.operators.convention import HALF_PIXEL, LEGACY, PS_ALIGN, Convention
from roicli.operators.point_taps import PointSpec
from roicli.operators.taps import check_group_size


@frozen
class PsAlignSpec(PointSpec):
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
