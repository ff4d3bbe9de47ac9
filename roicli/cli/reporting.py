"""What a command shows: notes and progress on stderr, the table on stdout, the exit code."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

import typer

from roicli.cli.console import drop_stdout, print_line
from roicli.cli.signals import check_signals
from roicli.core.command_options import AlignCommand, ErrorsCommand, PoolCommand
from roicli.core.vocabulary import TableFormat

if TYPE_CHECKING:
    from roicli.error_table.columns import View
    from roicli.error_table.thresholds import Crossing, Threshold
    from roicli.pipeline.execute import Result

SHOWN_CULPRITS = 10
QUIET_SECONDS = 1.0


@dataclass
class ShownTable:
    """The options of the error table, as they were typed."""

    format: TableFormat = "table"
    rows: str = "20"
    sort: str = "edge_error_max_px"
    columns: str | Sequence[str] | None = None
    show: bool = True
    fail_over: list[str] = field(default_factory=list)
    fail_under: list[str] = field(default_factory=list)

    def view(self) -> View:
        """Rows, sorting and columns, checked."""
        from roicli.core.parsing import as_names, parse_rows
        from roicli.error_table.columns import View

        rows = parse_rows(self.rows)
        return View(rows, self.sort, as_names(self.columns, "columns") if self.columns else ())

    def thresholds(self, with_values: bool) -> list[Threshold]:
        """Thresholds and columns, checked before anything runs."""
        from roicli.error_table.columns import COLUMNS, GEOMETRIC_COLUMNS, check_column

        found = self._parse_thresholds() if self.fail_over or self.fail_under else []
        columns = COLUMNS if with_values else GEOMETRIC_COLUMNS
        for name in (*(t.column for t in found), *self.view().columns, self.sort):
            check_column(name, columns)
        return found

    def _parse_thresholds(self) -> list[Threshold]:
        from roicli.error_table.thresholds import parse_threshold

        return [
            *(parse_threshold(text, "over") for text in self.fail_over),
            *(parse_threshold(text, "under") for text in self.fail_under),
        ]


def table_options(options: ErrorsCommand | PoolCommand | AlignCommand) -> ShownTable:
    """The options of the table, out of a command's."""
    return ShownTable(
        options["table_format"],
        str(options["rows"]),
        options["sort"],
        options["columns"],
        not (options["no_table"] or options["quiet"]),
        options["fail_over"] or [],
        options["fail_under"] or [],
    )


def show_table(result: Result, options: ShownTable, to_stderr: bool) -> None:
    """The table in the format that was asked for, on stdout unless the features go there."""
    stream: TextIO = sys.stderr if to_stderr else sys.stdout
    parameters = dict(result.parameters)
    if options.format == "table":
        from roicli.render.error_table import print_table

        print_table(result.errors, parameters, options.view(), stream)
    elif options.format == "md":
        from roicli.render.error_table import print_markdown

        print_markdown(result.errors, parameters, options.view(), stream)
    else:
        from roicli.error_table.writers import write_table

        write_table(result.errors, parameters, options.format, stream)
    stream.flush()


def finish(
    result: Result, options: ShownTable, thresholds: list[Threshold], to_stderr: bool
) -> None:
    """Show the table and leave with exit code 1 where a threshold was crossed."""
    crossings: list[Crossing] = []
    if thresholds:
        from roicli.error_table.thresholds import check_thresholds

        crossings = check_thresholds(result.errors, thresholds)
    with leaving_with(int(bool(crossings)), [_describe(crossing) for crossing in crossings]):
        if options.show:
            show_table(result, options, to_stderr)


def _describe(crossing: Crossing) -> str:
    names = ", ".join(map(str, crossing.rows[:SHOWN_CULPRITS]))
    more = len(crossing.rows) - SHOWN_CULPRITS
    culprits = f": RoIs {names}" if names else ""
    if more > 0:
        culprits += f" and {more} more"
    return f"{crossing.threshold} (found {crossing.worst:g}){culprits}"


@contextmanager
def leaving_with(code: int, findings: Sequence[str] = ()) -> Iterator[None]:
    """Print in the block, then ``findings`` on stderr; leave with a code that was decided before.

    Whoever reads a pipe may close it when they have what they wanted: the code says what was found.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        drop_stdout()
    for line in findings:
        print_line("finding", line)
    if code:
        raise typer.Exit(code)


class ProgressBar:
    """A bar on stderr, only on a terminal and only once the run has lasted a second.

    Notes wait until the run starts: by then the inputs have passed every check, and what is refused
    gets its one line and no other.
    """

    def __init__(self, quiet: bool, verbose: bool = False) -> None:
        from roicli.cli.messages import MESSAGES  # spares the help the import of logging

        self._messages, self._quiet, self._verbose = MESSAGES, quiet, verbose
        self._running = False
        self._enabled = not quiet and sys.stderr.isatty()
        self._started = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __call__(self, done: int, total: int, size: int) -> None:
        """Told (RoIs done, RoIs in all, bytes)."""
        check_signals()
        self._running = True
        self._messages.tell()
        if not self._enabled or time.monotonic() - self._started < QUIET_SECONDS:
            return
        if self._bar is None:
            self._start(total)
        rate = size / (time.monotonic() - self._started) / 1e6
        self._bar.update(self._task, completed=done, rate=f"{rate:,.0f} MB/s")

    def _start(self, total: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as TimeLeft

        from roicli.render.pipe_console import PipeConsole

        columns = (
            TextColumn("RoIs"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"), TimeLeft(),
        )  # fmt: skip
        self._bar = Progress(*columns, console=PipeConsole(stderr=True), transient=True)
        self._task = self._bar.add_task("run", total=total, rate="")
        self._bar.start()

    def __enter__(self) -> ProgressBar:
        self._messages.hold(self._quiet, self._verbose)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        # What is refused gets its one line; an interruption's notes say what is kept.
        if kind is None or self._running or not issubclass(kind, Exception):
            self._messages.tell()
        else:
            self._messages.drop()
