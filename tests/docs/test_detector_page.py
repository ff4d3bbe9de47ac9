"""The commands of docs/detector.md, run in order as a reader would, in one folder."""

import re
import shlex
from pathlib import Path

import pytest

from tests.cli.running import run

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/detector.md").read_text(encoding="utf-8")
COMMANDS = [
    line.removeprefix("$ roicli ")
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder with the sample data in it."""
    place = tmp_path_factory.mktemp("detector")
    (place / "sample_data").symlink_to(ROOT / "sample_data")
    return place


def marks(command: str) -> tuple[pytest.MarkDecorator, ...]:
    """A whole diagnosis takes seconds."""
    return (pytest.mark.full,) if "--against" in command else ()


@pytest.mark.parametrize("command", [pytest.param(one, marks=marks(one)) for one in COMMANDS])
def test_command_runs(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "--image" in command:
        pytest.importorskip("PIL")
    monkeypatch.chdir(folder)
    words, _, said = command.partition(" # exit code ")
    outcome = run(*shlex.split(words))
    assert outcome.code == int(said or 0), outcome.err
    assert "error:" not in outcome.err
    if words.startswith("verify-model maps.h5"):
        assert outcome.text.count("equal bits") == 2
    if "--against" in words:
        assert "RoI Align, average, legacy" in " ".join(outcome.text.split())


def test_the_page_names_what_there_is() -> None:
    assert len(COMMANDS) > 10
    for word in ("torchvision", "detectron2", "mmdet"):
        assert f"| `{word}` |" in PAGE
