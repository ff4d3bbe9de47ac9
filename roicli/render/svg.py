"""A sheet as SVG: a file of its own, or an element of a page that holds the styles and hatches."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable, Iterable
from html import escape
from typing import assert_never

import numpy as np

from roicli.analysis.picture import Box
from roicli.core.types import Array
from roicli.render.shapes import (
    COLORS,
    LOOKS,
    Frame,
    Lines,
    Look,
    Outline,
    Points,
    Raster,
    Shape,
    Sheet,
    View,
    Words,
)

STRIPES = {
    "/": "M-2 2L2-2M0 8L8 0M6 10L10 6",
    "\\": "M-2 6L2 10M0 0L8 8M6-2L10 2",
    ".": "M2 2h.01M6 6h.01",
}
# PNG's numbers for RGB and RGBA (https://www.w3.org/TR/png-3/).
PNG_KINDS = {3: 2, 4: 6}
ColorOf = Callable[[str], str]


def write_file(sheet: Sheet) -> bytes:
    """A file that needs nothing but itself; letters stay text."""
    body, color_of = _body(sheet.shapes), COLORS.__getitem__
    used = dict.fromkeys(["sheet", *find_looks(body)])
    size = f'width="{sheet.width:g}" height="{sheet.height:g}"'
    text = (
        f'<?xml version="1.0" encoding="utf-8"?>\n<svg xmlns="http://www.w3.org/2000/svg" {size} '
        f"{_head(sheet)}><style>.drawing{{font-family:system-ui,sans-serif}}"
        f"{write_style(used, color_of)}</style><defs>{write_definitions(used, color_of)}</defs>"
        f'<rect class="sheet" {size}/>{body}</svg>\n'
    )
    return text.encode()


def write_element(sheet: Sheet) -> str:
    """One line of text."""
    return f"<svg {_head(sheet)}>{_body(sheet.shapes)}</svg>"


def find_looks(text: str) -> list[str]:
    """The looks that elements have."""
    return [name for name in LOOKS if f'class="{name}"' in text]


def write_style(looks: Iterable[str], color_of: ColorOf) -> str:
    """CSS with a class a look; ``color_of`` turns the name of a colour into what CSS calls it."""
    rules = (f".drawing .{name}{{{_rules(name, LOOKS[name], color_of)}}}" for name in looks)
    return "".join(rules) + "image.cells{image-rendering:pixelated}"


def write_definitions(looks: Iterable[str], color_of: ColorOf) -> str:
    """What the style refers to, named as the looks: hatches, and the markers that are points."""
    found: list[str] = []
    for name in looks:
        look = LOOKS[name]
        fill = (
            f'style="fill:{color_of(look.fill)};fill-opacity:{look.opacity}"' if look.fill else ""
        )
        if look.round:
            found.append(f'<marker id="{name}" overflow="visible"><circle r=".5" {fill}/></marker>')
        elif look.hatch:
            line = (
                f"stroke:{color_of(look.stroke or look.fill)};stroke-linecap:round;"
                f"stroke-width:{2 if look.hatch == '.' else 1}"
            )
            found.append(
                f'<pattern id="{name}" width="8" height="8" patternUnits="userSpaceOnUse">'
                f'<path {fill} d="M0 0h8v8H0z"/><path style="fill:none;{line}" '
                f'd="{STRIPES[look.hatch]}"/></pattern>'
            )
    return "".join(found)


def link_pixels(pixels: Array, extent: Box) -> str:
    """The attributes of an image element: its place, and its pixels (H, W, channels) as PNG."""
    x1, y1, x2, y2 = extent
    box = _write_box(x1, y1, x2 - x1, y2 - y1)
    data = base64.b64encode(encode_png(pixels)).decode()
    return f'{box} preserveAspectRatio="none" href="data:image/png;base64,{data}"'


def encode_png(pixels: Array) -> bytes:
    """PNG of pixels (H, W, channels) of 8 bits, RGB or RGBA."""
    height, width, channels = pixels.shape
    # A row begins with the number of its filter, here none.
    rows = np.zeros((height, 1 + width * channels), np.uint8)
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, PNG_KINDS[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def _rules(name: str, look: Look, color_of: ColorOf) -> str:
    if look.round:
        return f"fill:none;marker:url(#{name})"
    rules = {"fill": color_of(look.fill) if look.fill else "none"}
    if look.hatch:
        rules["fill"] = f"url(#{name})"
    elif look.opacity != 1:
        rules["fill-opacity"] = f"{look.opacity}"
    if look.stroke:
        rules |= {"stroke": color_of(look.stroke), "stroke-width": f"{look.width:g}"}
    if look.dash:
        rules["stroke-dasharray"] = " ".join(f"{length:g}" for length in look.dash)
    if look.size:
        rules |= {"font-size": f"{look.size:g}px", "text-anchor": look.anchor}
    if look.on_shapes:
        rules |= {"paint-order": "stroke", "stroke": color_of("paper"), "stroke-width": "4px"}
    return ";".join(f"{key}:{value}" for key, value in rules.items())


def _head(sheet: Sheet) -> str:
    return (
        f'class="drawing" viewBox="0 0 {sheet.width:g} {sheet.height:g}" role="img" '
        f'aria-label="{escape(sheet.label)}"'
    )


def _body(shapes: Iterable[Shape]) -> str:
    return "".join(map(_write_shape, shapes))


def _write_shape(shape: Shape) -> str:
    match shape:
        case Lines(look, lines, closed):
            return f'<path class="{look}" d="{_write_path(lines, closed)}"/>'
        case Points(look, places, diameter):
            # A line that is not seen, with a marker at every place.
            path = f"{_write_path((places,))}h0"
            return f'<path class="{look}" stroke-width="{diameter:.2g}" d="{path}"/>'
        case Words(look, texts):
            words = "".join(
                f'<text x="{_tenths(round(10 * x))}" y="{_tenths(round(10 * y))}">'
                f"{escape(text, quote=False)}</text>"
                for text, (x, y) in texts
            )
            return f'<g class="{look}">{words}</g>'
        case Raster(look, frame, extent, pixels):
            if isinstance(pixels, str):
                content = f'<use class="{look}" href="#{pixels}"/>'
            else:
                content = f'<image class="{look}" {link_pixels(pixels, extent)}/>'
            x1, y1, x2, y2 = frame.window
            return _cut(frame, (x1, y1, x2 - x1, y2 - y1), content)
        case View(frame, shapes):
            return _cut(frame, (frame.left, frame.top, *frame.size), _body(shapes))
        case _:
            assert_never(shape)


def _cut(frame: Frame, view: Box, content: str) -> str:
    """An SVG in the SVG, which cuts off what lies outside; ``view`` is x, y, width and height."""
    box = _write_box(frame.left, frame.top, *frame.size)
    return f'<svg {box} viewBox="{" ".join(map(_number, view))}">{content}</svg>'


def _write_box(x: float, y: float, width: float, height: float) -> str:
    numbers = {"x": x, "y": y, "width": width, "height": height}
    return " ".join(f'{key}="{_number(value)}"' for key, value in numbers.items())


def _write_path(lines: Iterable[Outline], closed: bool = False) -> str:
    """Steps between places rounded to tenths, so that they add up to where they should."""
    path: list[str] = []
    x = y = 0
    for line in lines:
        last = ""
        for place in line:
            across, down = round(10 * place[0]) - x, round(10 * place[1]) - y
            x, y = x + across, y + down
            letter = "m" if not last else "l" if across and down else "h" if across else "v"
            numbers = {"h": (across,), "v": (down,)}.get(letter, (across, down))
            path += [" " if letter == last else letter, " ".join(map(_tenths, numbers))]
            last = letter
        if closed:
            path.append("z")
            x, y = round(10 * line[0][0]), round(10 * line[0][1])
    return "".join(path).replace(" -", "-")


def _tenths(number: int) -> str:
    return f"{number / 10:.10g}"


def _number(value: float) -> str:
    """Thousandths, which no drawing shows."""
    return f"{round(value, 3):.10g}"
