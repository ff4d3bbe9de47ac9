"""``roicli draw``: one RoI on its map as a picture."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from roicli.cli import look_options as look
from roicli.cli import options as opt
from roicli.cli import run_options as run_opt
from roicli.cli.console import print_line
from roicli.cli.reporting import ProgressBar

FigureFile = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        rich_help_panel=run_opt.WRITING,
        help=".svg, .png or .pdf (needs roicli[figures]).",
        show_default="a drawing in the terminal",
    ),
]


def draw(
    features: opt.Features,
    rois: opt.Rois,
    roi: look.Roi,
    output: FigureFile = None,
    force: run_opt.Force = False,
    channel: look.MapChannel = None,
    bin_index: look.CloseUp = None,
    compare: look.Compare = None,
    image: look.Image = None,
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
    quiet: run_opt.Quiet = False,
) -> None:
    """Draw one RoI: the map's cells, the real and the rounded box, bins and sampling points.

    Example: roicli draw sample_data/text_fpn.h5::p3 sample_data/text_rois.npy --roi 37
    """
    _run(locals())


def _run(given: dict[str, Any]) -> None:
    from roicli.core.parsing import parse_bin, parse_size
    from roicli.render import looking
    from roicli.render.terminal_picture import print_picture

    quiet, output = given.pop("quiet"), given["output"]
    if given["bin_index"] is not None:
        given["bin_index"] = parse_bin(given["bin_index"])
    if given["image_size"] is not None:
        given["image_size"] = parse_size(given["image_size"], "image size")
    given["compare"] = looking.check_panels(given["compare"] or ())
    features, rois = given.pop("features"), given.pop("rois")
    with ProgressBar(quiet):  # holds the notes back until nothing is refused
        picture = looking.draw(features, rois, **given)
    if output is None:
        print_picture(picture, given["compare"], sys.stdout)
    elif not quiet:
        print_line("note", f"wrote {output}")
