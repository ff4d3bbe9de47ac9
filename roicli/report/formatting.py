"""Numbers as people read them."""

from __future__ import annotations

from typing import Any

from roicli.columns import Column

MISSING = "-"


def format_number(value: float | None) -> str:
    """Three decimals where they tell something, four significant digits elsewhere."""
    if value is None:
        return MISSING
    if value == 0 or 0.001 <= abs(value) < 100_000:
        return f"{value:.3f}"
    return f"{value:.3g}"


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
