"""``roicli providers`` and ``roicli presets``: what there is to choose from."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Unpack

from roicli.core.command_options import ListOptions, PresetsCommand

PROSE = ("differs_from_torchvision", "source", "undefined", "reason", "install", "missing")
SHOWN_OF_PRESETS = ("name", "operator", "version", "runs", *PROSE[:3])
HEADER_WIDTH = 10


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    """A table of the short cells, and under it a line for each longer text."""
    from roicli.render.tables import Table, wrap_name, write_table

    names = [name for name in rows[0] if name not in PROSE]
    cells = [[_word(row[name]) for name in names] for row in rows]
    headers = [wrap_name(name, HEADER_WIDTH) for name in names]
    write_table(Table(headers, cells, [True] * len(names)), sys.stdout)
    sys.stdout.write("\n")
    for row in rows:
        for name in PROSE:
            if row.get(name):
                sys.stdout.write(f"{row[names[0]]}, {name}: {_word(row[name])}\n")


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

    rows = [status._asdict() for status in describe_providers()]
    _show("providers", rows, options)


def presets(**options: Unpack[PresetsCommand]) -> None:
    """List the presets: other libraries' functions, with what differs from torchvision's.

    Example: roicli presets --match openvino
    """
    from roicli.core.exceptions import ParameterError
    from roicli.operators.libraries import PRESETS, describe_row

    wanted = (options["match"] or "").lower()
    rows = [describe_row(row) for row in PRESETS.values()]
    kept = [row for row in rows if any(wanted in str(cell).lower() for cell in row.values())]
    if not kept:
        raise ParameterError(f"no preset has {options['match']!r} in its row", "see roicli presets")
    if options["list_format"] == "json":
        print_json("presets", kept)
    else:
        print_rows([{name: row[name] for name in SHOWN_OF_PRESETS} for row in kept])


def _show(key: str, rows: Sequence[dict[str, Any]], options: ListOptions) -> None:
    print_json(key, rows) if options["list_format"] == "json" else print_rows(rows)
