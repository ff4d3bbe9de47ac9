"""``roicli explain``: one bin of one RoI as a worked example."""

import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TextIO, Unpack

from roicli.cli.command import ProgressBar, leaving_with
from roicli.cli.options import Features, QuietOption, Rois
from roicli.core.declaration import Opt, keywords
from roicli.core.look_options import ExplainOneOptions
from roicli.core.panels import LOOKING


class ExplainCommand(ExplainOneOptions, QuietOption, total=False):
    """The options of ``roicli explain``."""

    explain_format: Annotated[
        Literal["table", "json", "md"],
        Opt("--format", LOOKING, "Of the example on stdout.", "table"),
    ]


def explain(features: Features, rois: Rois, **options: Unpack[ExplainCommand]) -> None:
    """Show the arithmetic of one bin of one RoI, RoI Align's and RoI Pool's, number by number.

    Example: roicli explain sample_data/text_fpn.h5::p3 sample_data/text_rois.npy --roi 37
    """
    from roicli.analysis.bin_reading import BinReading
    from roicli.analysis.explain import explain as explain_roi
    from roicli.render import explain as text

    with ProgressBar(options["quiet"]):  # holds notes back until nothing is refused
        given: Any = keywords(ExplainOneOptions, options)
        found = explain_roi(features, rois, **given)
    write: Mapping[str, Callable[[Any, TextIO], None]]
    write = {"table": text.print_explanation, "json": text.write_json, "md": text.print_markdown}
    whose = "neither operator's"
    if isinstance(found, BinReading):
        from roicli.render import bin_reading as one

        write = {"table": one.print_reading, "json": one.write_json, "md": one.print_markdown}
        whose = f"not {found.title}'s"
    stored = [check for check in found.checks if check.source != "ran"]
    differs = bool(stored) and not any(check.equal for check in stored)
    findings = [f"{stored[0].source} equals {whose} result"] if differs else []
    with leaving_with(int(differs), findings):
        write[options["explain_format"]](found, sys.stdout)
