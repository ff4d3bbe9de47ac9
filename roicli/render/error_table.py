"""The error table and its summary for a terminal: as many columns as fit, none of them cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TextIO

from roicli.error_table.columns import Column, View
from roicli.error_table.table import ErrorTable, GroupSummary, Summary, summarize
from roicli.render.tables import (
    Table,
    format_number,
    format_records,
    wrap_name,
    write_markdown,
    write_table,
)

SHOWN_FIRST = (
    "roi",
    "batch_index",
    "size_class",
    "edge_error_max_px",
    "shift_px",
    "iou",
    "total_edge_error_max_px",
    "bin_edge_error_max_px",
    "area_lost_fraction",
    "area_gained_fraction",
    "width_ratio",
    "height_ratio",
    "coordinate_error_px",
    "x1_error_px",
    "y1_error_px",
    "x2_error_px",
    "y2_error_px",
    "clipped_fraction",
    "empty_bins",
)
SHOWN_VALUES = (
    "value_error_relative_l2",
    "share_stage1",
    "share_stage2",
    "share_aggregation",
    "value_cosine",
    "value_error_max",
)
# What the terminal summarizes; the JSON has every summary column.
SUMMARIZED = (
    "edge_error_max_px",
    "edge_error_mean_px",
    "shift_px",
    "bin_edge_error_max_px",
    "total_edge_error_max_px",
    "iou",
    "value_error_relative_l2",
    "share_stage1",
    "share_stage2",
    "share_aggregation",
)
SUMMARY_HEADER = ["summary", "RoIs", "n", "mean", "median", "p95", "max"]
SUMMARY_IS_TEXT = [True, True] + [False] * 5
HEADER_WIDTH = 10


def default_columns(table: ErrorTable, sort: str) -> list[str]:
    """Columns by how much they tell, the first that fit are shown; the sorting one always."""
    names = list(SHOWN_FIRST)
    if len(table.maps) > 1:
        names.insert(2, "level")
    if any(column.name == SHOWN_VALUES[0] for column in table.columns):
        names[-13:-13] = SHOWN_VALUES
    # What the user knows the RoIs by.
    names[2:2] = table.carried
    if sort in names:
        names.remove(sort)
    names.insert(3 + (len(table.maps) > 1), sort)
    return list(dict.fromkeys(names))


def describe_title(parameters: dict[str, Any]) -> str:
    """What the table is about, in a line."""
    rounding = f"{parameters['quantization']}, {parameters['partition']}"
    strides = ", ".join(f"{1 / scale:g}" for scale in parameters["spatial_scale"])
    model = parameters["pixel_model"]
    return f"Error of RoI Pool ({rounding}), stride {strides}, {model} pixel model"


def _cells(table: ErrorTable, view: View) -> tuple[list[Column], list[list[str]]]:
    for name in (*view.columns, view.sort):
        table.check_column(name)
    names = view.columns or default_columns(table, view.sort)
    by_name = {column.name: column for column in table.columns}
    columns = [by_name[name] for name in names]
    block = table.records(table.worst_first(view.sort, view.rows))
    return columns, format_records(block, columns)


def print_table(table: ErrorTable, parameters: dict[str, Any], view: View, stream: TextIO) -> None:
    """The worst rows, then the summary, as wide as the terminal allows."""
    from rich.text import Text

    from roicli.render.pipe_console import PipeConsole

    console = PipeConsole(file=stream, highlight=False, soft_wrap=False)
    columns, rows = _cells(table, view)
    headers = [wrap_name(column.name, HEADER_WIDTH) for column in columns]
    shown = Table(headers, rows, [column.kind == "text" for column in columns])
    count = len(columns) if view.columns else shown.fitting(console.width)
    console.print(Text(describe_title(parameters), style="bold"))
    write_table(shown.first(count), stream)
    console.print(Text(_describe_rows(table, view, len(columns) - count), style="dim"))
    print_summary(summarize(table), stream)


def _describe_rows(table: ErrorTable, view: View, hidden: int) -> str:
    shown = len(table) if view.rows is None else min(view.rows, len(table))
    text = f"{shown} of {len(table)} RoIs, worst {view.sort} first"
    if hidden:
        text += f"; {hidden} more columns in a wider terminal, all of them with --format json"
    return text


def _summary_rows(groups: Sequence[GroupSummary], label: str) -> list[list[str]]:
    """One row per statistic column and group: n, mean, median, p95, max."""
    rows = []
    for group in groups:
        for name in SUMMARIZED:
            if name not in group.statistics:
                continue
            found = group.statistics[name]
            numbers = (found.mean, found.median, found.p95, found.max)
            group_name = f"{label}{group.name}"
            rows.append([name, group_name, str(group.n), *(format_number(n) for n in numbers)])
    return rows


def _all_summary_rows(summary: Summary) -> list[list[str]]:
    return [
        *_summary_rows(summary.by_class, ""),
        *_summary_rows(summary.by_level, "level "),
        *_summary_rows(summary.by_group, f"{summary.group_by} "),
    ]


def print_summary(summary: Summary, stream: TextIO) -> None:
    """n, mean, median, p95 and max of the pixel errors and IoU, by group."""
    rows = _all_summary_rows(summary)
    rows.sort(key=lambda row: SUMMARIZED.index(row[0]))
    previous = ""
    for row in rows:
        previous, row[0] = row[0], "" if row[0] == previous else row[0]
    stream.write("\n")
    write_table(Table([[name] for name in SUMMARY_HEADER], rows, SUMMARY_IS_TEXT), stream)


def print_markdown(
    table: ErrorTable, parameters: dict[str, Any], view: View, stream: TextIO
) -> None:
    """The same rows and summary as GitHub Markdown, with every default column."""
    columns, rows = _cells(table, view)
    stream.write(f"{describe_title(parameters)}\n\n")
    write_markdown([column.name for column in columns], rows, stream)
    stream.write(f"\n{_describe_rows(table, view, 0)}\n\n")
    summary = summarize(table)
    lines = _all_summary_rows(summary)
    write_markdown(SUMMARY_HEADER, lines, stream)
