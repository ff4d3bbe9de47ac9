"""``roicli verify-model``: whose rule the RoI nodes of a model follow, here and in deployment."""

import sys
from typing import Annotated, Unpack

from roicli.cli.command import ProgressBar, leaving_with
from roicli.cli.options import ListOptions, QuietOption
from roicli.core.declaration import Arg, keywords
from roicli.core.model_options import VerifyModelOptions

ModelOrCapture = Annotated[
    str, Arg("CAPTURE.h5|MODEL.onnx", "What capture wrote; or a model, which is captured first.")
]


class VerifyModelCommand(VerifyModelOptions, ListOptions, QuietOption, total=False):
    """The options of ``roicli verify-model``."""


def verify_model(source: ModelOrCapture, **options: Unpack[VerifyModelCommand]) -> None:
    """Compute a model's RoI nodes again: equal bits, or whose rule they follow. Exit code 1: a node
    that nothing explains, or another runtime's result (--against) that departs.

    Example: roicli verify-model maps.h5 --against trtexec.json
    """
    from roicli.analysis.verify_model import verify_model as verify
    from roicli.render.verify_model import print_model_check, write_model_check_json

    with ProgressBar(options["quiet"]):
        found = verify(source, **keywords(VerifyModelOptions, options))
    show = write_model_check_json if options["list_format"] == "json" else print_model_check
    with leaving_with(int(found.findings > 0)):
        show(found, sys.stdout)
