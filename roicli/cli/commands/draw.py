"""``roicli draw``: one RoI on its map as a picture."""

import sys
from typing import Annotated, TypedDict, Unpack

from roicli.cli.command import ProgressBar
from roicli.cli.console import print_line
from roicli.cli.options import Features, QuietOption, Rois
from roicli.core.declaration import Opt, keywords
from roicli.core.look_options import DrawOptions
from roicli.core.panels import WRITING
from roicli.core.parse import as_names


class PictureOption(TypedDict, total=False):
    """Where the picture goes."""

    output: Annotated[
        str | None,
        Opt(
            "-o --output",
            WRITING,
            ".svg; or .png or .pdf, which need roicli[figures].",
            metavar="FILE",
            shown="a drawing in the terminal",
            outward=True,
        ),
    ]


class DrawCommand(PictureOption, DrawOptions, QuietOption, total=False):
    """The options of ``roicli draw``."""


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
