"""Where errors become a line on stderr and an exit code. Bugs keep their traceback."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from roicli.cli.console import drop_stdout, prepare_streams, print_line
from roicli.cli.fast_typer import StartsFast
from roicli.cli.limits import explain_limit, find_small_limit, spare_threads
from roicli.cli.signals import INTERRUPTED, heeding_signals
from roicli.core.exceptions import OutputError, RoicliError
from roicli.core.foreign import foreign

LIMIT_REACHED = 3
# A full disk, and a stdout that is open for reading alone.
NOT_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF)


class Boundary(StartsFast, TyperGroup):
    """Runs a command and turns the package's own errors into exit codes."""

    def make_context(self, *given: Any, **more: Any) -> Any:
        """Parse what stands before the command's name; ``--version`` and ``--help`` print."""
        prepare_streams()
        with errors_as_codes():
            return super().make_context(*given, **more)

    def invoke(self, ctx: Any) -> None:
        """Invoke the command inside the boundary."""
        from roicli.cli.messages import messages_on_stderr

        spare_threads()
        if line := find_small_limit():
            print_line("error", line)
            raise typer.Exit(LIMIT_REACHED)
        with errors_as_codes(), messages_on_stderr():
            super().invoke(ctx)


@contextmanager
def errors_as_codes() -> Iterator[None]:
    """Make a line on stderr and an exit code of an error; a code that was decided stays."""
    leaving: typer.Exit | None = None
    try:
        try:
            with heeding_signals(), showing_arguments_safely():
                yield
        except typer.Exit as decided:
            leaving = decided
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the pipe has what they wanted.
        drop_stdout()
        leaving = leaving or typer.Exit(0)
    except SystemExit as error:
        # So does rich, which Typer prints the help with, where it finds the pipe closed.
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        leaving = typer.Exit(0)
    except (Exception, KeyboardInterrupt) as error:
        explained = _explain(error)
        if explained is None:
            raise
        line, code = explained
        print_line("error", line)
        raise typer.Exit(code) from None
    if leaving is not None:
        raise leaving


def _explain(error: BaseException) -> tuple[str, int] | None:
    """The line and the code of an error that is no bug."""
    if isinstance(error, RoicliError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", INTERRUPTED
    if isinstance(error, OSError) and error.errno in NOT_WRITABLE:
        drop_stdout()
        return f"stdout: cannot be written: {error.strerror}", OutputError.exit_code
    if isinstance(error, Exception) and (line := explain_limit(error)):
        return line, LIMIT_REACHED
    return None


@contextmanager
def showing_arguments_safely() -> Iterator[None]:
    """What Typer says of an argument repeats it, and a shell's ``*`` made it of a file's name."""
    try:
        yield
    except Exception as error:
        if isinstance(message := getattr(error, "message", None), str):
            error.message = foreign(message)  # type: ignore[attr-defined]
        raise
