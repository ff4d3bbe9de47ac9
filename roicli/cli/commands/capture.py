"""``roicli capture``: from a detector and a photo to the numbers."""

import sys
from typing import Annotated, TypedDict, Unpack

from roicli.cli.command import ProgressBar, leaving_with
from roicli.cli.console import print_line
from roicli.cli.options import ListOptions, QuietOption
from roicli.core.declaration import Arg, Opt, keywords
from roicli.core.exceptions import ParameterError
from roicli.core.model_options import CaptureOptions
from roicli.core.panels import WRITING
from roicli.core.parse import as_several

DetectorModel = Annotated[str, Arg("MODEL.onnx", "The user's model.")]


Photos = Annotated[list[str] | None, Arg("[PHOTO]...", "More photos, beside --image.")]


class CapturedOption(TypedDict, total=False):
    """Where what was captured goes, or whether a model is only listed."""

    output: Annotated[
        str | None, Opt("-o --output", WRITING, "The file: .h5.", metavar="FILE.h5", outward=True)
    ]
    list_only: Annotated[
        bool,
        Opt(
            "--list", None, "Show the model's inputs, RoI nodes and heads, and run nothing.", False
        ),
    ]


class CaptureCommand(CapturedOption, CaptureOptions, ListOptions, QuietOption, total=False):
    """The options of ``roicli capture``."""


def capture(model: DetectorModel, photos: Photos = None, **options: Unpack[CaptureCommand]) -> None:
    """Run an ONNX model, and store the maps, RoIs and own results of its RoI nodes.

    Example: roicli capture sample_data/two_stage.onnx --image sample_data/image1.jpg -o maps.h5
    """
    from roicli.render import capture as rendering
    from roicli.render.tables import format_count

    quiet, output, as_json = options["quiet"], options["output"], options["list_format"] == "json"
    if options["list_only"]:
        from roicli.pipeline.capture.plan import list_model

        plan = list_model(model)
        with leaving_with(0):
            (rendering.write_plan_json if as_json else rendering.print_plan)(plan, sys.stdout)
        return
    if output is None:
        raise ParameterError("output is not given", "add -o FILE.h5, or --list to look only")
    from roicli.pipeline.capture.run import capture as run_capture

    options["image"] = [*as_several(options["image"] or (), "image"), *(photos or ())]
    with ProgressBar(quiet, counted="images") as progress:
        given = keywords(CaptureOptions, options, progress=progress)
        found = run_capture(model, output, **given)
    if not quiet:
        print_line("note", f"wrote {output}: {format_count(found.images, 'image')}")
    if as_json or not quiet:
        show = rendering.write_capture_json if as_json else rendering.print_capture
        with leaving_with(0):
            show(found, sys.stdout)
