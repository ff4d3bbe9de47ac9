"""Numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TextIO

from roicli.error_table.columns import Column

MISSING = "-"
GAP = 2


def format_number(value: float | None) -> str:
    """Three decimals where they tell something, four significant digits elsewhere."""
    if value is None:
        return MISSING
    if value == 0 or 0.001 <= abs(value) < 100_000:
        return f"{value:.3f}"
    return f"{value:.3g}"


def format_short(value: float | None) -> str:
    """Four significant digits of a number of any size; a dash where there is none."""
    if value is None or math.isnan(value):
        return MISSING
    return f"{value:.4g}"


def format_cell(value: Any, column: Column) -> str:
    """One cell of the error table."""
    if value is None:
        return MISSING
    if column.kind == "number":
        return format_number(value)
    return str(value)


def wrap_name(name: str, width: int) -> list[str]:
    """A column name broken after underscores into lines of at most ``width``, where it can be."""
    lines = [""]
    for word in name.replace("_", "_\n").split("\n"):
        if lines[-1] and len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += word
    return lines


def measure_columns(headers: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]) -> list[int]:
    """The width of every column: its longest header line or cell."""
    return [
        max(1, *map(len, header), *(len(row[i]) for row in rows))
        for i, header in enumerate(headers)
    ]


def write_columns(
    headers: Sequence[Sequence[str]],
    rows: Sequence[Sequence[str]],
    is_text: Sequence[bool],
    stream: TextIO,
) -> None:
    """Columns under a rule: words to the left, numbers to the right, never a cell cut or folded.

    Plain lines, not a rich table, which takes half a millisecond a row and cuts what does not fit.
    """
    widths = measure_columns(headers, rows)

    def join(cells: Sequence[str]) -> str:
        aligned = (
            cell.ljust(width) if text else cell.rjust(width)
            for cell, width, text in zip(cells, widths, is_text, strict=False)
        )
        return (" " * GAP).join(aligned).rstrip() + "\n"

    height = max(map(len, headers))
    for line in range(height):
        stream.write(join([([""] * (height - len(h)) + [*h])[line] for h in headers]))
    stream.write(_rule(stream) * (sum(widths) + GAP * (len(widths) - 1)) + "\n")
    for row in rows:
        stream.write(join(row))


def _rule(stream: TextIO) -> str:
    """A line to draw under a header, in what the stream's encoding has."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return "\u2500" if encoding.lower().startswith("utf") else "-"
