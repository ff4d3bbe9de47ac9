"""Where errors become a line on stderr and an exit code. Bugs keep their traceback."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from roicli.cli.console import drop_stdout, prepare_streams, print_line
from roicli.cli.fast_typer import StartsFast, UsageError
from roicli.cli.help import describe_group
from roicli.cli.settings import name_origins
from roicli.cli.signals import INTERRUPTED, heeding_signals
from roicli.core.exceptions import OutputError, ParameterError, RoicliError
from roicli.core.parse import did_you_mean
from roicli.core.system import limit_of

LIMIT_REACHED = 3
# A full disk, and a stdout that is open for reading alone.
NOT_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF)
# Below this the libraries' own code does not fit, and some of them end the process themselves.
LEAST_ADDRESS_SPACE, LEAST_FILES = 192 << 20, 32
NO_ROOM = ("failed to map segment", "annot allocate memory", "Could not find/load shared object")
NO_THREAD = ("can't start new thread", "pthread_create failed")


class Boundary(StartsFast, TyperGroup):
    """Runs a command and turns the package's own errors into exit codes."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what stands before the command's name; ``help COMMAND`` is its ``--help``."""
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            raise typer.Exit(UsageError.exit_code)
        return super().parse_args(ctx, [*args[1:], "--help"] if args[:1] == ["help"] else args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help of the whole program."""
        formatter.write(describe_group(self, ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command. Raises ParameterError where there is none of that name."""
        if args[0] not in self.commands and not args[0].startswith("-"):
            hint = did_you_mean(args[0], [*self.commands, "help"]) or "see roicli --help"
            raise ParameterError(f"there is no command {args[0]!r}", hint)
        return super().resolve_command(ctx, args)

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
            with heeding_signals():
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
        return str(error) + name_origins(error), error.exit_code
    if isinstance(error, UsageError):
        return explain_usage(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", INTERRUPTED
    if isinstance(error, OSError) and error.errno in NOT_WRITABLE:
        drop_stdout()
        return f"stdout: cannot be written: {error.strerror}", OutputError.exit_code
    if isinstance(error, Exception) and (line := explain_limit(error)):
        return line, LIMIT_REACHED
    return None


def explain_usage(error: Any) -> str:
    """A usage error of Typer's as a line like every other."""
    context, flag = error.ctx, getattr(error, "option_name", None)
    path = context.command_path if context else "roicli"
    if flag is not None and hasattr(error, "possibilities"):
        known = [one for param in context.command.get_params(context) for one in param.opts]
        hint = did_you_mean(flag, known) or f"see {path} --help-all"
        return f"{path} has no option {flag}; {hint}"
    param = getattr(error, "param", None)
    message = error.format_message().partition("\n")[0].rstrip(".").replace("(s)", "")
    if param is not None and message.startswith("Missing"):
        message = f"{param.param_type_name} {param.get_error_hint().split()[-1]} is missing"
        message = message.replace("'", "")
    return f"{message[:1].lower()}{message[1:]}; see {path} --help"


def find_small_limit() -> str:
    """What to say where the libraries do not even load; empty where they do."""
    limit = limit_of("open files")
    if limit is not None and limit < LEAST_FILES:
        return (
            f"only {limit} open files are allowed, at least {LEAST_FILES} are needed; "
            "raise the limit with ulimit -n"
        )
    limit = limit_of("address space")
    if limit is None or limit >= LEAST_ADDRESS_SPACE:
        return ""
    return (
        f"out of memory: the address space is limited to {limit >> 20} MiB, the libraries need "
        f"{LEAST_ADDRESS_SPACE >> 20} MiB before any data; raise the limit with ulimit -v"
    )


def explain_limit(error: Exception) -> str:
    """One line where a limit of the system stopped the run; empty for anything else."""
    text = str(error).strip().partition("\n")[0]
    if isinstance(error, MemoryError):
        return f"out of memory: {text or 'an allocation failed'}"
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return f"too many open files: {error.filename or text}; raise the limit with ulimit -n"
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return f"out of memory: {text}"
    if isinstance(error, RuntimeError) and any(sign in text for sign in NO_THREAD):
        return (
            "out of memory or processes: no thread can be started; raise the limits with "
            "ulimit -v or ulimit -u, or give fewer --threads"
        )
    is_limited = limit_of("address space") is not None
    if is_limited and isinstance(error, OSError | ImportError) and any(s in text for s in NO_ROOM):
        return f"out of memory: a library cannot be loaded: {text}"
    return ""


def spare_threads() -> None:
    """NumPy's BLAS starts a thread a core, with a buffer each; roicli multiplies small matrices."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
