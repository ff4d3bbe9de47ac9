"""``roicli sample``: the sample data where there is no clone."""

import os
import shutil
from pathlib import Path

import pytest

from roicli.cli.commands import sample
from tests.cli.running import SAMPLES, refuse, succeed


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_files_are_those_of_a_clone(folder: Path) -> None:
    assert "sample_data/README.md" in succeed("sample").err
    assert _files(folder / "sample_data") == _files(SAMPLES)
    succeed("check", "sample_data/text_fpn.h5::p3", "sample_data/text_rois.npy")
    succeed("sample", "other", "-q")
    assert sorted(os.listdir()) == ["other", "sample_data"]


def test_nothing_is_replaced(folder: Path) -> None:
    (folder / "full").mkdir()
    (folder / "file").touch()
    for name in ("full", "file", "."):
        refuse("sample", name, words=("exists already",))
    refuse("sample", "no/such", words=("folder no does not exist",))
    refuse("sample", "file/x", words=("file",))
    assert sorted(os.listdir()) == ["file", "full"]


def test_a_copy_that_fails_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    refuse("sample", words=("No space left",))
    monkeypatch.setattr(shutil, "copyfile", fail)
    refuse("sample", words=("cannot be written: No space left",))
    assert os.listdir() == []


def test_the_wheel_has_them_inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = folder / "site" / "roicli"
    (inside / "sample_data").mkdir(parents=True)
    monkeypatch.setattr(sample.roicli, "__file__", str(inside / "__init__.py"))
    assert sample.find_sample_data() == inside / "sample_data"
    (inside / "sample_data").rmdir()
    refuse("sample", "new", words=("without sample_data",))
