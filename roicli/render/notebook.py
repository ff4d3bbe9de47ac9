"""What a notebook shows: tables of what is a table, pictures, and else what a command prints."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, TextIO

from roicli.analysis.bin_reading import BinReading
from roicli.analysis.check.records import CheckReport
from roicli.analysis.compare.run import Comparison
from roicli.analysis.diagnose.run import Diagnosis
from roicli.analysis.explanation import Explanation
from roicli.analysis.inspect_file import ArrayReport
from roicli.analysis.inspect_model import ModelReport
from roicli.analysis.listings import Listing
from roicli.analysis.picture import Picture
from roicli.analysis.sweep import Sweep
from roicli.analysis.verify_model import ModelCheck
from roicli.core.shown import Drawn, Shown
from roicli.error_table.columns import View
from roicli.error_table.table import ErrorTable
from roicli.error_table.verdict import give_verdict
from roicli.pipeline.capture.run import Capture
from roicli.pipeline.execute import Result
from roicli.render.bin_reading import print_reading
from roicli.render.capture import print_capture
from roicli.render.check import print_findings
from roicli.render.compare import print_comparison
from roicli.render.diagnose import print_diagnosis
from roicli.render.error_table import (
    describe_rows,
    find_worst,
    say_whose,
    short_summary,
    summarize_view,
    view_columns,
)
from roicli.render.explain import print_explanation
from roicli.render.figure import draw_bin, draw_figure
from roicli.render.inspect import print_inspection
from roicli.render.svg import write_file
from roicli.render.sweep import print_sweep
from roicli.render.tables import format_records
from roicli.render.verify_model import print_model_check

PRINTERS: dict[type, Callable[[Any, TextIO], None]] = {
    CheckReport: print_findings,
    Comparison: print_comparison,
    Diagnosis: print_diagnosis,
    Sweep: print_sweep,
    Explanation: print_explanation,
    ArrayReport: print_inspection,
    ModelReport: print_inspection,
    BinReading: print_reading,
    Capture: print_capture,
    ModelCheck: print_model_check,
}
# What the command shows unasked, and of more columns than fit a page the first.
VIEW = View(5, "edge_error_max_px", ())
MOST_COLUMNS = 12


def write_html(record: Shown) -> str:
    """A record as HTML."""
    if isinstance(record, Result):
        return _write_errors(record.errors, record.parameters)
    if isinstance(record, ErrorTable):
        return _write_errors(record, None)
    if isinstance(record, Listing):
        names = list(record[0]) if record else []
        cells = [[_word(row[name]) for name in names] for row in record]
        return _write_table([[name] for name in names], cells, [True] * len(names))
    stream = io.StringIO()
    PRINTERS[type(record)](record, stream)
    # Without the line that says it is XML, which is none of HTML's.
    drawn = write_svg(record).partition("\n")[2] if isinstance(record, Drawn) else ""
    return f"{drawn}<pre style='font-family:monospace'>{escape(stream.getvalue())}</pre>"


def write_svg(record: Drawn) -> str:
    """A picture as SVG."""
    if isinstance(record, Picture):
        return write_file(draw_figure(record, ())).decode()
    assert isinstance(record, Explanation)
    return write_file(draw_bin(record)).decode()


def _write_errors(table: ErrorTable, parameters: Any) -> str:
    """The verdict where a run's parameters are known, the worst rows, and the summary."""
    summary = summarize_view(table, VIEW)
    columns, constants = view_columns(table, VIEW, summary)
    worst = find_worst(table, VIEW)
    columns = columns[:MOST_COLUMNS]
    parts = []
    if parameters is not None:
        verdict = " ".join(give_verdict(table, summary, parameters, worst))
        parts.append(f"<p><b>{escape(verdict)}</b></p>")
    if len(table):
        rows = format_records(table.records(worst[: VIEW.rows]), columns)
        titles = [column.meaning for column in columns]
        is_text = [column.kind == "text" for column in columns]
        parts.append(_write_table([column.header for column in columns], rows, is_text, titles))
    whose = say_whose(parameters) if parameters else ""
    words = "; ".join(filter(None, [whose + describe_rows(table, VIEW), constants]))
    parts.append(f"<p>{escape(words)}</p>")
    short = short_summary(summary)
    parts.append(_write_table(short.headers, short.rows, short.is_text))
    return "".join(parts)


def _write_table(
    headers: Sequence[Sequence[str]],
    rows: Sequence[Sequence[Any]],
    is_text: Sequence[bool],
    titles: Sequence[str] = (),
) -> str:
    """A table of text; ``titles`` are shown where the mouse is over a heading."""
    sides = [f"text-align:{'left' if words else 'right'};padding:1px 8px" for words in is_text]
    head = "".join(
        f'<th style="{side}"'
        + (f' title="{escape(titles[place])}"' if titles else "")
        + f">{'<br>'.join(escape(line) for line in header if line)}</th>"
        for place, (header, side) in enumerate(zip(headers, sides, strict=True))
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<td style="{side}">{escape(str(cell))}</td>'
            for cell, side in zip(row, sides, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
