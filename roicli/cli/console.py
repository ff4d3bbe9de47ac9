"""What stands on stderr: one line a message, whatever the streams are."""

from __future__ import annotations

import io
import os
import sys

from roicli.core.foreign import foreign


def open_closed_streams() -> None:
    """A shell's ``>&-`` leaves None, and gives the stream's number to the next file opened.

    A name of a file or dataset need not be text that the stream can write: it is shown escaped.
    """
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - lives as long as the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def print_line(kind: str, message: str) -> None:
    """One line on stderr, whatever the message holds."""
    line = foreign(message)
    try:
        sys.stderr.write(f"roicli: {kind}: {line}\n")
    except UnicodeEncodeError:
        sys.stderr.write(f"roicli: {kind}: {line.encode('ascii', 'backslashreplace').decode()}\n")
