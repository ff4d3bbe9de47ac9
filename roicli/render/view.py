"""What a person asked to see of the error table."""

from __future__ import annotations

from typing import NamedTuple


class View(NamedTuple):
    """How many rows (None: all), sorted by what, which columns (none: those that fit)."""

    rows: int | None = 20
    sort: str = "edge_error_max_px"
    columns: tuple[str, ...] = ()
