"""The page about Python and the notebook, run as a reader would."""

import ast
import json
import logging
import re
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(encoding="utf-8"), re.DOTALL
)
NOTEBOOK = json.loads((ROOT / "docs/notebook.ipynb").read_text(encoding="utf-8"))
CELLS = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def is_there(block: str) -> bool:
    """Whether the libraries that a block imports are installed."""
    imported = [name for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Import)
                for name in node.names]  # fmt: skip
    return all(find_spec(one.name) for one in imported)


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.root, "handlers", list(logging.root.handlers))
    monkeypatch.setattr(logging.root, "level", logging.root.level)
    names: dict[str, Any] = {}
    ran = 0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "os.fork.. was called")  # JAX's, where it is loaded
        for block in BLOCKS:
            if is_there(block):
                exec(compile(block, "docs/python.md", "exec"), names)
                ran += 1
    assert ran >= len(BLOCKS) - 2


def show(value: object) -> dict[str, Any]:
    """What a notebook shows of a value, by kind: IPython's own answer where it is installed."""
    if find_spec("IPython"):
        from IPython.core.formatters import DisplayFormatter

        formats, _ = DisplayFormatter().format(value)
        return dict(formats)
    found = {"text/plain": repr(value)}
    for kind, method in (("text/html", "_repr_html_"), ("image/svg+xml", "_repr_svg_")):
        if hasattr(value, method):
            found[kind] = getattr(value, method)()
    return found


def run_cell(source: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run a cell as a notebook does: its last expression is shown."""
    tree = ast.parse(source, "docs/notebook.ipynb")
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "docs/notebook.ipynb", "exec"), names)
    if last is None:
        return {}
    assert isinstance(last, ast.Expr)
    value = eval(compile(ast.Expression(last.value), "docs/notebook.ipynb", "eval"), names)
    return show(value)


def test_the_notebook_runs_and_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "docs")
    names: dict[str, Any] = {}
    shown = [run_cell(cell, names) for cell in CELLS]
    pages = " ".join(one.get("text/html") or "" for one in shown)
    assert "RoI Pool (caffe, overlap) would move the worst edge" in pages
    assert "intersection over union" in pages
    assert "rules looked" in pages
    assert sum("image/svg+xml" in one for one in shown) == 2
    assert all(len(one["text/plain"]) < 500 for one in shown if one)


def test_the_notebook_is_kept_without_outputs() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    for cell in NOTEBOOK["cells"]:
        assert cell["id"]
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
