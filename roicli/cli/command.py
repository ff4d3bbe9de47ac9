"""What makes a command of a function, and what commands share: the table, the bar, the exit code.

A command's parameters come from what its options declare. Its result goes to stdout, notes and
progress to stderr.
"""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TextIO,
    get_args,
    get_origin,
    get_type_hints,
)

import typer

from roicli.cli.commands import options_in
from roicli.cli.console import drop_stdout, print_line
from roicli.cli.help import frequency
from roicli.cli.options import TableOptions
from roicli.cli.settings import note_settings
from roicli.cli.signals import check_signals
from roicli.cli.words import read_word, terminal_type
from roicli.core.declaration import Declaration, Opt, record
from roicli.core.panels import PANELS
from roicli.core.vocabulary import SummaryForm, TableFormat

if TYPE_CHECKING:
    from roicli.error_table.columns import View
    from roicli.error_table.thresholds import Crossing, Threshold
    from roicli.pipeline.execute import Result

SHOWN_CULPRITS = 10
QUIET_SECONDS = 1.0
SCHEMA = "json_schema"


def with_parameters(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer understands it: with ``**options`` spelled out in its signature.

    Its arguments are annotated with ``Arg``, its options are an unpacked TypedDict of ``Opt``, or a
    tuple of some.
    """
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    readers: dict[str, tuple[Any, str]] = {}
    for parameter in inspect.signature(command).parameters.values():
        hint = hints[parameter.name]
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            for declaration in in_panels(options_in(hint)):
                readers[declaration.name] = terminal_type(declaration.type), declaration.title
                parameters.append(_make_option(declaration))
        else:
            typed, argument = get_args(hint)
            readers[parameter.name] = terminal_type(typed), argument.metavar
            info = typer.Argument(
                metavar=argument.metavar, help=_as_is(argument.help), **_completing(typed)
            )
            text = str if get_origin(typed) is Literal else typed
            parameters.append(parameter.replace(annotation=Annotated[text, info]))

    if any("json" in typed_words(typed) for typed, _ in readers.values()):
        # Without a panel of its own it stands before those of panels.
        kinds = [parameter.kind for parameter in parameters]
        first = kinds.index(inspect.Parameter.KEYWORD_ONLY)
        parameters.insert(first, _make_schema_flag())

    def run(**given: Any) -> None:
        given.pop(SCHEMA, None)
        command(**{name: read_word(value, *readers[name]) for name, value in given.items()})

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


def typed_words(typed: Any) -> tuple[Any, ...]:
    """The words of an option that takes one of some; empty for anything else."""
    return get_args(typed) if get_origin(typed) is Literal else ()


def _make_schema_flag() -> inspect.Parameter:
    """``--json-schema``, which needs no arguments and ends the command, as ``--help`` does."""

    def show(context: typer.Context, wanted: bool) -> None:
        if wanted:
            from roicli.render.schemas import read_schema

            sys.stdout.write(read_schema(str(context.info_name)))
            raise typer.Exit

    info = typer.Option(
        "--json-schema", callback=show, is_eager=True, help="Print the schema of --format json."
    )
    return inspect.Parameter(
        SCHEMA, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, info]
    )


def in_panels(options: Mapping[str, Declaration]) -> list[Declaration]:
    """The options panel by panel, those first that are given most often."""

    def place(declaration: Declaration) -> tuple[int, int]:
        assert isinstance(declaration.opt, Opt)
        return PANELS.index(declaration.opt.panel), frequency(declaration.opt.flags.split())

    return sorted(options.values(), key=place)


def _make_option(declaration: Declaration) -> inspect.Parameter:
    """An option as Typer has it: it takes text, which the command reads."""
    opt = declaration.opt
    assert isinstance(opt, Opt)
    typed, default = terminal_type(declaration.type), declaration.starting_value
    text = typed if typed is bool or get_origin(typed) is list else str
    if default is None and not declaration.is_required:
        text |= None
    elif text is str and default is not None:
        default = str(default)
    info = typer.Option(
        *opt.flags.split(),
        metavar=opt.metavar or _metavar(typed),
        rich_help_panel=opt.panel,
        help=_as_is(opt.help),
        show_default=opt.shown or (str(opt.default) if opt.yields else True),
        **_completing(typed),
    )
    return inspect.Parameter(
        declaration.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if declaration.is_required else default,
        annotation=Annotated[text, info],
    )


def _metavar(typed: Any) -> str | None:
    """What stands for the value in the help where the option does not say."""
    if get_origin(typed) is Literal:
        return "|".join(get_args(typed))
    return {int: "N", float: "X", str: "TEXT"}.get(typed)


def _completing(typed: Any) -> dict[str, Any]:
    """How the shell completes one of few words."""
    if get_origin(typed) is not Literal:
        return {}

    def complete(incomplete: str) -> list[str]:
        return [word for word in get_args(typed) if word.startswith(incomplete)]

    return {"autocompletion": complete}


def _as_is(help_text: str) -> str:
    """Help whose brackets stay: Typer reads them as Rich's markup."""
    return help_text.replace("[", "\\[")


@record(TableOptions)
class TableRequest:
    """What is asked of the error table: what is shown of it, and what fails the command."""

    table_format: TableFormat | None
    rows: int | None
    sort: str
    columns: tuple[str, ...] | None
    summary: SummaryForm
    fail_over: list[str] | None
    fail_under: list[str] | None
    no_table: bool

    def view(self) -> View:
        """Rows, sorting, columns and the summary."""
        from roicli.error_table.columns import View

        return View(self.rows, self.sort, self.columns or (), self.summary)

    def thresholds(self, with_values: bool) -> list[Threshold]:
        """Thresholds and columns, checked as far as that can be before the inputs are read."""
        from roicli.error_table.columns import (
            COLUMN_BY_NAME,
            COLUMNS,
            GEOMETRIC_COLUMNS,
            check_column,
        )

        found = self._parse_thresholds() if self.fail_over or self.fail_under else []
        columns = COLUMNS if with_values else GEOMETRIC_COLUMNS
        for name in (*(t.column for t in found), *self.view().columns, self.sort):
            if name in COLUMN_BY_NAME:  # others may be columns of the RoIs' source
                check_column(name, columns)
        return found

    def asked(self, thresholds: Sequence[Threshold]) -> tuple[str, ...]:
        """The columns that will be asked for, which a run checks before it begins."""
        return (*(one.column for one in thresholds), *self.view().columns, self.sort)

    def _parse_thresholds(self) -> list[Threshold]:
        from roicli.error_table.thresholds import parse_threshold

        return [
            *(parse_threshold(text, "over") for text in self.fail_over or ()),
            *(parse_threshold(text, "under") for text in self.fail_under or ()),
        ]


def show_table(result: Result, request: TableRequest, to_stderr: bool) -> None:
    """The table in the format that was asked for, on stdout unless the features go there.

    Beside features on stdout a table that nobody asked for is its verdict alone.
    """
    stream: TextIO = sys.stderr if to_stderr else sys.stdout
    parameters = dict(result.parameters)
    if request.table_format is None and to_stderr:
        from roicli.render.error_table import print_verdict

        print_verdict(result.errors, parameters, request.view(), stream)
    elif request.table_format in (None, "table"):
        from roicli.render.error_table import print_errors

        print_errors(result.errors, parameters, request.view(), stream)
    elif request.table_format == "md":
        from roicli.render.error_table import print_markdown

        print_markdown(result.errors, parameters, request.view(), stream)
    else:
        from roicli.error_table.writers import write_table

        assert request.table_format is not None
        stream.flush()
        write_table(result.errors, parameters, request.table_format, stream.buffer)
    stream.flush()


def is_shown(quiet: bool, asked_format: str | None) -> bool:
    """Whether a table goes to stdout: quiet keeps back what nobody asked for with --format."""
    return not quiet or asked_format is not None


def finish(
    result: Result, request: TableRequest, thresholds: list[Threshold], quiet: bool, to_stderr: bool
) -> None:
    """Show the table and leave with exit code 1 where a threshold was crossed."""
    shows = is_shown(quiet, request.table_format) and not request.no_table
    crossings: list[Crossing] = []
    if thresholds:
        from roicli.error_table.thresholds import check_thresholds

        crossings = check_thresholds(result.errors, thresholds)
    with leaving_with(int(bool(crossings)), [_describe(crossing) for crossing in crossings]):
        if shows:
            show_table(result, request, to_stderr)


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

    def __init__(
        self, quiet: bool, verbose: bool = False, says_notes: bool = True, counted: str = "RoIs"
    ) -> None:
        from roicli.cli.messages import MESSAGES  # spares the help the import of logging

        self._messages, self._verbose, self._counted = MESSAGES, verbose, counted
        self._keeps_notes = quiet or not (says_notes or verbose)
        self._running = False
        self._enabled = not quiet and sys.stderr.isatty()
        self._started = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __call__(self, done: int, total: int, size: int) -> None:
        """Told (RoIs done, RoIs in all, bytes), or of what else is counted."""
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
            TextColumn(self._counted), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"), TimeLeft(),
        )  # fmt: skip
        self._bar = Progress(*columns, console=PipeConsole(stderr=True), transient=True)
        self._task = self._bar.add_task("run", total=total, rate="")
        self._bar.start()

    def __enter__(self) -> ProgressBar:
        self._messages.hold(self._keeps_notes, self._verbose)
        note_settings()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        # What is refused gets its one line; an interruption's notes say what is kept.
        if kind is None or self._running or not issubclass(kind, Exception):
            self._messages.tell()
        else:
            self._messages.drop()
