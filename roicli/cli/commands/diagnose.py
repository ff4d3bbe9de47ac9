"""``roicli diagnose``: which convention produced a stored result."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from roicli.cli import options as opt
from roicli.cli import run_options as run_opt
from roicli.cli.commands.listings import ListFormat
from roicli.cli.reporting import ProgressBar

Result = Annotated[
    str,
    typer.Argument(
        metavar="RESULT",
        help="The RoI features (K, C, P_h, P_w): file.npy, file.h5, file.h5::/dataset, or -.",
    ),
]
Sample = Annotated[
    str,
    typer.Option("--sample", metavar="N|all", help="RoIs that decide between the best candidates."),
]
Tolerance = Annotated[
    float | None,
    typer.Option(
        "--tolerance",
        metavar="X",
        help="Relative L2 within which a candidate is a match.",
        show_default="1e-4, or half a step of the result's dtype",
    ),
]


def diagnose(
    features: opt.Features,
    rois: opt.Rois,
    result: Result,
    sample: Sample = "256",
    tolerance: Tolerance = None,
    spatial_scale: opt.SpatialScale = None,
    levels: opt.Levels = None,
    level_rule: opt.LevelRuleOption = "torchvision",
    level_from: opt.LevelFrom = None,
    roi_format: opt.RoiFormatOption = "xyxy",
    normalized: opt.Normalized = False,
    image_size: opt.ImageSize = None,
    allow_external: opt.AllowExternal = False,
    list_format: ListFormat = "table",
    quiet: run_opt.Quiet = False,
) -> None:
    """Find the convention that produced RESULT, and the next best. Exit code 0: found, 1: not.

    Example: roicli align sample_data/text_fpn.h5::p3 sample_data/text_rois.npy -q -o - |
    roicli diagnose sample_data/text_fpn.h5::p3 sample_data/text_rois.npy -
    """
    _run(locals())


def _run(given: dict[str, Any]) -> None:
    from roicli.analysis.diagnose.run import diagnose as find_convention
    from roicli.core.parsing import parse_rows, parse_size
    from roicli.render.diagnose import print_diagnosis, write_diagnosis_json

    list_format, quiet = given.pop("list_format"), given.pop("quiet")
    given["sample"] = parse_rows(given["sample"], "sample")
    if given["image_size"] is not None:
        given["image_size"] = parse_size(given["image_size"], "image size")
    with ProgressBar(quiet):
        found = find_convention(**given)
    show = write_diagnosis_json if list_format == "json" else print_diagnosis
    show(found, sys.stdout)
    if found.match is None:
        raise typer.Exit(1)
