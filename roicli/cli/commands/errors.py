"""``roicli errors``: the error table alone, from geometry or with the values measured."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from roicli.cli import options as opt
from roicli.cli import part_options as part_opt
from roicli.cli import run_options as run_opt
from roicli.cli import table_options as table_opt
from roicli.cli.commands.operators import take_table_options
from roicli.cli.garbage import importing
from roicli.cli.reporting import ProgressBar, finish

Inputs = Annotated[
    list[str],
    typer.Argument(metavar="[FEATURES] ROIS", help="RoIs, and before them the features if any."),
]
MapSize = Annotated[
    str | None,
    typer.Option(
        "--map-size",
        metavar="HxW",
        rich_help_panel=opt.READING,
        help="Without features: the map's size in cells, for clipped_fraction.",
    ),
]


def errors(
    inputs: Inputs,
    output_size: opt.OutputSize = None,
    spatial_scale: opt.SpatialScale = None,
    map_size: MapSize = None,
    sampling_ratio: opt.SamplingRatio = None,
    aligned: opt.Aligned = None,
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
    dask: part_opt.Dask = None,
    provider: run_opt.ProviderOption = "auto",
    threads: run_opt.Threads = None,
    max_memory: run_opt.MaxMemory = None,
    device_id: run_opt.DeviceId = 0,
    max_device_memory: run_opt.MaxDeviceMemory = None,
    strict_provider: run_opt.StrictProvider = False,
    table_format: table_opt.Format = "table",
    errors_out: table_opt.ErrorsOut = None,
    force: run_opt.Force = False,
    rows: table_opt.Rows = "20",
    sort: table_opt.Sort = table_opt.SORT_DEFAULT,
    columns: table_opt.Columns = None,
    fail_over: table_opt.FailOver = None,
    fail_under: table_opt.FailUnder = None,
    no_table: table_opt.NoTable = False,
    quiet: run_opt.Quiet = False,
) -> None:
    """Show how far rounding moves each RoI and, with features, what it does to the values and why.

    Example: roicli errors sample_data/text_rois.npy --spatial-scale 1/16
    """
    _run(locals())


def _run(given: dict[str, Any]) -> None:
    with importing():
        from roicli import api
        from roicli.core.exceptions import ParameterError
        from roicli.core.parsing import parse_size

    inputs = given.pop("inputs")
    if len(inputs) > 2:
        raise ParameterError(f"{len(inputs)} inputs, expected ROIS or FEATURES ROIS")
    features, rois = inputs if len(inputs) == 2 else (None, inputs[0])
    table_options = take_table_options(given)
    quiet = given.pop("quiet")
    thresholds = table_options.thresholds(with_values=features is not None)
    for name, words in (("image_size", "image size"), ("map_size", "map size")):
        if given[name] is not None:
            given[name] = parse_size(given[name], words)
    with ProgressBar(quiet) as progress:
        result = api.errors(features, rois, progress=progress, **given)
    finish(result, table_options, thresholds, to_stderr=False)
