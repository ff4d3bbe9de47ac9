"""Titled lines and tables, printed alike by rich and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TextIO

from rich import box
from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from roicli.error_table.writers import write_markdown
from roicli.render.pipe_console import PipeConsole

COLUMN_WIDTH = 78
GAP = 3
INDENT = 2


@dataclass(frozen=True)
class Grid:
    """A table of text."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
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
    console = PipeConsole(file=stream, highlight=False)
    console.print(Text(title, style="bold"))
    if console.width >= 2 * COLUMN_WIDTH + GAP:
        columns = Table.grid(padding=(0, GAP, 0, 0))
        left, right = sections[:split], sections[split:last]
        columns.add_column(width=COLUMN_WIDTH)
        columns.add_column(width=COLUMN_WIDTH)
        columns.add_row(_group(left), _group(right))
        console.print(columns)
        console.print(_group(sections[last:]))
        return
    widest = INDENT + max(_grid(part).width or 0 for part in _grids(sections))
    if widest > console.width:
        console = PipeConsole(file=stream, highlight=False, width=widest)
    console.print(_group(sections))


def print_parts(section: Section, console: Console) -> None:
    """Print what a section holds, without its title."""
    for part in section.parts:
        shown = Padding(_grid(part), (0, 0, 0, INDENT)) if isinstance(part, Grid) else Text(part)
        console.print(shown)


def _grids(sections: Iterable[Section]) -> Iterable[Grid]:
    return (part for section in sections for part in section.parts if isinstance(part, Grid))


def _group(sections: Iterable[Section]) -> Group:
    parts: list[RenderableType] = []
    for section in sections:
        parts += [Text(), Rule(Text(section.title, style="bold"), align="left", style="dim")]
        parts += [
            Padding(_grid(part), (0, 0, 0, INDENT)) if isinstance(part, Grid) else Text(part)
            for part in section.parts
        ]
    return Group(*parts)


def _grid(grid: Grid) -> Table:
    """A table as wide as its text, numbers to the right."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    widths = [
        max(len(header), *(len(row[i]) for row in grid.rows), 1) if grid.rows else len(header)
        for i, header in enumerate(grid.headers)
    ]
    for i, (header, width) in enumerate(zip(grid.headers, widths, strict=True)):
        justify: JustifyMethod = "left" if i == 0 else "right"
        table.add_column(Text(header), justify=justify, no_wrap=True, min_width=width)
    for row in grid.rows:
        table.add_row(*(Text(cell) for cell in row))
    table.width = sum(widths) + 2 * len(widths)
    return table


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
