"""``roicli explain``: one bin of one RoI as a worked example."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

import typer

from roicli.cli import look_options as look
from roicli.cli import options as opt
from roicli.cli import run_options as run_opt
from roicli.cli.console import print_line
from roicli.cli.reporting import ProgressBar

ExplainFormat = Annotated[
    Literal["table", "json", "md"],
    typer.Option("--format", rich_help_panel=look.LOOKING, help="Of the example on stdout."),
]


def explain(
    features: opt.Features,
    rois: opt.Rois,
    roi: look.Roi,
    channel: look.Channel = 0,
    bin_index: look.BinIndex = "0,0",
    result: look.ResultFile = None,
    explain_format: ExplainFormat = "table",
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
    quiet: run_opt.Quiet = False,
) -> None:
    """Show the arithmetic of one bin of one RoI, RoI Align's and RoI Pool's, number by number.

    Example: roicli explain sample_data/text_fpn.h5::p3 sample_data/text_rois.npy --roi 37
    """
    _run(locals())


def _run(given: dict[str, Any]) -> None:
    from roicli.core.parsing import parse_bin, parse_size
    from roicli.render import explain as text
    from roicli.render import looking

    quiet, shown = given.pop("quiet"), given.pop("explain_format")
    given["bin_index"] = parse_bin(given["bin_index"])
    if given["image_size"] is not None:
        given["image_size"] = parse_size(given["image_size"], "image size")
    features, rois = given.pop("features"), given.pop("rois")
    with ProgressBar(quiet):  # holds the notes back until nothing is refused
        found = looking.explain(features, rois, **given)
    write = {"table": text.print_explanation, "json": text.write_json, "md": text.print_markdown}
    write[shown](found, sys.stdout)
    sys.stdout.flush()
    stored = [check for check in found.checks if check.source != "ran"]
    if stored and not any(check.equal for check in stored):
        print_line("finding", f"{stored[0].source} equals neither operator's result")
        raise typer.Exit(1)
