"""The operators there are: an entry each, with its word, its options, and where its file is.

A new operator is its file in ``operators/`` and its entry here. Its command, its place in
``export`` and ``bench``, its record and its checks follow; what stands in ``api`` beside it is its
call as a type checker reads it. Nothing here needs NumPy, for the help reads it.
"""

# Annotations are read at run time, so they are no text here.
from typing import Annotated, Literal, NamedTuple, TypedDict

from roicli.core.declaration import Opt
from roicli.core.input_options import AngleOptions, ExternalOption, IgnoreOption, ReadingOptions
from roicli.core.operator_options import (
    BorderOption,
    GraphOption,
    ModeOption,
    PixelModelOption,
    PresetOption,
    RatioOption,
    RoundingOptions,
    SamplingOptions,
    ScaleOption,
    SizeOption,
)
from roicli.core.options import (
    CompressionOption,
    DaskOption,
    DeviceOptions,
    ErrorsOutOption,
    ForceOption,
    GroupByOption,
    ProviderOption,
    ResourceOptions,
    ResultDtypeOption,
    ResumeOptions,
    ShardOption,
    ValuesOption,
    VerifyOptions,
    WatchOptions,
)
from roicli.core.panels import OPERATOR, ROUNDING
from roicli.core.parse import ArrayLike, Path

Operator = Literal[
    "align", "pool", "precise-pool", "crop-and-resize", "average-pool", "ps-pool", "ps-align",
    "rotated-align", "deform-pool",
]  # fmt: skip
CropNormalization = Literal["image", "matterport", "cells"]
Interpolation = Literal["bilinear", "nearest"]
CropPoints = Literal["one", "max", "avg"]
Outside = Literal["value", "zeros"]
PsRule = Literal["r-fcn", "torchvision", "chainercv"]
DeformRule = Literal["mmcv", "r-fcn"]


class OperatorOptions(
    SizeOption,
    ScaleOption,
    RatioOption,
    SamplingOptions,
    RoundingOptions,
    PixelModelOption,
    PresetOption,
    total=False,
):
    """What RoI Align and RoI Pool compute, which every run's error table compares; what is not
    given comes from the preset, then the defaults.
    """


class RunOptions(
    ForceOption,
    ResumeOptions,
    CompressionOption,
    ResultDtypeOption,
    ShardOption,
    DaskOption,
    OperatorOptions,
    ReadingOptions,
    IgnoreOption,
    ExternalOption,
    ProviderOption,
    ResourceOptions,
    VerifyOptions,
    DeviceOptions,
    ValuesOption,
    ErrorsOutOption,
    GroupByOption,
    WatchOptions,
    total=False,
):
    """The keywords that the operators' calls share."""


class AlignOptions(RunOptions, ModeOption, GraphOption, total=False):
    """The keywords of ``align``."""


class PoolOptions(RunOptions, GraphOption, total=False):
    """The keywords of ``pool``."""


class PrecisePoolOptions(RunOptions, BorderOption, total=False):
    """The keywords of ``precise_pool``."""


class CropOptions(TypedDict, total=False):
    """How the box of ``crop_and_resize`` is placed on the map, and what its points read."""

    normalization: Annotated[
        CropNormalization | None,
        Opt(
            "--normalization",
            ROUNDING,
            "How the corners become shares of the map: x/W of the image, Matterport's "
            "(x1, x2 - 1)/(W - 1), or cells x*s.",
            "image",
            yields=True,
        ),
    ]
    interpolation: Annotated[
        Interpolation | None,
        Opt("--interpolation", OPERATOR, "What a point reads.", "bilinear", yields=True),
    ]
    crop_points: Annotated[
        CropPoints | None,
        Opt(
            "--crop-points",
            OPERATOR,
            "One point a bin, or 2 x 2 and their maximum or mean.",
            "one",
            yields=True,
        ),
    ]
    outside_rule: Annotated[
        Outside | None,
        Opt(
            "--outside-rule",
            OPERATOR,
            "Off the map: points have --extrapolation-value, or cells count 0 (kornia).",
            "value",
            yields=True,
        ),
    ]
    extrapolation_value: Annotated[
        float | None,
        Opt(
            "--extrapolation-value",
            OPERATOR,
            "The value of a point off the map.",
            0.0,
            metavar="X",
            yields=True,
        ),
    ]


class CropAndResizeOptions(RunOptions, CropOptions, total=False):
    """The keywords of ``crop_and_resize``."""


class GroupSizeOption(TypedDict, total=False):
    """How many groups of bins ``ps_pool`` and ``ps_align`` have on each axis."""

    group_size: Annotated[
        int | None,
        Opt(
            "--group-size",
            OPERATOR,
            "Position-sensitive: groups of bins on an axis; C channels give C/g^2.",
            0,
            metavar="G",
            shown="as many as bins",
            yields=True,
        ),
    ]


class PsRuleOption(TypedDict, total=False):
    """How ``ps_pool`` rounds a box."""

    ps_rule: Annotated[
        PsRule | None,
        Opt(
            "--ps-rule",
            ROUNDING,
            "Position-sensitive RoI Pool: corners rounded before scaling (r-fcn), after it, the "
            "last row and column unread (torchvision), or not at all (chainercv).",
            "r-fcn",
            yields=True,
        ),
    ]


class DeformOptions(TypedDict, total=False):
    """How ``deform_pool`` moves its bins.

    ``offsets`` is an address or an array (K, 2, P_h, P_w): for every row of the RoIs' file, shifts
    to the right and down as shares of the RoI's extent over ``gamma``; None moves nothing.
    """

    offsets: Annotated[
        Path | ArrayLike | None,
        Opt(
            "--offsets",
            OPERATOR,
            "Deformable: a dataset K x 2 x P_h x P_w of shifts, x then y, a row for each RoI.",
            metavar="ADDRESS",
            outward=True,
        ),
    ]
    gamma: Annotated[
        float | None,
        Opt(
            "--gamma",
            OPERATOR,
            "Deformable: what an offset of 1 moves a bin, as a share of the RoI's extent.",
            0.1,
            metavar="X",
            yields=True,
        ),
    ]
    deform_rule: Annotated[
        DeformRule | None,
        Opt(
            "--deform-rule",
            ROUNDING,
            "Deformable: RoI Align's points (mmcv), or position-sensitive bins whose corners are "
            "rounded before scaling (r-fcn).",
            "mmcv",
            yields=True,
        ),
    ]


class AveragePoolOptions(RunOptions, total=False):
    """The keywords of ``average_pool``."""


class PsPoolOptions(RunOptions, GroupSizeOption, PsRuleOption, total=False):
    """The keywords of ``ps_pool``."""


class PsAlignOptions(RunOptions, GroupSizeOption, total=False):
    """The keywords of ``ps_align``."""


class RotatedAlignOptions(RunOptions, total=False):
    """The keywords of ``rotated_align``."""


class DeformPoolOptions(RunOptions, DeformOptions, GroupSizeOption, total=False):
    """The keywords of ``deform_pool``."""


class OwnOptions(
    ModeOption,
    GraphOption,
    BorderOption,
    CropOptions,
    GroupSizeOption,
    PsRuleOption,
    DeformOptions,
    AngleOptions,
    total=False,
):
    """What single operators have beside what all share; a call that takes any takes all."""


class OperatorEntry(NamedTuple):
    """One operator: its class ``spec`` in ``operators.<module>``, the TypedDict of its call's
    keywords, and what its command does, as a sentence of the help.
    """

    module: str
    spec: str
    options: type
    help: str


OPERATORS: dict[Operator, OperatorEntry] = {
    "align": OperatorEntry(
        "roi_align",
        "AlignSpec",
        AlignOptions,
        "Run RoI Align and show what RoI Pool's rounding would have cost each RoI.",
    ),
    "pool": OperatorEntry(
        "roi_pool",
        "PoolSpec",
        PoolOptions,
        "Run RoI Pool and show what its rounding cost each RoI.",
    ),
    "precise-pool": OperatorEntry(
        "precise_roi_pool",
        "PrecisePoolSpec",
        PrecisePoolOptions,
        "Run Precise RoI Pooling: the exact mean of the interpolated map over each bin.",
    ),
    "crop-and-resize": OperatorEntry(
        "crop_and_resize",
        "CropAndResizeSpec",
        CropAndResizeOptions,
        "Run crop and resize, the RoI Align of what came from TensorFlow.",
    ),
    "average-pool": OperatorEntry(
        "average_pool",
        "AveragePoolSpec",
        AveragePoolOptions,
        "Run average RoI Pool: RoI Pool's bins, and the mean of their cells.",
    ),
    "ps-pool": OperatorEntry(
        "average_pool",
        "PsPoolSpec",
        PsPoolOptions,
        "Run position-sensitive RoI Pool (R-FCN): each bin reads channels of its own.",
    ),
    "ps-align": OperatorEntry(
        "ps_align",
        "PsAlignSpec",
        PsAlignOptions,
        "Run position-sensitive RoI Align: each bin reads channels of its own.",
    ),
    "rotated-align": OperatorEntry(
        "rotated_align",
        "RotatedAlignSpec",
        RotatedAlignOptions,
        "Run rotated RoI Align at turned RoIs: image, cx, cy, w, h, angle.",
    ),
    "deform-pool": OperatorEntry(
        "deform_pool",
        "DeformPoolSpec",
        DeformPoolOptions,
        "Run deformable RoI Pool: RoI Align whose bins are moved by offsets of their own.",
    ),
}


def call_name(operator: Operator) -> str:
    """The name of an operator's call in Python."""
    return operator.replace("-", "_")
