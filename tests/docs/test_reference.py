"""The page of commands and options is what the commands declare."""

import importlib.util
import re
from pathlib import Path

import roicli

DOCS = Path(__file__).resolve().parents[2] / "docs"
_spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
assert _spec is not None
assert _spec.loader is not None
make_reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_reference)


def test_the_page_is_current() -> None:
    assert (DOCS / "commands.md").read_text(encoding="utf-8") == make_reference.render(), (
        "make docs"
    )


def test_the_page_of_calls_has_all_that_is_offered() -> None:
    named = re.findall(r"auto\w+:: (\w+)", (DOCS / "api.md").read_text(encoding="utf-8"))
    specs = {name for name in roicli.__all__ if name.endswith("Spec")}
    assert set(named) == set(roicli.__all__) - specs - {"__version__", "ops"}


def test_every_page_is_on_the_site() -> None:
    """In the index of the site, that is; ``make site`` finds links that lead nowhere."""
    index = (DOCS / "index.md").read_text(encoding="utf-8").splitlines()
    pages = {str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.glob("**/*.md")}
    assert pages - {"index"} == pages & set(index)
