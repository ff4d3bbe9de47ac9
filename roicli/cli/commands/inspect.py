"""``roicli inspect``: what a file holds."""

from __future__ import annotations

import sys
from typing import Unpack

import typer

from roicli.core.call_options import InspectOptions
from roicli.core.command_options import InspectCommand, InspectedFile
from roicli.core.declaration import keywords


def inspect(file: InspectedFile, **options: Unpack[InspectCommand]) -> None:
    """Show what a file holds: datasets and their use, or a model's RoI nodes and their traps.

    Example: roicli inspect sample_data/text_fpn.h5 --stats
    """
    from roicli.analysis.inspect_file import inspect as inspect_file
    from roicli.render import inspect as inspection

    report = inspect_file(file, **keywords(InspectOptions, options))
    if options["list_format"] == "json":
        inspection.write_inspection_json(report, sys.stdout)
    else:
        inspection.print_inspection(report, sys.stdout)
    if options["strict"] and inspection.count_traps(report):
        raise typer.Exit(1)
