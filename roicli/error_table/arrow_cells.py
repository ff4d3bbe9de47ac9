"""The rows of a block in UTF-8 by pyarrow, several times faster than by Python, the same bytes.

What it writes of numbers in Python's own way is left to it; the few others are Python's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from roicli.core.types import Array
from roicli.error_table.cells import RowForm, find_repeated, make_each, text_cell, whole_numbers
from roicli.error_table.columns import Column

# Fewer rows take less time than importing pyarrow does.
WORTH_ROWS = 1 << 12
# Between these Arrow writes the shortest digits without an exponent, as Python does.
LEAST, MOST = 1e-4, 1e10


def is_worth(rows: int) -> bool:
    """Whether so many rows are written faster with pyarrow, and it is there and loads."""
    if rows < WORTH_ROWS:
        return False
    try:
        import pyarrow.compute  # noqa: F401
    except ImportError:
        return False
    return True


def format_rows(block: Array, columns: Sequence[Column], form: RowForm) -> memoryview:
    """The rows of a block, as ``cells.format_rows`` gives them, in UTF-8."""
    import pyarrow as pa
    from pyarrow import compute

    pieces: list[Any] = []
    for before, column in zip(form.before, columns, strict=True):
        values = block[column.name]
        if column.kind == "text":
            texts = make_each(partial(text_cell, column=column, form=form), values)
            cells = pa.array(texts, pa.large_string())
        elif column.kind == "integer":
            known = np.isfinite(values)
            cells = _as_text(whole_numbers(values, known), ~known)
        else:
            cells = _number_texts(values.astype(np.float64))
        pieces += [_literal(before), cells]
    rows = compute.binary_join_element_wise(
        *pieces, _literal(form.after), _literal(""),
        null_handling="replace", null_replacement=form.missing,
    )  # fmt: skip
    # The texts lie one behind the other.
    return memoryview(rows.buffers()[2] if len(rows) else b"")


def _literal(text: str) -> Any:
    import pyarrow as pa

    return pa.scalar(text, pa.large_string())


def _as_text(values: Array, is_missing: Array) -> Any:
    import pyarrow as pa

    return pa.array(values, mask=is_missing).cast(pa.large_string())


def _number_texts(values: Array) -> Any:
    """float64 numbers as Python's ``repr`` has them; null for what is none."""
    import pyarrow as pa

    found = find_repeated(values)
    if found is None:
        return _each_text(values)
    distinct, which = found
    return _each_text(distinct).take(pa.array(which))


def _each_text(values: Array) -> Any:
    """``_number_texts`` of numbers that are seldom equal."""
    import pyarrow as pa
    from pyarrow import compute

    known, size = np.isfinite(values), np.abs(values)
    is_whole = (values == np.rint(values)) & (size < MOST) & ~((values == 0) & np.signbit(values))
    is_plain = (size >= LEAST) & (size < MOST) & ~is_whole
    texts = _as_text(values, ~is_plain)
    if is_whole.any():
        whole = pa.array(values[is_whole].astype(np.int64)).cast(pa.large_string())
        whole = compute.binary_join_element_wise(whole, _literal(".0"), _literal(""))
        texts = compute.replace_with_mask(texts, pa.array(is_whole), whole)
    odd = known & ~is_whole & ~is_plain
    if odd.any():
        by_python = pa.array(make_each(repr, values[odd]), pa.large_string())
        texts = compute.replace_with_mask(texts, pa.array(odd), by_python)
    return texts
