"""``roicli report``: one page about all RoIs."""

from typing import Annotated, Required, TypedDict, Unpack

from roicli.cli.command import ProgressBar
from roicli.cli.console import print_line
from roicli.cli.options import Features, QuietOption, Rois
from roicli.core.declaration import Opt, keywords
from roicli.core.look_options import ReportOptions
from roicli.core.panels import WRITING


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


def report(features: Features, rois: Rois, **options: Unpack[ReportCommand]) -> None:
    """Write one HTML page: how far rounding moves the RoIs, why, the worst ones, all of them.

    Example: roicli report sample_data/text_fpn.h5::p3 sample_data/text_rois.npy -o report.html
    """
    from roicli.render.html import page
    from roicli.render.tables import format_count

    quiet, output = options["quiet"], options["output"]
    with ProgressBar(quiet) as progress:
        given = keywords(ReportOptions, options, progress=progress)
        result = page.report(features, rois, output, **given)
    if not quiet:
        print_line("note", f"wrote {output}, {format_count(len(result.errors), 'RoI')}")
