"""The error table as JSON, JSON lines, CSV and TSV, in UTF-8, block by block."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from roicli.core.exceptions import ParameterError
from roicli.core.strict_json import HEAD, encode
from roicli.core.system import usable_cores
from roicli.core.types import Array
from roicli.core.vocabulary import TableFormat
from roicli.error_table import arrow_cells, cells
from roicli.error_table.cells import RowForm
from roicli.error_table.table import ErrorTable, Summary, summarize
from roicli.error_table.verdict import WORST_NAMED, give_verdict

FORMAT_OF_ENDING: dict[str, TableFormat] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
}


def summary_object(summary: Summary) -> dict[str, Any]:
    """``summary`` keyed by size class; for a pyramid ``summary_by_level`` keyed by level, and with
    --group-by ``summary_by_group``: the column, and its groups keyed by its values.
    """

    def group(statistics: Mapping[str, Any], n: int) -> dict[str, Any]:
        return {"n": n, **{name: values._asdict() for name, values in statistics.items()}}

    found: dict[str, Any] = {
        "summary": {g.name: group(g.statistics, g.n) for g in summary.by_class}
    }
    if summary.group_by is not None:
        found["summary_by_group"] = {
            "column": summary.group_by,
            "groups": {g.name: group(g.statistics, g.n) for g in summary.by_group},
        }
    if summary.by_level:
        found["summary_by_level"] = {g.name: group(g.statistics, g.n) for g in summary.by_level}
    return found


DELIMITERS: dict[TableFormat, str] = {"csv": ",", "tsv": "\t"}
# Rows that are formatted at once: the text of more does not stay in a processor's cache.
ROWS_AT_ONCE = 1 << 13


def write_table(
    table: ErrorTable, parameters: Mapping[str, Any], table_format: TableFormat, stream: IO[bytes]
) -> None:
    """Write the whole table in a format for programs, as UTF-8.

    Raises ParameterError for a format that is for people.
    """
    names = [column.name for column in table.columns]
    if table_format == "json":
        _write_json(table, parameters, stream)
    elif table_format == "jsonl":
        stream.writelines(_format_blocks(table, _object_form(names, "{", "}\n")))
    elif table_format in DELIMITERS:
        form = _delimited_form(names, DELIMITERS[table_format])
        stream.write((form.before[-1].join(map(form.quote, names)) + form.after).encode())
        stream.writelines(_format_blocks(table, form))
    else:
        raise ParameterError(f"format {table_format} is for people, not for files")


def _delimited_form(names: Sequence[str], delimiter: str) -> RowForm:
    special = (delimiter, '"', "\n", "\r")

    def quote(text: str) -> str:
        if any(mark in text for mark in special):
            return '"' + text.replace('"', '""') + '"'
        return text

    return RowForm(("", *[delimiter] * (len(names) - 1)), "\n", "", quote)


def _object_form(names: Sequence[str], start: str, end: str) -> RowForm:
    keys = [f"{json.dumps(name)}: " for name in names]
    before = (start + keys[0], *(f", {key}" for key in keys[1:]))
    return RowForm(before, end, "null", json.dumps)


def _format_blocks(table: ErrorTable, form: RowForm) -> Iterator[bytes | memoryview]:
    """The rows as UTF-8, a bounded number at a time."""
    if not arrow_cells.is_worth(len(table)):
        return (cells.format_rows(rows, table.columns, form).encode() for rows in _pieces(table))
    return _format_ahead(table, form)


def _pieces(table: ErrorTable) -> Iterator[Array]:
    for block in table.blocks():
        for first in range(0, len(block), ROWS_AT_ONCE):
            yield block[first : first + ROWS_AT_ONCE]


def _format_ahead(table: ErrorTable, form: RowForm) -> Iterator[memoryview]:
    """By pyarrow, which lets go of the interpreter: a piece a core, while the next is computed."""
    from concurrent.futures import Future, ThreadPoolExecutor

    waiting: deque[Future[memoryview]] = deque()
    with ThreadPoolExecutor(usable_cores()) as pool:
        for rows in _pieces(table):
            waiting.append(pool.submit(arrow_cells.format_rows, rows, table.columns, form))
            if len(waiting) > usable_cores():
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _write_json(table: ErrorTable, parameters: Mapping[str, Any], stream: IO[bytes]) -> None:
    """One strict object, its ``rois`` written one a line."""
    summary = summarize(table)
    worst = table.worst_first("edge_error_max_px", WORST_NAMED)
    head = {
        **HEAD,
        "parameters": parameters,
        "verdict": " ".join(give_verdict(table, summary, parameters, worst)),
        **summary_object(summary),
    }
    stream.write(b"{\n")
    for key, value in head.items():
        stream.write(f'"{key}": {encode(value)},\n'.encode())
    stream.write(b'"rois": [')
    form = _object_form([column.name for column in table.columns], ",\n{", "}")
    for number, rows in enumerate(_format_blocks(table, form)):
        stream.write(rows if number else rows[1:])  # the first row has no comma before it
    stream.write(b"\n]\n}\n")
