"""Every option, declared once. Commands name the ones that they take."""

from __future__ import annotations

from typing import Annotated

import typer

from roicli.vocabulary import (
    Compression,
    LevelRule,
    Mode,
    Partition,
    PixelModel,
    PresetName,
    Provider,
    Quantization,
    ResultDtype,
    RoiFormat,
    SamplingGrid,
    TableFormat,
)

OPERATOR, RULES, READING = "Operator", "Rounding rules", "Reading the inputs"
WRITING, TABLE, RUNNING = "Writing the result", "Error table", "Running"

Features = Annotated[
    str,
    typer.Argument(
        metavar="FEATURES",
        help="Feature maps (N, C, H, W): file.npy, file.h5, file.h5::/dataset, or - for stdin.",
    ),
]
Rois = Annotated[
    str,
    typer.Argument(
        metavar="ROIS",
        help="RoIs (K, 5) batch_index, x1, y1, x2, y2 in image pixels: .npy, .h5, .csv, .tsv, -.",
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        rich_help_panel=WRITING,
        help=".h5, .npy, or - for an .npy on stdout.",
        show_default="<features>.<command>.h5",
    ),
]
Force = Annotated[
    bool, typer.Option("--force", rich_help_panel=WRITING, help="Replace an existing file.")
]
CompressionOption = Annotated[
    Compression,
    typer.Option("--compression", rich_help_panel=WRITING, help="Of the HDF5 result."),
]
Dtype = Annotated[
    ResultDtype | None,
    typer.Option(
        "--dtype",
        rich_help_panel=WRITING,
        help="Of the result.",
        show_default="float32, or float64 for float64 features",
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
ImageSize = Annotated[
    str | None,
    typer.Option("--image-size", metavar="HxW", rich_help_panel=READING, help="In pixels."),
]
ProviderOption = Annotated[
    Provider,
    typer.Option(
        "--provider",
        rich_help_panel=RUNNING,
        help="What computes; auto is cuda where it loads, else cpu.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        rich_help_panel=RUNNING,
        show_default="the usable cores",
        help="Threads of ONNX Runtime, and chunks of RoIs for its serial MaxRoiPool.",
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="BYTES",
        rich_help_panel=RUNNING,
        help="Peak memory, like 512M or 2G.",
        show_default="a quarter of what is free",
    ),
]
Format = Annotated[
    TableFormat, typer.Option("--format", rich_help_panel=TABLE, help="Of the table on stdout.")
]
ErrorsOut = Annotated[
    str | None,
    typer.Option(
        "--errors-out",
        metavar="FILE",
        rich_help_panel=TABLE,
        help="The whole table to a file too: .csv, .tsv, .json, .jsonl.",
    ),
]
Rows = Annotated[
    str,
    typer.Option(
        "--rows", metavar="N|all", rich_help_panel=TABLE, help="Rows to show, the worst first."
    ),
]
Sort = Annotated[
    str, typer.Option("--sort", metavar="COLUMN", rich_help_panel=TABLE, help="By which column.")
]
Columns = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="NAME,...",
        rich_help_panel=TABLE,
        help="Which columns to show.",
        show_default="those that fit",
    ),
]
NoTable = Annotated[bool, typer.Option("--no-table", rich_help_panel=TABLE, help="Show no table.")]
Values = Annotated[
    bool,
    typer.Option(
        "--values",
        rich_help_panel=TABLE,
        help="Measure value errors and their three shares too (runs pool, align and warp).",
    ),
]
FailOver = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-over",
        metavar="[STAT:]COLUMN=VALUE",
        rich_help_panel=TABLE,
        help="Exit 1 where a value is greater, like p95:edge_error_max_px=8. Repeatable.",
    ),
]
FailUnder = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-under",
        metavar="[STAT:]COLUMN=VALUE",
        rich_help_panel=TABLE,
        help="Exit 1 where a value is less, like iou=0.5. Repeatable.",
    ),
]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", rich_help_panel=RUNNING, help="No notes, no table.")
]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", rich_help_panel=RUNNING, help="More on stderr.")
]
SORT_DEFAULT = "edge_error_max_px"
