"""A drawing in SVG read back: its lines and points as places in cells."""

import re
from dataclasses import dataclass
from xml.etree import ElementTree

Place = tuple[float, float]


@dataclass(frozen=True)
class Drawing:
    """``lines`` by look, each a list of lines of places (x, y) in cells; ``words`` by look."""

    lines: dict[str, list[list[Place]]]
    words: dict[str, list[str]]
    window: tuple[float, ...]
    root: ElementTree.Element


def read_drawing(text: str | bytes) -> Drawing:
    """The one panel of a drawing whose cells are drawn."""
    root = ElementTree.fromstring(text)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    cells = next(part for part in root.iter("svg") if part.find("*[@class='cells']") is not None)
    left, top, width, _ = (float(cells.get(key, "")) for key in ("x", "y", "width", "height"))
    x1, y1, wide, high = map(float, cells.get("viewBox", "").split())
    lines: dict[str, list[list[Place]]] = {}
    for path in root.iterfind(".//path[@class]"):
        for line in read_path(path.get("d", "")):
            scaled = [((x - left) * wide / width + x1, (y - top) * wide / width + y1)
                      for x, y in line]  # fmt: skip
            lines.setdefault(path.get("class", ""), []).append(scaled)
    words: dict[str, list[str]] = {}
    for group in root.iter("g"):
        words.setdefault(group.get("class", ""), []).extend(t.text or "" for t in group)
    return Drawing(lines, words, (x1, y1, x1 + wide, y1 + high), root)


def read_path(path: str) -> list[list[Place]]:
    """The lines of a path of relative steps."""
    lines: list[list[Place]] = []
    x = y = 0.0
    for command, text in re.findall(r"([a-zA-Z])([^a-zA-Z]*)", path):
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", text)]
        if command in "hv":
            steps = [(n, 0.0) if command == "h" else (0.0, n) for n in numbers]
        else:
            steps = list(zip(numbers[::2], numbers[1::2], strict=True))
        for across, down in steps:
            x, y = x + across, y + down
            if command == "m":
                lines.append([])
            lines[-1].append((round(x, 6), round(y, 6)))
        if command == "z":
            x, y = lines[-1][0]
    return lines


def outline(box: tuple[float, ...]) -> list[Place]:
    """The corners of a box x1, y1, x2, y2, as drawings go around it."""
    x1, y1, x2, y2 = box
    return [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
