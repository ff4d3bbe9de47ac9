"""``roicli export``: the graph that would run, as a file."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from roicli.cli import options as opt
from roicli.cli import run_options as run_opt
from roicli.cli.console import print_line
from roicli.cli.reporting import ProgressBar
from roicli.core.vocabulary import GraphDtype, Operator

OperatorArgument = Annotated[Operator, typer.Argument(metavar="OPERATOR", help="Which operator.")]
Out = Annotated[str, typer.Argument(metavar="OUT.onnx", help="The file to write.")]
Dtype = Annotated[
    GraphDtype,
    typer.Option("--dtype", rich_help_panel=run_opt.WRITING, help="Of the graph's tensors."),
]


def export(
    operator: OperatorArgument,
    output: Out,
    output_size: opt.OutputSize = None,
    spatial_scale: opt.SpatialScale = None,
    sampling_ratio: opt.SamplingRatio = None,
    aligned: opt.Aligned = None,
    mode: opt.ModeOption = None,
    sampling_grid: opt.Grid = None,
    quantization: opt.QuantizationOption = None,
    partition: opt.PartitionOption = None,
    preset: opt.Preset = None,
    graph: opt.GraphOption = None,
    dtype: Dtype = "float32",
    force: run_opt.Force = False,
    quiet: run_opt.Quiet = False,
) -> None:
    """Write the ONNX graph of an operator: features (N, C, H, W) and rois (K, 5) in.

    Example: roicli export align roi_align.onnx --spatial-scale 1/16
    """
    _run(locals())


def _run(given: dict[str, Any]) -> None:
    from roicli import api

    quiet = given.pop("quiet")
    operator, output = given.pop("operator"), given.pop("output")
    with ProgressBar(quiet):
        parameters = api.export(operator, output, **given)
    if not quiet:
        print_line("note", f"wrote {output}, opset {parameters['opset']}, checked by onnx.checker")
