"""``roicli capture``: from a detector and a photo to the numbers."""

from __future__ import annotations

import sys
from typing import Unpack

from roicli.cli.command import ProgressBar, leaving_with
from roicli.cli.console import print_line
from roicli.core.call_options import CaptureOptions
from roicli.core.command_options import CaptureCommand, DetectorModel, Photos
from roicli.core.declaration import keywords
from roicli.core.exceptions import ParameterError


def capture(model: DetectorModel, photos: Photos = None, **options: Unpack[CaptureCommand]) -> None:
    """Run an ONNX model, and store the maps, RoIs and own results of its RoI nodes.

    Example: roicli capture sample_data/two_stage.onnx --image sample_data/image1.jpg -o maps.h5
    """
    from roicli.render import capture as rendering

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

    options["image"] = [*(options["image"] or ()), *(photos or ())]
    with ProgressBar(quiet, counted="images") as progress:
        given = keywords(CaptureOptions, options, progress=progress)
        found = run_capture(model, output, **given)
    if not quiet:
        plural = "s" if found.images != 1 else ""
        print_line("note", f"wrote {output}: {found.images:,} image{plural}")
    if as_json or not quiet:
        show = rendering.write_capture_json if as_json else rendering.print_capture
        with leaving_with(0):
            show(found, sys.stdout)
