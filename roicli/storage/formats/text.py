"""RoIs as CSV or TSV, with a header of names in any order, or bare numbers in the usual order."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign
from roicli.core.types import Array
from roicli.storage.address import Address, check_regular_file
from roicli.storage.array import FileContents, MemoryArray, StoredArray, StoredDataset
from roicli.storage.choosing import DEFAULT_COORDINATES, Wanted
from roicli.storage.file_state import FileState, read_state
from roicli.storage.limits import check_memory
from roicli.storage.roi_columns import RoiColumns, find_columns, is_header

BYTES_PER_CHARACTER = 48
COMMENT = "#"


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
    values, columns = parse_text(text, path, delimiter, coordinate_names)
    return RoiText(values, path, {path: state}, columns)


class RoiText(MemoryArray):
    """RoIs out of a text; ``columns`` are those of its header, None without one."""

    def __init__(
        self,
        values: Array,
        name: str,
        files: Mapping[str, FileState],
        columns: RoiColumns | None,
    ) -> None:
        super().__init__(values, name, files=files)
        self.columns = columns


def parse_text(
    text: str, name: str, delimiter: str, coordinate_names: Sequence[str]
) -> tuple[Array, RoiColumns | None]:
    """The numbers of a CSV or TSV text as (K, 5) or (K, 4) float64, and its header's columns."""
    if "\0" in text:
        raise InputError(f"{name}: holds NUL bytes, expected text")
    lines, comments = _split_lines(text, name, delimiter)
    # numpy.savetxt writes its header as a comment.
    header = next(filter(is_header, reversed(comments)), None)
    if lines and not _is_number(lines[0][1][0]):
        header = lines.pop(0)[1]
    elif not lines and header is None:
        raise InputError(
            f"{name}: holds no text", "a file without RoIs has a header: batch_index,x1,y1,x2,y2"
        )
    columns = None if header is None else find_columns(header, coordinate_names, name)
    places = list(range(len(lines[0][1]))) if columns is None else columns.places
    image = None if columns is None else columns.image
    values = np.empty((len(lines), len(places)))
    for row, (line, cells) in enumerate(lines):
        where = f"{name}: line {line}"
        values[row] = _parse_row(cells, places, columns is not None, image, where)
    return values, columns


def _split_lines(
    text: str, name: str, delimiter: str
) -> tuple[list[tuple[int, list[str]]], list[list[str]]]:
    """The cells of every line that has some, with its number; and of comments before the first."""
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    lines: list[tuple[int, list[str]]] = []
    comments: list[list[str]] = []
    try:
        for row in reader:
            if row and row[0].lstrip().startswith(COMMENT):
                if not lines:
                    comment = [row[0].lstrip().removeprefix(COMMENT), *row[1:]]
                    comments.append(comment if len(comment) > 1 else comment[0].split())
            elif any(cell.strip() for cell in row):
                lines.append((reader.line_num, row))
    except csv.Error as error:
        raise InputError(f"{name}: line {reader.line_num}: {error}") from None
    return lines, comments


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _parse_row(
    cells: list[str], places: list[int], has_header: bool, image: int | None, where: str
) -> list[float]:
    if not has_header and len(cells) != len(places):
        raise InputError(
            f"{where}: {len(cells)} columns, expected {len(places)} as on the first line"
        )
    if len(cells) <= max(places):
        raise InputError(
            f"{where}: {len(cells)} columns, expected at least {max(places) + 1} as in the header"
        )
    return [
        _parse_cell(cells[place], f"{where}, column {place}", place == image) for place in places
    ]


def _parse_cell(cell: str, where: str, is_image: bool) -> float:
    try:
        return float(cell)
    except ValueError:
        expected = "a number"
        if is_image:
            expected = "the number of the image in FEATURES, from 0"
        raise InputError(f"{where}: found {str(foreign(cell))!r}, expected {expected}") from None
