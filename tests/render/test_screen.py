"""Where there are no colours text is written without rich, and looks as rich writes it."""

from __future__ import annotations

import io
import os

import pytest

from roicli.render.screen import Paper, Terminal, open_screen, terminal_width

WORDS = [
    "",
    "short",
    "RoI Align and RoI Pool: 24 RoIs; the same for all: level 3 " * 4,
    "two lines\nof which the second is one that no terminal of forty columns can hold at once",
    "one/" * 60,
    "well-known names of-several-parts stay whole, at-hyphens-too " * 3,
    "\u00e9\u00e8 \u2014 \u00b5m " * 20,
]


@pytest.fixture
def _narrow(monkeypatch, request):
    monkeypatch.setenv("COLUMNS", str(request.param))
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("_narrow")
@pytest.mark.parametrize("_narrow", [40, 80, 200], indirect=True)
@pytest.mark.parametrize("text", WORDS)
def test_paper_looks_as_rich_without_colours(text):
    shown = []
    for kind in (Paper, Terminal):
        stream = io.StringIO()
        screen = kind(stream)
        assert screen.width == int(os.environ["COLUMNS"])
        screen.say(text, "bold")
        screen.draw([("  ", ""), (text.replace("\n", " "), "red"), ("", "dim")])
        shown.append([line.rstrip() for line in stream.getvalue().split("\n")])
    assert shown[0] == shown[1]


def test_rich_has_what_may_have_colours(monkeypatch):
    class Teletype(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("TTY_COMPATIBLE", raising=False)
    assert isinstance(open_screen(io.StringIO()), Paper)
    assert isinstance(open_screen(Teletype()), Terminal)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(open_screen(io.TextIOWrapper(io.BytesIO())), Terminal)
    assert isinstance(open_screen(io.StringIO()), Paper)


def test_a_width_that_is_no_number_is_none(monkeypatch):
    monkeypatch.setenv("COLUMNS", "wide")
    monkeypatch.setattr(os, "get_terminal_size", lambda stream: os.terminal_size((0, 0)))
    assert terminal_width() == 80
    monkeypatch.setattr(os, "get_terminal_size", lambda stream: os.terminal_size((132, 50)))
    assert terminal_width() == 132
