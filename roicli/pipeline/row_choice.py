"""Which rows of a table of RoIs are the run's: a condition on columns, and what is padding.

Arrays of one length for every image, or for every batch, are filled up with rows of zeros, of -1 or
of NaN, which are no RoIs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.foreign import foreign
from roicli.core.types import Array, IntArray
from roicli.storage.roi_columns import COORDINATE_NAMES, RoiColumns, find_named
from roicli.storage.table import Table

if TYPE_CHECKING:
    from roicli.core.condition import Condition

logger = logging.getLogger("roicli")

BLOCK_ROWS = 1 << 20
# What rows that are no RoIs are filled with, and how that is said.
FILLED: dict[str, Callable[[Array], Array]] = {
    "zeros": lambda numbers: np.all(numbers == 0, axis=1),
    "-1": lambda numbers: np.all(numbers == -1, axis=1),
    "NaN": lambda numbers: np.all(np.isnan(numbers), axis=1),
}
NO_IMAGE = "no image"


def choose_rows(
    table: Table,
    columns: RoiColumns,
    image: Array | None,
    condition: Condition | None,
    drop_invalid: bool,
    is_counted: bool = False,
) -> IntArray | None:
    """The rows that are kept, ascending; None for all, where nothing was asked.

    ``image`` (K,) is the image of each row, None without one; with ``is_counted`` counts say which
    rows have none and are padding. What was left out is told. Raises ParameterError for a column
    that there is not.
    """
    if condition is None and not drop_invalid and not is_counted:
        return None
    keep = np.ones(len(table), bool)
    if condition is not None:
        keep = _fulfil(table, columns, condition)
        logger.info(
            f"{table.name}: {np.count_nonzero(keep):,} of {len(table):,} RoIs fulfil "
            f"--where {str(foreign(condition.text))!r}"
        )
    if is_counted and image is not None:
        padding = image == -1
        keep &= ~padding
        total = np.count_nonzero(padding)
        logger.info(f"{table.name}: left out {total:,} of {len(table):,} rows behind the counts")
    if drop_invalid:
        keep &= ~_find_invalid(table, columns, image, keep)
    return np.flatnonzero(keep)


def _fulfil(table: Table, columns: RoiColumns, condition: Condition) -> Array:
    """(K,) which rows fulfil the condition, a bounded number at a time."""
    places = {
        name: _find_place(table, columns, name, name in condition.of_texts)
        for name in condition.names
    }
    found = np.empty(len(table), bool)
    for start in range(0, max(len(table), 1), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)

        def read(name: str, part: slice = part) -> Array:
            place, number = places[name]
            column = table.columns[place]
            values = column.values[part] if number is None else column.values[part, number]
            if not column.is_text:
                return np.asarray(values)
            return np.array([text or "" for text in values.tolist()], object)

        found[part] = condition(read)
    return found


def _find_place(
    table: Table, columns: RoiColumns, wanted: str, of_texts: bool
) -> tuple[int, int | None]:
    """Where a column stands, by its own name or by what RoIs call it; and which number of it.

    A column of four numbers has four names. Of several that mean the same it is one ``of_texts``,
    or of numbers.
    """
    names = [column.name for column in table.columns]
    kinds = [column.is_text == of_texts for column in table.columns]
    own = find_named(names, wanted, kinds) if any(names) else None
    if own is not None:
        if table.headings[own].width > 1:
            raise ParameterError(
                f"where: column {foreign(wanted)} of {table.name} holds "
                f"{table.headings[own].width} numbers a row, expected one"
            )
        return own, None
    corners = list(COORDINATE_NAMES[columns.roi_format])
    if wanted in corners:
        place = corners.index(wanted)
        inside = len(columns.coordinates) == 1
        return (columns.coordinates[0], place) if inside else (columns.coordinates[place], None)
    if columns.image is not None and wanted in ("image", "batch_index"):
        return columns.image, None
    known = [str(foreign(name)) for name in names if name]
    if not known:
        known = [*(["image"] if columns.image is not None else []), *corners]
    raise ParameterError(
        f"where: {table.name} has no column {str(foreign(wanted))!r}",
        f"its columns are: {', '.join(known)}",
    )


def _find_invalid(table: Table, columns: RoiColumns, image: Array | None, among: Array) -> Array:
    """(K,) the rows that are no RoIs, and a note of those ``among`` the kept."""
    found, counted = np.zeros(len(table), bool), dict.fromkeys((*FILLED, NO_IMAGE), 0)
    sources = [table.columns[place] for place in columns.coordinates]
    is_number = not any(column.is_text for column in sources)
    for start in range(0, len(table), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        masks = {}
        if is_number:
            numbers = np.column_stack([column.values[part] for column in sources])
            masks = {name: holds(numbers) for name, holds in FILLED.items()}
        if image is not None:
            masks[NO_IMAGE] = _is_of_no_image(image[part])
        for name, mask in masks.items():
            counted[name] += int(np.count_nonzero(mask & ~found[part] & among[part]))
            found[part] |= mask
    total = sum(counted.values())
    kinds = ", ".join(f"{count:,} of {name}" for name, count in counted.items() if count)
    told = f": {kinds}" if kinds else ""
    logger.info(f"{table.name}: left out {total:,} of {len(table):,} rows as padding{told}")
    return found


def _is_of_no_image(image: Array) -> Array:
    """(k,) which rows have -1, NaN or nothing where their image is named."""
    if image.dtype == object:
        return np.array([text in (None, "", "-1") for text in image.tolist()], bool)
    return np.asarray((image == -1) | np.isnan(image))
