"""Tables of text, and the numbers in them: one printer, for terminals, pipes and Markdown.

Plain lines, not rich's tables, which take half a millisecond a row and cut what does not fit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TextIO

from roicli.core.types import Array
from roicli.error_table.cells import plain_values
from roicli.error_table.columns import Column
from roicli.render.screen import Line, Screen, fold, open_screen

MISSING = "-"
GAP = 2
# A folded column is at least so wide; columns before it give way, down to their least.
FOLDED_WIDTH, LEAST_WIDTH = 24, 8

# Text, or text and the style that it has where there are colours.
Cell = str | tuple[str, str]


# Numbers --------------------------------------------------------------------------------------


def format_number(value: float | None) -> str:
    """Three decimals where they tell something, four significant digits elsewhere."""
    if value is None:
        return MISSING
    if value == 0 or 0.001 <= abs(value) < 100_000:
        return f"{value:.3f}"
    return f"{value:.3g}"


def format_short(value: float | None) -> str:
    """Four significant digits of a number of any size; a dash where there is none."""
    if value is None or math.isnan(value):
        return MISSING
    return f"{value:.4g}"


def format_count(count: int, word: str) -> str:
    """So many of what a word names: ``1 RoI``, ``1,234 RoIs``."""
    return f"{count:,} {word}{'s' if count != 1 else ''}"


def format_cell(value: Any, column: Column) -> str:
    """One cell of the error table."""
    if value is None:
        return MISSING
    if column.kind == "number":
        return format_number(value)
    return str(value)


def format_records(block: Array, columns: Sequence[Column]) -> list[list[str]]:
    """Rows of the error table as cells."""
    cells = [[format_cell(value, c) for value in plain_values(block[c.name], c)] for c in columns]
    return [list(row) for row in zip(*cells, strict=True)]


# Columns --------------------------------------------------------------------------------------


class Table(NamedTuple):
    """Columns under a rule: words to the left, numbers to the right.

    A header is one or several lines, from the bottom up; a cell may have several too. Without
    any header there is no rule.
    """

    headers: Sequence[Sequence[str]]
    rows: Sequence[Sequence[Cell]]
    is_text: Sequence[bool]

    @property
    def widths(self) -> list[int]:
        """The width of every column: its longest header line or line of a cell."""
        return [
            max(
                1,
                *map(len, header),
                *(len(line) for row in self.rows for line in _text(row[i]).split("\n")),
            )
            for i, header in enumerate(self.headers)
        ]

    def fitting(self, limit: int) -> int:
        """How many leading columns stand in a line of ``limit`` characters; at least one."""
        total = -GAP
        for count, width in enumerate(self.widths):
            total += width + GAP
            if total > limit:
                return max(count, 1)
        return len(self.headers)

    def first(self, count: int) -> Table:
        """The leading columns."""
        return Table(self.headers[:count], [row[:count] for row in self.rows], self.is_text[:count])

    def folded(self, limit: int) -> Table:
        """The table with its last column folded to a line of ``limit`` characters, never cut."""
        widths = self.widths
        room = limit - GAP * (len(widths) - 1)
        kept = min(widths[-1], FOLDED_WIDTH)
        while sum(widths[:-1]) > max(room - kept, LEAST_WIDTH * (len(widths) - 1)):
            widths[widths.index(max(widths[:-1]))] -= 1
        widths[-1] = max(min(widths[-1], room - sum(widths[:-1])), LEAST_WIDTH)
        rows = [[_fold(cell, width) for cell, width in zip(row, widths, strict=True)]
                for row in self.rows]  # fmt: skip
        return Table(self.headers, rows, self.is_text)

    def lines(self, rule: str = "\u2500") -> Iterator[Line]:
        """What is printed, line by line, as pieces of text and their styles."""
        widths = self.widths
        if any(any(header) for header in self.headers):
            height = max(map(len, self.headers))
            for number in range(height):
                names = [([""] * (height - len(h)) + [*h])[number] for h in self.headers]
                yield _join([(name, "bold") for name in names], widths, self.is_text)
            yield [(rule * (sum(widths) + GAP * (len(widths) - 1)), "")]
        for row in self.rows:
            parts = [(_text(cell).split("\n"), _style(cell)) for cell in row]
            for number in range(max(len(texts) for texts, _ in parts)):
                cells = [
                    (texts[number] if number < len(texts) else "", style) for texts, style in parts
                ]
                yield _join(cells, widths, self.is_text)


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]


def _style(cell: Cell) -> str:
    return "" if isinstance(cell, str) else cell[1]


def _join(cells: Sequence[tuple[str, str]], widths: Sequence[int], is_text: Sequence[bool]) -> Line:
    """One line of cells, each at its place, nothing after the last."""
    line: list[tuple[str, str]] = []
    for (text, style), width, words in zip(cells, widths, is_text, strict=True):
        blank = " " * (width - len(text))
        before, after = ("", blank) if words else (blank, "")
        line += [(before, ""), (text, style), (after + " " * GAP, "")]
    while line and not line[-1][0].strip():
        line.pop()
    return line


def _fold(cell: Cell, width: int) -> Cell:
    text = "\n".join(part for line in _text(cell).split("\n") for part in fold(line, width))
    return text if isinstance(cell, str) else (text, cell[1])


def wrap_name(name: str, width: int) -> list[str]:
    """A column name broken after underscores into lines of at most ``width``, where it can be."""
    lines = [""]
    for word in name.replace("_", "_\n").split("\n"):
        if lines[-1] and len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += word
    return lines


def print_table(table: Table, screen: Screen) -> None:
    """Print the lines in colours where the screen has any, whatever its width."""
    for line in table.lines(screen.rule):
        screen.draw(line)


def print_folded(headers: Sequence[str], rows: Sequence[Sequence[Cell]], stream: TextIO) -> None:
    """Print words, the last column folded at the terminal's width, in colours where it has any."""
    screen = open_screen(stream)
    table = Table([[header] for header in headers], rows, [True] * len(headers))
    print_table(table.folded(screen.width), screen)


# Markdown -------------------------------------------------------------------------------------


def write_markdown(headers: Sequence[str], rows: Sequence[Sequence[str]], stream: TextIO) -> None:
    """A GitHub table, numbers to the right."""
    stream.write("| " + " | ".join(headers) + " |\n")
    stream.write("|" + "|".join(["---:"] * len(headers)) + "|\n")
    for row in rows:
        stream.write("| " + " | ".join(row) + " |\n")
