"""Where errors become a line on stderr and an exit code. Bugs keep their traceback."""

from __future__ import annotations

import errno
import os
import signal
import sys
from types import FrameType
from typing import Any

import typer
from typer.core import TyperGroup

from roicli.cli.limits import explain_limit, find_small_limit, spare_threads
from roicli.cli.startup import skip_adapters
from roicli.exceptions import OutputError, RoicliError

LIMIT_REACHED, INTERRUPTED, TERMINATED = 3, 130, 143
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Boundary(TyperGroup):
    """Runs a command and turns the package's own errors into exit codes."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what stands before the command."""
        skip_adapters(self.get_params(ctx))
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> None:
        """Invoke the command inside the boundary."""
        open_closed_streams()
        spare_threads()
        if line := find_small_limit():
            print_line("error", line)
            raise typer.Exit(LIMIT_REACHED)
        try:
            super().invoke(ctx)
            check_signals()
            sys.stdout.flush()
        except RoicliError as error:
            print_line("error", str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            print_line("error", "interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # Whoever read the pipe has what they wanted.
            _drop_stdout()
            raise typer.Exit(0) from None
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL_DISK:
                _drop_stdout()
                print_line("error", f"stdout: cannot be written: {error.strerror}")
                raise typer.Exit(OutputError.exit_code) from None
            if not (line := explain_limit(error)):
                raise
            print_line("error", line)
            raise typer.Exit(LIMIT_REACHED) from None


def _drop_stdout() -> None:
    """What stdout still holds goes nowhere, so that nothing complains at exit either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def open_closed_streams() -> None:
    """A shell's ``>&-`` leaves None, and gives the stream's number to the next file opened."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - lives as long as the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def print_line(kind: str, message: str) -> None:
    """One line on stderr, whatever the message holds."""
    line = " ".join(message.split())
    try:
        sys.stderr.write(f"roicli: {kind}: {line}\n")
    except UnicodeEncodeError:
        sys.stderr.write(f"roicli: {kind}: {line.encode('ascii', 'backslashreplace').decode()}\n")


_received: list[int] = []


def _leave(number: int, frame: FrameType | None) -> None:
    """Leave through every ``finally``, so that temporary files go."""
    _received.append(number)
    check_signals()


def check_signals() -> None:
    """Leave now if a signal came while an extension could not pass the exception on."""
    if signal.SIGTERM in _received:
        raise SystemExit(TERMINATED)
    if _received:
        raise KeyboardInterrupt


def install_signal_handlers() -> None:
    """SIGTERM and Ctrl-C end the run as an exception would."""
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _leave)
