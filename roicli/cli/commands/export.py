"""``roicli export``: the graph that would run, as a file."""

from typing import Annotated, Unpack

from roicli.cli.command import ProgressBar
from roicli.cli.console import print_line
from roicli.cli.options import OperatorName, QuietOption
from roicli.core.call_options import ExportOptions
from roicli.core.declaration import Arg, keywords

GraphFile = Annotated[str, Arg("OUT.onnx", "The file to write.")]


class ExportCommand(ExportOptions, QuietOption, total=False):
    """The options of ``roicli export``."""


def export(operator: OperatorName, output: GraphFile, **options: Unpack[ExportCommand]) -> None:
    """Write the ONNX graph of an operator: features (N, C, H, W) and rois (K, 5) in; or a model
    with that graph in place of its RoI nodes (--into).

    Example: roicli export align roi_align.onnx --spatial-scale 1/16
    """
    from roicli import api

    quiet = options["quiet"]
    with ProgressBar(quiet):
        parameters = api.export(operator, output, **keywords(ExportOptions, options))
    if quiet:
        return
    if options["into"] is not None:
        for one in parameters["nodes"]:
            print_line("note", f"node {one['node']}: {one['change']}")
        print_line("note", f"wrote {output}: {parameters['checked']}")
        return
    print_line("note", f"wrote {output}, opset {parameters['opset']}, checked by onnx.checker")
