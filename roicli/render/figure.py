"""A picture of one RoI laid out on a sheet: panels with their axes, a heading and a legend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from roicli.analysis.explanation import AlignedBin, Explanation
from roicli.analysis.picture import Box, Interval, Picture, round_ticks, scale_values
from roicli.core.record import frozen
from roicli.core.types import Array, FloatArray, Size
from roicli.error_table.geometric import MODEL_OFFSET
from roicli.render.close_up import NOTE, BinView, frame_close_up, shape_close_up, title_close_up
from roicli.render.shapes import (
    LOOKS,
    Frame,
    Lines,
    Outline,
    Place,
    Points,
    Raster,
    Shape,
    Sheet,
    View,
    Words,
)

TITLES = {"pool": "RoI Pool rounds twice", "align": "RoI Align rounds nothing"}
# The widths of a sheet of one panel, of a panel of two, and of a drawing in a page.
SINGLE, HALF, DRAWING = 576.0, 408.0, 400.0
# Around a window: numbers, and a line of words above and below.
LEFT, RIGHT, ABOVE, BELOW = 36.0, 44.0, 34.0, 38.0
HEADING, LINE, TICK = 48.0, 18.0, 4.0
# How high a panel is at most, in its width.
TALLEST, TALLEST_DRAWING = 1.25, 0.78
# More points, bins or cells a side than these would be a grey area.
SHOWN_POINTS, SHOWN_BINS, SHOWN_CELLS = 2500, 40, 64
# How black the largest value of a map is, of 255, and what is no number; lines stay visible on it.
DARKEST, UNDEFINED = 116, 10
# A photograph has at most so many pixels a side on a sheet.
PHOTO_PIXELS = 1200


@frozen
class Photo:
    """An image (H, W, channels) of 8 bits over ``extent`` x1, y1, x2, y2 in cells."""

    pixels: Array
    extent: Box


def draw_for_page(picture: Picture, map_name: str) -> Sheet:
    """The RoI alone, over a map that the page holds; its heading and legend are the page's."""
    frame = fit(picture.window, 0, ABOVE, DRAWING, TALLEST_DRAWING * DRAWING)
    under = [Raster("cells", frame, picture.window, map_name)] if map_name else []
    view = View(
        frame, (frame.outline("off-map", frame.window), *under, *shape_roi(picture, "both", frame))
    )
    shapes = (view, *shape_axes(frame, picture.stride))
    height = round(ABOVE + frame.size[1] + BELOW)
    return Sheet(f"RoI {picture.roi}", DRAWING, height, shapes)


def draw_figure(picture: Picture, panels: Sequence[str], photo: Photo | None = None) -> Sheet:
    """A panel each of ``panels`` (of "pool", "align"; none: all in one), and the close-up."""
    kinds = [*(panels or ("both",)), *(("close-up",) if picture.close_up else ())]
    columns = min(len(kinds), 2)
    room = SINGLE if columns == 1 else HALF
    width, top = columns * room, HEADING
    heading = ((line, (width / 2, 19.0 + LINE * i)) for i, line in enumerate(picture.describe()))
    shapes: list[Shape] = [Words("title", tuple(heading))]
    for first in range(0, len(kinds), columns):
        row = [
            _shape_panel(picture, kind, photo, room * place, top + LINE * (kinds != ["both"]), room)
            for place, kind in enumerate(kinds[first : first + columns])
        ]
        shapes += [shape for panel, _ in row for shape in panel]
        top = max(bottom for _, bottom in row)
    shapes += _shape_legend(picture, panels, width, top)
    label = " ".join(picture.describe())
    return Sheet(label, width, round(top + LINE * 3 + 12), tuple(shapes))


def _shape_panel(
    picture: Picture, kind: str, photo: Photo | None, left: float, top: float, room: float
) -> tuple[list[Shape], float]:
    """The shapes of a panel, and where it ends."""
    if kind == "close-up":
        return _shape_bin(picture, left, top, room)
    frame = fit(picture.window, left, top + ABOVE, room, TALLEST * room)
    title, inside = TITLES.get(kind, ""), _shape_cells(picture, frame, photo)
    inside += shape_roi(picture, kind, frame, photo is not None)
    return _finish_panel(frame, inside, shape_axes(frame, picture.stride), title, top - 6)


def _shape_bin(view: BinView, left: float, top: float, room: float) -> tuple[list[Shape], float]:
    """The shapes of a close-up, and where it ends."""
    frame = fit(frame_close_up(view), left, top + ABOVE, room, TALLEST * room)
    inside, axes = shape_close_up(view, frame), shape_axes(frame, None, NOTE)
    return _finish_panel(frame, inside, axes, title_close_up(view), frame.top - 10)


def _finish_panel(
    frame: Frame, inside: list[Shape], axes: list[Shape], title: str, height: float
) -> tuple[list[Shape], float]:
    """A panel with its axes and its title, which stands at ``height``, and where it ends."""
    words = [Words("title", ((title, (frame.left + frame.size[0] / 2, height)),))]
    view = View(frame, (frame.outline("off-map", frame.window), *inside))
    return [view, *axes, *words[: bool(title)]], frame.top + frame.size[1] + BELOW + 8


@frozen
class ExplainedBin:
    """The bin of an explanation, as a close-up shows it."""

    close_up: AlignedBin
    bin_index: Size
    bin_box: Box
    point_offset: float

    @property
    def window(self) -> Box:
        """What is shown of a bin that reads nothing."""
        return self.bin_box


def draw_bin(explanation: Explanation) -> Sheet:
    """The first sampling point of an explained bin: its four cells and their weights."""
    aligned = explanation.align
    offset = 0.5 + MODEL_OFFSET[explanation.pixel_model]
    step = offset - (0.5 if aligned.aligned else 0.0)
    x1, y1, x2, y2 = (edge + step for edge in aligned.bin_before_step)
    view = ExplainedBin(aligned, explanation.bin_index, (x1, y1, x2, y2), offset)
    shapes, height = _shape_bin(view, 0, 0, SINGLE)
    return Sheet(
        f"RoI {explanation.roi}, {title_close_up(view)}", SINGLE, round(height), tuple(shapes)
    )


def fit(window: Box, left: float, top: float, wide: float, high: float) -> Frame:
    """A window as large as there is room for it and the numbers beside it, in the middle."""
    x1, y1, x2, y2 = window
    wide -= LEFT + RIGHT
    scale = min(wide / (x2 - x1), high / (y2 - y1))
    return Frame(window, round(left + LEFT + (wide - (x2 - x1) * scale) / 2), top, scale)


def _shape_cells(picture: Picture, frame: Frame, photo: Photo | None) -> list[Shape]:
    """The map's cells, the larger a value the darker; over an image they are a veil."""
    shapes: list[Shape] = [] if photo is None else [crop(photo, frame)]
    top, left = (first + picture.cell_offset for first in picture.first_cell)
    height, width = picture.cells.shape
    if not height or not width:
        return shapes
    extent = (left, top, left + width, top + height)
    if photo is None:
        shapes.append(frame.outline("sheet", extent))
    darkness = blacken(picture.cells) // (1 if photo is None else 2)
    shapes.append(Raster("cells", frame, extent, darkness))
    if max(height, width) <= SHOWN_CELLS:
        xs, ys = (first + np.arange(n + 1) for first, n in ((left, width), (top, height)))
        shapes.append(_cross("lattice", frame, xs.tolist(), ys.tolist()))
    return shapes


def blacken(values: FloatArray) -> Array:
    """Values (H, W), from the least to the greatest, as black RGBA (H, W, 4) of an opacity."""
    scaled = scale_values(values)
    pixels = np.zeros((*values.shape, 4), np.uint8)
    pixels[..., 3] = np.where(np.isnan(scaled), UNDEFINED, np.rint(DARKEST * scaled))
    return pixels


def crop(photo: Photo, frame: Frame) -> Raster:
    """The pixels that the window touches, fewer where it touches very many."""
    cuts, extent = [], list(photo.extent)
    for axis, count in enumerate(photo.pixels.shape[1::-1]):
        start, end = photo.extent[axis], photo.extent[axis + 2]
        size = (end - start) / count
        places = [(frame.window[side] - start) / size for side in (axis, axis + 2)]
        first, stop = (int(np.clip(edge, 0, count)) for edge in (places[0], places[1] + 1))
        step = max(1, -(-(stop - first) // PHOTO_PIXELS))
        stop = first + (stop - first) // step * step
        cuts.append(slice(first, stop, step))
        extent[axis], extent[axis + 2] = start + first * size, start + stop * size
    x1, y1, x2, y2 = extent
    return Raster("photo", frame, (x1, y1, x2, y2), photo.pixels[cuts[1], cuts[0]])


def shape_roi(picture: Picture, kind: str, frame: Frame, on_photo: bool = False) -> list[Shape]:
    """Areas, bins, boxes and sampling points of a panel: "pool", "align" or "both"."""
    pool, align = kind != "align", kind != "pool"
    shapes: list[Shape] = []
    boxes = [("real", picture.real)]
    if pool:
        for look, areas in (("lost", picture.lost), ("gained", picture.gained)):
            shapes += [frame.outline(look, *areas)] if areas else []
        shapes += _shape_bins("pool-bins", frame, _edges(picture.pool_x), _edges(picture.pool_y))
        boxes.insert(0, ("rounded", picture.quantized))
    if align:
        shapes += _shape_bins("align-bins", frame, picture.align_x, picture.align_y)
        shapes += _shape_lines(picture, frame)
    if align and picture.bin_index is not None:
        boxes.append(("bin", picture.bin_box))
    shapes.append(frame.outline("rim", *(box for _, box in boxes)))
    shapes += [frame.outline(look, box) for look, box in boxes]
    return shapes + (_shape_points(picture, frame, on_photo) if align else [])


def _edges(bins: tuple[Interval, ...]) -> list[float]:
    """Every place where a bin begins or ends."""
    return sorted({edge for interval in bins for edge in interval})


def _shape_bins(look: str, frame: Frame, xs: Sequence[float], ys: Sequence[float]) -> list[Shape]:
    return [] if max(len(xs), len(ys)) > SHOWN_BINS else [_cross(look, frame, xs, ys)]


def _shape_lines(picture: Picture, frame: Frame) -> list[Shape]:
    """The lines between the bins of another operator, which need not be upright."""
    if not 0 < len(picture.lines) <= 2 * SHOWN_BINS:
        return []
    ends = tuple((frame.place(*start), frame.place(*end)) for start, end in picture.lines)
    return [Lines("align-bins", ends)]


def _cross(look: str, frame: Frame, xs: Sequence[float], ys: Sequence[float]) -> Lines:
    """Lines down at every x and across at every y, each as long as the others reach."""
    down = ((frame.place(x, ys[0]), frame.place(x, ys[-1])) for x in xs)
    across = ((frame.place(xs[0], y), frame.place(xs[-1], y)) for y in ys)
    return Lines(look, (*down, *across))


def _shape_points(picture: Picture, frame: Frame, on_photo: bool) -> list[Shape]:
    grid = picture.points
    if grid is None:
        grid = tuple((x, y) for y in picture.points_y for x in picture.points_x)
    places = tuple(frame.place(x, y) for x, y in grid)
    if not 0 < len(places) <= SHOWN_POINTS:
        return []
    x1, y1, x2, y2 = picture.real
    if picture.points is None:
        room = min(abs(x2 - x1) / len(picture.points_x), abs(y2 - y1) / len(picture.points_y))
    else:
        room = (abs(x2 - x1) * abs(y2 - y1) / len(places)) ** 0.5
    diameter = min(max(0.44 * frame.scale * room, 1.0), 4.5)
    points = Points("point", places, diameter)
    # Greys are light enough for black points; a photograph may be as dark as they are.
    return [Points("point-rim", places, 1.4 * diameter), points] if on_photo else [points]


def shape_axes(frame: Frame, stride: float | None, below: str = "cells") -> list[Shape]:
    """Cells below and to the left; where there is a stride, image pixels above and to the right."""
    left, top, (width, height) = frame.left, frame.top, frame.size
    right, low = left + width, top + height
    sides = [(below, 1.0, low, TICK, 11.0, 25.0, left, -TICK, "left")]
    if stride is not None:
        sides.append(("px of the image", stride, top, -TICK, -3.0, -18.0, right, TICK, "right"))
    x1, y1, x2, y2 = frame.window
    ticks: list[Outline] = []
    words: list[Shape] = []
    for name, unit, y_edge, down, y_words, y_name, x_edge, aside, look in sides:
        x_ticks = round_ticks(x1 * unit, x2 * unit, max(round(width / 50), 1))
        y_ticks = round_ticks(y1 * unit, y2 * unit, max(round(height / 40), 1))
        across: list[tuple[str, Place]] = [(name, (left + width / 2, y_edge + down + y_name))]
        upright: list[tuple[str, Place]] = []
        for value in x_ticks:
            x, _ = frame.place(value / unit, y1)
            ticks.append(((x, y_edge), (x, y_edge + down)))
            across.append((f"{value:g}", (x, y_edge + down + y_words)))
        for value in y_ticks:
            _, y = frame.place(x1, value / unit)
            ticks.append(((x_edge, y), (x_edge + aside, y)))
            upright.append((f"{value:g}", (x_edge + 1.5 * aside, y + 4)))
        words += [Words("above", tuple(across)), Words(look, tuple(upright))]
    return [frame.outline("frame", frame.window), Lines("frame", tuple(ticks)), *words]


def list_meanings(picture: Picture, panels: Sequence[str]) -> list[tuple[str, str]]:
    """Every look of a drawing that means something, and what."""
    meanings = [("real", picture.box_name)]
    if not panels or "pool" in panels:
        meanings += [
            ("rounded", "rounded box"),
            ("pool-bins", "RoI Pool bins (may overlap)"),
            ("lost", f"lost {picture.area_lost:.3g} cells\u00b2"),
            ("gained", f"gained {picture.area_gained:.3g} cells\u00b2"),
        ]
    if not panels or "align" in panels:
        meanings += [("align-bins", f"{picture.operator} bins"), ("point", "sampling points")]
    return meanings


def _shape_legend(picture: Picture, panels: Sequence[str], width: float, top: float) -> list[Shape]:
    """A sample of each look, in three columns."""
    shapes: list[Shape] = []
    for number, (look, text) in enumerate(list_meanings(picture, panels)):
        row, column = divmod(number, 3)
        x, y = LEFT + (width - 2 * RIGHT) / 3 * column, top + 10 + LINE * row
        if LOOKS[look].round:
            shapes.append(Points(look, ((x + 14, y),), 6.0))
        elif LOOKS[look].fill:
            corners = ((x, y - 6), (x + 28, y - 6), (x + 28, y + 6), (x, y + 6))
            shapes.append(Lines(look, (corners,), closed=True))
        else:
            shapes.append(Lines(look, (((x, y), (x + 28, y)),)))
        shapes.append(Words("entry", ((text, (x + 36, y + 4)),)))
    return shapes
