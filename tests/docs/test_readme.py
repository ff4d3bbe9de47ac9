"""The commands and Python of README and guide, run in order as a reader would, in one folder."""

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
GUIDE = (ROOT / "docs/guide.md").read_text(encoding="utf-8")
COMMANDS = [
    line.removeprefix("$ ")
    for block in re.findall(r"```console\n(.*?)```", README + GUIDE, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ ")
]
PYTHON = re.findall(r"```python\n(.*?)```", README + GUIDE, re.DOTALL)
LINK = re.compile(r"\]\((?!http)([^)#]+)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder with the sample data in it."""
    place = tmp_path_factory.mktemp("readme")
    (place / "sample_data").symlink_to(ROOT / "sample_data")
    launcher = place / "bin" / "roicli"
    launcher.parent.mkdir()
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m roicli "$@"\n')
    launcher.chmod(0o755)
    return place


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


def marks_of(command: str) -> tuple[pytest.MarkDecorator, ...]:
    """A cluster of its own takes seconds; ``test_dask`` has the same command."""
    return (pytest.mark.full,) if "--dask" in command or "cluster" in command else ()


@pytest.mark.parametrize(
    "command", [pytest.param(command, marks=marks_of(command)) for command in COMMANDS]
)
def test_command_runs(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, but for what a shell has a part in."""
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


def test_python_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    for block in PYTHON:
        exec(compile(block, "README.md", "exec"), names)


def test_every_command_is_in_the_readme() -> None:
    for command in COMMANDS_THERE_ARE:
        assert f"roicli {command}" in README
