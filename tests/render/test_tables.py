"""The one table printer: nothing is cut, words fold, Markdown and plain lines agree."""

import io

import pytest

import roicli
from roicli.render.explain import print_explanation
from roicli.render.screen import Paper
from roicli.render.tables import Table, print_folded, print_table
from tests.cli.running import FPN, TEXT_ROIS

TABLE = Table(
    [["name"], ["two", "lines"], ["n"]],
    [["first", "1.5", "10"], [("second", "red"), "22.25", "7"]],
    [True, False, False],
)


def printed(table: Table) -> list[str]:
    """The lines of a table on a stream."""
    stream = io.StringIO()
    print_table(table, Paper(stream))
    return stream.getvalue().splitlines()


def test_words_to_the_left_numbers_to_the_right() -> None:
    assert printed(TABLE) == [
        "          two",
        "name    lines   n",
        "\u2500" * 17,
        "first     1.5  10",
        "second  22.25   7",
    ]


def test_leading_columns_that_fit() -> None:
    assert [TABLE.fitting(limit) for limit in (1, 12, 13, 16, 17, 99)] == [1, 1, 2, 2, 3, 3]
    assert printed(TABLE.first(2))[-1] == "second  22.25"


@pytest.mark.parametrize("columns", [40, 60, 200])
def test_folded_words_are_all_there(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """Also a word that is longer than the line, and a first column that is."""
    monkeypatch.setenv("COLUMNS", str(columns))
    words = " ".join(f"word{n}" for n in range(40)) + "\n" + "x" * 90
    stream = io.StringIO()
    print_folded(("name", "text"), [("a" * 50, words), (("b", "bold"), "short")], stream)
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= columns
    text = "".join(lines)
    assert text.count("a") == 50 + text.split("\u2500")[0].count("a")
    assert text.count("x") == 90 + text.split("\u2500")[0].count("x")
    assert all(f"word{n}" in text for n in range(40))


def test_a_stream_without_lines_has_dashes() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    print_table(TABLE, Paper(stream))
    stream.flush()
    assert b"-" * 17 in raw.getvalue()


@pytest.mark.parametrize("columns", [60, 100, 160, 172, 240])
def test_no_column_of_an_example_is_cut(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    found = roicli.explain(f"{FPN}::p3", TEXT_ROIS, roi=37)
    stream = io.StringIO()
    print_explanation(found, stream)
    for number in ("32.941177", "43.529419", "4.117647", "5.441177"):
        assert number in stream.getvalue()
    assert "\u2026" not in stream.getvalue()
