"""The error table and its summary for a terminal: as many columns as fit, none of them cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TextIO, assert_never

from roicli.core.types import IntArray
from roicli.core.vocabulary import SummaryForm
from roicli.error_table.columns import (
    COLUMN_BY_NAME,
    WORST_IS_SMALLEST,
    Column,
    View,
)
from roicli.error_table.table import SUMMARY_READS, ErrorTable, Summary, summarize
from roicli.error_table.verdict import WORST_NAMED, find_exact, give_verdict
from roicli.pipeline.inputs import KEY_COLUMN
from roicli.render.screen import open_screen
from roicli.render.tables import (
    MISSING,
    Cell,
    Table,
    format_cell,
    format_number,
    format_records,
    print_table,
    write_markdown,
)
from roicli.storage.roi_columns import find_named

# After what a RoI is known by; then come the RoIs' own columns and those of the values.
SHOWN_FIRST = ("edge_error_max_px", "shift_px", "iou")
SHOWN_LATER = (
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
# Of these the short summary says the most; what one of the stages does is in the full one.
SUMMARIZED_SHORT = (
    "edge_error_max_px",
    "shift_px",
    "total_edge_error_max_px",
    "iou",
    "value_error_relative_l2",
)
FULL_HEADER = ["summary", "RoIs", "n", "mean", "median", "p95", "max"]
# A line has room for so many groups; the full summary has all.
GROUPS_IN_A_LINE = 6
# Below these a RoI and its box have little in common, or less than most tasks want.
IOU_STYLES = ((0.5, "bold red"), (0.75, "magenta"))


def default_columns(table: ErrorTable, sort: str) -> list[str]:
    """Columns by how much they tell, the first that fit are shown; the sorting one always."""
    carried = list(table.carried)
    known = _known_by(table)
    image = KEY_COLUMN if KEY_COLUMN in carried else "batch_index"
    level = ["level"] if len(table.maps) > 1 else []
    has_values = any(column.name == SHOWN_VALUES[0] for column in table.columns)
    names = [
        "roi", image, *known, *level, "size_class", sort, *SHOWN_FIRST,
        *carried, *(SHOWN_VALUES if has_values else ()), *SHOWN_LATER,
    ]  # fmt: skip
    return list(dict.fromkeys(names))


def _known_by(table: ErrorTable) -> list[str]:
    """The carried columns that people know a RoI by, beside its image: its class and score."""
    names = list(table.carried)
    texts = [column.kind == "text" for column in table.carried.values()]
    places = [find_named(names, meaning, texts) for meaning in ("class", "score")]
    return [names[place] for place in places if place is not None]


def view_columns(table: ErrorTable, view: View, summary: Summary) -> tuple[list[Column], str]:
    """The columns to show, and in words what is not shown because it is one for all RoIs."""
    for name in (*view.columns, view.sort):
        table.check_column(name)
    if view.columns:
        return [table.by_name[name] for name in view.columns], ""
    same: dict[str, float] = dict(summary.constants)
    images = table.rois.batch_index
    if len(images) > 1 and bool((images == images[0]).all()):
        same["batch_index"] = int(images[0])
    columns = [table.by_name[name] for name in default_columns(table, view.sort)]
    said = [column for column in columns if column.name in same]
    kept = [column for column in columns if column.name not in same or column.name == view.sort]
    words = ", ".join(f"{c.heading} {format_cell(same[c.name], c)}{_unit(c)}" for c in said)
    return kept, f"the same for all: {words}" if said else ""


def _unit(column: Column) -> str:
    return "" if column.unit in ("-", "1") else f" {column.unit}"


def summarize_view(table: ErrorTable, view: View) -> Summary:
    """What a terminal's summary says, and the column that ranks the rows, read in one pass."""
    table.keep_columns([*SUMMARY_READS, view.sort])
    return summarize(table, SUMMARIZED_SHORT if view.summary == "short" else SUMMARIZED)


def find_worst(table: ErrorTable, view: View) -> IntArray:
    """The rows that are shown and those that the verdict names, the worst first."""
    count = None if view.rows is None else max(view.rows, WORST_NAMED)
    return table.worst_first(view.sort, count)


def _rows(
    table: ErrorTable, view: View, worst: IntArray, columns: Sequence[Column]
) -> list[list[str]]:
    return format_records(table.records(worst[: view.rows]), columns)


def print_verdict(
    table: ErrorTable, parameters: dict[str, Any], view: View, stream: TextIO
) -> None:
    """The verdict alone, on one line."""
    verdict = give_verdict(table, summarize_view(table, view), parameters, find_worst(table, view))
    stream.write(f"roicli: {' '.join(verdict)}\n")


def print_errors(table: ErrorTable, parameters: dict[str, Any], view: View, stream: TextIO) -> None:
    """The verdict, the worst rows, then the summary, as wide as the terminal allows."""
    screen = open_screen(stream)
    summary = summarize_view(table, view)
    columns, constants = view_columns(table, view, summary)
    worst = find_worst(table, view)
    rows = _rows(table, view, worst, columns)
    shown = Table(
        [column.header for column in columns],
        [[_coloured(cell, c) for cell, c in zip(row, columns, strict=True)] for row in rows],
        [column.kind == "text" for column in columns],
    )
    count = len(columns) if view.columns else shown.fitting(screen.width)
    screen.say("\n".join(give_verdict(table, summary, parameters, worst)), "bold")
    if rows:
        screen.say()
        print_table(shown.first(count), screen)
    words = [say_whose(parameters) + describe_rows(table, view), constants]
    if len(rows) < len(table):
        words.append("--rows N: more")
    if count < len(columns):
        words.append(f"{len(columns) - count} more columns fit a wider terminal")
    screen.say("; ".join(filter(None, words)), "dim")
    screen.say()
    print_table(_summary_table(summary, view.summary), screen)


def _coloured(cell: str, column: Column) -> Cell:
    """The cell in the colour of what it means, for columns that have a scale of good and bad."""
    if column.name != "iou" or cell == MISSING:
        return cell
    return next(((cell, style) for limit, style in IOU_STYLES if float(cell) < limit), cell)


def say_whose(parameters: dict[str, Any]) -> str:
    """Whose the errors are, below the table of an operator that rounds nothing."""
    return "RoI Pool's errors: " if find_exact(parameters) else ""


def describe_rows(table: ErrorTable, view: View) -> str:
    """Which rows are shown, in words."""
    shown = len(table) if view.rows is None else min(view.rows, len(table))
    column = table.by_name[view.sort]
    heading = column.heading or view.sort
    first = "smallest" if view.sort in WORST_IS_SMALLEST else "largest"
    order = f"{first} {heading} first" if column.kind == "number" else f"by {heading}"
    return f"{shown} of {len(table)} RoIs, {order}"


def _summary_table(summary: Summary, form: SummaryForm) -> Table:
    match form:
        case "full":
            return _full_summary(summary)
        case "short":
            return short_summary(summary)
        case _:
            assert_never(form)


def short_summary(summary: Summary) -> Table:
    """A line a quantity: over all RoIs, then the medians of the size classes that have any, or of
    the groups that were asked for, the largest first.
    """
    everything, *classes = summary.by_class
    classes = [group for group in classes if group.n]
    if summary.group_by is not None:
        classes = list(summary.by_group[:GROUPS_IN_A_LINE])
    headers = ["summary", "median", "95 %", "worst", *(group.name for group in classes)]
    rows = []
    for name in SUMMARIZED_SHORT:
        if name not in everything.statistics:
            continue
        column, found = COLUMN_BY_NAME[name], everything.statistics[name]
        small_is_bad = name in WORST_IS_SMALLEST
        numbers = [
            found.median,
            *((found.p05, found.min) if small_is_bad else (found.p95, found.max)),
        ]
        numbers += [group.statistics[name].median for group in classes]
        label = ", ".join(filter(None, [column.heading, _unit(column).strip()]))
        rows.append([label, *map(format_number, numbers)])
    counts = [str(everything.n), "", "", *(str(group.n) for group in classes)]
    rows.append(["RoIs", *counts])
    above = ["", "all", "", "", *("median" for _ in classes)]
    headings = [list(pair) for pair in zip(above, headers, strict=True)]
    return Table(headings, rows, [True] + [False] * (len(headers) - 1))


def _full_summary(summary: Summary) -> Table:
    """A line a quantity and group: n, mean, median, p95, max."""
    rows = _summary_rows(summary)
    previous = ""
    for row in rows:
        previous, row[0] = row[0], "" if row[0] == previous else row[0]
    return Table([[name] for name in FULL_HEADER], rows, [True, True] + [False] * 5)


def _summary_rows(summary: Summary) -> list[list[str]]:
    rows = []
    labelled = [(group, group.name) for group in summary.by_class]
    labelled += [(group, f"level {group.name}") for group in summary.by_level]
    labelled += [(group, f"{summary.group_by} {group.name}") for group in summary.by_group]
    for name in SUMMARIZED:
        for group, label in labelled:
            if name not in group.statistics:
                continue
            found = group.statistics[name]
            numbers = (found.mean, found.median, found.p95, found.max)
            rows.append([name, label, str(group.n), *map(format_number, numbers)])
    return rows


def print_markdown(
    table: ErrorTable, parameters: dict[str, Any], view: View, stream: TextIO
) -> None:
    """The same as GitHub Markdown, with every default column and the full summary."""
    summary = summarize(table)
    columns, constants = view_columns(table, view, summary)
    worst = find_worst(table, view)
    stream.write(" ".join(give_verdict(table, summary, parameters, worst)) + "\n\n")
    rows = _rows(table, view, worst, columns)
    write_markdown([column.name for column in columns], rows, stream)
    told = [say_whose(parameters) + describe_rows(table, view), constants]
    words = "; ".join(filter(None, told))
    stream.write(f"\n{words}\n\n")
    write_markdown(FULL_HEADER, _summary_rows(summary), stream)
