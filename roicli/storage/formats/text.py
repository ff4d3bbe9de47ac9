"""RoIs as CSV or TSV, with a header of names in any order, or bare numbers in the usual order."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign
from roicli.storage.address import Address, check_regular_file
from roicli.storage.array import FileContents, MemoryArray, StoredArray, StoredDataset
from roicli.storage.choosing import DEFAULT_COORDINATES, Wanted
from roicli.storage.file_state import read_state
from roicli.storage.limits import check_memory

BYTES_PER_CHARACTER = 48
BATCH_NAMES = ("batch_index", "batch", "image", "batch_id")


def open_array(address: Address, wanted: Wanted) -> StoredArray:
    """RoIs in a text file, as ``open_text``, after its ending."""
    return open_text(address.path, _delimiter(address.path), wanted.coordinate_names)


def contents(address: Address) -> FileContents:
    """The one array of a text file."""
    path = address.path
    stored = open_text(path, _delimiter(path), DEFAULT_COORDINATES)
    dataset = StoredDataset(
        foreign(path), stored.shape, stored.precision.name, True, "text", open=lambda: stored
    )
    ending = os.path.splitext(path)[1].lower().removeprefix(".")
    return FileContents(foreign(path), ending, {}, (dataset,))


def _delimiter(path: str) -> str:
    return "," if path.lower().endswith(".csv") else "\t"


def open_text(path: str, delimiter: str, coordinate_names: Sequence[str]) -> StoredArray:
    """A text file of RoIs as (K, 5) or (K, 4) float64.

    ``coordinate_names`` are the four names that the RoI format has (x1, y1, x2, y2 or x, y, w, h);
    a header may list them in any order, with or without a batch column, among others.
    """
    check_regular_file(path)
    state = read_state(path)
    # Cells are held as text before they are numbers.
    check_memory(path, "its text", os.stat(path).st_size * BYTES_PER_CHARACTER)
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            text = stream.read()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    values = parse_text(text, path, delimiter, coordinate_names)
    return MemoryArray(values, path, files={path: state})


def parse_text(
    text: str, name: str, delimiter: str, coordinate_names: Sequence[str]
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """The numbers of a CSV or TSV text as (K, 5) or (K, 4) float64."""
    if "\0" in text:
        raise InputError(f"{name}: holds NUL bytes, expected text")
    lines = _split_lines(text, name, delimiter)
    columns: list[int] | None = None
    if not _is_number(lines[0][1][0]):
        columns = _header_columns(lines.pop(0)[1], name, coordinate_names)
    width = len(columns) if columns else len(lines[0][1])
    values = np.empty((len(lines), width))
    for row, (line, cells) in enumerate(lines):
        values[row] = _parse_row(cells, columns, width, f"{name}: line {line}")
    return values


def _split_lines(text: str, name: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """The cells of every line that has some, with its number."""
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        lines = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise InputError(f"{name}: line {reader.line_num}: {error}") from None
    if not lines:
        raise InputError(
            f"{name}: holds no text", "a file without RoIs has a header: batch_index,x1,y1,x2,y2"
        )
    return lines


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
            "columns are separated by commas in .csv and by tabs in .tsv"
            if len(names) == 1
            else "choose the --roi-format that the file has, or drop the header",
        )
    batch = [names.index(wanted) for wanted in BATCH_NAMES if wanted in names][:1]
    return batch + [names.index(wanted) for wanted in coordinate_names]


def _parse_row(cells: list[str], columns: list[int] | None, width: int, where: str) -> list[float]:
    if columns is None and len(cells) != width:
        raise InputError(f"{where}: {len(cells)} columns, expected {width} as on the first line")
    columns = list(range(width)) if columns is None else columns
    if len(cells) <= max(columns):
        raise InputError(
            f"{where}: {len(cells)} columns, expected at least {max(columns) + 1} as in the header"
        )
    return [_parse_cell(cells[column], f"{where}, column {column}") for column in columns]


def _parse_cell(cell: str, where: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise InputError(f"{where}: found {cell!r}, expected a number") from None
