"""``roicli report``: one page about all RoIs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from roicli.cli import options as opt
from roicli.cli import run_options as run_opt
from roicli.cli import table_options as table_opt
from roicli.cli.console import print_line
from roicli.cli.reporting import ProgressBar

PageFile = Annotated[
    str,
    typer.Option(
        "-o", "--output", metavar="FILE.html", rich_help_panel=run_opt.WRITING, help="The page."
    ),
]
Ranking = Annotated[
    str,
    typer.Option(
        "--sort",
        metavar="COLUMN",
        rich_help_panel=table_opt.TABLE,
        help="What ranks the worst RoIs.",
    ),
]


def report(
    features: opt.Features,
    rois: opt.Rois,
    output: PageFile,
    force: run_opt.Force = False,
    sort: Ranking = "iou",
    output_size: opt.OutputSize = None,
    spatial_scale: opt.SpatialScale = None,
    sampling_ratio: opt.SamplingRatio = None,
    aligned: opt.Aligned = None,
    mode: opt.ModeOption = None,
    sampling_grid: opt.Grid = None,
    quantization: opt.QuantizationOption = None,
    partition: opt.PartitionOption = None,
    pixel_model: opt.PixelModelOption = None,
    preset: opt.Preset = None,
    levels: opt.Levels = None,
    level_rule: opt.LevelRuleOption = "torchvision",
    level_from: opt.LevelFrom = None,
    roi_format: opt.RoiFormatOption = "xyxy",
    normalized: opt.Normalized = False,
    image_size: opt.ImageSize = None,
    allow_external: opt.AllowExternal = False,
    graph: opt.GraphOption = None,
    provider: run_opt.ProviderOption = "auto",
    threads: run_opt.Threads = None,
    max_memory: run_opt.MaxMemory = None,
    quiet: run_opt.Quiet = False,
) -> None:
    """Write one HTML page: how far rounding moves the RoIs, why, the worst ones, all of them.

    Example: roicli report sample_data/text_fpn.h5::p3 sample_data/text_rois.npy -o report.html
    """
    _run(locals())


def _run(given: dict[str, Any]) -> None:
    from roicli.core.parsing import parse_size
    from roicli.render import looking

    quiet, output = given.pop("quiet"), given["output"]
    if given["image_size"] is not None:
        given["image_size"] = parse_size(given["image_size"], "image size")
    features, rois = given.pop("features"), given.pop("rois")
    with ProgressBar(quiet) as progress:
        result = looking.write_report(features, rois, progress=progress, **given)
    if not quiet:
        print_line("note", f"wrote {output}, {len(result.errors)} RoIs")
