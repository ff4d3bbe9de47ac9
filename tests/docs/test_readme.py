"""The commands and Python of README, guide, tutorial and how-tos, run in order."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from roicli.cli.app import COMMANDS as COMMANDS_THERE_ARE
from tests.cli.running import succeed

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# What is read first; the how-tos say the same commands in other words.
# Quick; the other pages are run in test-all.
FIRST = ("README.md", "docs/tutorial.md")
HOW_TOS = sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs/howto").glob("*.md"))
PAGES = (*FIRST, "docs/guide.md", "docs/api.md", *HOW_TOS)


def blocks_of(page: str, language: str) -> list[str]:
    """The code of a page in one language, block by block."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


COMMANDS = [
    (page, line.removeprefix("$ "))
    for page in PAGES
    for block in blocks_of(page, "console")
    for line in block.splitlines()
    if line.startswith("$ ")
]
LINK = re.compile(r"\]\((?!http)([^)#]+)")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each page a folder with the sample data in it, and nothing else."""
    found = {}
    for page in PAGES:
        place = found[page] = tmp_path_factory.mktemp(Path(page).stem)
        (place / "sample_data").symlink_to(ROOT / "sample_data")
        launcher = place / "bin" / "roicli"
        launcher.parent.mkdir()
        launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m roicli "$@"\n')
        launcher.chmod(0o755)
    return found


def test_first_code_block_is_the_two_commands() -> None:
    block = re.search(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert block is not None
    assert block.start() == README.index("```")
    assert [line.split("#")[0].strip() for line in block[1].splitlines()] == [
        "make demo",
        "make test",
    ]


def test_the_readme_is_short_and_every_link_leads_somewhere() -> None:
    assert len(README.splitlines()) < 200
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")):
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
            inside = (page.parent / target).resolve().is_relative_to(page.parent)
            # The site has the pages of docs/ alone.
            assert inside or page.parent != ROOT / "docs", f"{page.name}: {target}"


def marks_of(page: str, command: str = "") -> tuple[pytest.MarkDecorator, ...]:
    """A cluster of its own takes seconds; ``test_dask`` has the same command."""
    is_long = page not in FIRST or "--dask" in command or "cluster" in command
    return (pytest.mark.full,) if is_long else ()


@pytest.mark.parametrize(
    ("page", "command"), [pytest.param(*one, marks=marks_of(*one)) for one in COMMANDS]
)
def test_command_runs(
    page: str, command: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, but for what a shell has a part in."""
    folder = folders[page]
    monkeypatch.chdir(folder)
    program, *words = shlex.split(command)
    if program == "roicli" and not {">", "|", "&&"} & set(words):
        outcome = succeed(*words)
        assert "error:" not in outcome.err
        return
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, shell=True, env={**os.environ, "PATH": path}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "error:" not in done.stderr


@pytest.mark.parametrize("page", [pytest.param(page, marks=marks_of(page)) for page in PAGES])
def test_python_runs(page: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """After the page's commands, whose results it may read."""
    monkeypatch.chdir(folders[page])
    names: dict[str, object] = {}
    for block in blocks_of(page, "python"):
        exec(compile(block, page, "exec"), names)


def test_every_command_is_in_the_readme() -> None:
    for command in COMMANDS_THERE_ARE:
        assert f"roicli {command}" in README


@pytest.mark.full
def test_python_of_the_pages_is_typed(tmp_path: Path) -> None:
    """Under mypy --strict, in files of a user's own, and a name that is not there is told."""
    for number, page in enumerate(("README.md", "docs/python.md", "docs/howto/torch.md")):
        text = "\n".join(blocks_of(page, "python"))
        (tmp_path / f"page_{number}.py").write_text(text, encoding="utf-8")
    (tmp_path / "wrong.py").write_text("import roicli\n\nroicli.alignn\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--ignore-missing-imports", "--config-file=",
         "--follow-imports=silent", "."],
        cwd=tmp_path, env={**os.environ, "MYPYPATH": str(ROOT)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    *errors, _ = done.stdout.splitlines()
    assert errors == ['wrong.py:3: error: Module has no attribute "alignn"  [attr-defined]']
