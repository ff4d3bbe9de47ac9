"""The error table as JSON, JSON lines, CSV, TSV and Markdown, streamed block by block."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import Any, TextIO

from roicli.core.exceptions import ParameterError
from roicli.core.strict_json import HEAD, encode, encode_plain
from roicli.core.vocabulary import TableFormat
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


def write_table(
    table: ErrorTable, parameters: Mapping[str, Any], table_format: TableFormat, stream: TextIO
) -> None:
    """Write the whole table in a format for programs."""
    if table_format == "json":
        _write_json(table, parameters, stream)
    elif table_format == "jsonl":
        for record in table:
            stream.write(encode_plain(record) + "\n")
    elif table_format in DELIMITERS:
        delimiter = DELIMITERS[table_format]
        writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
        writer.writerow([column.name for column in table.columns])
        for record in table:
            writer.writerow(["" if value is None else value for value in record.values()])
    else:
        raise ParameterError(f"format {table_format} is for people, not for files")


def _write_json(table: ErrorTable, parameters: Mapping[str, Any], stream: TextIO) -> None:
    """One strict object, its ``rois`` written one a line."""
    summary = summarize(table)
    worst = table.worst_first("edge_error_max_px", WORST_NAMED)
    stream.write("{\n")
    for key, value in {
        **HEAD,
        "parameters": parameters,
        "verdict": " ".join(give_verdict(table, summary, parameters, worst)),
        **summary_object(summary),
    }.items():
        stream.write(f'"{key}": {encode(value)},\n')
    stream.write('"rois": [')
    separator = "\n"
    for record in table:
        stream.write(separator + encode_plain(record))
        separator = ",\n"
    stream.write("\n]\n}\n")
