"""``roicli inspect``: what a file holds."""

import sys
from typing import Annotated, TypedDict, Unpack

from roicli.cli.command import ProgressBar, leaving_with
from roicli.cli.options import ListOptions, QuietOption
from roicli.core.declaration import Arg, Opt, keywords
from roicli.core.look_options import InspectOptions
from roicli.core.vocabulary import Severity

InspectedFile = Annotated[
    str,
    Arg(
        "FILE",
        "A file of arrays (.npy, .npz, .safetensors, .h5, .zarr, .csv, .tsv), file.h5::/group, or "
        "a model (.onnx, OpenVINO's .xml).",
    ),
]


class TrapOptions(TypedDict, total=False):
    """What fails ``inspect``."""

    fail_on: Annotated[
        Severity,
        Opt(
            "--fail-on", None, "Exit 1 from this severity on; a model's trap is a warning.", "error"
        ),
    ]
    strict: Annotated[bool, Opt("--strict", None, "The same as --fail-on warning.", False)]


class InspectCommand(InspectOptions, TrapOptions, ListOptions, QuietOption, total=False):
    """The options of ``roicli inspect``."""


def inspect(file: InspectedFile, **options: Unpack[InspectCommand]) -> None:
    """Show what a file holds: datasets and their use, or a model's RoI nodes and their traps.

    Example: roicli inspect sample_data/text_fpn.h5 --stats
    """
    from roicli.analysis.inspect_file import inspect as inspect_file
    from roicli.render import inspect as inspection

    with ProgressBar(options["quiet"]):
        given = keywords(InspectOptions, options)
        report = inspect_file(file, **given)
    is_json = options["list_format"] == "json"
    show = inspection.write_inspection_json if is_json else inspection.print_inspection
    fail_on: Severity = "warning" if options["strict"] else options["fail_on"]
    with leaving_with(int(inspection.fails(report, fail_on))):
        show(report, sys.stdout)
