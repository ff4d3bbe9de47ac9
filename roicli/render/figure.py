"""Pictures by matplotlib (extra ``roicli[figures]``): SVG, PNG or PDF.

Colours are Okabe and Ito's, which colour-blind people tell apart; what they mean is told by line
style and hatching too, so that a black and white print says the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from roicli.analysis.picture import Box, Interval, Picture
from roicli.core.exceptions import InputError, ProviderError

REAL, QUANTIZED = "#0072B2", "#D55E00"
LOST, GAINED = "#CC79A7", "#E69F00"
INK, PAPER = "#1a1a1a", "#ffffff"
SINGLE_WIDTH, DOUBLE_WIDTH, DPI = 6.0, 8.0, 200
PANELS = {"pool": "RoI Pool rounds twice", "align": "RoI Align rounds nothing"}
# More points or bins than these would be a grey area.
SHOWN_POINTS, SHOWN_BINS = 2500, 40
STYLE = {
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.linewidth": 0.8,
    "hatch.linewidth": 0.8,
    "svg.hashsalt": "roicli",
    "svg.fonttype": "path",
    "text.parse_math": False,
}


def import_pyplot() -> Any:
    """Import matplotlib without a display, or the line that installs it. Raises ProviderError."""
    try:
        import matplotlib as mpl
    except ModuleNotFoundError as error:
        raise ProviderError(
            f"figures need matplotlib, and there is no module {error.name}",
            "pip install 'roicli[figures]'",
        ) from error
    return mpl


def read_image(path: str) -> Any:
    """An image (H, W) or (H, W, 3 or 4). Raises InputError."""
    import_pyplot()
    from matplotlib import image

    try:
        return image.imread(path)
    except Exception as error:
        reason = " ".join(str(error).split()) or repr(error)
        raise InputError(f"{path}: cannot be read as an image: {reason}") from error


def save_figure(
    picture: Picture, stream: BinaryIO, file_format: str, panels: Sequence[str], image: Any,
    extent: Box,
) -> None:  # fmt: skip
    """Draw to a stream. ``panels`` (of "pool", "align"): one each, side by side; none: all in one.

    ``image`` is put under the map over ``extent`` x1, y1, x2, y2 in cells; None: no image.
    """
    mpl = import_pyplot()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        kinds = [*(panels or ("both",)), *(("close-up",) if picture.close_up else ())]
        columns = min(len(kinds), 2)
        rows = -(-len(kinds) // columns)
        width = SINGLE_WIDTH if columns == 1 else DOUBLE_WIDTH
        x1, y1, x2, y2 = picture.window
        ratio = max((y2 - y1) / (x2 - x1), 0.8 if picture.close_up else 0.0)
        panel_height = (width / columns - 1.1) * ratio + 1.0
        figure = Figure((width, panel_height * rows + 1.35), dpi=DPI, layout="compressed")
        FigureCanvasAgg(figure)
        for number, kind in enumerate(kinds, 1):
            axes = figure.add_subplot(rows, columns, number)
            if kind == "close-up":
                _draw_close_up(axes, picture)
            else:
                _draw_panel(axes, picture, kind, image, extent)
        figure.suptitle("\n".join(picture.describe()), fontsize=10.5)
        handles = _legend_handles(picture, panels)
        figure.legend(
            handles=handles, loc="outside lower center", ncols=4 if columns > 1 else 3,
            frameon=False, fontsize=9, handlelength=2.2, columnspacing=1.2,
        )  # fmt: skip
        date = {"Date": None} if file_format == "svg" else {"CreationDate": None}
        metadata = {"png": {}, "svg": date, "pdf": date}[file_format]
        figure.savefig(
            stream, format=file_format, facecolor=PAPER, metadata=metadata, bbox_inches="tight",
            pad_inches=0.08,
        )  # fmt: skip


def _draw_panel(axes: Any, picture: Picture, kind: str, image: Any, extent: Box) -> None:
    """The map, and on it what ``kind`` asks for: "pool", "align" or "both"."""
    _draw_map(axes, picture, image, extent)
    if kind in ("pool", "both"):
        _fill(axes, picture.lost, LOST, "\\\\\\\\")
        _fill(axes, picture.gained, GAINED, "////")
        x_bins, y_bins = picture.pool_x, picture.pool_y
        _bin_lines(axes, _edges(x_bins), _edges(y_bins), QUANTIZED, (0, (2, 2)))
    if kind in ("align", "both"):
        _bin_lines(axes, picture.align_x, picture.align_y, REAL, "solid")
        if len(picture.points_x) * len(picture.points_y) <= SHOWN_POINTS:
            _draw_points(axes, picture)
    line_width = _line_width(axes, picture)
    _outline(axes, picture.real, REAL, "solid", line_width)
    if kind in ("pool", "both"):
        _outline(axes, picture.quantized, QUANTIZED, (0, (5, 2)), line_width)
    if picture.bin_index is not None and kind != "pool":
        row, column = picture.bin_index
        x, y = picture.align_x, picture.align_y
        _outline(axes, (x[column], y[row], x[column + 1], y[row + 1]), INK, "solid", line_width)
    if kind in PANELS:
        axes.set_title(PANELS[kind])
    _label(axes, picture)


def _draw_map(axes: Any, picture: Picture, image: Any, extent: Box) -> None:
    """The cells as a heat map, light so that lines stay visible; over an image, transparent."""
    x1, y1, x2, y2 = picture.window
    top, left = (first + picture.cell_offset for first in picture.first_cell)
    height, width = picture.cells.shape
    cells = np.ma.masked_invalid(picture.cells)
    if image is not None:
        a, b, c, d = extent
        axes.imshow(image, extent=(a, c, d, b), aspect="equal", cmap="gray", zorder=0)
    if height and width:
        axes.imshow(
            cells, extent=(left, left + width, top + height, top), cmap=_light_greys(),
            interpolation="nearest", aspect="equal", alpha=0.3 if image is not None else 1.0,
            zorder=1,
        )  # fmt: skip
        if max(height, width) <= 64:
            style = {"colors": INK, "linewidths": 0.3, "alpha": 0.35, "zorder": 2}
            axes.vlines(left + np.arange(width + 1), top, top + height, **style)
            axes.hlines(top + np.arange(height + 1), left, left + width, **style)
    axes.set_xlim(x1, x2)
    axes.set_ylim(y2, y1)
    axes.set_aspect("equal")
    axes.set_facecolor("#f4f4f4")


def _light_greys() -> Any:
    """Greys from white to middle grey."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("light greys", ["#ffffff", "#8c8c8c"])


def _edges(bins: tuple[Interval, ...]) -> tuple[float, ...]:
    """Every place where a bin begins or ends."""
    return tuple(sorted({edge for interval in bins for edge in interval}))


def _bin_lines(axes: Any, xs: Sequence[float], ys: Sequence[float], color: str, style: Any) -> None:
    if max(len(xs), len(ys)) > SHOWN_BINS:
        return
    look = {"colors": color, "linewidths": 0.9, "linestyles": [style], "zorder": 4}
    axes.vlines(xs, ys[0], ys[-1], **look)
    axes.hlines(ys, xs[0], xs[-1], **look)


def _draw_points(axes: Any, picture: Picture) -> None:
    x, y = np.meshgrid(picture.points_x, picture.points_y)
    spacing = _points_a_cell(axes, picture) * min(
        abs(picture.real[2] - picture.real[0]) / max(len(picture.points_x), 1),
        abs(picture.real[3] - picture.real[1]) / max(len(picture.points_y), 1),
    )
    size = min(max(0.45 * spacing, 0.7), 3.2)
    axes.scatter(x, y, s=size**2, c=INK, edgecolors=PAPER, linewidths=0.15 * size, zorder=6)


def _points_a_cell(axes: Any, picture: Picture) -> float:
    """How many typographic points a cell takes, roughly: layout comes later."""
    return float(axes.bbox.width / axes.figure.dpi * 72 / (picture.window[2] - picture.window[0]))


def _line_width(axes: Any, picture: Picture) -> float:
    """Thinner outlines for a box that is drawn small."""
    x1, y1, x2, y2 = picture.real
    side = min(abs(x2 - x1), abs(y2 - y1)) * _points_a_cell(axes, picture)
    return min(max(side / 25, 0.9), 2.0)


def _fill(axes: Any, boxes: Sequence[Box], color: str, hatch: str) -> None:
    from matplotlib.patches import Rectangle

    for x1, y1, x2, y2 in boxes:
        axes.add_patch(
            Rectangle((x1, y1), x2 - x1, y2 - y1, facecolor=f"{color}66", edgecolor=color,
                      hatch=hatch, linewidth=0, zorder=3)
        )  # fmt: skip


def _outline(axes: Any, box: Box, color: str, style: Any, line_width: float) -> None:
    from matplotlib.patches import Rectangle

    x1, y1, x2, y2 = box
    for shade, width in ((PAPER, 1.8 * line_width), (color, line_width)):
        axes.add_patch(
            Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=shade, linewidth=width,
                      linestyle=style if shade == color else "solid", zorder=5)
        )  # fmt: skip


def _label(axes: Any, picture: Picture) -> None:
    """Cells below and to the left, image pixels above and to the right."""
    stride = picture.stride
    axes.set_xlabel("x, cells")
    axes.set_ylabel("y, cells")
    functions = (lambda cells: cells * stride, lambda px: px / stride)
    axes.secondary_xaxis("top", functions=functions).set_xlabel("x, px of the image")
    axes.secondary_yaxis("right", functions=functions).set_ylabel("y, px of the image")


def _legend_handles(picture: Picture, panels: Sequence[str]) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    lost, gained = (
        f"{name} {area:.3g} cells\u00b2"
        for name, area in (("lost", picture.area_lost), ("gained", picture.area_gained))
    )
    handles: list[Any] = [Line2D([], [], color=REAL, lw=2, label="real box")]
    if not panels or "pool" in panels:
        handles += [
            Line2D([], [], color=QUANTIZED, lw=2, ls=(0, (4, 1.6)), label="rounded box"),
            Patch(facecolor=f"{LOST}66", edgecolor=LOST, hatch="\\\\\\\\", lw=0, label=lost),
            Patch(facecolor=f"{GAINED}66", edgecolor=GAINED, hatch="////", lw=0, label=gained),
            Line2D(
                [], [], color=QUANTIZED, lw=0.9, ls=(0, (2, 2)), label="RoI Pool bins (may overlap)"
            ),
        ]
    if not panels or "align" in panels:
        handles += [
            Line2D([], [], color=REAL, lw=0.9, label="RoI Align bins"),
            Line2D([], [], color=INK, marker="o", ms=4, ls="none", label="sampling points"),
        ]
    return handles


def _draw_close_up(axes: Any, picture: Picture) -> None:
    from roicli.render.close_up import draw_close_up

    draw_close_up(axes, picture)
