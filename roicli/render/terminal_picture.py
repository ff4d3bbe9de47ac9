"""The same picture for a terminal: braille dots for lines, blocks for areas, greys for the map.

A character holds 2 x 4 dots. Solid, dashed and dotted lines tell the layers apart where there is no
colour, as the shades of the areas do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TextIO

import numpy as np
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

from roicli.analysis.picture import Box, Picture, round_ticks
from roicli.core.exceptions import ParameterError
from roicli.core.types import FloatArray, IntArray
from roicli.render.explain import describe_sample
from roicli.render.pipe_console import PipeConsole
from roicli.render.sections import print_parts

MOST_LINES, LABEL_WIDTH = 36, 7
# The bit of each dot of a braille character, row by row (Unicode, Braille Patterns).
BRAILLE = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
# Layers of lines, the later over the earlier: a colour (Okabe and Ito), and dots on and off.
NOTHING, POOL_BINS, ALIGN_BINS, ROUNDED, REAL = range(5)
LINE_COLORS = ("", "#E69F00", "#56B4E9", "#E69F00", "#56B4E9")
DASHES = {POOL_BINS: (1, 3), ALIGN_BINS: (1, 1), ROUNDED: (3, 2), REAL: (1, 0)}
EMPTY, GAINED, LOST = range(3)
SHADES = (" ", "\u2591", "\u2592")
SHADE_COLORS = ("", "#E69F00", "#CC79A7")
POINT, POINT_COLOR = "\u2022", "#ffffff"
DARKEST, LIGHTEST = 24, 110


class Canvas:
    """``width`` x ``height`` characters over a window (x1, y1, x2, y2) in cells."""

    def __init__(self, window: Box, width: int, height: int) -> None:
        self.window, self.width, self.height = window, width, height
        self.dots: IntArray = np.zeros((4 * height, 2 * width), np.int64)
        self.shades: IntArray = np.zeros((height, width), np.int64)
        self.points: IntArray = np.zeros((height, width), np.int64)

    def across(self, x: float, size: int) -> float:
        """Where x lies on an axis of ``size`` dots or characters."""
        return (x - self.window[0]) / (self.window[2] - self.window[0]) * size

    def down(self, y: float, size: int) -> float:
        """Where y lies on an axis of ``size`` dots or characters."""
        return (y - self.window[1]) / (self.window[3] - self.window[1]) * size

    def line(self, layer: int, x1: float, y1: float, x2: float, y2: float) -> None:
        """A horizontal or vertical line in the dashes of its layer."""
        rows, columns = self.dots.shape
        left, right = sorted((self._dot(self.across(x1, columns), columns),
                              self._dot(self.across(x2, columns), columns)))  # fmt: skip
        top, bottom = sorted((self._dot(self.down(y1, rows), rows),
                              self._dot(self.down(y2, rows), rows)))  # fmt: skip
        part = self.dots[top : bottom + 1, left : right + 1]
        on, off = DASHES[layer]
        place = np.arange(top + left, top + left + part.size).reshape(part.shape)
        drawn = (place % (on + off) < on) & (part < layer)
        part[drawn] = layer

    @staticmethod
    def _dot(place: float, size: int) -> int:
        return min(max(math.floor(place), 0), size - 1)

    def box(self, layer: int, box: Box) -> None:
        """The outline of a box."""
        x1, y1, x2, y2 = box
        for line in ((x1, y1, x2, y1), (x1, y2, x2, y2), (x1, y1, x1, y2), (x2, y1, x2, y2)):
            self.line(layer, *line)

    def shade(self, kind: int, box: Box) -> None:
        """Fill the characters whose centre lies in a box."""
        x, y = self.centres()
        inside_x, inside_y = (x >= box[0]) & (x < box[2]), (y >= box[1]) & (y < box[3])
        self.shades[inside_y[:, None] & inside_x[None, :]] = kind

    def centres(self) -> tuple[FloatArray, FloatArray]:
        """Places x (width,) and y (height,) of the characters' centres, in cells."""
        x1, y1, x2, y2 = self.window
        x = x1 + (np.arange(self.width) + 0.5) * (x2 - x1) / self.width
        y = y1 + (np.arange(self.height) + 0.5) * (y2 - y1) / self.height
        return x, y

    def point(self, x: float, y: float) -> None:
        """A sampling point."""
        column, row = math.floor(self.across(x, self.width)), math.floor(self.down(y, self.height))
        if 0 <= row < self.height and 0 <= column < self.width:
            self.points[row, column] = 1

    def character(self, row: int, column: int) -> tuple[str, str]:
        """What stands at a place, and its colour."""
        dots = self.dots[4 * row : 4 * row + 4, 2 * column : 2 * column + 2]
        layer = int(dots.max())
        if self.points[row, column] and layer < ROUNDED:
            return POINT, POINT_COLOR
        if layer:
            return chr(0x2800 + int(BRAILLE[dots > 0].sum())), LINE_COLORS[layer]
        kind = int(self.shades[row, column])
        return SHADES[kind], SHADE_COLORS[kind]


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
    console.print(_legend(panels), soft_wrap=True)
    if picture.close_up is not None:
        samples = picture.close_up.samples
        parts = describe_sample(0, samples[0]) if samples else ["no sampling points"]
        print_parts(parts, console)


def _render(picture: Picture, kind: str, console: Console) -> Text:
    x1, y1, x2, y2 = picture.window
    room = max(console.width - LABEL_WIDTH - 1, 16)
    # A character is twice as high as wide. Whole characters a cell where there is room for them.
    columns = min(room / (x2 - x1), 2 * MOST_LINES / (y2 - y1))
    columns = math.floor(columns / 2) * 2 if columns >= 2 else columns
    width, height = max(round((x2 - x1) * columns), 2), max(round((y2 - y1) * columns / 2), 1)
    canvas = Canvas(picture.window, width, height)
    _paint(canvas, picture, kind)
    heat = _heat(canvas, picture)
    lines = [_scale_line(canvas, picture.stride, "px")]
    for row in range(height):
        line = Text(_row_label(canvas, row, columns / 2))
        for column in range(width):
            character, color = canvas.character(row, column)
            grey = heat[row, column]
            background = None if grey < 0 else Color.from_rgb(grey, grey, grey)
            line.append(character, Style(color=color or None, bgcolor=background))
        lines.append(line)
    lines.append(_scale_line(canvas, 1.0, "cells"))
    return Text("\n").join(lines)


def _paint(canvas: Canvas, picture: Picture, kind: str) -> None:
    """Areas, bins, points and boxes of one panel."""
    if kind != "align":
        for box in picture.gained:
            canvas.shade(GAINED, box)
        for box in picture.lost:
            canvas.shade(LOST, box)
        xs, ys = ([e for bin_ in bins for e in bin_] for bins in (picture.pool_x, picture.pool_y))
        _bins(canvas, POOL_BINS, xs, ys)
        canvas.box(ROUNDED, picture.quantized)
    if kind != "pool":
        _bins(canvas, ALIGN_BINS, picture.align_x, picture.align_y)
        for x in picture.points_x:
            for y in picture.points_y:
                canvas.point(x, y)
    canvas.box(REAL, picture.real)


def _bins(canvas: Canvas, layer: int, xs: Sequence[float], ys: Sequence[float]) -> None:
    for x in xs:
        canvas.line(layer, x, min(ys), x, max(ys))
    for y in ys:
        canvas.line(layer, min(xs), y, max(xs), y)


def _heat(canvas: Canvas, picture: Picture) -> IntArray:
    """A grey (height, width) from 24 to 110 behind every character, -1 off the map."""
    grey: IntArray = np.full((canvas.height, canvas.width), -1, np.int64)
    cells = picture.cells
    defined = cells[np.isfinite(cells)]
    if not defined.size:
        return grey
    low, high = float(defined.min()), float(defined.max())
    scaled = np.clip(np.nan_to_num((cells - low) / max(high - low, 1e-30)), 0, 1)
    x, y = canvas.centres()
    rows = np.floor(y - picture.cell_offset).astype(np.int64) - picture.first_cell[0]
    columns = np.floor(x - picture.cell_offset).astype(np.int64) - picture.first_cell[1]
    fits_y = np.flatnonzero((rows >= 0) & (rows < cells.shape[0]))
    fits_x = np.flatnonzero((columns >= 0) & (columns < cells.shape[1]))
    shown = scaled[np.ix_(rows[fits_y], columns[fits_x])]
    grey[np.ix_(fits_y, fits_x)] = (DARKEST + (LIGHTEST - DARKEST) * shown).astype(np.int64)
    return grey


def _scale_line(canvas: Canvas, factor: float, unit: str) -> Text:
    """The numbers of the horizontal axis."""
    line = [" "] * (canvas.width + 8)
    x1, _, x2, _ = canvas.window
    for tick in round_ticks(x1 * factor, x2 * factor, max(canvas.width // 8, 1)):
        place = math.floor(canvas.across(tick / factor, canvas.width))
        line[place : place + len(f"{tick:g}")] = f"{tick:g}"
    return Text(f"{unit:>{LABEL_WIDTH - 1}} " + "".join(line).rstrip(), style="dim")


def _row_label(canvas: Canvas, row: int, lines_a_cell: float) -> str:
    """The cell that begins on this line, where there is room to say it."""
    _, y1, _, y2 = canvas.window
    step = (y2 - y1) / canvas.height
    every = max(1, math.ceil(2 / max(lines_a_cell, 0.01)))
    begins = math.ceil(y1 + row * step - 1e-9)
    here = y1 + row * step <= begins + 1e-9 and begins < y1 + (row + 1) * step - 1e-9
    label = str(begins) if here and begins % every == 0 else ""
    return f"{label:>{LABEL_WIDTH - 1}} "


def _legend(panels: Sequence[str]) -> Text:
    entries = [("\u28c0\u28c0", LINE_COLORS[REAL], "real box")]
    if not panels or "pool" in panels:
        entries += [
            ("\u2840\u28c0", LINE_COLORS[ROUNDED], "rounded box"),
            (SHADES[GAINED] * 2, SHADE_COLORS[GAINED], "gained"),
            (SHADES[LOST] * 2, SHADE_COLORS[LOST], "lost"),
        ]
    if not panels or "align" in panels:
        entries.append((POINT, "", "sampling points"))
    entries.append(("\u2840", "", "bins"))
    return Text("   ").join(
        Text.assemble((mark, color), f" {name}") for mark, color, name in entries
    )
