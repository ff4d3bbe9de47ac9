"""Rules of other libraries that no operator's own options reach, run as the table has them.

One graph of ``taps`` runs any point of the space of conventions that reads points or whole cells;
the rules that have an operator of their own take that, which may be a single node.
"""

from __future__ import annotations

from typing import Any

from roicli.core.record import frozen
from roicli.core.types import Size
from roicli.core.vocabulary import PixelModel
from roicli.operators.cell_taps import CellSpec
from roicli.operators.convention import ALIGN, EMPTY_VALUES, Convention
from roicli.operators.interface import Compiled
from roicli.operators.phrases import describe
from roicli.operators.point_taps import PointSpec
from roicli.operators.taps import TapSpec, check_group_size


@frozen
class PresetSpec(TapSpec):
    """The function ``preset`` of a library, which computes ``convention``.

    ``output_size`` (height, width) in bins, ``spatial_scale`` in cells per image pixel. An empty
    bin is what the function makes it. Raises ParameterError.
    """

    preset: str = ""
    convention: Convention = ALIGN

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.convention.channels != "all":
            check_group_size(self.convention.group_size, self.output_size)

    @property
    def name(self) -> str:
        """The function's."""
        return self.preset

    @property
    def compiled(self) -> Compiled | None:
        """The kernel adds; of maxima it knows those alone whose samples are all there."""
        is_sum = not self.takes_maximum and self.empty == 0
        return super().compiled if is_sum else None

    @property
    def groups(self) -> int:
        """Groups of bins on an axis."""
        if self.convention.channels == "all":
            return 1
        return self.convention.group_size or self.output_size[0]

    @property
    def empty(self) -> float:
        """The value of a bin without samples."""
        return EMPTY_VALUES[self.convention.empty]

    def describe(self) -> dict[str, Any]:
        """The function, and every parameter of the convention; the scale is the map's."""
        return {
            "output_size": list(self.output_size),
            "function": self.preset,
            "convention": describe(self.convention),
            **self.convention.parameters(),
        }


@frozen
class PresetPointSpec(PresetSpec, PointSpec):
    """A rule that reads points."""

    @property
    def pixel_model(self) -> PixelModel:
        """Whether its boxes are half a cell back."""
        return "half-pixel" if self.convention.box.shift_cells else "legacy"


@frozen
class PresetCellSpec(PresetSpec, CellSpec):
    """A rule that reads whole cells."""

    @property
    def compiled(self) -> Compiled | None:
        """Maxima have RoI Pool's kernel, which knows one group, and 0 for an empty bin."""
        if self.takes_maximum and self.empty == 0 and self.groups == 1:
            return Compiled("run_cell_maxima", ("pool_blocks",))
        return super().compiled


def has_graph(convention: Convention) -> bool:
    """Whether ``build_preset_spec`` runs it: upright boxes by the scale, read cell by cell or at
    points, but for those from end to end, which are crop_and_resize's.
    """
    box = convention.box
    reads = convention.reads_cells or (
        convention.grid != "ends"
        and convention.reduction != "integral"
        and convention.interpolation == "bilinear"
    )
    return reads and box.turn == "none" and box.normalization == "scale"


def build_preset_spec(preset: str, convention: Convention, output_size: Size) -> PresetSpec:
    """What runs a function of a library. Raises ParameterError."""
    kind = PresetCellSpec if convention.reads_cells else PresetPointSpec
    return kind(output_size, preset=preset, convention=convention)
