"""The parameters of every command: its call's keywords, and what only a command has."""

# Annotations are read at run time, so they are no text here.
from collections.abc import Sequence
from typing import Annotated, Literal, Required, TypedDict

from roicli.core.call_options import (
    BenchOptions,
    CaptureOptions,
    CheckOptions,
    CompareOptions,
    DiagnoseOptions,
    DrawOptions,
    ErrorsOptions,
    ExplainOneOptions,
    ExportOptions,
    InspectOptions,
    MergeOptions,
    ReportOptions,
    SweepOptions,
    VerifyModelOptions,
)
from roicli.core.declaration import Arg, Opt
from roicli.core.operator_table import Operator
from roicli.core.panels import LOOKING, RULES, RUNNING, TABLE, WRITING
from roicli.core.parse import as_names, as_rows
from roicli.core.vocabulary import FindingFormat, ListFormat, Severity, SummaryForm, TableFormat

# Arguments

Features = Annotated[
    str,
    Arg(
        "FEATURES",
        "Feature maps (N, C, H, W): file.npy, file.h5::/dataset (.npz, .safetensors, .mat, .nc "
        "too), x.zarr, a URL of one, or -. Levels of several files: --level p3=FILE[::DATASET] for "
        "each, finest first, in its place.",
    ),
]
Rois = Annotated[
    str,
    Arg(
        "ROIS",
        "RoIs (K, 5) batch_index, x1, y1, x2, y2 in pixels: the same, .csv, .tsv, or -.",
    ),
]
FeaturesAndRois = Annotated[
    list[str], Arg("[FEATURES] ROIS", "RoIs, and before them the features if any.")
]
OperatorName = Annotated[Operator, Arg("OPERATOR", "Which operator.")]
Parts = Annotated[
    list[str], Arg("PART...", "Parts of --shard, or the one virtual result of a run with --dask.")
]
OneResult = Annotated[
    str,
    Arg(
        "A",
        "The one, a result: file.npy, file.h5 or x.zarr (its /roi_features), file.h5::/dataset, "
        "or -.",
    ),
]
OtherResult = Annotated[str, Arg("B", "The other, the reference of --rtol.")]
DiagnosedResult = Annotated[
    str,
    Arg("RESULT", "The RoI features (K, C, P_h, P_w): file.npy, file.h5, file.h5::/dataset, or -."),
]
InspectedFile = Annotated[
    str,
    Arg(
        "FILE",
        "A file of arrays (.npy, .npz, .safetensors, .h5, .zarr, .csv, .tsv), file.h5::/group, or "
        "a model (.onnx, OpenVINO's .xml).",
    ),
]
RuleName = Annotated[str | None, Arg("[RULE]", "Only this one, like R05.")]
ColumnName = Annotated[str | None, Arg("[COLUMN]", "Only this one, like iou.")]
CommandName = Annotated[str | None, Arg("[COMMAND]", "Every option of this command.")]
NewFolder = Annotated[str, Arg("[FOLDER]", "The folder to make.")]
GraphFile = Annotated[str, Arg("OUT.onnx", "The file to write.")]


DetectorModel = Annotated[str, Arg("MODEL.onnx", "The user's model.")]
Photos = Annotated[list[str] | None, Arg("[PHOTO]...", "More photos, beside --image.")]
ModelOrCapture = Annotated[
    str, Arg("CAPTURE.h5|MODEL.onnx", "What capture wrote; or a model, which is captured first.")
]


class QuietOption(TypedDict, total=False):
    """Whether only the result and errors are said."""

    quiet: Annotated[bool, Opt("-q --quiet", RUNNING, "No notes.", False)]


class QuietTableOption(TypedDict, total=False):
    """The same for commands with a table beside their result: a file, or the exit code."""

    quiet: Annotated[
        bool,
        Opt("-q --quiet", RUNNING, "No notes, and no table unless --format asks for one.", False),
    ]


class ListOptions(TypedDict, total=False):
    """How a list is printed."""

    list_format: Annotated[ListFormat, Opt("--format", None, "table or json.", "table")]


class PresetsCommand(ListOptions, total=False):
    """What ``presets`` takes."""

    match: Annotated[
        str | None,
        Opt("--match", None, "Only rows that have this in them: a library, operator or word."),
    ]


class NativeCommand(QuietOption, total=False):
    """What ``native`` takes."""

    compile: Annotated[
        bool, Opt("--compile", None, "Compile the kernels that are not compiled yet.", False)
    ]


class TableOptions(TypedDict, total=False):
    """What is shown of the error table, and what fails the command."""

    table_format: Annotated[
        TableFormat | None, Opt("--format", TABLE, "Of the table on stdout.", shown="table")
    ]
    rows: Annotated[
        int | str | None,
        Opt("--rows", TABLE, "Rows to show, the worst first.", 5, metavar="N|all", read=as_rows),
    ]
    sort: Annotated[
        str, Opt("--sort", TABLE, "By which column.", "edge_error_max_px", metavar="COLUMN")
    ]
    columns: Annotated[
        str | Sequence[str] | None,
        Opt(
            "--columns",
            TABLE,
            "Which columns to show.",
            metavar="NAME,...",
            shown="those that fit",
            read=as_names,
        ),
    ]
    summary: Annotated[
        SummaryForm, Opt("--summary", TABLE, "Medians by size, or everything.", "short")
    ]
    fail_over: Annotated[
        list[str] | None,
        Opt(
            "--fail-over",
            TABLE,
            "Exit 1 where a value is greater, like p95:edge_error_max_px=8. Repeatable.",
            metavar="[STAT:]COLUMN=VALUE",
        ),
    ]
    fail_under: Annotated[
        list[str] | None,
        Opt(
            "--fail-under",
            TABLE,
            "Exit 1 where a value is less, like iou=0.5. Repeatable.",
            metavar="[STAT:]COLUMN=VALUE",
        ),
    ]
    no_table: Annotated[bool, Opt("--no-table", TABLE, "Show no table.", False)]


class OutputOption(TypedDict, total=False):
    """Where the features go."""

    output: Annotated[
        str | None,
        Opt(
            "-o --output",
            WRITING,
            ".h5, .npy, .zarr (a folder or URL), or - for an .npy on stdout.",
            metavar="FILE",
            shown="<features>.<command>.h5",
            outward=True,
        ),
    ]


class VerboseOption(TypedDict, total=False):
    """Whether more than notes is said."""

    verbose: Annotated[bool, Opt("-v --verbose", RUNNING, "More on stderr.", False)]


def run_command(call: type) -> tuple[type, ...]:
    """The options of an operator's command: the keywords of its call, and what all have beside."""
    return (OutputOption, call, TableOptions, QuietTableOption, VerboseOption)


class ErrorsCommand(ErrorsOptions, TableOptions, QuietTableOption, total=False):
    """The options of ``roicli errors``."""


class WholeOption(TypedDict, total=False):
    """Where the joined result goes."""

    output: Required[
        Annotated[
            str,
            Opt(
                "-o --output",
                WRITING,
                "The whole: .h5, .npy or .zarr.",
                metavar="FILE",
                outward=True,
            ),
        ]
    ]


class MergeCommand(WholeOption, MergeOptions, QuietOption, total=False):
    """The options of ``roicli merge``."""


class CheckCommand(CheckOptions, QuietTableOption, total=False):
    """The options of ``roicli check``."""

    fail_on: Annotated[Severity, Opt("--fail-on", RULES, "Exit 1 from this severity on.", "error")]

    finding_format: Annotated[
        FindingFormat | None,
        Opt("--format", RULES, "github, sarif and junit are what CI systems read.", shown="table"),
    ]


class ExplainCommand(ExplainOneOptions, QuietOption, total=False):
    """The options of ``roicli explain``."""

    explain_format: Annotated[
        Literal["table", "json", "md"],
        Opt("--format", LOOKING, "Of the example on stdout.", "table"),
    ]


class PictureOption(TypedDict, total=False):
    """Where the picture goes."""

    output: Annotated[
        str | None,
        Opt(
            "-o --output",
            WRITING,
            ".svg; or .png or .pdf, which need roicli[figures].",
            metavar="FILE",
            shown="a drawing in the terminal",
            outward=True,
        ),
    ]


class DrawCommand(PictureOption, DrawOptions, QuietOption, total=False):
    """The options of ``roicli draw``."""


class PageOption(TypedDict, total=False):
    """Where the page goes."""

    output: Required[
        Annotated[
            str,
            Opt(
                "-o --output",
                WRITING,
                "The page; needs roicli[report].",
                metavar="FILE.html",
                outward=True,
            ),
        ]
    ]


class ReportCommand(PageOption, ReportOptions, QuietOption, total=False):
    """The options of ``roicli report``."""


class CompareCommand(CompareOptions, ListOptions, QuietOption, total=False):
    """The options of ``roicli compare``."""


class DiagnoseCommand(DiagnoseOptions, ListOptions, QuietOption, total=False):
    """The options of ``roicli diagnose``."""


class SweepCommand(SweepOptions, ListOptions, QuietOption, total=False):
    """The options of ``roicli sweep``."""


class TrapOptions(TypedDict, total=False):
    """What fails ``inspect``."""

    fail_on: Annotated[
        Severity,
        Opt(
            "--fail-on", None, "Exit 1 from this severity on; a model's trap is a warning.", "error"
        ),
    ]
    strict: Annotated[bool, Opt("--strict", None, "The same as --fail-on warning.", False)]


class InspectCommand(InspectOptions, TrapOptions, ListOptions, QuietOption, total=False):
    """The options of ``roicli inspect``."""


class CapturedOption(TypedDict, total=False):
    """Where what was captured goes, or whether a model is only listed."""

    output: Annotated[
        str | None, Opt("-o --output", WRITING, "The file: .h5.", metavar="FILE.h5", outward=True)
    ]
    list_only: Annotated[
        bool,
        Opt(
            "--list", None, "Show the model's inputs, RoI nodes and heads, and run nothing.", False
        ),
    ]


class CaptureCommand(CapturedOption, CaptureOptions, ListOptions, QuietOption, total=False):
    """The options of ``roicli capture``."""


class VerifyModelCommand(VerifyModelOptions, ListOptions, QuietOption, total=False):
    """The options of ``roicli verify-model``."""


class ExportCommand(ExportOptions, QuietOption, total=False):
    """The options of ``roicli export``."""


class BenchCommand(BenchOptions, ListOptions, QuietOption, total=False):
    """The options of ``roicli bench``."""
