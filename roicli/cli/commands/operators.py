"""The operators' commands: ``roicli align``, ``pool``, ``precise-pool``."""

from __future__ import annotations

from typing import Any

from roicli.cli import options as opt
from roicli.cli import part_options as part_opt
from roicli.cli import run_options as run_opt
from roicli.cli import table_options as table_opt
from roicli.cli.console import print_line
from roicli.cli.garbage import importing
from roicli.cli.reporting import ProgressBar, TableOptions, finish
from roicli.core.vocabulary import Operator


def align(
    features: opt.Features,
    rois: opt.Rois,
    output: run_opt.Output = None,
    force: run_opt.Force = False,
    shard: part_opt.Shard = None,
    dask: part_opt.Dask = None,
    resume: run_opt.Resume = False,
    verify_inputs: run_opt.VerifyInputs = False,
    compression: run_opt.CompressionOption = "none",
    dtype: run_opt.Dtype = None,
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
    verify: run_opt.Verify = False,
    verify_rois: run_opt.VerifyRois = None,
    device_id: run_opt.DeviceId = 0,
    max_device_memory: run_opt.MaxDeviceMemory = None,
    strict_provider: run_opt.StrictProvider = False,
    table_format: table_opt.Format = "table",
    errors_out: table_opt.ErrorsOut = None,
    rows: table_opt.Rows = "20",
    sort: table_opt.Sort = table_opt.SORT_DEFAULT,
    columns: table_opt.Columns = None,
    values: table_opt.Values = False,
    fail_over: table_opt.FailOver = None,
    fail_under: table_opt.FailUnder = None,
    no_table: table_opt.NoTable = False,
    quiet: run_opt.Quiet = False,
    verbose: run_opt.Verbose = False,
) -> None:
    """Run RoI Align and show what RoI Pool's rounding would have cost each RoI.

    Example: roicli align sample_data/text_fpn.h5::p3 sample_data/text_rois.npy
    """
    _run("align", locals())


def pool(
    features: opt.Features,
    rois: opt.Rois,
    output: run_opt.Output = None,
    force: run_opt.Force = False,
    shard: part_opt.Shard = None,
    dask: part_opt.Dask = None,
    resume: run_opt.Resume = False,
    verify_inputs: run_opt.VerifyInputs = False,
    compression: run_opt.CompressionOption = "none",
    dtype: run_opt.Dtype = None,
    output_size: opt.OutputSize = None,
    spatial_scale: opt.SpatialScale = None,
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
    verify: run_opt.Verify = False,
    verify_rois: run_opt.VerifyRois = None,
    device_id: run_opt.DeviceId = 0,
    max_device_memory: run_opt.MaxDeviceMemory = None,
    strict_provider: run_opt.StrictProvider = False,
    table_format: table_opt.Format = "table",
    errors_out: table_opt.ErrorsOut = None,
    rows: table_opt.Rows = "20",
    sort: table_opt.Sort = table_opt.SORT_DEFAULT,
    columns: table_opt.Columns = None,
    values: table_opt.Values = False,
    fail_over: table_opt.FailOver = None,
    fail_under: table_opt.FailUnder = None,
    no_table: table_opt.NoTable = False,
    quiet: run_opt.Quiet = False,
    verbose: run_opt.Verbose = False,
) -> None:
    """Run RoI Pool and show what its rounding cost each RoI.

    Example: roicli pool sample_data/text_fpn.h5::p3 sample_data/text_rois.npy
    """
    _run("pool", locals())


def precise_pool(
    features: opt.Features,
    rois: opt.Rois,
    output: run_opt.Output = None,
    force: run_opt.Force = False,
    shard: part_opt.Shard = None,
    dask: part_opt.Dask = None,
    resume: run_opt.Resume = False,
    verify_inputs: run_opt.VerifyInputs = False,
    compression: run_opt.CompressionOption = "none",
    dtype: run_opt.Dtype = None,
    output_size: opt.OutputSize = None,
    spatial_scale: opt.SpatialScale = None,
    border: opt.BorderOption = None,
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
    provider: run_opt.ProviderOption = "auto",
    threads: run_opt.Threads = None,
    max_memory: run_opt.MaxMemory = None,
    verify: run_opt.Verify = False,
    verify_rois: run_opt.VerifyRois = None,
    device_id: run_opt.DeviceId = 0,
    max_device_memory: run_opt.MaxDeviceMemory = None,
    strict_provider: run_opt.StrictProvider = False,
    table_format: table_opt.Format = "table",
    errors_out: table_opt.ErrorsOut = None,
    rows: table_opt.Rows = "20",
    sort: table_opt.Sort = table_opt.SORT_DEFAULT,
    columns: table_opt.Columns = None,
    values: table_opt.Values = False,
    fail_over: table_opt.FailOver = None,
    fail_under: table_opt.FailUnder = None,
    no_table: table_opt.NoTable = False,
    quiet: run_opt.Quiet = False,
    verbose: run_opt.Verbose = False,
) -> None:
    """Run Precise RoI Pooling: the exact mean of the interpolated map over each bin.

    Example: roicli precise-pool sample_data/text_fpn.h5::p3 sample_data/text_rois.npy
    """
    _run("precise-pool", locals())


TABLE_OPTIONS = ("rows", "sort", "columns", "fail_over", "fail_under")


def take_table_options(given: dict[str, Any]) -> TableOptions:
    """Pop the options of the table; what stays is the library's."""
    picked = {name: given.pop(name) for name in TABLE_OPTIONS}
    picked["fail_over"], picked["fail_under"] = (
        picked["fail_over"] or [],
        picked["fail_under"] or [],
    )
    show = not (given.pop("no_table") or given["quiet"])
    return TableOptions(format=given.pop("table_format"), show=show, **picked)


def _run(operator: Operator, given: dict[str, Any]) -> None:
    """Options to one library call, and its result to the screen."""
    with importing():
        from roicli import api
        from roicli.core.parsing import parse_size

    table_options = take_table_options(given)
    quiet, verbose = given.pop("quiet"), given.pop("verbose")
    thresholds = table_options.thresholds(given["values"])
    features, rois, output = (given.pop(name) for name in ("features", "rois", "output"))
    if output is None and given["shard"] is None:
        output = api.default_output(features, operator)
    verify_rois = given.pop("verify_rois")
    if verify_rois is not None:
        given["verify"] = verify_rois
    if given["image_size"] is not None:
        given["image_size"] = parse_size(given["image_size"], "image size")
    with ProgressBar(quiet, verbose) as progress:
        result = api.run(operator, features, rois, output, {**given, "progress": progress})
    if verbose:
        for key, value in result.parameters.items():
            print_line("run", f"{key}: {value}")
    if output != "-" and not quiet:
        shape = tuple(result.parameters["result_shape"])
        print_line("note", f"wrote {output} {shape} {result.parameters['dtype']}")
    finish(result, table_options, thresholds, to_stderr=output == "-")
