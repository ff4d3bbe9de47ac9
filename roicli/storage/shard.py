"""The rows of a result that one task writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.record import frozen
from roicli.core.types import IntArray

MOST_SHARDS = 1_000_000


@frozen
class Shard:
    """Shard ``number`` of ``count``, from 1: which rows of the whole it is, made from what.

    The rows, ascending, are ``first`` to ``stop``, or ``scattered`` (k,) where they do not stand
    together: neighbours travel as two numbers. ``key`` is the name of its file or record where all
    shards are. ``attributes`` are those of the whole result, ``fingerprint`` is what its shards
    must share. Raises ParameterError.
    """

    number: int
    count: int
    first: int = 0
    stop: int = 0
    scattered: IntArray | None = None
    key: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_SHARDS or not 1 <= self.number <= self.count:
            raise ParameterError(
                f"shard is {self}, expected I/N with I from 1 to N and N up to {MOST_SHARDS:,}"
            )

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def __len__(self) -> int:
        return self.stop - self.first if self.scattered is None else len(self.scattered)

    @property
    def rows(self) -> IntArray:
        """(k,) row numbers in the whole, ascending."""
        if self.scattered is not None:
            return self.scattered
        return np.arange(self.first, self.stop, dtype=np.int64)

    def of_rows(self, rows: IntArray) -> Shard:
        """The same shard with these rows (k,), ascending."""
        first, stop = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
        scattered = rows if stop - first != len(rows) else None
        return replace(self, first=first, stop=stop, scattered=scattered)
