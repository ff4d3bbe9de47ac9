"""Options of the error table: what is shown, what else is written, what fails the run."""

from __future__ import annotations

from typing import Annotated

import typer

from roicli.core.vocabulary import TableFormat

TABLE = "Error table"

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
SORT_DEFAULT = "edge_error_max_px"
