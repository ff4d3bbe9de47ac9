"""``roicli inspect``: what a file holds."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from roicli.cli import options as opt
from roicli.cli.reporting import leaving_with
from roicli.core.vocabulary import ListFormat

File = Annotated[
    str,
    typer.Argument(
        metavar="FILE", help="An .h5 (or file.h5::/group), .zarr, .npy, .csv, .tsv or .onnx file."
    ),
]
Stats = Annotated[
    bool, typer.Option("--stats", help="Read the values too, for ranges; block by block.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit 1 where a model holds a trap.")]
FormatOption = Annotated[ListFormat, typer.Option("--format", help="table or json.")]


def inspect(
    file: File,
    stats: Stats = False,
    strict: Strict = False,
    list_format: FormatOption = "table",
    allow_external: opt.AllowExternal = False,
) -> None:
    """Show what a file holds: datasets and their use, or a model's RoI nodes and their traps.

    Example: roicli inspect sample_data/text_fpn.h5 --stats
    """
    from roicli.analysis.inspect_file import inspect as inspect_file
    from roicli.render import inspect as inspection

    report = inspect_file(file, stats=stats, allow_external=allow_external)
    show = (
        inspection.write_inspection_json if list_format == "json" else inspection.print_inspection
    )
    with leaving_with(int(strict and inspection.count_traps(report) > 0)):
        show(report, sys.stdout)
