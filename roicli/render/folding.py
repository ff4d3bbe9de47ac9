"""Tables whose last column is text: folded at the terminal's width, never cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich import box
from rich.table import Table
from rich.text import Text

from roicli.render.pipe_console import PipeConsole

Cell = str | tuple[str, str]


def print_folding(headers: Sequence[str], rows: Sequence[Sequence[Cell]], stream: TextIO) -> None:
    """Print rows; a cell is text, or (text, style). Words stay whole where the width allows."""
    console = PipeConsole(file=stream, highlight=False)
    grid = Table(
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False,
        show_header=any(headers),
    )  # fmt: skip
    for header in headers:
        grid.add_column(header, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(*((cell, "") if isinstance(cell, str) else cell)) for cell in row))
    console.print(grid)
