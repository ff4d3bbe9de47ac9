"""The cells of a block of the error table, a column at a time: as Python values and as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, repeat
from typing import Any, NamedTuple, TypeVar

import numpy as np

from roicli.core.foreign import foreign
from roicli.core.types import Array, IntArray
from roicli.error_table.columns import Column

Made = TypeVar("Made")
# Numbers that are looked at to see whether a column repeats a few.
LOOKED_AT = 256


class RowForm(NamedTuple):
    """How a row of cells is written: what stands before each of them and after the last.

    ``missing`` is a cell that is not defined, ``quote`` makes the cell of a text.
    """

    before: tuple[str, ...]
    after: str
    missing: str
    quote: Callable[[str], str]


def make_each(make: Callable[[Any], Made], values: Array) -> list[Made]:
    """What is made of each value, once of equal ones."""
    cells = values.tolist()
    made = {cell: make(cell) for cell in set(cells)}
    return [made[cell] for cell in cells]


def plain_values(values: Array, column: Column) -> list[Any]:
    """A column's cells (k,) as Python values; None where one is not defined."""
    if column.kind == "text":
        return make_each(foreign if column.is_foreign else bytes.decode, values)
    known = np.isfinite(values)
    if column.kind == "integer":
        cells: list[Any] = whole_numbers(values, known).tolist()
    else:
        cells = values.astype(np.float64).tolist()
    for place in np.flatnonzero(~known).tolist():
        cells[place] = None
    return cells


def whole_numbers(values: Array, known: Array) -> Array:
    """A column of integers as such; what is not ``known`` is 0."""
    return values if values.dtype.kind in "iu" else np.where(known, values, 0).astype(np.int64)


def format_rows(block: Array, columns: Sequence[Column], form: RowForm) -> str:
    """The rows of a block, numbers with as many digits as tell them apart."""
    pieces = []
    for before, column in zip(form.before, columns, strict=True):
        pieces += [repeat(before), _cell_texts(block[column.name], column, form)]
    return "".join(chain.from_iterable(zip(*pieces, repeat(form.after), strict=False)))


def _cell_texts(values: Array, column: Column, form: RowForm) -> list[str]:
    if column.kind == "text":
        return make_each(partial(text_cell, column=column, form=form), values)
    found = find_repeated(values)
    if found is None:
        return _number_texts(values, column, form)
    distinct, which = found
    texts: list[str] = np.array(_number_texts(distinct, column, form), object)[which].tolist()
    return texts


def _number_texts(values: Array, column: Column, form: RowForm) -> list[str]:
    texts = list(map(repr, plain_values(values, column)))
    for place in np.flatnonzero(~np.isfinite(values)).tolist():
        texts[place] = form.missing
    return texts


def find_repeated(values: Array) -> tuple[Array, IntArray] | None:
    """The different numbers of a column (k,) and which of them each is (k,); None where a look at
    the first shows that few are equal. Bits tell them apart, so that -0.0 is not 0.0.
    """
    looked_at = values[:LOOKED_AT]
    if len(np.unique(looked_at)) > len(looked_at) // 2:
        return None
    bits, which = np.unique(values.view(f"i{values.itemsize}"), return_inverse=True)
    return bits.view(values.dtype), which


def text_cell(text: bytes, column: Column, form: RowForm) -> str:
    """The cell of a text as it is kept."""
    return form.quote(foreign(text) if column.is_foreign else text.decode())
