"""``roicli sweep``: which sampling ratio is enough."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from roicli.cli import options as opt
from roicli.cli import run_options as run_opt
from roicli.cli.commands.listings import ListFormat
from roicli.cli.reporting import ProgressBar

Tolerance = Annotated[
    float,
    typer.Option("--tolerance", metavar="X", help="Median relative L2 that a ratio may have."),
]
Sample = Annotated[str, typer.Option("--sample", metavar="N|all", help="RoIs to measure.")]


def sweep(
    features: opt.Features,
    rois: opt.Rois,
    tolerance: Tolerance = 0.01,
    sample: Sample = "256",
    output_size: opt.OutputSize = None,
    spatial_scale: opt.SpatialScale = None,
    aligned: opt.Aligned = None,
    sampling_grid: opt.Grid = None,
    preset: opt.Preset = None,
    levels: opt.Levels = None,
    level_rule: opt.LevelRuleOption = "torchvision",
    level_from: opt.LevelFrom = None,
    roi_format: opt.RoiFormatOption = "xyxy",
    normalized: opt.Normalized = False,
    image_size: opt.ImageSize = None,
    allow_external: opt.AllowExternal = False,
    provider: run_opt.ProviderOption = "auto",
    threads: run_opt.Threads = None,
    max_memory: run_opt.MaxMemory = None,
    list_format: ListFormat = "table",
    quiet: run_opt.Quiet = False,
) -> None:
    """Measure RoI Align at several sampling ratios against the exact mean, and recommend one.

    Example: roicli sweep sample_data/text_fpn.h5::p3 sample_data/text_rois.npy
    """
    _run(locals())


def _run(given: dict[str, Any]) -> None:
    from roicli.analysis.sweep import sweep as sweep_ratios
    from roicli.core.parsing import parse_rows, parse_size
    from roicli.render.sweep import print_sweep, write_sweep_json

    list_format, quiet = given.pop("list_format"), given.pop("quiet")
    given["sample"] = parse_rows(given["sample"], "sample")
    if given["image_size"] is not None:
        given["image_size"] = parse_size(given["image_size"], "image size")
    with ProgressBar(quiet):
        found = sweep_ratios(**given)
    show = write_sweep_json if list_format == "json" else print_sweep
    show(found, sys.stdout)
