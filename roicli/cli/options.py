"""The arguments and options that several commands have."""

# Annotations are read at run time, so they are no text here.
from collections.abc import Sequence
from typing import Annotated, TypedDict

from roicli.core.declaration import Arg, Opt
from roicli.core.operator_table import Operator
from roicli.core.panels import RUNNING, TABLE
from roicli.core.parse import as_names, as_rows
from roicli.core.vocabulary import ListFormat, SummaryForm, TableFormat

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
OperatorName = Annotated[Operator, Arg("OPERATOR", "Which operator.")]


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
