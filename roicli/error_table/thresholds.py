"""Thresholds on the error table, for a CI that should fail on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.record import frozen
from roicli.core.types import IntArray
from roicli.core.vocabulary import STATISTICS
from roicli.error_table.columns import COLUMNS, Column
from roicli.error_table.table import ErrorTable, measure_statistics

Direction = Literal["over", "under"]


@frozen
class Threshold:
    """``[STATISTIC:]COLUMN`` strictly over, or strictly under, ``value``."""

    column: str
    value: float
    direction: Direction
    statistic: str | None = None

    def __str__(self) -> str:
        prefix = f"{self.statistic}:" if self.statistic else ""
        return f"{prefix}{self.column} {self.direction} {self.value:g}"


@frozen
class Crossing:
    """A threshold that was crossed: by which RoIs, or by which value of the statistic."""

    threshold: Threshold
    rows: IntArray
    worst: float


def parse_threshold(text: str, direction: Direction) -> Threshold:
    """``COLUMN=VALUE`` or ``STATISTIC:COLUMN=VALUE``. Raises ParameterError."""
    name, equals, number = text.partition("=")
    statistic, colon, column = name.rpartition(":")
    try:
        value = float(number)
    except ValueError:
        value = np.nan
    if not equals or np.isnan(value):
        raise ParameterError(
            f"threshold is {text!r}, expected COLUMN=VALUE or STATISTIC:COLUMN=VALUE, "
            "like iou=0.5 or p95:edge_error_max_px=8"
        )
    if colon and statistic not in STATISTICS:
        raise ParameterError(
            f"threshold {text!r} has statistic {statistic!r}, expected one of: "
            + ", ".join(STATISTICS)
        )
    _check_numbers(repr(text), column, COLUMNS)
    return Threshold(column, value, direction, statistic or None)


def _check_numbers(threshold: str, name: str, columns: Sequence[Column]) -> None:
    if any(column.name == name and column.kind == "text" for column in columns):
        raise ParameterError(f"threshold {threshold}: column {name} holds words, not numbers")


def check_thresholds(table: ErrorTable, thresholds: list[Threshold]) -> list[Crossing]:
    """The thresholds that the table crosses. A value that is not defined crosses none."""
    crossings = []
    for threshold in thresholds:
        _check_numbers(str(threshold), threshold.column, table.columns)
        values = np.asarray(table.column(threshold.column), np.float64)
        if threshold.statistic is not None:
            found = getattr(measure_statistics(values), threshold.statistic)
            values = np.array([np.nan if found is None else found])
        over = threshold.direction == "over"
        crossed = values > threshold.value if over else values < threshold.value
        if crossed.any():
            worst = float(values[crossed].max() if over else values[crossed].min())
            rows: IntArray = np.arange(0)
            if threshold.statistic is None:
                rows = table.row_numbers(np.flatnonzero(crossed))
            crossings.append(Crossing(threshold, rows, worst))
    return crossings
