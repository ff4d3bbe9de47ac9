"""``roicli draw``: one RoI on its map as a picture."""

from __future__ import annotations

import sys
from typing import Unpack

from roicli.cli.command import ProgressBar
from roicli.cli.console import print_line
from roicli.core.call_options import DrawOptions
from roicli.core.command_options import DrawCommand, Features, Rois
from roicli.core.declaration import keywords
from roicli.core.parse import as_names


def draw(features: Features, rois: Rois, **options: Unpack[DrawCommand]) -> None:
    """Draw one RoI: the map's cells, the real and the rounded box, bins and sampling points.

    Example: roicli draw sample_data/text_fpn.h5::p3 sample_data/text_rois.npy --roi 37
    """
    from roicli.render.draw import draw as draw_roi
    from roicli.render.terminal_picture import print_picture

    quiet, output = options["quiet"], options["output"]
    with ProgressBar(quiet):  # holds the notes back until nothing is refused
        given = keywords(DrawOptions, options)
        picture = draw_roi(features, rois, output, **given)
    if output is None:
        print_picture(picture, as_names(options["compare"] or (), "compare"), sys.stdout)
    elif not quiet:
        print_line("note", f"wrote {output}")
