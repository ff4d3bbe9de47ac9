"""``roicli providers``, ``presets``, ``rules``, ``columns``: what there is, and what it means."""

import sys
from collections.abc import Sequence
from typing import Annotated, Any, Unpack

from roicli.analysis import listings
from roicli.cli.options import ListOptions
from roicli.core.declaration import Arg, Opt

RuleName = Annotated[str | None, Arg("[RULE]", "Only this one, like R05.")]


ColumnName = Annotated[str | None, Arg("[COLUMN]", "Only this one, like iou.")]


class PresetsCommand(ListOptions, total=False):
    """What ``presets`` takes."""

    match: Annotated[
        str | None,
        Opt("--match", None, "Only rows that have this in them: a library, operator or word."),
    ]


PROSE = ("differs_from_torchvision", "source", "undefined", "reason", "install", "missing")
SHOWN_OF_PRESETS = ("name", "operator", "version", "runs", *PROSE[:3])
HEADER_WIDTH = 10


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    """A table of the short cells, and under it a line for each longer text."""
    from roicli.render.screen import open_screen
    from roicli.render.tables import Table, print_table, wrap_name

    names = [name for name in rows[0] if name not in PROSE]
    cells = [[_word(row[name]) for name in names] for row in rows]
    headers = [wrap_name(name, HEADER_WIDTH) for name in names]
    screen = open_screen(sys.stdout)
    print_table(Table(headers, cells, [True] * len(names)), screen)
    screen.say()
    for row in rows:
        for name in PROSE:
            if row.get(name):
                screen.say(f"{row[names[0]]}, {name.replace('_', ' ')}: {_word(row[name])}")


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(value) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def print_json(key: str, rows: Sequence[dict[str, Any]], **more: Any) -> None:
    """One object with the rows under ``key``, and ``more``."""
    from roicli.core.strict_json import write_object

    write_object({**more, key: rows}, sys.stdout)


def providers(**options: Unpack[ListOptions]) -> None:
    """List the execution providers: which there are, why not, and which one auto would use."""
    _show("providers", listings.providers(), options)


def presets(**options: Unpack[PresetsCommand]) -> None:
    """List the presets: other libraries' functions, with what differs from torchvision's.

    Example: roicli presets --match openvino
    """
    kept = listings.presets(options["match"] or "")
    if options["list_format"] == "json":
        print_json("presets", kept)
    else:
        print_rows([{name: row[name] for name in SHOWN_OF_PRESETS} for row in kept])


def rules(name: RuleName = None, **options: Unpack[ListOptions]) -> None:
    """List the rules of check: what each looks for, and whether it refuses or warns.

    Example: roicli rules R05
    """
    _explain("rules", listings.rules(name), options)


def columns(name: ColumnName = None, **options: Unpack[ListOptions]) -> None:
    """List the columns of the error table, with their units and meanings.

    Example: roicli columns iou
    """
    _explain("columns", listings.columns(name), options)


def _explain(key: str, rows: Sequence[dict[str, Any]], options: ListOptions) -> None:
    """Rows whose last cell is a sentence, which the terminal's width may fold."""
    from roicli.render.tables import print_folded

    if options["list_format"] == "json":
        print_json(key, rows)
        return
    headers = [name.replace("_", " ") for name in rows[0]]
    print_folded(headers, [[_word(cell) for cell in row.values()] for row in rows], sys.stdout)


def _show(key: str, rows: Sequence[dict[str, Any]], options: ListOptions) -> None:
    print_json(key, rows) if options["list_format"] == "json" else print_rows(rows)
