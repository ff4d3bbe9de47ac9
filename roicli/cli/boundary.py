"""Where errors become a line on stderr and an exit code. Bugs keep their traceback."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from roicli.cli.console import open_closed_streams, print_line
from roicli.cli.fast_typer import StartsFast
from roicli.cli.limits import explain_limit, find_small_limit, spare_threads
from roicli.cli.signals import INTERRUPTED, heeding_signals
from roicli.core.exceptions import OutputError, RoicliError

LIMIT_REACHED = 3
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Boundary(StartsFast, TyperGroup):
    """Runs a command and turns the package's own errors into exit codes."""

    def invoke(self, ctx: Any) -> None:
        """Invoke the command inside the boundary."""
        from roicli.cli.messages import messages_on_stderr

        open_closed_streams()
        spare_threads()
        if line := find_small_limit():
            print_line("error", line)
            raise typer.Exit(LIMIT_REACHED)
        try:
            with heeding_signals(), messages_on_stderr():
                super().invoke(ctx)
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
