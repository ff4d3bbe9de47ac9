"""``roicli check``: the data, before any model runs."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from roicli.cli import options as opt
from roicli.cli import part_options as part_opt
from roicli.cli import run_options as run_opt
from roicli.cli.reporting import ProgressBar
from roicli.core.vocabulary import FailOn, FindingFormat

RULES, LIMITS = "Rules", "What is tolerated"

Select = Annotated[
    str | None,
    typer.Option(
        "--select",
        metavar="RULE,...",
        rich_help_panel=RULES,
        help="Only these rules, like R01,R15.",
    ),
]
Ignore = Annotated[
    str | None,
    typer.Option("--ignore", metavar="RULE,...", rich_help_panel=RULES, help="Not these rules."),
]
FailOnOption = Annotated[
    FailOn,
    typer.Option("--fail-on", rich_help_panel=RULES, help="Exit 1 from this severity on."),
]
FormatOption = Annotated[
    FindingFormat,
    typer.Option("--format", rich_help_panel=RULES, help="github writes workflow annotations."),
]
Rows = Annotated[
    int,
    typer.Option("--rows", metavar="N", rich_help_panel=RULES, help="Rows to name in a finding."),
]
MaxOutside = Annotated[
    float,
    typer.Option(
        "--max-outside",
        metavar="SHARE",
        rich_help_panel=LIMITS,
        help="R05, R06: share of the RoIs that may reach outside.",
    ),
]
MaxSmall = Annotated[
    float,
    typer.Option(
        "--max-small",
        metavar="SHARE",
        rich_help_panel=LIMITS,
        help="R12: share of the RoIs that may be below a cell.",
    ),
]
MaxCoordinateError = Annotated[
    float,
    typer.Option(
        "--max-coordinate-error",
        metavar="PX",
        rich_help_panel=LIMITS,
        help="R13: pixels that the RoIs' dtype may have lost.",
    ),
]
MaxDead = Annotated[
    float,
    typer.Option(
        "--max-dead",
        metavar="SHARE",
        rich_help_panel=LIMITS,
        help="R15: share of the channels that may be dead.",
    ),
]
MaxImbalance = Annotated[
    float,
    typer.Option(
        "--max-imbalance",
        metavar="TIMES",
        rich_help_panel=LIMITS,
        help="R17: how many times the fewest RoIs of an image another may have.",
    ),
]
MaxDuplicates = Annotated[
    float,
    typer.Option(
        "--max-duplicates",
        metavar="SHARE",
        rich_help_panel=LIMITS,
        help="R18: share of the RoIs that may repeat another.",
    ),
]


def check(
    features: opt.Features,
    rois: opt.Rois,
    select: Select = None,
    ignore: Ignore = None,
    fail_on: FailOnOption = "error",
    finding_format: FormatOption = "table",
    rows: Rows = 10,
    max_outside: MaxOutside = 0.0,
    max_small: MaxSmall = 0.0,
    max_coordinate_error: MaxCoordinateError = 0.25,
    max_dead: MaxDead = 0.0,
    max_imbalance: MaxImbalance = 20.0,
    max_duplicates: MaxDuplicates = 0.0,
    output_size: opt.OutputSize = None,
    spatial_scale: opt.SpatialScale = None,
    sampling_ratio: opt.SamplingRatio = None,
    aligned: opt.Aligned = None,
    mode: opt.ModeOption = None,
    sampling_grid: opt.Grid = None,
    preset: opt.Preset = None,
    levels: opt.Levels = None,
    level_rule: opt.LevelRuleOption = "torchvision",
    level_from: opt.LevelFrom = None,
    roi_format: opt.RoiFormatOption = "xyxy",
    normalized: opt.Normalized = False,
    image_size: opt.ImageSize = None,
    allow_external: opt.AllowExternal = False,
    dask: part_opt.Dask = None,
    quiet: run_opt.Quiet = False,
) -> None:
    """Check maps and RoIs before any model runs: 18 rules, exit 1 where an error is found.

    Example: roicli check sample_data/text_fpn.h5::p3 sample_data/text_rois.npy
    """
    _run(locals())


def _run(given: dict[str, Any]) -> None:
    from roicli.analysis.check import run
    from roicli.core.parsing import parse_size
    from roicli.render import check as findings

    quiet, fail_on = given.pop("quiet"), given.pop("fail_on")
    finding_format = given.pop("finding_format")
    features, rois = given.pop("features"), given.pop("rois")
    if given["image_size"] is not None:
        given["image_size"] = parse_size(given["image_size"], "image size")
    # Notes wait: what cannot be read gets its one line and no other.
    with ProgressBar(quiet):
        report = run.check(features, rois, **given)
    if finding_format == "json":
        findings.write_findings_json(report, sys.stdout)
    elif finding_format == "github":
        findings.write_annotations(report, sys.stdout)
    elif not quiet:
        findings.print_findings(report, sys.stdout)
    if report.failed(fail_on):
        raise typer.Exit(1)
