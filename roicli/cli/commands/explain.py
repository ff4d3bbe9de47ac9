"""``roicli explain``: one bin of one RoI as a worked example."""

from __future__ import annotations

import sys
from typing import Unpack

from roicli.cli.command import ProgressBar, leaving_with
from roicli.core.call_options import ExplainOptions
from roicli.core.command_options import ExplainCommand, Features, Rois
from roicli.core.declaration import keywords


def explain(features: Features, rois: Rois, **options: Unpack[ExplainCommand]) -> None:
    """Show the arithmetic of one bin of one RoI, RoI Align's and RoI Pool's, number by number.

    Example: roicli explain sample_data/text_fpn.h5::p3 sample_data/text_rois.npy --roi 37
    """
    from roicli.analysis.explain import explain as explain_roi
    from roicli.render import explain as text

    with ProgressBar(options["quiet"]):  # holds notes back until nothing is refused
        given = keywords(ExplainOptions, options)
        found = explain_roi(features, rois, **given)
    write = {"table": text.print_explanation, "json": text.write_json, "md": text.print_markdown}
    stored = [check for check in found.checks if check.source != "ran"]
    differs = bool(stored) and not any(check.equal for check in stored)
    findings = [f"{stored[0].source} equals neither operator's result"] if differs else []
    with leaving_with(int(differs), findings):
        write[options["explain_format"]](found, sys.stdout)
