"""What a drawing is made of: shapes on a sheet, each in one of a few looks.

``figure`` lays them out, ``svg`` writes them as text and ``plot`` through matplotlib. A sheet is
measured in CSS pixels, 96 to the inch, from its upper left corner.

Colours are Okabe and Ito's, which colour-blind people tell apart; what they mean is told by line
style and hatching too, so that a black and white print says the same.
"""

from __future__ import annotations

from typing import Literal

from roicli.analysis.picture import Box
from roicli.core.record import frozen
from roicli.core.types import Array

Place = tuple[float, float]
Outline = tuple[Place, ...]
Hatch = Literal["", "/", "\\", "."]

# The page has the same names as variables of its style, and other values in the dark.
COLORS = {
    "paper": "#ffffff", "panel": "#f6f7f9", "ink": "#1b1e23", "quiet": "#5c636e",
    "real": "#0072b2", "rounded": "#d55e00", "gained": "#e69f00", "lost": "#cc79a7",
    "sky": "#56b4e9", "green": "#009e73", "lattice": "#b0b4bb",
}  # fmt: skip


@frozen
class Look:
    """How a shape looks: names of colours, "" for none, and lengths on the sheet.

    ``opacity`` is that of the fill without its hatching; ``round`` ones are of points. ``size`` and
    ``anchor`` are those of letters, which have a rim of paper where they stand ``on_shapes``.
    """

    fill: str = ""
    stroke: str = ""
    width: float = 1.0
    dash: tuple[float, ...] = ()
    opacity: float = 1.0
    hatch: Hatch = ""
    round: bool = False
    size: float = 0.0
    anchor: Literal["start", "middle", "end"] = "middle"
    on_shapes: bool = False


# One colour and hatching a corner of a sample, the same for its cell and for its weight.
_CORNERS: tuple[tuple[str, Hatch], ...] = (
    ("sky", ""), ("gained", "/"), ("green", "."), ("lost", "\\"),
)  # fmt: skip
LOOKS = {
    "sheet": Look("paper"),
    "off-map": Look("panel"),
    "cells": Look(),
    "photo": Look(),
    "lattice": Look(stroke="lattice", width=0.5),
    "lost": Look("lost", opacity=0.4, hatch="\\"),
    "gained": Look("gained", opacity=0.4, hatch="/"),
    "pool-bins": Look(stroke="rounded", width=1.2, dash=(2.4, 2.4)),
    "align-bins": Look(stroke="real", width=1.2),
    "rim": Look(stroke="paper", width=4.5),
    "rounded": Look(stroke="rounded", width=2.6, dash=(8, 4)),
    "real": Look(stroke="real", width=2.6),
    "bin": Look(stroke="ink", width=2.6),
    "point": Look("ink", round=True),
    "point-rim": Look("paper", round=True),
    "frame": Look(stroke="quiet"),
    "above": Look("quiet", size=11),
    "left": Look("quiet", size=11, anchor="end"),
    "right": Look("quiet", size=11, anchor="start"),
    "title": Look("ink", size=14),
    "entry": Look("ink", size=11.5, anchor="start"),
    "in-left": Look("ink", size=11.5, anchor="start", on_shapes=True),
    "in-right": Look("ink", size=11.5, anchor="end", on_shapes=True),
    "in-middle": Look("ink", size=11.5, on_shapes=True),
    **{
        f"cell-{i}": Look(color, "ink", opacity=0.13) for i, (color, _) in enumerate(_CORNERS)
    },
    **{
        f"weight-{i}": Look(color, "ink", opacity=0.47, hatch=hatch)
        for i, (color, hatch) in enumerate(_CORNERS)
    },
    **{f"corner-{i}": Look(color, "ink") for i, (color, _) in enumerate(_CORNERS)},
}  # fmt: skip


@frozen
class Lines:
    """Lines from place to place; ``closed`` ones end where they begin."""

    look: str
    lines: tuple[Outline, ...]
    closed: bool = False


@frozen
class Points:
    """Round points of one ``diameter``."""

    look: str
    places: tuple[Place, ...]
    diameter: float


@frozen
class Words:
    """Texts; the look's anchor says which end of the baseline is at the place."""

    look: str
    texts: tuple[tuple[str, Place], ...]


@frozen
class Frame:
    """A window in cells as it lies on a sheet: its corner, and how long a cell is."""

    window: Box
    left: float
    top: float
    scale: float

    @property
    def size(self) -> Place:
        """Width and height on the sheet."""
        x1, y1, x2, y2 = self.window
        return (x2 - x1) * self.scale, (y2 - y1) * self.scale

    def place(self, x: float, y: float) -> Place:
        """Where a place in cells is on the sheet."""
        x1, y1, _, _ = self.window
        return self.left + (x - x1) * self.scale, self.top + (y - y1) * self.scale

    def outline(self, look: str, *boxes: Box) -> Lines:
        """Upright boxes in cells."""
        lines = (
            tuple(self.place(x, y) for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2)))
            for x1, y1, x2, y2 in boxes
        )
        return Lines(look, tuple(lines), closed=True)


@frozen
class Raster:
    """Pixels over ``extent``, in cells, as far as they lie in the frame's window.

    ``pixels`` (H, W, channels) of 8 bits are RGB or RGBA; or the name of what a page holds once.
    """

    look: str
    frame: Frame
    extent: Box
    pixels: Array | str


@frozen
class View:
    """Shapes as far as they lie in the frame's window."""

    frame: Frame
    shapes: tuple[Shape, ...]


Shape = Lines | Points | Words | Raster | View


@frozen
class Sheet:
    """Shapes, the later over the earlier; ``label`` says in words what they show."""

    label: str
    width: float
    height: float
    shapes: tuple[Shape, ...]
