"""``roicli inspect``: what a file holds."""

from __future__ import annotations

import sys
from typing import Unpack

from roicli.cli.command import ProgressBar, leaving_with
from roicli.core.call_options import InspectOptions
from roicli.core.command_options import InspectCommand, InspectedFile
from roicli.core.declaration import keywords
from roicli.core.vocabulary import Severity


def inspect(file: InspectedFile, **options: Unpack[InspectCommand]) -> None:
    """Show what a file holds: datasets and their use, or a model's RoI nodes and their traps.

    Example: roicli inspect sample_data/text_fpn.h5 --stats
    """
    from roicli.analysis.inspect_file import inspect as inspect_file
    from roicli.render import inspect as inspection

    with ProgressBar(options["quiet"]):
        given = keywords(InspectOptions, options)
        report = inspect_file(file, **given)
    is_json = options["list_format"] == "json"
    show = inspection.write_inspection_json if is_json else inspection.print_inspection
    fail_on: Severity = "warning" if options["strict"] else options["fail_on"]
    with leaving_with(int(inspection.fails(report, fail_on))):
        show(report, sys.stdout)
