"""``roicli compare``: are two stored results equal, and where are they not."""

from __future__ import annotations

import sys
from typing import Unpack

from roicli.cli.command import ProgressBar, leaving_with
from roicli.core.call_options import CompareOptions
from roicli.core.command_options import CompareCommand, OneResult, OtherResult
from roicli.core.declaration import keywords


def compare(a: OneResult, b: OtherResult, **options: Unpack[CompareCommand]) -> None:
    """Compare two results. Exit code 0: equal within tolerance, 1: not, 2: cannot be compared.

    Example: roicli compare sample_data/text_fpn.h5::p3 sample_data/text_fpn.h5::p3
    """
    from roicli.analysis.compare.run import compare as compare_results
    from roicli.render.compare import print_comparison, write_comparison_json

    with ProgressBar(options["quiet"]):
        given = keywords(CompareOptions, options)
        found = compare_results(a, b, **given)
    show = write_comparison_json if options["list_format"] == "json" else print_comparison
    with leaving_with(int(not found.equal)):
        show(found, sys.stdout)
