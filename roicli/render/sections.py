"""Titled lines and tables, printed to a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.table import Table as Layout
from rich.text import Text

from roicli.core.record import frozen
from roicli.render.pipe_console import PipeConsole
from roicli.render.tables import Table, find_rule, write_markdown

COLUMN_WIDTH = 78
COLUMN_GAP = 3
INDENT = 2


@frozen
class Grid:
    """A table of text, its first column words."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def print_lines(self, rule: str) -> list[str]:
        """What is printed, indented."""
        is_text = [i == 0 for i in range(len(self.headers))]
        table = Table([[header] for header in self.headers], self.rows, is_text)
        return [" " * INDENT + "".join(text for text, _ in line) for line in table.lines(rule)]


@frozen
class Section:
    """A title, then lines and tables."""

    title: str
    parts: tuple[str | Grid, ...]


def print_sections(
    title: str, sections: Sequence[Section], split: int, last: int, stream: TextIO
) -> None:
    """Print to a terminal: below each other, or where there is room for two columns, side by side.

    The second column starts at section ``split``; from section ``last`` on it is one column again.
    """
    console, rule = PipeConsole(file=stream, highlight=False), find_rule(stream)
    console.print(Text(title, style="bold"))
    sides = (sections[:split], sections[split:last])
    widths = [max(COLUMN_WIDTH, _widest(side, rule)) for side in sides]
    if console.width >= sum(widths) + COLUMN_GAP:
        columns = Layout.grid(padding=(0, COLUMN_GAP, 0, 0))
        for width in widths:
            columns.add_column(width=width)
        columns.add_row(*(_group(side, rule) for side in sides))
        console.print(columns)
        console.print(_group(sections[last:], rule))
        return
    if (widest := _widest(sections, rule)) > console.width:
        console = PipeConsole(file=stream, highlight=False, width=widest)
    console.print(_group(sections, rule))


def _widest(sections: Sequence[Section], rule: str) -> int:
    """The longest line of the tables."""
    grids = (part for section in sections for part in section.parts if isinstance(part, Grid))
    return max((len(line) for grid in grids for line in grid.print_lines(rule)), default=0)


def print_parts(parts: Sequence[str | Grid], console: Console) -> None:
    """Print lines and tables."""
    rule = find_rule(console.file)
    for part in parts:
        console.print(_renderable(part, rule))


def _renderable(part: str | Grid, rule: str) -> Text:
    if isinstance(part, Grid):
        return Text("\n".join(part.print_lines(rule)), no_wrap=True)
    return Text(part)


def _group(sections: Iterable[Section], rule: str) -> Group:
    parts: list[RenderableType] = []
    for section in sections:
        parts += [Text(), Rule(Text(section.title, style="bold"), align="left", style="dim")]
        parts += [_renderable(part, rule) for part in section.parts]
    return Group(*parts)


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
