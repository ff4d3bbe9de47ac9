"""Tables as text: CSV, TSV and their kind, with a header of names or with bare numbers.

What separates the cells is found in the first lines, whatever the file's ending.
"""

from __future__ import annotations

import csv
import io
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from roicli.core.exceptions import InputError, not_utf8
from roicli.core.foreign import decode_text, foreign, plain_numbers
from roicli.core.types import Array
from roicli.storage.address import Address, check_regular_file
from roicli.storage.array import precision_of
from roicli.storage.file_state import FileState, read_state
from roicli.storage.limits import check_memory
from roicli.storage.roi_columns import is_header
from roicli.storage.table import EXACT, Column, Table, text_column

BYTES_PER_CHARACTER = 48
COMMENTS = ("#", "%")  # numpy.savetxt's and MATLAB's
# In the order in which they are tried; a blank stands for any number of blanks.
DELIMITERS = ("\t", ";", ",", "|")
BLANKS = " "
LINES_TRIED = 20
# Boxes have so many columns at least.
FEWEST_COUNTED = 4
# Numbers of so many digits are pixels of more than a made-up image.
DIGITS_OF_PIXELS = 3
FLOAT64 = precision_of(np.dtype(np.float64))
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d*,\d+(?:[eE][+-]?\d+)?\s*")
# Three digits behind a comma may be thousands.
_THOUSANDS = re.compile(r"[+-]?\d{1,3},\d{3}")
# Excel's own first line.
_TOLD_DELIMITER = re.compile(r"sep=([\t;,|])\r?\n", re.IGNORECASE)
# What R, pandas and databases write where there is no number.
NO_NUMBER = ("na", "n/a", "<na>", "nan", "none", "null", "\\n", "-")
# A list of numbers, as Python, NumPy and JSON write it; one of four may have no brackets.
_LIST = re.compile(r"\s*(?P<open>[\[(]?)([^\[\]()]*)[\])]?\s*")
BOX_NUMBERS = 4


class Line(NamedTuple):
    """The cells of a line, and its number in the text."""

    number: int
    cells: list[str]


def open_table(address: Address) -> Table:
    """The table of a text file. Raises InputError."""
    path = address.path
    check_regular_file(path)
    state = read_state(path)
    # Cells are held as text before they are numbers.
    check_memory(path, "its text", os.stat(path).st_size * BYTES_PER_CHARACTER)
    with open(path, "rb") as stream:
        return parse_table(stream.read(), path, {path: state})


def parse_table(data: bytes, name: str, files: Mapping[str, FileState] | None = None) -> Table:
    """The table in the bytes of a text. Raises InputError."""
    check_memory(name, "its text", len(data) * BYTES_PER_CHARACTER)
    try:
        text = decode_text(data)
    except UnicodeDecodeError as error:
        # A byte order mark is no part of the text, and one of the file.
        raise not_utf8(name, error) from None
    return parse_text(text, name, files)


def parse_text(text: str, name: str, files: Mapping[str, FileState] | None = None) -> Table:
    """The table of a text: columns of whole numbers, of float64 or of texts."""
    if "\0" in text:
        raise InputError(
            f"{name}: holds NUL bytes, expected text",
            "save it as UTF-8, by an editor or by iconv, where it is UTF-16 without a mark",
        )
    if "\n" not in text:  # lines end so on old Macs, and in some of Excel's files
        text = text.replace("\r", "\n")
    text = plain_numbers(text)
    told = _TOLD_DELIMITER.match(text)
    text = text[told.end() :] if told else text
    delimiter = told[1] if told else _find_delimiter(text)
    lines, comments = _split_lines(text, name, delimiter)
    # numpy.savetxt writes its header as a comment.
    header = next(filter(is_header, reversed(comments)), None)
    if lines and _is_header(lines[0].cells):
        header = lines.pop(0).cells
    elif not lines and header is None:
        raise InputError(
            f"{name}: holds no text", "a file without RoIs has a header: batch_index,x1,y1,x2,y2"
        )
    elif header is None:
        lines = _without_counted_columns(lines, name)
    width = len(lines[0].cells) if header is None else len(header)
    for line in lines:
        _check_width(line, width, header is not None, name)
    names = [""] * width if header is None else header
    cells = zip(*(line.cells for line in lines), strict=True) if lines else ([],) * width
    columns = tuple(
        _make_column(heading.strip(), found, delimiter, name)
        for heading, found in zip(names, cells, strict=True)
    )
    return Table(
        foreign(name), len(lines), columns, FLOAT64.name, files or {}, header is not None,
        lines=np.array([line.number for line in lines], np.int64),
    )  # fmt: skip


def _find_delimiter(text: str) -> str:
    """What separates the cells: what cuts the first lines that hold some into equally many."""
    lines = []
    for line in itertools.islice(io.StringIO(text), 10 * LINES_TRIED):
        if line.strip() and not line.lstrip().startswith(COMMENTS):
            lines.append(line)
        if len(lines) == LINES_TRIED:
            break
    if not lines:
        lines = [line.lstrip(" " + "".join(COMMENTS)) for line in text.splitlines()[-1:]]
    found = [mark for mark in DELIMITERS if any(mark in line for line in lines)]
    for mark in found:
        with suppress(csv.Error):  # which is told, with its line, when the cells are read
            counts = {len(row) for row in csv.reader(lines, delimiter=mark)}
            if len(counts) == 1 and counts.pop() > 1:
                return mark
    return next((mark for mark in found if mark in lines[0]), BLANKS)


def _split_lines(text: str, name: str, delimiter: str) -> tuple[list[Line], list[list[str]]]:
    """The cells of every line that has some; and of comments before the first of them."""
    lines: list[Line] = []
    comments: list[list[str]] = []
    if delimiter == BLANKS:
        numbered: Iterable[tuple[int, list[str]]]
        numbered = enumerate((line.split() for line in io.StringIO(text)), 1)
    else:
        numbered = _read_csv(text, name, delimiter)
    for number, row in numbered:
        if row and row[0].lstrip().startswith(COMMENTS):
            if not lines:
                cells = [row[0].lstrip()[1:], *row[1:]]
                cells = cells if cells[0].strip() or delimiter != BLANKS else cells[1:]
                comments.append(cells if len(cells) > 1 else "".join(cells).split())
        elif any(cell.strip() for cell in row):
            lines.append(Line(number, row))
    return lines, comments


def _read_csv(text: str, name: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    quote = text.lstrip()[:1]
    reader = csv.reader(
        io.StringIO(text), delimiter=delimiter, strict=True,
        quotechar=quote if quote == "'" else '"', skipinitialspace=True,
    )  # fmt: skip
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"{name}: line {reader.line_num}: {error}") from None


def _is_header(cells: Sequence[str]) -> bool:
    """Whether a line is one of names: none of them a number, or most of them known."""
    return not any(map(_is_number, cells)) or is_header(cells)


def _without_counted_columns(lines: list[Line], name: str) -> list[Line]:
    """Lines without pandas' header of columns that have no names, 0,1,2,...; and its index.

    Raises InputError where that line may be a RoI.
    """
    cells = [cell.strip() for cell in lines[0].cells]
    index = int(cells[0] == "")
    rest = lines[1:]
    counted = len(cells) - index >= FEWEST_COUNTED
    if not rest or not counted or cells[index:] != [str(n) for n in range(len(cells) - index)]:
        return lines
    others = [cell for line in rest for cell in line.cells if _is_number(cell)]
    if not index and not any("." in cell for cell in others):
        # A box of two pixels is one among its like.
        if max(map(len, others), default=0) < DIGITS_OF_PIXELS:
            return lines
        raise InputError(
            f"{name}: line {lines[0].number}: {','.join(cells)} may be a RoI, or count the columns "
            "as pandas does where they have no names",
            "put names there: batch_index,x1,y1,x2,y2; before it, where it is a RoI",
        )
    return [Line(line.number, line.cells[index:]) for line in rest]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return _DECIMAL_COMMA.fullmatch(cell) is not None
    return True


def _check_width(line: Line, width: int, has_header: bool, name: str) -> None:
    """Cut the line's empty cells at the end; raise InputError where its width is another."""
    cells = line.cells
    while len(cells) > width and not cells[-1].strip():
        cells.pop()
    if len(cells) == width:
        return
    expected = f"{width} as {'in the header' if has_header else 'on the first line'}"
    hint = None
    if has_header and len(cells) == width + 1:
        hint = (
            "R's write.table names the rows in a column without a header: add col.names=NA; of "
            "pandas' to_string: index=False"
        )
    raise InputError(f"{name}: line {line.number}: {len(cells)} columns, expected {expected}", hint)


def _make_column(heading: str, cells: Sequence[str], delimiter: str, name: str) -> Column:
    """The numbers that the cells hold, NaN where one is empty; texts where one is no number."""
    lists = _read_lists(cells)
    if lists is not None:
        return Column(heading, lists, FLOAT64)
    if any(map(_DECIMAL_COMMA.fullmatch, cells)):
        cells = _read_decimal_commas(heading, cells, delimiter, name)
    try:
        values = np.array([_as_number(cell) for cell in cells])
    except ValueError:
        return text_column(heading, [cell.strip() for cell in cells])
    if len(values) and np.isnan(values).all() and not any(map(_is_nan, cells)):
        return text_column(heading, [cell.strip() or None for cell in cells])
    return Column(heading, _as_whole(values, cells), FLOAT64)


def _as_number(cell: str) -> float:
    """A cell's number, NaN where it is empty or says that there is none. Raises ValueError."""
    try:
        return float(cell)
    except ValueError:
        if not cell.strip() or cell.strip().lower() in NO_NUMBER:
            return np.nan
        raise


def _is_nan(cell: str) -> bool:
    return cell.strip().lower() == "nan"


def _as_whole(values: Array, cells: Sequence[str]) -> Array:
    """Numbers as int64 where all are whole: an id past 2^53 is no float64."""
    with np.errstate(invalid="ignore"):
        if not (np.isfinite(values) & (values == np.floor(values))).all() or not len(values):
            return values
    if np.abs(values).max() < EXACT:
        return values.astype(np.int64)
    try:
        return np.array([int(cell) for cell in cells], np.int64)
    except (ValueError, OverflowError):
        return values


def _read_decimal_commas(
    heading: str, cells: Sequence[str], delimiter: str, name: str
) -> Sequence[str]:
    """The cells with a point where there is a decimal comma. Raises InputError where in doubt."""
    found = [cell.strip() for cell in cells if _DECIMAL_COMMA.fullmatch(cell)]
    example, are_thousands = found[0], all(map(_THOUSANDS.fullmatch, found))
    if (delimiter != ";" and are_thousands) or any("." in cell for cell in cells):
        raise InputError(
            f"{name}: column {str(foreign(heading))!r}: the comma in {example} may be a decimal "
            "comma or separate thousands",
            "write numbers with a decimal point and nothing between thousands",
        )
    return [cell.replace(",", ".") for cell in cells]


def _read_lists(cells: Sequence[str]) -> Array | None:
    """(K, n) of cells like ``[1, 2, 3, 4]``; None where they are no such lists of one length."""
    found = []
    for cell in cells:
        match = _LIST.fullmatch(cell)
        if match is None:
            return None
        try:
            found.append([float(part) for part in re.split(r"[\s,;]+", match[2].strip())])
        except ValueError:
            return None
        if not match["open"] and len(found[-1]) != BOX_NUMBERS:
            return None
    if not found or len({len(row) for row in found}) != 1 or len(found[0]) == 1:
        return None
    return np.array(found)
