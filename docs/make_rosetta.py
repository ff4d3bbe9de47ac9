"""docs/rosetta.md: what each library computes, and what gives its numbers elsewhere.

Made from the table of ``operators.libraries``; the picture from ``operators.geometry``.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from roicli.operators.convention import ALIGN, CROP, LEGACY, POOL, PRECISE_POOL, Convention
from roicli.operators.geometry import bin_points, bin_windows
from roicli.operators.libraries import ROWS, LibraryFunction
from roicli.operators.phrases import describe
from roicli.operators.presets import command_of, differs_from_torchvision
from roicli.operators.rounding import MapAxis, place_axis

PAGE = Path(__file__).with_name("rosetta.md")
PICTURE = Path(__file__).parent / "figures" / "rosetta.svg"
CELL, GAP = 22, 30
# One RoI of 4.1 x 2.7 cells on a map of 8 x 6 cells, in cells, cut into 2 x 2 bins.
BOX, MAP, BINS = (1.3, 1.2, 5.4, 3.9), (8, 6), 2
FAMILIES: tuple[tuple[str, Convention], ...] = (
    ("RoI Align, half-pixel, ratio 2", ALIGN),
    ("RoI Align, legacy, ratio 2", replace(ALIGN, box=LEGACY)),
    ("crop_and_resize", CROP),
    ("RoI Pool, caffe", POOL),
    ("Precise RoI Pooling", PRECISE_POOL),
)


def write_page() -> str:
    """The page, in Markdown."""
    lines = [
        "# Rosetta: the engines' RoI operators side by side",
        "",
        "Made by `docs/make_rosetta.py` from the table that `roicli presets` shows and",
        "`roicli diagnose` names libraries from. A convention is what a function computes with its",
        "defaults; `docs/semantics.md` defines the terms. *Read* in a source means that the code",
        "was read and not run. What the original leaves to chance is named and not imitated.",
        "",
        "![The same RoI in five families](figures/rosetta.svg)",
        "",
        "The same RoI in five families: its box, its 2 x 2 bins, and what they read: sampling",
        "points (dots) or whole cells and areas (shaded, each bin in a tone of its own).",
        "",
        "## What each function computes",
        "",
        "| function | version | not as torchvision's | `roicli` |",
        "|---|---|---|---|",
        *(_function_line(row) for row in ROWS),
        "",
        "## Who has the same numbers",
        "",
        "For each convention: whose default it is, and who can be set to it, with what to set.",
        "",
        *_convention_lines(),
        "## Left to chance",
        "",
        *(f"- `{row.name}`: {row.undefined}." for row in ROWS if row.undefined),
        "",
    ]
    return "\n".join(lines)


def _function_line(row: LibraryFunction) -> str:
    run = f"`roicli {row.operator} --preset {row.name}`" if row.runs else "diagnosed only"
    return f"| `{row.name}` | {row.version} | {differs_from_torchvision(row)} | {run} |"


def _convention_lines() -> Iterator[str]:
    conventions = dict.fromkeys(row.convention for row in ROWS)
    for convention in sorted(conventions, key=describe):
        words = describe(convention)
        yield f"**{words}**"
        yield ""
        told = command_of(convention)
        if told is not None:
            yield f"- `{told}`"
        names = [f"`{row.name}`" for row in ROWS if row.convention == convention]
        yield f"- default of {', '.join(names)}"
        others = [_setting(row, words) for row in ROWS
                  if row.convention != convention and row.has(convention)]  # fmt: skip
        if others:
            yield f"- to be set: {', '.join(others)}"
        yield ""


def _setting(row: LibraryFunction, words: str) -> str:
    own = describe(row.convention).split(", ")
    changes = ", ".join(word for word in words.split(", ") if word not in own)
    return f"`{row.name}` ({changes})" if changes else f"`{row.name}`"


def write_picture() -> str:
    """The families side by side, as SVG."""
    width = len(FAMILIES) * (MAP[0] * CELL + GAP) + GAP
    height = MAP[1] * CELL + 2 * GAP
    shapes = [shape for number, family in enumerate(FAMILIES) for shape in _panel(number, *family)]
    body = "\n".join(shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n{body}\n</svg>\n'
    )


def _panel(number: int, title: str, rule: Convention) -> Iterator[str]:
    left, top = GAP + number * (MAP[0] * CELL + GAP), GAP
    # Cell i covers [i, i + 1) in the picture; its centre is at i for all but whole cells.
    shift = 0.0 if rule.reads_cells else 0.5

    def at(x: float, y: float) -> tuple[float, float]:
        return round(left + (x + shift) * CELL, 2), round(top + (y + shift) * CELL, 2)

    yield f'<text x="{left}" y="{top - 10}" fill="#222">{title}</text>'
    for x in range(MAP[0]):
        for y in range(MAP[1]):
            yield (
                f'<rect x="{left + x * CELL}" y="{top + y * CELL}" width="{CELL}" height="{CELL}" '
                'fill="none" stroke="#ccc"/>'
            )
    starts, extents = _place(rule)
    if rule.reads_cells:
        yield from _windows(rule, starts, extents, at)
    elif rule.reduction == "integral":
        yield from _areas(starts, extents, at)
    else:
        ys, xs = (
            bin_points(np.array([start]), np.array([extent]), BINS, rule.sampling_ratio, rule.grid)
            for start, extent in zip(starts[::-1], extents[::-1], strict=True)
        )
        for y in ys.reshape(-1).tolist():
            for x in xs.reshape(-1).tolist():
                cx, cy = at(x, y)
                yield f'<circle cx="{cx}" cy="{cy}" r="3" fill="#c2410c"/>'
    x, y = at(starts[0], starts[1])
    yield (
        f'<rect x="{x}" y="{y}" width="{extents[0] * CELL:.2f}" height="{extents[1] * CELL:.2f}" '
        'fill="none" stroke="#1d4ed8" stroke-width="1.5"/>'
    )


def _place(rule: Convention) -> tuple[list[float], list[float]]:
    corners = np.array(BOX, np.float32)
    placed = [
        place_axis(corners[i : i + 1], corners[i + 2 : i + 3], MapAxis(1.0), rule.box)
        for i in (0, 1)
    ]
    return [float(start[0]) for start, _ in placed], [float(extent[0]) for _, extent in placed]


def _windows(rule: Convention, starts: Any, extents: Any, at: Any) -> Iterator[str]:
    kind = np.dtype(np.float32)
    (xs, ys) = (
        bin_windows(np.array([start], int), np.array([extent], int), BINS, rule.cut, kind)
        for start, extent in zip(starts, extents, strict=True)
    )
    for j in range(BINS):
        for i in range(BINS):
            yield _tone(at, xs[0][0, i], ys[0][0, j], xs[1][0, i], ys[1][0, j], i + BINS * j)


def _areas(starts: Any, extents: Any, at: Any) -> Iterator[str]:
    for j in range(BINS):
        for i in range(BINS):
            x, y = starts[0] + i * extents[0] / BINS, starts[1] + j * extents[1] / BINS
            right, bottom = x + extents[0] / BINS, y + extents[1] / BINS
            yield _tone(at, x, y, right, bottom, i + BINS * j)


def _tone(at: Any, x: float, y: float, right: float, bottom: float, number: int) -> str:
    (left, top), (end, low) = at(x, y), at(right, bottom)
    colour = ("#f59e0b", "#10b981", "#6366f1", "#ec4899")[number % 4]
    return (
        f'<rect x="{left}" y="{top}" width="{end - left:.2f}" height="{low - top:.2f}" '
        f'fill="{colour}" fill-opacity="0.35"/>'
    )


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
    PICTURE.write_text(write_picture(), encoding="utf-8")
