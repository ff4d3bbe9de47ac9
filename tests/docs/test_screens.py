"""The pictures of screens: one a width, of the page that shows them, and nothing of the network."""

import re
from pathlib import Path
from xml.etree import ElementTree

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_every_screen_is_there_and_needs_nothing_else() -> None:
    page = (DOCS / "screens.md").read_text(encoding="utf-8")
    named = re.findall(r"\]\((\S+\.svg)\)", page)
    there = {f"figures/screens/{path.name}" for path in (DOCS / "figures/screens").glob("*.svg")}
    assert set(named) == there
    assert {name.rpartition("-")[2] for name in named} == {"80.svg", "120.svg", "200.svg"}
    for name in named:
        text = (DOCS / name).read_text(encoding="utf-8")
        ElementTree.fromstring(text)
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_the_screen_after_a_run_begins_with_the_verdict() -> None:
    text = (DOCS / "figures/screens/align-80.svg").read_text(encoding="utf-8")
    said = re.sub(r"<[^>]*>|&#160;|\s", " ", text)
    words = " ".join(said.split())
    assert "RoI Pool (caffe, overlap) would move the worst edge" in words
