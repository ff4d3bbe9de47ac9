"""``roicli check``: the data, before any model runs."""

from __future__ import annotations

import sys
from typing import Unpack

from roicli.cli.command import ProgressBar, leaving_with
from roicli.core.call_options import CheckOptions
from roicli.core.command_options import CheckCommand, Features, Rois
from roicli.core.declaration import keywords


def check(features: Features, rois: Rois, **options: Unpack[CheckCommand]) -> None:
    """Check maps and RoIs before any model runs: 18 rules, exit 1 where an error is found.

    Example: roicli check sample_data/text_fpn.h5::p3 sample_data/text_rois.npy
    """
    from roicli.analysis.check.run import check as find_problems
    from roicli.render import check as findings

    quiet, finding_format = options["quiet"], options["finding_format"]
    # Notes wait: what cannot be read gets its one line and no other.
    with ProgressBar(quiet):
        given = keywords(CheckOptions, options)
        report = find_problems(features, rois, **given)
    with leaving_with(int(report.failed(options["fail_on"]))):
        if finding_format == "json":
            findings.write_findings_json(report, sys.stdout)
        elif finding_format == "github":
            findings.write_annotations(report, sys.stdout)
        elif not quiet:
            findings.print_findings(report, sys.stdout)
