"""Columns of the RoIs' source that go along: score, class, id and whatever else it has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from roicli.core.foreign import foreign
from roicli.core.record import frozen
from roicli.core.types import Array
from roicli.error_table.columns import COLUMN_BY_NAME, Column, Kind

# Before a name that the error table has for a column of its own.
TAKEN = "rois_"


@frozen
class CarriedColumn:
    """One column: ``values`` (K,) or (K, n) numbers, or (K,) texts of dtype object.

    ``width`` is what the longest text takes in UTF-8; 0 of numbers. None among texts is empty.
    """

    name: str
    values: Array
    width: int = 0

    def take(self, rows: Any) -> CarriedColumn:
        """The column's ``rows`` (indices, a mask or a slice)."""
        return replace(self, values=self.values[rows])

    @property
    def is_text(self) -> bool:
        """Whether it holds texts."""
        return self.values.dtype == object

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype in which ``read`` gives it: texts are UTF-8 bytes of one length."""
        return np.dtype(f"S{max(self.width, 1)}") if self.is_text else self.values.dtype

    @property
    def row_bytes(self) -> int:
        """What a row takes in a file."""
        return self.dtype.itemsize * math.prod(self.values.shape[1:])

    def read(self, rows: Any) -> Array:
        """Some rows as files hold them."""
        values = self.values[rows]
        if not self.is_text:
            return np.asarray(values)
        return np.array([encode_text(text) for text in values.tolist()], self.dtype)

    def read_rows(self, start: int, stop: int) -> Array:
        """The rows from ``start`` to before ``stop``, as ``read``."""
        return self.read(slice(start, stop))


def encode_text(text: str | None) -> bytes:
    """A text as files hold it: UTF-8, what is none of it escaped, nothing for None."""
    return b"" if text is None else text.encode("utf-8", "backslashreplace").rstrip(b"\0")


def carry(name: str, values: Array, width: int | None = None) -> CarriedColumn:
    """A column; ``width`` is that of the longest text where these are not all of its values."""
    if values.dtype != object:
        return CarriedColumn(name, values)
    return CarriedColumn(name, values, text_width(values) if width is None else width)


def text_width(values: Array) -> int:
    """What the longest of some texts takes in UTF-8."""
    return max((len(encode_text(text)) for text in values), default=0)


def table_columns(carried: Sequence[CarriedColumn]) -> dict[Column, CarriedColumn]:
    """The carried columns that an error table shows, those of one value a row, under names of
    their own there.
    """
    found: dict[Column, CarriedColumn] = {}
    names = set(COLUMN_BY_NAME)
    for one in carried:
        if one.values.ndim != 1:
            continue
        name = str(foreign(one.name))
        while name in names:
            name = TAKEN + name
        names.add(name)
        kind: Kind = "number"
        if one.is_text:
            kind = "text"
        elif one.values.dtype.kind in "iu":
            kind = "integer"
        found[Column(name, "-", "from the RoIs' source", kind, is_foreign=one.is_text)] = one
    return found
