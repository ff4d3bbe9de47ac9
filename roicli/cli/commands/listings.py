"""``roicli providers`` and ``roicli presets``: what there is to choose from."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Unpack

from roicli.core.command_options import ListOptions

PROSE = ("source", "reason", "install", "missing")
HEADER_WIDTH = 10


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    """A rich table of the short cells, and under it a line for each longer text."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from roicli.error_table.formatting import wrap_name
    from roicli.render.pipe_console import PipeConsole

    console = PipeConsole(file=sys.stdout, highlight=False)
    names = [name for name in rows[0] if name not in PROSE]
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in names:
        grid.add_column("\n".join(wrap_name(name, HEADER_WIDTH)), no_wrap=True)
    for row in rows:
        grid.add_row(*(Text(_word(row[name])) for name in names))
    console.print(grid)
    for row in rows:
        for name in PROSE:
            if row.get(name):
                console.print(
                    f"{row[names[0]]}, {name}: {_word(row[name])}", soft_wrap=True, markup=False
                )


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(value) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def print_json(key: str, rows: Sequence[dict[str, Any]]) -> None:
    """One object with the rows under ``key``."""
    from roicli.core.strict_json import write_object

    write_object({key: rows}, sys.stdout)


def providers(**options: Unpack[ListOptions]) -> None:
    """List the execution providers: which there are, why not, and which one auto would use."""
    from roicli.runtime.providers import describe_providers

    rows = [asdict(status) for status in describe_providers()]
    _show("providers", rows, options)


def presets(**options: Unpack[ListOptions]) -> None:
    """List the presets: other libraries' defaults, with their sources."""
    from roicli.operators.libraries import PRESETS

    rows = [asdict(preset) for preset in PRESETS.values()]
    _show("presets", rows, options)


def _show(key: str, rows: Sequence[dict[str, Any]], options: ListOptions) -> None:
    print_json(key, rows) if options["list_format"] == "json" else print_rows(rows)
