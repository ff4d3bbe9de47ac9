"""The same picture for a terminal: braille dots for lines, blocks for areas, greys for the map.

A character holds 2 x 4 dots. Solid, dashed and dotted lines tell the layers apart where there is no
colour, as the shades of the areas do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TextIO

import numpy as np
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

from roicli.analysis.picture import Picture, round_ticks, scale_values
from roicli.core.exceptions import ParameterError
from roicli.core.types import IntArray
from roicli.render.explain import describe_sample
from roicli.render.figure import list_meanings, shape_roi
from roicli.render.pipe_console import PipeConsole
from roicli.render.screen import open_screen
from roicli.render.sections import print_parts
from roicli.render.shapes import Frame, Lines, Outline, Place, Points, Shape

MOST_LINES, LABEL_WIDTH = 36, 7
# The bit of each dot of a braille character, row by row (Unicode, Braille Patterns).
BRAILLE = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
# Looks that are lines, the later over the earlier: a colour (Okabe and Ito), dots on and off.
LAYERS: dict[str, tuple[str, int, int]] = {
    "pool-bins": ("#E69F00", 1, 3),
    "align-bins": ("#56B4E9", 1, 1),
    "rounded": ("#E69F00", 3, 2),
    "real": ("#56B4E9", 1, 0),
    "bin": ("#ffffff", 1, 0),
}
ORDER = ("", *LAYERS)
# Looks that are areas: a character and its colour.
SHADES = {"": (" ", ""), "gained": ("\u2591", "#E69F00"), "lost": ("\u2592", "#CC79A7")}
POINT, POINT_COLOR = "\u2022", "#ffffff"
DARKEST, LIGHTEST = 24, 110


class Canvas:
    """``width`` x ``height`` characters; places (x, y) are in dots, of which one is 2 x 4."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.dots: IntArray = np.zeros((4 * height, 2 * width), np.int64)
        self.shades = np.full((height, width), "", "U8")
        self.points: IntArray = np.zeros((height, width), np.int64)

    def paint(self, shapes: Iterable[Shape]) -> None:
        """Draw those shapes whose look a terminal has."""
        for shape in shapes:
            match shape:
                case Lines(look, lines) if look in SHADES:
                    for line in lines:
                        self.shade(look, line)
                case Lines(look, lines, closed) if look in LAYERS:
                    for line in lines:
                        for start, end in pairwise([*line, line[0]] if closed else line):
                            self.line(look, start, end)
                case Points(_, places, _):
                    for x, y in places:
                        self.point(x, y)

    def line(self, look: str, start: Place, end: Place) -> None:
        """A line in the dashes of its look."""
        low = np.floor([start, end])
        count = int(np.abs(low[1] - low[0]).max()) + 1
        rows, columns = self.dots.shape
        places = np.rint(np.linspace(low[0], low[1], count)).astype(np.int64)
        x, y = np.clip(places[:, 0], 0, columns - 1), np.clip(places[:, 1], 0, rows - 1)
        _, on, off = LAYERS[look]
        layer, phase = ORDER.index(look), np.arange(count) + x[0] + y[0]
        drawn = (phase % (on + off) < on) & (self.dots[y, x] < layer)
        self.dots[y[drawn], x[drawn]] = layer

    def shade(self, look: str, outline: Outline) -> None:
        """Fill the characters whose centre lies in an outline."""
        x, y = 2 * np.arange(self.width) + 1.0, 4 * np.arange(self.height)[:, None] + 2.0
        inside = np.zeros(self.shades.shape, bool)
        for (x1, y1), (x2, y2) in pairwise([*outline, outline[0]]):
            if y1 != y2:  # a ray to the right leaves through an odd number of sides
                inside ^= ((y1 > y) != (y2 > y)) & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
        self.shades[inside] = look

    def point(self, x: float, y: float) -> None:
        """A sampling point."""
        column, row = math.floor(x / 2), math.floor(y / 4)
        if 0 <= row < self.height and 0 <= column < self.width:
            self.points[row, column] = 1

    def character(self, row: int, column: int) -> tuple[str, str]:
        """What stands at a place, and its colour."""
        dots = self.dots[4 * row : 4 * row + 4, 2 * column : 2 * column + 2]
        look = ORDER[int(dots.max())]
        if self.points[row, column] and look not in ("rounded", "real", "bin"):
            return POINT, POINT_COLOR
        if look:
            return chr(0x2800 + int(BRAILLE[dots > 0].sum())), LAYERS[look][0]
        return SHADES[str(self.shades[row, column])]


def print_picture(picture: Picture, panels: Sequence[str], stream: TextIO) -> None:
    """Print the picture, a panel below the other, then what it is made of."""
    encoding = (getattr(stream, "encoding", None) or "utf-8").lower()
    if not encoding.startswith("utf"):
        raise ParameterError(
            f"the terminal's encoding is {encoding}, and a drawing needs UTF-8",
            "set PYTHONIOENCODING=utf-8, or give -o figure.png",
        )
    console = PipeConsole(file=stream, highlight=False)
    console.print(Text("\n".join(picture.describe()), style="bold"), soft_wrap=True)
    for kind in panels or ("both",):
        console.print(_render(picture, kind, console), soft_wrap=True)
    console.print(_legend(picture, panels), soft_wrap=True)
    if picture.close_up is not None:
        samples = picture.close_up.samples
        parts = describe_sample(0, samples[0]) if samples else ["no sampling points"]
        print_parts(parts, open_screen(stream))


def _render(picture: Picture, kind: str, console: Console) -> Text:
    x1, y1, x2, y2 = picture.window
    room = max(console.width - LABEL_WIDTH - 1, 16)
    # A character is twice as high as wide. Whole characters a cell where there is room for them.
    columns = min(room / (x2 - x1), 2 * MOST_LINES / (y2 - y1))
    columns = math.floor(columns / 2) * 2 if columns >= 2 else columns
    width, height = max(round((x2 - x1) * columns), 2), max(round((y2 - y1) * columns / 2), 1)
    canvas, frame = Canvas(width, height), Frame(picture.window, 0, 0, 2 * columns)
    canvas.paint(shape_roi(picture, kind, frame))
    heat = _heat(frame, picture, width, height)
    lines = [_scale_line(frame, width, picture.stride, "px")]
    for row in range(height):
        line = Text(_row_label(frame, row))
        for column in range(width):
            character, color = canvas.character(row, column)
            grey = heat[row, column]
            background = None if grey < 0 else Color.from_rgb(grey, grey, grey)
            line.append(character, Style(color=color or None, bgcolor=background))
        lines.append(line)
    lines.append(_scale_line(frame, width, 1.0, "cells"))
    return Text("\n").join(lines)


def _heat(frame: Frame, picture: Picture, width: int, height: int) -> IntArray:
    """A grey (height, width) from 24 to 110 behind every character, -1 off the map."""
    grey: IntArray = np.full((height, width), -1, np.int64)
    cells = np.nan_to_num(scale_values(picture.cells))
    x = frame.window[0] + (2 * np.arange(width) + 1) / frame.scale
    y = frame.window[1] + (4 * np.arange(height) + 2) / frame.scale
    rows = np.floor(y - picture.cell_offset).astype(np.int64) - picture.first_cell[0]
    columns = np.floor(x - picture.cell_offset).astype(np.int64) - picture.first_cell[1]
    fits_y = np.flatnonzero((rows >= 0) & (rows < cells.shape[0]))
    fits_x = np.flatnonzero((columns >= 0) & (columns < cells.shape[1]))
    shown = cells[np.ix_(rows[fits_y], columns[fits_x])]
    grey[np.ix_(fits_y, fits_x)] = (DARKEST + (LIGHTEST - DARKEST) * shown).astype(np.int64)
    return grey


def _scale_line(frame: Frame, width: int, factor: float, unit: str) -> Text:
    """The numbers of the horizontal axis."""
    line = [" "] * (width + 1)
    x1, y1, x2, _ = frame.window
    for tick in round_ticks(x1 * factor, x2 * factor, max(width // 8, 1)):
        place, number = math.floor(frame.place(tick / factor, y1)[0] / 2), f"{tick:g}"
        if place + len(number) <= len(line):
            line[place : place + len(number)] = number
    return Text(f"{unit:>{LABEL_WIDTH - 1}} " + "".join(line).rstrip(), style="dim")


def _row_label(frame: Frame, row: int) -> str:
    """The cell that begins on this line, where there is room to say it."""
    step = 4 / frame.scale
    every = max(1, math.ceil(2 * step))
    top = frame.window[1] + row * step
    begins = math.ceil(top - 1e-9)
    here = begins < top + step - 1e-9
    label = str(begins) if here and begins % every == 0 else ""
    return f"{label:>{LABEL_WIDTH - 1}} "


def _legend(picture: Picture, panels: Sequence[str]) -> Text:
    """What a sample of each look means, three on a line as in a figure."""
    parts = []
    for look, words in list_meanings(picture, panels):
        sample = Canvas(2, 1)
        if look in SHADES:
            sample.shades[:] = look
        elif look in LAYERS:
            sample.line(look, (0, 0), (3, 0))
        else:
            sample.points[0, :1] = 1
        marks = [sample.character(0, column) for column in range(2)]
        parts.append(Text.assemble(*marks, f" {words}"))
    lines = (Text("   ").join(parts[first : first + 3]) for first in range(0, len(parts), 3))
    return Text("\n").join(lines)
