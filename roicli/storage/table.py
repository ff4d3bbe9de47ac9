"""A table of RoIs as its source has it: columns with names, of numbers or of texts.

Every source of RoIs comes to this: arrays, whose columns are views of them, arrays of records, and
the formats of tables. What the columns mean is ``roi_columns``'s matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Any, NamedTuple

import numpy as np

from roicli.core.foreign import foreign
from roicli.core.record import frozen
from roicli.core.types import Array, IntArray, Size
from roicli.core.vocabulary import RoiFormat
from roicli.storage.address import Address
from roicli.storage.array import (
    FileContents,
    Heading,
    Precision,
    StoredArray,
    StoredDataset,
    as_stored,
    check_numeric,
    headings_of_dtype,
    is_narrow_float,
    precision_of,
)
from roicli.storage.file_state import FileState

# Texts are made of an array's values in blocks, and so many different ones are shared.
TEXTS_AT_ONCE, MOST_SHARED = 1 << 16, 1 << 12
# Past this whole number float64 has not every one.
EXACT = 1 << 53


class Column(NamedTuple):
    """One column of K rows.

    ``values`` are numbers (K,), or (K, n) of a column that holds n numbers a row, as ``bbox`` does;
    or texts (K,) of dtype object, as they were read: None where there is none, and made safe by who
    shows them. ``precision`` says how the numbers were stored; None of texts.
    """

    name: str
    values: Array
    precision: Precision | None

    @property
    def is_text(self) -> bool:
        """Whether the column holds texts."""
        return self.precision is None

    def take(self, rows: Any) -> Column:
        """The column's ``rows`` (indices, a mask or a slice)."""
        return self._replace(values=self.values[rows])


class ListedImage(NamedTuple):
    """An image that a source lists, as COCO's ``images``: its keys, and (height, width)."""

    id: str
    file_name: str | None = None
    size: Size | None = None


@frozen
class Table:
    """K rows and the columns that a source has for them.

    ``is_named``: the names are the source's own; an array's columns have none. ``roi_format`` and
    ``normalized`` are what the source itself defines of its boxes, None where it does not;
    ``images`` is what it says of images. ``lines`` (K,) are the rows' lines in a text.
    """

    name: str
    count: int
    columns: tuple[Column, ...]
    stored_as: str
    files: Mapping[str, FileState] = field(default_factory=dict)
    is_named: bool = True
    roi_format: RoiFormat | None = None
    normalized: bool | None = None
    images: tuple[ListedImage, ...] = ()
    lines: IntArray | None = None

    def __len__(self) -> int:
        return self.count

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.count, len(self.columns)

    @property
    def headings(self) -> tuple[Heading, ...]:
        """Names and widths of the columns."""
        return tuple(Heading(one.name, _width(one.values.shape)) for one in self.columns)

    def take(self, rows: Any) -> Table:
        """The table of some rows (indices, a mask or a slice), in that order."""
        count = len(np.arange(self.count)[rows])
        lines = None if self.lines is None else self.lines[rows]
        columns = tuple(one.take(rows) for one in self.columns)
        return replace(self, count=count, columns=columns, lines=lines)

    def where(self, row: int, place: int) -> str:
        """In words, where a value stands."""
        spot = f"row {row}" if self.lines is None else f"line {self.lines[row]}"
        name = self.columns[place].name
        return f"{self.name}: {spot}, column {place}" + (f" ({foreign(name)})" if name else "")

    def close(self) -> None:
        """A table is in memory already."""


# What RoIs are read from, before their columns have a meaning.
RoiSource = Table | StoredArray


def headings_of(source: RoiSource) -> tuple[Heading, ...] | None:
    """Names and widths of a source's columns; None of an array, whose columns have no names."""
    if isinstance(source, Table):
        return source.headings if source.is_named else None
    return headings_of_dtype(source.dtype) if source.dtype.names else None


def _width(shape: Sequence[int]) -> int:
    return shape[1] if len(shape) == 2 else 1


def stored_as(source: RoiSource) -> str:
    """The name of the dtype that a source is stored in."""
    return source.stored_as if isinstance(source, Table) else source.precision.name


def as_table(source: RoiSource) -> Table:
    """A source's values; of an array (K, n), or (K,) of records, the columns are views of it."""
    if isinstance(source, Table):
        return source
    values, precision = source.read_all(), source.precision
    names = source.dtype.names
    if names is None:
        check_numeric(source.dtype, source.name)
        columns = [Column("", values[:, place], precision) for place in range(values.shape[1])]
    else:
        columns = [column_of(name, values[name]) for name in names]
    return Table(
        source.name, len(values), tuple(columns), precision.name, source.files,
        is_named=names is not None,
    )  # fmt: skip


def column_of(name: str, values: Array) -> Column:
    """A column of an array's numbers, truth values or texts."""
    kind, stored = values.dtype.kind, as_stored(values.dtype)
    if kind == "b":
        return Column(name, values.astype(np.uint8), precision_of(np.dtype(np.uint8)))
    if kind in "Mm":
        return text_column(name, values.astype(str))
    if kind in "SUO":
        return text_column(name, values)
    precision = precision_of(stored)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if is_narrow_float(stored):
        values = values.view(stored).astype(np.float32)
    return Column(name, values, precision)


def text_column(name: str, texts: Array | Sequence[Any]) -> Column:
    """A column of texts; bytes are read as UTF-8, and None stays.

    Equal texts are one object where they are few, as classes are: a row takes eight bytes then.
    """
    found = np.empty(len(texts), object)
    known: dict[Any, str | None] = {}
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        part = texts[start : start + TEXTS_AT_ONCE]
        values = part.tolist() if isinstance(part, np.ndarray) else part
        for place, value in enumerate(values, start):
            if value not in known:
                if len(known) >= MOST_SHARED:
                    known.clear()
                known[value] = _as_text(value)
            found[place] = known[value]
    return Column(name, found, None)


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def describe_table(table: Table, address: Address, file_format: str) -> FileContents:
    """What ``inspect`` shows of a file that is one table."""
    dataset = StoredDataset(
        str(address), table.shape, table.stored_as, True, file_format, columns=table.headings
    )
    return FileContents(foreign(address.path), file_format, {}, (dataset,))
