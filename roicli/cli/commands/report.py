"""``roicli report``: one page about all RoIs."""

from __future__ import annotations

from typing import Unpack

from roicli.cli.command import ProgressBar
from roicli.cli.console import print_line
from roicli.core.call_options import ReportOptions
from roicli.core.command_options import Features, ReportCommand, Rois
from roicli.core.declaration import keywords


def report(features: Features, rois: Rois, **options: Unpack[ReportCommand]) -> None:
    """Write one HTML page: how far rounding moves the RoIs, why, the worst ones, all of them.

    Example: roicli report sample_data/text_fpn.h5::p3 sample_data/text_rois.npy -o report.html
    """
    from roicli.render.html import page

    quiet, output = options["quiet"], options["output"]
    with ProgressBar(quiet) as progress:
        given = keywords(ReportOptions, options, progress=progress)
        result = page.report(features, rois, output, **given)
    if not quiet:
        print_line("note", f"wrote {output}, {len(result.errors)} RoIs")
