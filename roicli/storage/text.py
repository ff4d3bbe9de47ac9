"""RoIs as CSV or TSV, with a header of names in any order, or bare numbers in the usual order."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np

from roicli.exceptions import InputError
from roicli.storage.address import check_regular_file
from roicli.storage.stored_array import MemoryArray, StoredArray

BATCH_NAMES = ("batch_index", "batch", "image", "batch_id")


def open_text(path: str, delimiter: str, coordinate_names: Sequence[str]) -> StoredArray:
    """A text file of RoIs as (K, 5) or (K, 4) float64.

    ``coordinate_names`` are the four names that the RoI format has (x1, y1, x2, y2 or x, y, w, h);
    a header may list them in any order, with or without a batch column, among others.
    """
    check_regular_file(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            text = stream.read()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    return MemoryArray(parse_text(text, path, delimiter, coordinate_names), path)


def parse_text(
    text: str, name: str, delimiter: str, coordinate_names: Sequence[str]
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """The numbers of a CSV or TSV text as (K, 5) or (K, 4) float64."""
    if "\0" in text:
        raise InputError(f"{name}: holds NUL bytes, expected text")
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    lines = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    columns: list[int] | None = None
    if lines and not _is_number(lines[0][1][0]):
        columns = _header_columns(lines.pop(0)[1], name, coordinate_names)
    width = len(columns) if columns else len(lines[0][1]) if lines else 5
    values = np.empty((len(lines), width))
    for row, (line, cells) in enumerate(lines):
        values[row] = _parse_row(cells, columns, width, f"{name}: line {line}")
    return values


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _header_columns(header: list[str], name: str, coordinate_names: Sequence[str]) -> list[int]:
    """Which cells of a row hold batch index and coordinates, in the usual order."""
    names = [cell.strip().lower() for cell in header]
    missing = [wanted for wanted in coordinate_names if wanted not in names]
    if missing:
        raise InputError(
            f"{name}: the header has no column {missing[0]!r}, found: {', '.join(names)}",
            "choose the --roi-format that the file has, or drop the header",
        )
    batch = [names.index(wanted) for wanted in BATCH_NAMES if wanted in names][:1]
    return batch + [names.index(wanted) for wanted in coordinate_names]


def _parse_row(cells: list[str], columns: list[int] | None, width: int, where: str) -> list[float]:
    if columns is None:
        if len(cells) != width:
            raise InputError(
                f"{where}: {len(cells)} columns, expected {width} as on the first line"
            )
        columns = list(range(width))
    elif len(cells) <= max(columns):
        raise InputError(f"{where}: {len(cells)} columns, the header has more")
    try:
        return [float(cells[column]) for column in columns]
    except ValueError as error:
        raise InputError(f"{where}: is not a number ({error})") from None
