"""Titled lines and tables, printed to a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import TextIO

from roicli.core.record import frozen
from roicli.render.screen import Line, Screen, fold, open_screen
from roicli.render.tables import Table, write_markdown

COLUMN_WIDTH = 78
COLUMN_GAP = 3
INDENT = 2


@frozen
class Grid:
    """A table of text, its first column words."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def lines(self, rule: str) -> list[Line]:
        """What is printed, indented."""
        is_text = [i == 0 for i in range(len(self.headers))]
        table = Table([[header] for header in self.headers], self.rows, is_text)
        return [[(" " * INDENT, ""), *line] for line in table.lines(rule)]


@frozen
class Section:
    """A title, then lines and tables."""

    title: str
    parts: tuple[str | Grid, ...]


def print_sections(
    title: str, sections: Sequence[Section], split: int, last: int, stream: TextIO
) -> None:
    """Print below each other, or where there is room for two columns, side by side.

    The second column starts at section ``split``; from section ``last`` on it is one column again.
    """
    screen = open_screen(stream)
    screen.say(title, "bold")
    left, right = (
        _lines(side, max(COLUMN_WIDTH, _widest(side)), screen.rule)
        for side in (sections[:split], sections[split:last])
    )
    rest, at = sections, max(map(_length, left)) + COLUMN_GAP
    if screen.width >= at + max(map(_length, right)):
        for line, beside in zip_longest(left, right, fillvalue=()):
            screen.draw([*line, (" " * (at - _length(line)), ""), *beside] if beside else line)
        rest = sections[last:]
    for line in _lines(rest, max(screen.width, _widest(rest)), screen.rule):
        screen.draw(line)


def print_parts(parts: Iterable[str | Grid], screen: Screen) -> None:
    """Print lines and tables."""
    for part in parts:
        for line in _lines_of_part(part, screen.width, screen.rule):
            screen.draw(line)


def _lines(sections: Iterable[Section], width: int, rule: str) -> list[Line]:
    """Titles with a line behind them, each with its parts, text folded at the width."""
    lines: list[Line] = []
    for section in sections:
        behind = rule * (width - len(section.title) - 1)
        lines += [(), [(section.title, "bold"), (f" {behind}", "dim")]]
        for part in section.parts:
            lines += _lines_of_part(part, width, rule)
    return lines


def _lines_of_part(part: str | Grid, width: int, rule: str) -> list[Line]:
    if isinstance(part, Grid):
        return part.lines(rule)
    return [[(line, "")] for text in part.split("\n") for line in fold(text, width)]


def _widest(sections: Iterable[Section]) -> int:
    """The longest line of the tables."""
    grids = (part for section in sections for part in section.parts if isinstance(part, Grid))
    return max((_length(line) for grid in grids for line in grid.lines("")), default=0)


def _length(line: Line) -> int:
    return sum(len(text) for text, _ in line)


def write_markdown_sections(
    title: str, sections: Iterable[Section], stream: TextIO, level: int
) -> None:
    """The same as GitHub Markdown, its title a heading of ``level``."""
    stream.write(f"{'#' * level} {_escape(title)}\n")
    for section in sections:
        stream.write(f"\n{'#' * (level + 1)} {_escape(section.title)}\n")
        for part in section.parts:
            stream.write("\n")
            if isinstance(part, Grid):
                rows = [[_escape(cell) for cell in row] for row in part.rows]
                write_markdown([_escape(header) for header in part.headers], rows, stream)
            else:
                stream.write(f"{_escape(part)}\n")


def _escape(text: str) -> str:
    """Text that Markdown would read as markup, from file names above all."""
    for mark in "\\`*_[]<>|&~#$@":
        text = text.replace(mark, f"\\{mark}")
    return text
