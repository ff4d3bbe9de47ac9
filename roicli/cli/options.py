"""Options of the operators and of how inputs are read. Commands name those that they take."""

from __future__ import annotations

from typing import Annotated

import typer

from roicli.core.vocabulary import (
    Border,
    LevelRule,
    Mode,
    Partition,
    PixelModel,
    PresetName,
    Quantization,
    RoiFormat,
    SamplingGrid,
)

OPERATOR, RULES, READING = "Operator", "Rounding rules", "Reading the inputs"

Features = Annotated[
    str,
    typer.Argument(
        metavar="FEATURES",
        help="Feature maps (N, C, H, W): file.npy, file.h5::/dataset, x.zarr, a URL of one, or -.",
    ),
]
Rois = Annotated[
    str,
    typer.Argument(
        metavar="ROIS",
        help="RoIs (K, 5) batch_index, x1, y1, x2, y2 in pixels: .npy, .h5, .zarr, .csv, .tsv, -.",
    ),
]
OutputSize = Annotated[
    str | None,
    typer.Option(
        "--output-size",
        metavar="N|HxW",
        rich_help_panel=OPERATOR,
        help="Bins, height x width.",
        show_default="7",
    ),
]
SpatialScale = Annotated[
    str | None,
    typer.Option(
        "--spatial-scale",
        metavar="S[,S...]",
        rich_help_panel=OPERATOR,
        help="Cells per image pixel, like 1/16; one per level of a pyramid.",
        show_default="the dataset's attribute spatial_scale, else 1.0",
    ),
]
SamplingRatio = Annotated[
    int | None,
    typer.Option(
        "--sampling-ratio",
        metavar="N",
        rich_help_panel=OPERATOR,
        help="RoI Align: points per axis and bin; 0 is adaptive.",
        show_default="2",
    ),
]
Aligned = Annotated[
    bool | None,
    typer.Option(
        "--aligned/--no-aligned",
        rich_help_panel=OPERATOR,
        help="RoI Align: half-pixel, or legacy.",
        show_default="aligned",
    ),
]
ModeOption = Annotated[
    Mode | None,
    typer.Option(
        "--mode",
        rich_help_panel=OPERATOR,
        show_default="avg",
        help="Mean, or maximum of the interpolated samples (not ONNX's own max).",
    ),
]
Grid = Annotated[
    SamplingGrid | None,
    typer.Option(
        "--sampling-grid",
        rich_help_panel=RULES,
        show_default="quarters",
        help="RoI Align: points at (i + 1/2)/n of a bin, or at (i + 1)/(n + 1).",
    ),
]
QuantizationOption = Annotated[
    Quantization | None,
    typer.Option(
        "--quantization",
        rich_help_panel=RULES,
        help="RoI Pool: how the box is rounded.",
        show_default="caffe",
    ),
]
PartitionOption = Annotated[
    Partition | None,
    typer.Option(
        "--partition",
        rich_help_panel=RULES,
        help="RoI Pool: how the box is cut into bins.",
        show_default="overlap",
    ),
]
BorderOption = Annotated[
    Border | None,
    typer.Option(
        "--border",
        rich_help_panel=OPERATOR,
        help="How the map goes on outside: by its edge cells for one cell, or by zeros.",
        show_default="clamp",
    ),
]
Preset = Annotated[
    PresetName | None,
    typer.Option(
        "--preset",
        rich_help_panel=RULES,
        help="A library's defaults (see roicli presets); other options override them.",
    ),
]
GraphOption = Annotated[
    str | None,
    typer.Option(
        "--graph",
        metavar="MODEL[::NODE]",
        rich_help_panel=OPERATOR,
        help="Take operator and attributes from a RoiAlign or MaxRoiPool node of an ONNX model.",
    ),
]
PixelModelOption = Annotated[
    PixelModel | None,
    typer.Option(
        "--pixel-model",
        rich_help_panel=RULES,
        help="Where the table puts a cell's centre: at i + 1/2, or at i.",
        show_default="what --aligned implies",
    ),
]
Levels = Annotated[
    str | None,
    typer.Option(
        "--levels",
        metavar="NAME,...",
        rich_help_panel=READING,
        help="Datasets of FEATURES that form a pyramid, finest first.",
    ),
]
LevelRuleOption = Annotated[
    LevelRule,
    typer.Option("--level-rule", rich_help_panel=READING, help="RoI area to level."),
]
LevelFrom = Annotated[
    str | None,
    typer.Option(
        "--level-from",
        metavar="ADDRESS",
        rich_help_panel=READING,
        help="K level numbers, log2(stride), instead of the rule.",
    ),
]
RoiFormatOption = Annotated[
    RoiFormat,
    typer.Option("--roi-format", rich_help_panel=READING, help="What the four numbers are."),
]
Normalized = Annotated[
    bool,
    typer.Option(
        "--normalized", rich_help_panel=READING, help="Coordinates are from 0 to 1 of --image-size."
    ),
]
AllowExternal = Annotated[
    bool,
    typer.Option(
        "--allow-external",
        rich_help_panel=READING,
        help="Let HDF5 files lead to others: external links and storage, virtual datasets.",
    ),
]
ImageSize = Annotated[
    str | None,
    typer.Option("--image-size", metavar="HxW", rich_help_panel=READING, help="In pixels."),
]
