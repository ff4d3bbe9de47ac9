"""What stands on stdout and stderr: one line a message, whatever the streams are."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TextIO

from roicli.core.exceptions import OutputError
from roicli.core.foreign import foreign

_closed: set[str] = set()
# Bold red, magenta and cyan, as GCC and Clang have them: all three are read on light and on dark.
STYLES = {"error": "1;31", "finding": "1;31", "warning": "1;35", "note": "1;36"}


class Unfailing(io.TextIOWrapper):
    """A stderr that takes everything: what it cannot write must not change how a command ends."""

    def write(self, text: str) -> int:
        """Write what can be written."""
        with contextlib.suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Write what can be written."""
        with contextlib.suppress(OSError):
            super().flush()


def prepare_streams() -> None:
    """Make every stream one that can be written to.

    A shell's ``>&-`` leaves None, and gives the stream's number to the next file opened. A name of
    a file or dataset need not be text that the stream can write: it is shown escaped.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - as long as the process
            _closed.add(name)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if isinstance(sys.stderr, io.TextIOWrapper) and not isinstance(sys.stderr, Unfailing):
        encoding = sys.stderr.encoding
        sys.stderr = Unfailing(
            sys.stderr.detach(), encoding, errors="backslashreplace", line_buffering=True
        )


def check_stdout(output: str | None) -> None:
    """Raise OutputError where the result goes to stdout, and the shell closed it."""
    if output == "-" and "stdout" in _closed:
        raise OutputError("stdout: is closed, and the result was to go there", "give -o a file")


def drop_stdout() -> None:
    """What stdout still holds goes nowhere, so that nothing complains at exit either."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def styled(text: str, style: str, stream: TextIO) -> str:
    """The text in an ANSI style, such as "1" for bold, where the stream is a terminal that has it.

    NO_COLOR (no-color.org) takes colours away, and bold with them.
    """
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty()
    return text if plain else f"\x1b[{style}m{text}\x1b[0m"


def print_line(kind: str, message: str) -> None:
    """One line on stderr, whatever the message holds; the kind in a compiler's colours."""
    name = styled(kind, STYLES.get(kind, "1"), sys.stderr)
    sys.stderr.write(f"roicli: {name}: {foreign(message)}\n")
