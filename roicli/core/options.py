"""Every option, declared once: keyword of the library, parameter of a command, line of the help.

Small TypedDicts hold what belongs together; a call's own TypedDict is made of them, and a command's
of the call's and of what only a command has. ``PANELS`` is the order of the help.
"""

# Annotations are read at run time, so they are no text here.
import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol, TypedDict

from roicli.core.declaration import Opt, PythonOnly
from roicli.core.parsing import (
    AUTO,
    Size,
    as_bytes,
    as_count,
    as_layout,
    as_names,
    as_path,
    as_roi_scale,
    as_scales,
    as_size,
)
from roicli.core.progress import Progress, StageTimes, no_progress
from roicli.core.vocabulary import (
    PARTITION_MEANINGS,
    QUANTIZATION_MEANINGS,
    AngleDirection,
    AngleUnit,
    Border,
    Compression,
    LevelRule,
    Mode,
    Partition,
    PixelModel,
    Provider,
    Quantization,
    ResultDtype,
    RoiFormat,
    SamplingGrid,
    StoredAs,
)

LOOKING, RULES, TOLERATED = "What to look at", "Rules", "What is tolerated"
WRITING, MACHINES = "Writing the result", "Several machines"
OPERATOR, ROUNDING = "Operator", "Rounding rules"
READING, RUNNING, TABLE = "Reading the inputs", "Running", "Error table"
PHOTOS = "Photos"
PANELS = (
    None, LOOKING, RULES, TOLERATED, OPERATOR, ROUNDING, WRITING, TABLE, READING, PHOTOS, RUNNING,
    MACHINES,
)  # fmt: skip

Path = str | os.PathLike[str]


def describe(meanings: Mapping[str, str]) -> str:
    """Words and what they mean, as a sentence of the help."""
    return "; ".join(f"{word}: {meaning}" for word, meaning in meanings.items()) + "."


class ArrayLike(Protocol):
    """An array, as NumPy knows one."""

    def __array__(self) -> Any:
        """The array's values."""


# What an operator computes


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


# How the inputs are read


class ChoiceOptions(TypedDict, total=False):
    """Whose image a RoI is of, and which RoIs there are.

    ``images`` are the keys of the maps' images, in their order: a file of them, or the keys;
    ``image_from`` an address or array that says whose each RoI is, or two (first and last rows);
    ``where`` a condition on the columns; ``drop_invalid`` leaves out rows that only fill up.
    """

    images: Annotated[
        Path | Sequence[Any] | ArrayLike | None,
        Opt(
            "--images",
            READING,
            "What the maps' images are called, in order: a file of keys, or keys like 397133,37777 "
            "or 1..8. RoIs name their image so.",
            metavar="LIST",
            shown="{image} in FEATURES, image_ids beside the maps, else numbers from 0",
            outward=True,
        ),
    ]
    image_from: Annotated[
        Path | ArrayLike | Sequence[Any] | None,
        Opt(
            "--image-from",
            READING,
            "What says whose image a RoI is: an index a RoI, counts, starts or ranges of rows an "
            "image. The kind is recognized; :indices, :counts, :starts, :ranges, :inclusive, "
            ":lengths say it.",
            metavar="ADDRESS[:KIND]|FIRST,LAST",
            outward=True,
        ),
    ]
    where: Annotated[
        str | None,
        Opt(
            "--where",
            READING,
            "Only RoIs that fulfil a condition, like \"score > 0.5 and class == 'person'\".",
            metavar="CONDITION",
        ),
    ]
    drop_invalid: Annotated[
        bool,
        Opt(
            "--drop-invalid",
            READING,
            "Leave out rows that only fill up an array (zeros, -1, NaN) or are of no image.",
            False,
        ),
    ]


class MapOptions(TypedDict, total=False):
    """How maps are held in their file.

    ``layout`` names their axes, ``decode`` applies what their attributes say of packed numbers,
    ``stored_as`` says what integers of 16 bits are.
    """

    layout: Annotated[
        str,
        Opt(
            "--layout",
            READING,
            "The axes of FEATURES as the file holds them: nchw, nhwc, ncwh (or reversed), chw, "
            "hwc, cwh, tokens:HxW; auto is what the file says of them, else nchw.",
            AUTO,
            metavar="AXES",
            read=as_layout,
        ),
    ]
    decode: Annotated[
        bool,
        Opt(
            "--decode/--no-decode",
            READING,
            "Unpack FEATURES as their attributes say: scale_factor, add_offset, _FillValue; scale, "
            "zero_point.",
            True,
            shown="decode",
        ),
    ]
    stored_as: Annotated[
        StoredAs | None,
        Opt("--stored-as", READING, "What 16-bit integers of FEATURES are."),
    ]


class ImageSizeOption(TypedDict, total=False):
    """The (height, width) of the network's input."""

    image_size: Annotated[
        str | Size | None,
        Opt(
            "--image-size",
            READING,
            "Of the network's input, in pixels.",
            metavar="HxW",
            read=as_size,
        ),
    ]


class AngleOptions(TypedDict, total=False):
    """What the angles of turned RoIs are (image, cx, cy, w, h, angle)."""

    angle_unit: Annotated[
        AngleUnit | None,
        Opt("--angle-unit", READING, "Of turned RoIs.", "degrees", yields=True),
    ]
    angle_direction: Annotated[
        AngleDirection | None,
        Opt(
            "--angle-direction",
            READING,
            "Of turned RoIs, as seen with y downwards.",
            "counter-clockwise",
            yields=True,
        ),
    ]


class ReadingOptions(MapOptions, ChoiceOptions, ImageSizeOption, AngleOptions, total=False):
    """How maps and RoIs are read.

    ``levels`` names one dataset per pyramid level, finest first; ``level_from`` an address or array
    of K level numbers instead of ``level_rule``, whose constants are ``canonical_size`` and
    ``canonical_level``; ``roi_format``, ``roi_columns`` (the names of the RoIs' columns) and
    ``normalized`` say how RoIs are stored. ``image_size`` (height, width) is that of the network's
    input. ``roi_scale`` are network pixels for each pixel of the RoIs: a number, (x, y), an address
    or an array (N,) or (N, 2).
    """

    levels: Annotated[
        str | Sequence[str] | None,
        Opt(
            "--levels",
            READING,
            "Datasets of FEATURES that form a pyramid, finest first.",
            metavar="NAME,...",
            read=as_names,
        ),
    ]
    level_rule: Annotated[
        LevelRule,
        Opt(
            "--level-rule",
            READING,
            "RoI area to level; matterport needs --image-size.",
            "torchvision",
        ),
    ]
    canonical_size: Annotated[
        float | None,
        Opt(
            "--canonical-size",
            READING,
            "Side of a RoI that is on the canonical level, in pixels.",
            metavar="PX",
            shown="224; 56 under mmdet",
        ),
    ]
    canonical_level: Annotated[
        int | None,
        Opt(
            "--canonical-level",
            READING,
            "Level of a RoI of the canonical size.",
            metavar="N",
            shown="4; the finest under mmdet",
        ),
    ]
    level_from: Annotated[
        Path | ArrayLike | None,
        Opt(
            "--level-from",
            READING,
            "K level numbers, log2(stride) or from 0, instead of the rule.",
            metavar="ADDRESS",
            outward=True,
        ),
    ]
    roi_format: Annotated[
        RoiFormat | None,
        Opt(
            "--roi-format",
            READING,
            "What the four numbers are; TensorFlow's are yxyx.",
            shown="what the names of the columns say, else xyxy",
        ),
    ]
    roi_columns: Annotated[
        str | Sequence[str] | None,
        Opt(
            "--roi-columns",
            READING,
            "Names of the RoIs' columns, in order, like image,y1,x1,y2,x2,score; _ leaves one out.",
            metavar="NAME,...",
            shown="those of the file",
            read=as_names,
        ),
    ]
    normalized: Annotated[
        bool,
        Opt("--normalized", READING, "Coordinates are from 0 to 1 of --image-size.", False),
    ]
    roi_scale: Annotated[
        float | str | Sequence[float] | ArrayLike | None,
        Opt(
            "--roi-scale",
            READING,
            "Network pixels for each pixel of the RoIs: one number, two, or one or two an image.",
            metavar="R|RX,RY|ADDRESS",
            read=as_roi_scale,
            outward=True,
        ),
    ]


class IgnoreOption(TypedDict, total=False):
    """Rules of ``check`` whose errors are computed all the same and whose warnings are not told."""

    ignore: Annotated[
        str | Sequence[str] | None,
        Opt(
            "--ignore",
            READING,
            "Rules of roicli check that are not obeyed, like R05.",
            metavar="RULE,...",
            read=as_names,
        ),
    ]


class ExternalOption(TypedDict, total=False):
    """Whether a file may lead to others."""

    allow_external: Annotated[
        bool,
        Opt(
            "--allow-external",
            READING,
            "Let HDF5 files lead to others: external links and storage, virtual datasets.",
            False,
            outward=True,
        ),
    ]


class MapSizeOption(TypedDict, total=False):
    """The map's (height, width) in cells where there are no features."""

    map_size: Annotated[
        str | Size | None,
        Opt(
            "--map-size",
            READING,
            "Without features: the map's size in cells, for clipped_fraction.",
            metavar="HxW",
            read=as_size,
        ),
    ]


# Where and how it is computed


class ProviderOption(TypedDict, total=False):
    """What computes."""

    provider: Annotated[
        Provider,
        Opt("--provider", RUNNING, "What computes; auto is cuda where it loads, else cpu.", "auto"),
    ]


class ResourceOptions(TypedDict, total=False):
    """What a run may take: threads, and memory in bytes or like "512M"."""

    threads: Annotated[
        int | None,
        Opt(
            "--threads",
            RUNNING,
            "Threads of ONNX Runtime, and chunks of RoIs for its serial MaxRoiPool.",
            metavar="N",
            shown="the usable cores",
            read=as_count,
        ),
    ]
    max_memory: Annotated[
        int | str | None,
        Opt(
            "--max-memory",
            RUNNING,
            "Peak memory, like 512M or 2G.",
            metavar="BYTES",
            shown="a quarter of what is free",
            read=as_bytes,
        ),
    ]


class DeviceIdOption(TypedDict, total=False):
    """Which CUDA device."""

    device_id: Annotated[
        int, Opt("--device-id", RUNNING, "Which CUDA device, from 0.", 0, metavar="N")
    ]


class DeviceOptions(DeviceIdOption, total=False):
    """Which CUDA device, what may be taken of it, and whether nodes may run elsewhere."""

    max_device_memory: Annotated[
        int | str | None,
        Opt(
            "--max-device-memory",
            RUNNING,
            "Memory on the CUDA device, like 2G.",
            metavar="BYTES",
            shown="what there is",
            read=as_bytes,
        ),
    ]
    strict_provider: Annotated[
        bool,
        Opt(
            "--strict-provider",
            RUNNING,
            "Fail if a node of the graph would run on another provider.",
            False,
        ),
    ]


class VerifyOptions(TypedDict, total=False):
    """Whether RoIs are computed again in float64 while the run goes on: 64 of them, or as many."""

    verify: Annotated[
        bool | int | None,
        Opt(
            "--verify",
            RUNNING,
            "Compute 64 RoIs again in float64 while the run goes on; fail where they differ.",
            False,
        ),
    ]
    verify_rois: Annotated[
        int | None,
        Opt("--verify-rois", RUNNING, "--verify with as many RoIs.", metavar="N", shown="64"),
    ]


class WatchOptions(TypedDict, total=False):
    """Who watches a run.

    ``progress`` is told (RoIs done, RoIs in all, bytes); ``stage_times`` is filled.
    """

    progress: Annotated[
        Progress, PythonOnly("Told (RoIs done, RoIs in all, bytes) as it goes on.", no_progress)
    ]
    stage_times: Annotated[StageTimes | None, PythonOnly("Filled with the stages' seconds.")]


# What is written


class ForceOption(TypedDict, total=False):
    """Whether a file that is there may be replaced."""

    force: Annotated[
        bool, Opt("--force", WRITING, "Replace an existing file.", False, outward=True)
    ]


class ResumeOption(TypedDict, total=False):
    """Whether an interrupted run keeps what is finished, and goes on from what was kept."""

    resume: Annotated[
        bool,
        Opt(
            "--resume",
            WRITING,
            "Keep what is finished when interrupted, and go on from what is kept.",
            False,
            outward=True,
        ),
    ]


class ResumeOptions(ResumeOption, total=False):
    """What an interrupted run keeps.

    ``verify_inputs`` compares the inputs' contents then, not only their sizes and times.
    """

    verify_inputs: Annotated[
        bool,
        Opt(
            "--verify-inputs",
            WRITING,
            "With --resume: compare the inputs' contents, not only sizes and times.",
            False,
        ),
    ]


class CompressionOption(TypedDict, total=False):
    """How a result is compressed."""

    compression: Annotated[
        Compression,
        Opt(
            "--compression", WRITING, "Of an HDF5 (gzip, lzf) or Zarr (gzip, zstd) result.", "none"
        ),
    ]


class ResultDtypeOption(TypedDict, total=False):
    """The result's dtype."""

    dtype: Annotated[
        ResultDtype | None,
        Opt("--dtype", WRITING, "Of the result.", shown="float32, or float64 for float64 features"),
    ]


class ShardOption(TypedDict, total=False):
    """The I-th of N blocks of the RoIs, which is written as a part that ``merge`` joins."""

    shard: Annotated[
        str | None,
        Opt(
            "--shard",
            MACHINES,
            "Run the I-th of N blocks of the RoIs into a part, which roicli merge joins.",
            metavar="I/N",
            outward=True,
        ),
    ]


class DaskOption(TypedDict, total=False):
    """A scheduler's address, or "local:N", whose workers run the blocks."""

    dask: Annotated[
        str | None,
        Opt(
            "--dask",
            MACHINES,
            "Run on the workers of a Dask scheduler, or on N processes of this machine.",
            metavar="ADDRESS|local[:N]",
            outward=True,
        ),
    ]


class ErrorsOutOption(TypedDict, total=False):
    """A file for the whole error table."""

    errors_out: Annotated[
        Path | None,
        Opt(
            "--errors-out",
            TABLE,
            "The whole table to a file too: .csv, .tsv, .json, .jsonl, .parquet, .feather.",
            metavar="FILE",
            read=as_path,
            outward=True,
        ),
    ]


class GroupByOption(TypedDict, total=False):
    """Whose values the summary keeps apart; ``table_columns`` are asked of the table later."""

    group_by: Annotated[
        str | None,
        Opt(
            "--group-by",
            TABLE,
            "A summary of each value of a column, like class.",
            metavar="COLUMN",
        ),
    ]
    table_columns: Annotated[
        Sequence[str], PythonOnly("What will be asked of the error table: it is refused first.", ())
    ]


class ValuesOption(TypedDict, total=False):
    """Whether the value columns are measured too."""

    values: Annotated[
        bool,
        Opt(
            "--values",
            TABLE,
            "Measure value errors and their three shares too (runs pool, align and warp).",
            False,
        ),
    ]
