"""What tables and words are printed on: a terminal, or a stream that has no colours.

rich knows terminals. It takes longer to import than most tables take to print, so what goes into a
pipe or a file, as in CI, is written without it, and looks the same.
"""

from __future__ import annotations

import io
import os
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol, TextIO

# Pieces of a line, and the style that each has where there are colours.
Line = Sequence[tuple[str, str]]
DEFAULT_WIDTH = 80
# Where one of these is set, rich decides what has colours.
DECIDING = ("FORCE_COLOR", "TTY_COMPATIBLE")


class Screen(Protocol):
    """Where text goes, line by line.

    ``width`` is how many characters stand in a line, ``rule`` what is drawn under a header.
    """

    width: int
    rule: str

    def say(self, text: str = "", style: str = "") -> None:
        """Print words, folded at the width."""

    def draw(self, line: Line) -> None:
        """Print a line, whatever the width."""


def open_screen(stream: TextIO) -> Screen:
    """The screen for a stream: rich's where it may have colours.

    Text in memory, as for a notebook, whose kernels set FORCE_COLOR, has none.
    """
    is_asked = any(name in os.environ for name in DECIDING)
    if stream.isatty() or (is_asked and not isinstance(stream, io.StringIO)):
        return Terminal(stream)
    return Paper(stream)


class Paper:
    """A stream without colours."""

    def __init__(self, stream: TextIO) -> None:
        self.width, self.rule = terminal_width(), _find_rule(stream)
        self._stream = stream

    def say(self, text: str = "", style: str = "") -> None:
        """Print words, folded at the width."""
        for line in text.split("\n"):
            for part in fold(line, self.width):
                self._stream.write(f"{part}\n")

    def draw(self, line: Line) -> None:
        """Print a line, whatever the width."""
        self._stream.write("".join(text for text, _ in line) + "\n")


class Terminal:
    """A stream that rich prints to."""

    def __init__(self, stream: TextIO) -> None:
        from rich.text import Text

        from roicli.render.pipe_console import PipeConsole

        self._console, self._text = PipeConsole(file=stream, highlight=False), Text
        self.width, self.rule = self._console.width, _find_rule(stream)

    def say(self, text: str = "", style: str = "") -> None:
        """Print words, folded at the width."""
        self._console.print(self._text(text, style=style))

    def draw(self, line: Line) -> None:
        """Print a line, whatever the width."""
        self._console.print(self._text.assemble(*line), soft_wrap=True)


def _find_rule(stream: TextIO) -> str:
    """A line in what the stream's encoding has."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return "\u2500" if encoding.lower().startswith("utf") else "-"


def fold(line: str, width: int) -> list[str]:
    """Lines of at most ``width``; words stay whole where the width allows."""
    return textwrap.wrap(
        line, width, break_on_hyphens=False, replace_whitespace=False, expand_tabs=False
    ) or [""]


def terminal_width() -> int:
    """Characters in a line of the terminal, as COLUMNS or the terminal says.

    Of a pipe's too, which may end in a pager: that of any of the three streams.
    """
    with suppress(ValueError):
        if (said := int(os.environ.get("COLUMNS", ""))) > 0:
            return said
    for stream in range(3):
        with suppress(OSError):
            if (found := os.get_terminal_size(stream).columns) > 0:
                return found
    return DEFAULT_WIDTH
