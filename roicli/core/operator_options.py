"""Options of what an operator computes; ``options`` says how they are declared."""

# Annotations are read at run time, so they are no text here.
from collections.abc import Sequence
from typing import Annotated, TypedDict

from roicli.core.declaration import Opt
from roicli.core.panels import OPERATOR, ROUNDING, describe
from roicli.core.parse import (
    Path,
    Size,
    as_path,
    as_scales,
    as_size,
)
from roicli.core.vocabulary import (
    PARTITION_MEANINGS,
    QUANTIZATION_MEANINGS,
    Border,
    Mode,
    Partition,
    PixelModel,
    Quantization,
    SamplingGrid,
)


class SizeOption(TypedDict, total=False):
    """The bins of a RoI: one number, "HxW" or (height, width)."""

    output_size: Annotated[
        int | str | Size | None,
        Opt(
            "--output-size",
            OPERATOR,
            "Bins, height x width.",
            7,
            metavar="N|HxW",
            yields=True,
            read=as_size,
        ),
    ]


class ScaleOption(TypedDict, total=False):
    """Cells per image pixel: a number, "1/16", one a level, or "auto" with the image size."""

    spatial_scale: Annotated[
        float | str | Sequence[float] | None,
        Opt(
            "--spatial-scale",
            OPERATOR,
            "Cells per image pixel, like 1/16; one per level; auto: from --image-size.",
            metavar="S[,S...]|auto",
            shown="the dataset's attribute spatial_scale, else 1.0",
            read=as_scales,
        ),
    ]


class RatioOption(TypedDict, total=False):
    """RoI Align's sampling ratio; 0 is adaptive."""

    sampling_ratio: Annotated[
        int | None,
        Opt(
            "--sampling-ratio",
            OPERATOR,
            "RoI Align: points per axis and bin; 0 is adaptive.",
            2,
            metavar="N",
            yields=True,
        ),
    ]


class SamplingOptions(TypedDict, total=False):
    """Where RoI Align samples: half-pixel or legacy coordinates, and where in a bin."""

    aligned: Annotated[
        bool | None,
        Opt(
            "--aligned/--no-aligned",
            OPERATOR,
            "RoI Align: half-pixel, or legacy.",
            True,
            shown="aligned",
            yields=True,
        ),
    ]
    sampling_grid: Annotated[
        SamplingGrid | None,
        Opt(
            "--sampling-grid",
            ROUNDING,
            "RoI Align: points at (i + 1/2)/n of a bin, or at (i + 1)/(n + 1).",
            "quarters",
            yields=True,
        ),
    ]


class ModeOption(TypedDict, total=False):
    """Mean, or the maximum of the interpolated samples."""

    mode: Annotated[
        Mode | None,
        Opt(
            "--mode",
            OPERATOR,
            "Mean, or maximum of the interpolated samples (not ONNX's own max).",
            "avg",
            yields=True,
        ),
    ]


class RoundingOptions(TypedDict, total=False):
    """How RoI Pool rounds."""

    quantization: Annotated[
        Quantization | None,
        Opt(
            "--quantization",
            ROUNDING,
            f"RoI Pool: how the box is rounded. {describe(QUANTIZATION_MEANINGS)}",
            "caffe",
            yields=True,
        ),
    ]
    partition: Annotated[
        Partition | None,
        Opt(
            "--partition",
            ROUNDING,
            f"RoI Pool: how the box is cut into bins. {describe(PARTITION_MEANINGS)}",
            "overlap",
            yields=True,
        ),
    ]


class BorderOption(TypedDict, total=False):
    """How Precise RoI Pooling continues the map outside."""

    border: Annotated[
        Border | None,
        Opt(
            "--border",
            OPERATOR,
            "How the map goes on outside: by its edge cells for one cell, or by zeros.",
            "clamp",
            yields=True,
        ),
    ]


class PixelModelOption(TypedDict, total=False):
    """Where the error table puts a cell's centre, over what ``aligned`` implies."""

    pixel_model: Annotated[
        PixelModel | None,
        Opt(
            "--pixel-model",
            ROUNDING,
            "Where the table puts a cell's centre: at i + 1/2, or at i.",
            shown="what --aligned implies",
        ),
    ]


class PresetOption(TypedDict, total=False):
    """Another library's defaults, which other options override."""

    preset: Annotated[
        str | None,
        Opt(
            "--preset",
            ROUNDING,
            "A library's defaults (see roicli presets); other options override them.",
            metavar="LIBRARY[.FUNCTION]",
        ),
    ]


class GraphOption(TypedDict, total=False):
    """A node of an ONNX model that has the operator's attributes."""

    graph: Annotated[
        Path | None,
        Opt(
            "--graph",
            OPERATOR,
            "Take operator and attributes from a RoiAlign or MaxRoiPool node of an ONNX model.",
            metavar="MODEL[::NODE]",
            read=as_path,
            outward=True,
        ),
    ]
