"""``roicli diagnose``: which convention produced a stored result."""

import sys
from typing import Annotated, Unpack

from roicli.cli.command import ProgressBar, leaving_with
from roicli.cli.options import Features, ListOptions, QuietOption, Rois
from roicli.core.declaration import Arg, keywords
from roicli.core.look_options import DiagnoseOptions

DiagnosedResult = Annotated[
    str,
    Arg("RESULT", "The RoI features (K, C, P_h, P_w): file.npy, file.h5, file.h5::/dataset, or -."),
]


class DiagnoseCommand(DiagnoseOptions, ListOptions, QuietOption, total=False):
    """The options of ``roicli diagnose``."""


def diagnose(
    features: Features, rois: Rois, result: DiagnosedResult, **options: Unpack[DiagnoseCommand]
) -> None:
    """Find the convention that produced RESULT, and the next best. Exit code 0: found, 1: not.

    Example: roicli align sample_data/text_fpn.h5::p3 sample_data/text_rois.npy -q -o - |
    roicli diagnose sample_data/text_fpn.h5::p3 sample_data/text_rois.npy -
    """
    from roicli.analysis.diagnose.run import diagnose as find_convention
    from roicli.render.diagnose import print_diagnosis, write_diagnosis_json

    with ProgressBar(options["quiet"]):
        given = keywords(DiagnoseOptions, options)
        found = find_convention(features, rois, result, **given)
    show = write_diagnosis_json if options["list_format"] == "json" else print_diagnosis
    with leaving_with(int(found.match is None)):
        show(found, sys.stdout)
