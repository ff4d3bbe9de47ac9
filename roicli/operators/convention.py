"""The space of conventions: everything in which one RoI operator differs from another, as data.

A ``Convention`` says how a box is placed on the map (``Placement``), how it is cut into bins, what
the map's border does, how a bin is reduced, which channels it reads, and what it is where there is
nothing to reduce. RoI Align, RoI Pool and the others are regions of this space (``ALIGN``,
``POOL`` ...); a library's function with its defaults is one point of it (``libraries``).
``evaluate`` computes any of them; ``geometry`` decides where the bins lie.
"""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any, Literal

from roicli.core.operator_table import CropNormalization, PsRule
from roicli.core.record import frozen
from roicli.core.vocabulary import Quantization

# Image pixels to cells: by the spatial scale; over the image's size times the map's size less 1;
# over the image's size less 1, the same (Matterport).
Normalization = Literal["scale", "image", "image-less-1"]
CellRounding = Literal[
    "none", "half-away", "half-even", "floor", "floor-size", "round-size", "hull"
]
# Corners; or centre, size and an angle in degrees, seen with y downwards.
Turn = Literal["none", "counter-clockwise", "clockwise"]
Cut = Literal["equal", "overlap", "disjoint", "floor-size", "accumulated", "hull", "clipped"]
Grid = Literal[
    "quarters",
    "even",
    "thirds",
    "corners",
    "edges",
    "ends",
    "upsample",
    "offset-corners",
    "unalign-corners",
]
BorderRule = Literal["clamp", "zero", "skip", "extrapolate", "value"]
Reduction = Literal[
    "mean",
    "max",
    "max-weighted-corners",
    "max-split-corners",
    "max-floored",
    "cell-mean",
    "cell-max",
    "integral",
]
Interpolation = Literal["bilinear", "nearest"]
# Which channels a bin reads: all; its own of each class (R-FCN); its own block (TensorFlow).
Channels = Literal["all", "class-major", "position-major"]
Empty = Literal["0", "nan", "-inf", "-flt-max", "-10000", "point"]

EMPTY_VALUES: dict[Empty, float] = {
    "0": 0.0,
    "nan": math.nan,
    "-inf": -math.inf,
    "-flt-max": -(2.0 - 2.0**-23) * 2.0**127,
    "-10000": -10000.0,
    "point": 0.0,  # an adaptive bin has a point at least, so that none is empty
}
CELLS: tuple[Reduction, ...] = ("cell-mean", "cell-max")


@frozen
class Placement:
    """How one axis of a box is placed on the map.

    In this order: ``pixel_rounding`` of the corners in image pixels, half away from zero;
    ``start_px`` and ``end_px`` added; to cells by ``normalization``; ``shift_cells`` added;
    ``rounding`` to whole cells, with an ``inclusive`` end cell or not; an extent of at least
    ``minimum`` cells (None: as it is, also negative), kept ``about`` the corner or the centre.
    """

    normalization: Normalization = "scale"
    pixel_rounding: bool = False
    start_px: float = 0.0
    end_px: float = 0.0
    shift_cells: float = 0.0
    rounding: CellRounding = "none"
    inclusive: bool = False
    minimum: float | None = None
    about: Literal["corner", "centre"] = "corner"
    turn: Turn = "none"


HALF_PIXEL = Placement(shift_cells=-0.5)
LEGACY = Placement(minimum=1.0)
REAL = Placement()
R_FCN = Placement(pixel_rounding=True, end_px=1.0, minimum=0.1)
CAFFE = Placement(rounding="half-away", inclusive=True, minimum=1.0)
HALF_EVEN = Placement(rounding="half-even", minimum=1.0)  # Chainer
# Apache TVM: as CAFFE but for the halves of negative edges.
HALF_UP = Placement(shift_cells=0.5, rounding="floor", inclusive=True, minimum=1.0)
# CNTK and Arm's Compute Library: the start and the size are rounded, and not the end.
ROUND_SIZE = Placement(rounding="round-size", minimum=1.0)
# RoI Pool's rounding rules by their words (``rounding.BOX_RULES`` has them in NumPy and ONNX).
BOXES: dict[Quantization, Placement] = {
    "caffe": CAFFE,
    "floor": Placement(rounding="floor-size", minimum=1.0),
    "round": Placement(rounding="half-away", minimum=1.0),
    "half-even": HALF_EVEN,
    "hull": Placement(rounding="hull", minimum=1.0),
    "mmcv": Placement(end_px=1.0),
}


@frozen
class Convention:
    """One rule for region features.

    ``cut``: "equal" bins of real size, read at points; or whole cells, from ``floor`` to ``ceil``
    of the edges ("overlap"; "accumulated" adds the edges up in single precision; "hull" rounds
    edges on the map, not in the box), "disjoint", "floor-size"; "clipped" clips each bin to the
    map and counts its points afterwards (ncnn). ``grid``: where in a bin its points lie;
    "corners" begins a bin, "edges" begins and ends it; "even" is "quarters" rounded as one row of
    points over the box; "ends" from one end of it to the other; "upsample", "offset-corners" and
    "unalign-corners" are Core ML's other ways to resize a box, whose points never leave it.
    ``sampling_ratio`` points an axis and bin, 0 adaptive.
    ``border``: what a point reads that lies past the first or last cell's centre; beyond ``reach``
    cells past it counts ``border_value`` or, under "skip", nothing. ``last_cell`` False never reads
    the last row and column (torchvision's ps_roi_pool). ``channels``: unless "all", an axis has
    ``group_size`` groups of bins (0: each bin is one), whose channels are its own.
    ``empty``: a bin without cells or points.
    """

    box: Placement = HALF_PIXEL
    cut: Cut = "equal"
    grid: Grid = "quarters"
    sampling_ratio: int = 2
    border: BorderRule = "clamp"
    reach: float = 1.0
    border_value: float = 0.0
    last_cell: bool = True
    interpolation: Interpolation = "bilinear"
    reduction: Reduction = "mean"
    channels: Channels = "all"
    group_size: int = 0
    empty: Empty = "0"

    @property
    def reads_cells(self) -> bool:
        """Whether a bin is a window of whole cells, and not points."""
        return self.reduction in CELLS

    def placed(self, **changes: Any) -> Convention:
        """The same with another placement of its box."""
        return replace(self, box=replace(self.box, **changes))

    def parameters(self) -> dict[str, Any]:
        """All fields by name, the box's among them."""
        flat = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "box"}
        return {**{f.name: getattr(self.box, f.name) for f in fields(self.box)}, **flat}


# The named regions of the space, each at its plain point ----------------------------------------

ALIGN = Convention()
POOL = Convention(CAFFE, cut="overlap", reduction="cell-max")
AVERAGE_POOL = replace(POOL, reduction="cell-mean")
# How crop_and_resize and its kin place points.
CROP_GRIDS: tuple[Grid, ...] = ("ends", "upsample", "offset-corners", "unalign-corners")
CROP = Convention(REAL, grid="ends", sampling_ratio=1, border="value", reach=0.0)
PS_POOL = Convention(R_FCN, cut="hull", reduction="cell-mean", channels="class-major")
PS_ALIGN = replace(ALIGN, channels="class-major")
PRECISE_POOL = Convention(REAL, reduction="integral")
# Regions by the words of their commands' options.
PS_RULES: dict[PsRule, Convention] = {
    "r-fcn": PS_POOL,
    "torchvision": replace(PS_POOL, box=BOXES["round"], cut="overlap", last_cell=False),
    "chainercv": replace(PS_POOL, box=replace(R_FCN, pixel_rounding=False, end_px=0.0)),
}
CROPS: dict[CropNormalization, Convention] = {
    "cells": CROP,
    "image": CROP.placed(normalization="image"),
    "matterport": CROP.placed(normalization="image-less-1", end_px=-1.0),
}
DEFORM_POOL = Convention(
    replace(R_FCN, shift_cells=-0.5),
    grid="corners",
    sampling_ratio=4,
    border="skip",
    reach=0.5,
    channels="class-major",
)
ROTATED_ALIGN = ALIGN.placed(turn="counter-clockwise")
# The first PyTorch detectors: means of points that neighbouring bins share.
EDGES = Convention(
    Placement(inclusive=True, minimum=0.0), grid="edges", border="value", reach=0.0
)  # fmt: skip
POINT_ALIGN = Convention(REAL, sampling_ratio=1, border="extrapolate")  # Model Garden, KerasCV
