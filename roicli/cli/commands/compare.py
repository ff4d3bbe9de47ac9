"""``roicli compare``: are two stored results equal, and where are they not."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from roicli.cli import options as opt
from roicli.cli.commands.listings import ListFormat
from roicli.cli.reporting import leaving_with
from roicli.core.vocabulary import ComparedStatistic

HELP = "a result: file.npy, file.h5 or x.zarr (its /roi_features), file.h5::/dataset, or -."
A = Annotated[str, typer.Argument(metavar="A", help=f"The one, {HELP}")]
B = Annotated[str, typer.Argument(metavar="B", help="The other, the reference of --rtol.")]
Atol = Annotated[float, typer.Option("--atol", metavar="X", help="Absolute tolerance.")]
Rtol = Annotated[float, typer.Option("--rtol", metavar="X", help="Tolerance relative to |b|.")]
Stat = Annotated[
    ComparedStatistic,
    typer.Option("--stat", help="What must be within atol + rtol |b|: every element, or this."),
]
Rows = Annotated[
    str, typer.Option("--rows", metavar="N|all", help="Worst RoIs and channels to list.")
]
EqualNan = Annotated[bool, typer.Option("--equal-nan", help="Two NaN are equal.")]


def compare(
    a: A,
    b: B,
    atol: Atol = 1e-5,
    rtol: Rtol = 1e-5,
    stat: Stat = "elementwise",
    equal_nan: EqualNan = False,
    rows: Rows = "10",
    allow_external: opt.AllowExternal = False,
    list_format: ListFormat = "table",
) -> None:
    """Compare two results. Exit code 0: equal within tolerance, 1: not, 2: cannot be compared.

    Example: roicli compare sample_data/text_fpn.h5::p3 sample_data/text_fpn.h5::p3
    """
    _run(locals())


def _run(given: dict[str, Any]) -> None:
    from roicli.analysis.compare.run import compare as compare_results
    from roicli.core.parsing import parse_rows
    from roicli.render.compare import print_comparison, write_comparison_json

    list_format, rows = given.pop("list_format"), parse_rows(given.pop("rows"))
    found = compare_results(given.pop("a"), given.pop("b"), worst=rows, **given)
    show = write_comparison_json if list_format == "json" else print_comparison
    with leaving_with(int(not found.equal)):
        show(found, sys.stdout)
