"""A sheet through matplotlib (extra ``roicli[figures]``): PNG or PDF; and images of all kinds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, BinaryIO, assert_never

import numpy as np

from roicli.core.exceptions import InputError, MissingPackageError
from roicli.core.types import Array
from roicli.render.shapes import (
    COLORS,
    LOOKS,
    Lines,
    Look,
    Points,
    Raster,
    Shape,
    Sheet,
    View,
    Words,
)

DPI, POINTS_A_PIXEL = 200, 0.75
HATCHES = {"": None, "/": "////", "\\": "\\\\\\\\", ".": "..."}
ALIGNMENTS = {"start": "left", "middle": "center", "end": "right"}
STYLE = {"hatch.linewidth": 0.8, "text.parse_math": False}


def import_matplotlib() -> Any:
    """Import matplotlib without a display. Raises MissingPackageError."""
    try:
        import matplotlib as mpl
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"PNG, PDF and images need matplotlib, and there is no module {error.name}",
            "pip install 'roicli[figures]', or draw an .svg",
        ) from error
    return mpl


def read_image(path: str) -> Array:
    """An image (H, W, 3 or 4) of 8 bits. Raises InputError."""
    import_matplotlib()
    from matplotlib import image

    try:
        pixels = np.asarray(image.imread(path))
    except Exception as error:
        reason = " ".join(str(error).split()) or repr(error)
        raise InputError(f"{path}: cannot be read as an image: {reason}") from error
    if pixels.dtype != np.uint8:
        largest = 1.0 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max
        pixels = np.round(255 * np.clip(pixels / largest, 0, 1)).astype(np.uint8)
    return pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=-1)


def save_sheet(sheet: Sheet, stream: BinaryIO, file_format: str) -> None:
    """Write the sheet as "png" or "pdf"."""
    mpl = import_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure((sheet.width / 96, sheet.height / 96), dpi=DPI)
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1), frameon=False, xticks=[], yticks=[])
        _draw(axes, sheet.shapes)
        axes.set(xlim=(0, sheet.width), ylim=(sheet.height, 0), aspect="auto")
        metadata = {"CreationDate": None} if file_format == "pdf" else {}
        figure.savefig(stream, format=file_format, facecolor=COLORS["paper"], metadata=metadata)


def _draw(axes: Any, shapes: Iterable[Shape]) -> None:
    """The later over the earlier."""
    from matplotlib.patches import PathPatch, Rectangle
    from matplotlib.path import Path
    from matplotlib.patheffects import withStroke

    for shape in shapes:
        order = len(axes.get_children())
        match shape:
            case Lines(name, lines, closed):
                paths = [
                    Path([*line, line[0]] if closed else line, closed=closed) for line in lines
                ]
                whole = Path.make_compound_path(*paths)
                axes.add_patch(PathPatch(whole, zorder=order, **_colors(LOOKS[name])))
            case Points(name, places, diameter):
                color, size = COLORS[LOOKS[name].fill], (POINTS_A_PIXEL * diameter) ** 2
                axes.scatter(
                    *zip(*places, strict=True), s=size, c=color, linewidths=0, zorder=order
                )
            case Words(name, texts):
                look = LOOKS[name]
                rim = (
                    [withStroke(linewidth=3, foreground=COLORS["paper"])] if look.on_shapes else []
                )
                style = {
                    "color": COLORS[look.fill],
                    "size": POINTS_A_PIXEL * look.size,
                    "ha": ALIGNMENTS[look.anchor],
                    "path_effects": rim,
                    "zorder": order,
                }
                for text, (x, y) in texts:
                    axes.text(x, y, text, **style)
            case Raster(name, frame, extent, pixels):
                assert not isinstance(pixels, str)
                (x1, y1), (x2, y2) = frame.place(*extent[:2]), frame.place(*extent[2:])
                kind = "nearest" if name == "cells" else "bilinear"
                axes.imshow(pixels, extent=(x1, x2, y2, y1), interpolation=kind, zorder=order)
            case View(frame, inside):
                before = set(axes.get_children())
                _draw(axes, inside)
                window = Rectangle((frame.left, frame.top), *frame.size, transform=axes.transData)
                for artist in set(axes.get_children()) - before:
                    artist.set_clip_path(window)
            case _:
                assert_never(shape)


def _colors(look: Look) -> dict[str, Any]:
    """A patch's keywords. The colour of a hatching is that of the edge, which may have no width."""
    from matplotlib.colors import to_rgba

    dash = tuple(POINTS_A_PIXEL * length for length in look.dash)
    width = POINTS_A_PIXEL * look.width
    return {
        "facecolor": to_rgba(COLORS[look.fill], look.opacity) if look.fill else "none",
        "edgecolor": COLORS[look.stroke or look.fill],
        "linewidth": width if look.stroke else 0,
        # Matplotlib counts dashes in widths of the line.
        "linestyle": (0, tuple(length / width for length in dash)) if dash else "solid",
        "hatch": HATCHES[look.hatch],
        "capstyle": "butt",
        "joinstyle": "miter",
    }
