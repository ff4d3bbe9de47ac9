"""The pages of rules, columns and messages are what the commands print today."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "make_texts.py"
_spec = importlib.util.spec_from_file_location("make_texts", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
texts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(texts)


@pytest.mark.parametrize("name", texts.PAGES)
def test_a_page_is_current(name: str) -> None:
    page = (SCRIPT.parent / name).read_text(encoding="utf-8")
    assert page == texts.PAGES[name](), "make docs"


def test_every_mistake_gets_one_line() -> None:
    page = (SCRIPT.parent / "messages.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith(("$ ", "roicli: "))]
    assert len(lines) == 2 * sum(map(len, texts.MISTAKES.values()))
    assert all(line.startswith("roicli: error: ") for line in lines[1::2])
