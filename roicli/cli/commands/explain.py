"""``roicli explain``: one bin of one RoI as a worked example."""

from __future__ import annotations

import sys
from typing import Unpack

import typer

from roicli.cli.console import print_line
from roicli.cli.reporting import ProgressBar
from roicli.core.call_options import ExplainOptions
from roicli.core.command_options import ExplainCommand, Features, Rois
from roicli.core.declaration import keywords


def explain(features: Features, rois: Rois, **options: Unpack[ExplainCommand]) -> None:
    """Show the arithmetic of one bin of one RoI, RoI Align's and RoI Pool's, number by number.

    Example: roicli explain sample_data/text_fpn.h5::p3 sample_data/text_rois.npy --roi 37
    """
    from roicli.render import explain as text
    from roicli.render import looking

    with ProgressBar(options["quiet"]):  # holds notes back until nothing is refused
        given = keywords(ExplainOptions, options)
        found = looking.explain(features, rois, **given)
    write = {"table": text.print_explanation, "json": text.write_json, "md": text.print_markdown}
    write[options["explain_format"]](found, sys.stdout)
    sys.stdout.flush()
    stored = [check for check in found.checks if check.source != "ran"]
    if stored and not any(check.equal for check in stored):
        print_line("finding", f"{stored[0].source} equals neither operator's result")
        raise typer.Exit(1)
