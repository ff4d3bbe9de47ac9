"""``roicli check``: the data, before any model runs."""

import sys
from typing import Annotated, Unpack, assert_never

from roicli.cli.command import ProgressBar, is_shown, leaving_with
from roicli.cli.options import Features, QuietTableOption, Rois
from roicli.core.declaration import Opt, keywords
from roicli.core.look_options import CheckOptions
from roicli.core.panels import RULES
from roicli.core.vocabulary import FindingFormat, Severity


class CheckCommand(CheckOptions, QuietTableOption, total=False):
    """The options of ``roicli check``."""

    fail_on: Annotated[Severity, Opt("--fail-on", RULES, "Exit 1 from this severity on.", "error")]

    finding_format: Annotated[
        FindingFormat | None,
        Opt("--format", RULES, "github, sarif and junit are what CI systems read.", shown="table"),
    ]


def check(features: Features, rois: Rois, **options: Unpack[CheckCommand]) -> None:
    """Check maps and RoIs before any model runs; exit 1 where an error is found (roicli rules).

    Example: roicli check sample_data/text_fpn.h5::p3 sample_data/text_rois.npy
    """
    from roicli.analysis.check.run import check as find_problems
    from roicli.render import check as findings
    from roicli.render import ci_formats

    quiet, finding_format = options["quiet"], options["finding_format"]
    # Notes wait: what cannot be read gets its one line and no other.
    with ProgressBar(quiet):
        given = keywords(CheckOptions, options)
        report = find_problems(features, rois, **given)
    with leaving_with(int(report.failed(options["fail_on"]))):
        match finding_format:
            case "json":
                findings.write_findings_json(report, sys.stdout)
            case "github":
                ci_formats.write_annotations(report, sys.stdout)
            case "sarif":
                ci_formats.write_sarif(report, sys.stdout)
            case "junit":
                ci_formats.write_junit(report, options["fail_on"], sys.stdout)
            case None | "table":
                if is_shown(quiet, finding_format):
                    findings.print_findings(report, sys.stdout)
            case _:
                assert_never(finding_format)
