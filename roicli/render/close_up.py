"""One sampling point closely: its four cells, and the four areas that are their weights."""

from __future__ import annotations

from typing import Protocol

from roicli.analysis.explanation import AlignedBin, Corner, Sample, Span
from roicli.analysis.picture import Box
from roicli.render.shapes import Frame, Points, Shape, Words

# In cells: half the side of the mark at a cell's centre, how far letters are from its edge.
MARK, INSET = 0.03, 0.04
LINE = 15.0
NOTE = "cells: each counts by the area of its colour, opposite to it"


class BinView(Protocol):
    """What a close-up shows; ``Picture`` is one."""

    @property
    def close_up(self) -> AlignedBin | None:
        """The bin; None of a picture without a close-up."""

    @property
    def bin_index(self) -> Span | None:
        """Its row and column."""

    @property
    def bin_box(self) -> Box:
        """Where it lies, in the picture's cells."""

    @property
    def point_offset(self) -> float:
        """From the operator's coordinates to the picture's."""

    @property
    def window(self) -> Box:
        """What is shown where no sampling point lies on the map."""


def find_sample(picture: BinView) -> Sample | None:
    """The first sampling point of the bin that lies on the map."""
    assert picture.close_up is not None
    return next((sample for sample in picture.close_up.samples if sample.corners), None)


def title_close_up(picture: BinView) -> str:
    """Which sample of which bin, and its value."""
    sample = find_sample(picture)
    if sample is None or picture.close_up is None or picture.bin_index is None:
        return "no sampling point on the map"
    row, column = picture.bin_index
    samples = picture.close_up.samples
    number = samples.index(sample) + 1
    return f"Bin {row},{column}: sample {number} of {len(samples)} = {sample.value:.5g}"


def frame_close_up(picture: BinView) -> Box:
    """The window that shows the four cells; where there are none, the RoI."""
    sample, offset = find_sample(picture), picture.point_offset
    if sample is None:
        return picture.window
    xs, ys = ([getattr(c, axis) + offset for c in sample.corners] for axis in ("x", "y"))
    return min(xs) - 0.55, min(ys) - 0.55, max(xs) + 0.55, max(ys) + 0.55


def shape_close_up(picture: BinView, frame: Frame) -> list[Shape]:
    """Cells, weights, the bin and its sampling points, then the words on them."""
    sample, offset = find_sample(picture), picture.point_offset
    bin_outline = frame.outline("real", picture.bin_box)
    if sample is None or picture.close_up is None:
        return [bin_outline]
    cells: list[Shape] = []
    weights: list[Shape] = []
    words: list[Shape] = []
    for index, corner in _distinct_cells(sample):
        x, y = corner.x + offset, corner.y + offset
        x1, y1, x2, y2 = area = _weight_area(sample, index, offset)
        cells.append(frame.outline(f"cell-{index}", (x - 0.5, y - 0.5, x + 0.5, y + 0.5)))
        weights.append(frame.outline(f"weight-{index}", area))
        words.append(frame.outline(f"corner-{index}", (x - MARK, y - MARK, x + MARK, y + MARK)))
        words.append(_describe_cell(sample, corner, offset, frame))
        if abs(x2 - x1) > 0.2 and abs(y2 - y1) > 0.1:
            across, down = frame.place((x1 + x2) / 2, (y1 + y2) / 2)
            words.append(Words("in-middle", ((f"{corner.weight:.4f}", (across, down + 4)),)))
    every = tuple(frame.place(s.x + offset, s.y + offset) for s in picture.close_up.samples)
    chosen = (frame.place(sample.x + offset, sample.y + offset),)
    marks: list[Shape] = [
        Points(look, places, diameter + rim)
        for places, diameter in ((every, 5.0), (chosen, 9.0))
        for look, rim in (("point-rim", 2.0), ("point", 0.0))
    ]
    return [*cells, *weights, bin_outline, *marks, *words]


def _distinct_cells(sample: Sample) -> list[tuple[int, Corner]]:
    """The four cells; at the map's edge fewer, of which some were read for two corners.

    The other of the two has the weight 0 then.
    """
    cells: dict[tuple[int, int], tuple[int, Corner]] = {}
    for index, corner in enumerate(sample.corners):
        other = cells.get((corner.y, corner.x))
        if other is None or other[1].weight < corner.weight:
            cells[corner.y, corner.x] = index, corner
    return list(cells.values())


def _weight_area(sample: Sample, index: int, offset: float) -> Box:
    """The rectangle from the point to the centre of the opposite cell."""
    corner, opposite = sample.corners[index], sample.corners[3 - index]
    x1, x2 = _side(sample.x, corner.x, opposite.x)
    y1, y2 = _side(sample.y, corner.y, opposite.y)
    return x1 + offset, y1 + offset, x2 + offset, y2 + offset


def _side(place: float, cell: int, opposite: int) -> tuple[float, float]:
    """A side of that rectangle; at the map's edge, where one cell is both, a cell long."""
    if cell == opposite:
        return cell - 0.5, cell + 0.5
    return min(max(place, min(cell, opposite)), max(cell, opposite)), opposite


def _describe_cell(sample: Sample, corner: Corner, offset: float, frame: Frame) -> Words:
    """Index, value and weight, in the outer corner of the cell."""
    tops, lefts = {c.y for c in sample.corners}, {c.x for c in sample.corners}
    above = corner.y == min(tops) and len(tops) > 1
    right = corner.x == max(lefts) and len(lefts) > 1
    far = 0.5 - INSET
    x, y = frame.place(
        corner.x + offset + (far if right else -far), corner.y + offset + (-far if above else far)
    )
    first = y + 10 if above else y - LINE - 2
    lines = f"cell ({corner.y}, {corner.x})", f"{corner.value:.5g} x {corner.weight:.4f}"
    texts = tuple((text, (x, first + LINE * number)) for number, text in enumerate(lines))
    return Words("in-right" if right else "in-left", texts)
