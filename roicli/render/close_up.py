"""One sampling point closely: its four cells, and the four areas that are their weights."""

from __future__ import annotations

from typing import Any

from roicli.analysis.explanation import Corner, Sample
from roicli.analysis.picture import Picture

# One colour a corner (Okabe and Ito), the same for the cell and for its weight's rectangle.
CORNER_COLORS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7")
CORNER_HATCHES = ("", "///", "...", "\\\\\\")
INK, PAPER, REAL = "#1a1a1a", "#ffffff", "#0072B2"


def draw_close_up(axes: Any, picture: Picture) -> None:
    """The first sampling point of the bin that lies on the map."""
    assert picture.close_up is not None
    row, column = picture.bin_index or (0, 0)
    samples = picture.close_up.samples
    found = next((sample for sample in samples if sample.corners), None)
    if found is None:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no sampling point on the map", ha="center", transform=axes.transAxes)
        return
    number = samples.index(found) + 1
    axes.set_title(
        f"Bin {row},{column}: sample {number} of {len(samples)} = {exact_short(found.value)}"
    )
    _draw_cells(axes, picture, found)
    _draw_areas(axes, picture, found)
    _draw_bin(axes, picture)
    offset = picture.point_offset
    axes.plot(found.x + offset, found.y + offset, "o", ms=7, color=INK, mec=PAPER, zorder=8)
    axes.set_xlabel("x, cells\na cell counts by the area of its colour,\nwhich lies opposite to it")
    axes.set_ylabel("y, cells")


def _draw_cells(axes: Any, picture: Picture, sample: Sample) -> None:
    """The four cells as squares, each with its index, value and weight."""
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MultipleLocator

    offset = picture.point_offset
    tops, lefts = {c.y for c in sample.corners}, {c.x for c in sample.corners}
    for color, corner in zip(CORNER_COLORS, sample.corners, strict=True):
        x, y = corner.x + offset, corner.y + offset
        axes.add_patch(
            Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=f"{color}22", edgecolor=INK, lw=0.8)
        )
        axes.plot(x, y, "s", ms=6, color=color, mec=INK, mew=0.6, zorder=7)
        above = corner.y == min(tops) and len(tops) > 1
        right = corner.x == max(lefts) and len(lefts) > 1
        axes.annotate(
            f"cell ({corner.y}, {corner.x})\n{exact_short(corner.value)} x {corner.weight:.4f}",
            (x + (0.46 if right else -0.46), y + (-0.46 if above else 0.46)),
            ha="right" if right else "left", va="top" if above else "bottom",
            fontsize=8.5, zorder=9, bbox={"fc": PAPER, "ec": "none", "pad": 1, "alpha": 0.8},
        )  # fmt: skip
    low, high = min(lefts) + offset - 0.55, max(lefts) + offset + 0.55
    axes.set_xlim(low, high)
    axes.set_ylim(max(tops) + offset + 0.55, min(tops) + offset - 0.55)
    axes.set_aspect("equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MultipleLocator(0.5))


def exact_short(value: float) -> str:
    """Five significant digits, which a label has room for."""
    return f"{value:.5g}"


def _draw_areas(axes: Any, picture: Picture, sample: Sample) -> None:
    """The rectangles that the point cuts: a cell counts by the one diagonally opposite."""
    from matplotlib.patches import Rectangle

    offset = picture.point_offset
    x, y = sample.x + offset, sample.y + offset
    for index, (color, hatch) in enumerate(zip(CORNER_COLORS, CORNER_HATCHES, strict=True)):
        corner, opposite = sample.corners[index], sample.corners[3 - index]
        width, height = _toward(opposite, corner, sample)
        axes.add_patch(
            Rectangle((x, y), width, height, facecolor=f"{color}77", edgecolor=INK, lw=0.7,
                      hatch=hatch, zorder=4)
        )  # fmt: skip
        if abs(width) > 0.2 and abs(height) > 0.1:
            axes.text(
                x + width / 2, y + height / 2, f"{corner.weight:.4f}", ha="center", va="center",
                fontsize=8.5, zorder=9, bbox={"fc": PAPER, "ec": "none", "pad": 1, "alpha": 0.8},
            )  # fmt: skip


def _toward(opposite: Corner, corner: Corner, sample: Sample) -> tuple[float, float]:
    """The signed sides of the rectangle from the point to the opposite cell's centre."""
    width = corner.width if opposite.x >= sample.x else -corner.width
    height = corner.height if opposite.y >= sample.y else -corner.height
    return width, height


def _draw_bin(axes: Any, picture: Picture) -> None:
    """The bin's outline and its other sampling points, as far as they are in view."""
    row, column = picture.bin_index or (0, 0)
    x1, x2 = picture.align_x[column], picture.align_x[column + 1]
    y1, y2 = picture.align_y[row], picture.align_y[row + 1]
    axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=REAL, lw=1.6, zorder=6)
    assert picture.close_up is not None
    offset = picture.point_offset
    for sample in picture.close_up.samples:
        axes.plot(sample.x + offset, sample.y + offset, "o", ms=4, color=INK, mec=PAPER, zorder=7)
