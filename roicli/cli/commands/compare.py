"""``roicli compare``: are two stored results equal, and where are they not."""

import sys
from typing import Annotated, Unpack

from roicli.cli.command import ProgressBar, leaving_with
from roicli.cli.options import ListOptions, QuietOption
from roicli.core.declaration import Arg, keywords
from roicli.core.look_options import CompareOptions

OneResult = Annotated[
    str,
    Arg(
        "A",
        "The one, a result: file.npy, file.h5 or x.zarr (its /roi_features), file.h5::/dataset, "
        "or -.",
    ),
]


OtherResult = Annotated[str, Arg("B", "The other, the reference of --rtol.")]


class CompareCommand(CompareOptions, ListOptions, QuietOption, total=False):
    """The options of ``roicli compare``."""


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
