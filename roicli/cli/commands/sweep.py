"""``roicli sweep``: which sampling ratio is enough."""

import sys
from typing import Unpack

from roicli.cli.command import ProgressBar
from roicli.cli.options import Features, ListOptions, QuietOption, Rois
from roicli.core.declaration import keywords
from roicli.core.look_options import SweepOptions


class SweepCommand(SweepOptions, ListOptions, QuietOption, total=False):
    """The options of ``roicli sweep``."""


def sweep(features: Features, rois: Rois, **options: Unpack[SweepCommand]) -> None:
    """Measure RoI Align at several sampling ratios against the exact mean, and recommend one.

    Example: roicli sweep sample_data/text_fpn.h5::p3 sample_data/text_rois.npy
    """
    from roicli.analysis.sweep import sweep as sweep_ratios
    from roicli.render.sweep import print_sweep, write_sweep_json

    with ProgressBar(options["quiet"]):
        given = keywords(SweepOptions, options)
        found = sweep_ratios(features, rois, **given)
    show = write_sweep_json if options["list_format"] == "json" else print_sweep
    show(found, sys.stdout)
