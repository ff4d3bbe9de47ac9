"""Machine code on disk is run, so it is taken only where nobody else can have written it."""

import os
import stat
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llvmlite")
machine_code = import_module("roicli.runtime.native.machine_code")


@pytest.fixture(params=[False, True], ids=["cache", "package"])
def is_shared(request: pytest.FixtureRequest) -> bool:
    """Whether the folder is the package's."""
    return bool(request.param)


@pytest.fixture
def folder(tmp_path: Path, is_shared: bool, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder for code, which is not there yet."""
    place = tmp_path / "above" / "roicli"
    found = machine_code.Folder(str(place), is_shared)
    monkeypatch.setattr(machine_code, "_folders", lambda: iter([found]))
    return place


@pytest.fixture
def kept(folder: Path) -> Path:
    """A file of code that is kept and found."""
    machine_code.keep_code("f", b"code")
    (file,) = folder.iterdir()
    assert machine_code.find_code("f") == b"code"
    return file


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077, 0o777])
def test_modes_whatever_the_umask(folder: Path, is_shared: bool, umask: int) -> None:
    before = os.umask(umask)
    try:
        machine_code.keep_code("f", b"code")
    finally:
        os.umask(before)
    (file,) = folder.iterdir()
    expected = (0o755, 0o644) if is_shared else (0o700, 0o600)
    assert (mode_of(folder), mode_of(file)) == expected
    assert machine_code.find_code("f") == b"code"


@pytest.mark.parametrize("bits", [stat.S_IWGRP, stat.S_IWOTH])
def test_what_others_can_write_is_not_run(kept: Path, bits: int) -> None:
    for path in (kept, kept.parent):
        mode = mode_of(path)
        path.chmod(mode | bits)
        assert machine_code.find_code("f") is None
        path.chmod(mode)
    assert machine_code.find_code("f") == b"code"


def test_links_are_not_followed(kept: Path) -> None:
    elsewhere = kept.parent.parent / "elsewhere"
    elsewhere.write_bytes(kept.read_bytes())
    elsewhere.chmod(0o600)
    kept.unlink()
    kept.symlink_to(elsewhere)
    assert machine_code.find_code("f") is None
    machine_code.keep_code("f", b"new")
    assert machine_code.find_code("f") == b"new"
    assert elsewhere.read_bytes().endswith(b"code")
    other = kept.parent.with_name("other")
    kept.parent.rename(other)
    kept.parent.symlink_to(other)
    assert machine_code.find_code("f") is None
    machine_code.keep_code("f", b"newer")
    assert (other / kept.name).read_bytes().endswith(b"new")


def test_a_named_pipe_is_not_waited_for(kept: Path) -> None:
    kept.unlink()
    os.mkfifo(kept, 0o600)
    assert machine_code.find_code("f") is None


def test_code_of_another_user_is_not_run(
    kept: Path, is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But root's is, in the package: who may change the package may run anything anyhow."""
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    found = machine_code.find_code("f")
    assert found == (b"code" if is_shared and owner == 0 else None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("which", ["file", "folder"])
def test_both_owners_count(kept: Path, which: str) -> None:
    os.chown(kept if which == "file" else kept.parent, 65534, 65534)
    assert machine_code.find_code("f") is None


def test_an_older_release_s_folder_is_closed_to_others(kept: Path, is_shared: bool) -> None:
    kept.parent.chmod(0o775)
    machine_code.keep_code("f", b"new")
    if is_shared:
        assert machine_code.find_code("f") is None
    else:
        assert (machine_code.find_code("f"), mode_of(kept.parent)) == (b"new", 0o700)


@pytest.mark.parametrize("home", ["relative", "../relative", "."])
def test_a_relative_cache_is_ignored(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", home)
    found: list[Any] = list(machine_code._folders())
    assert found[0].is_shared
    assert all(os.path.isabs(place.path) for place in found)
    assert not [place for place in found if place.path.startswith(str(tmp_path))]


def test_an_absolute_cache_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert machine_code.Folder(str(tmp_path / "roicli"), False) in list(machine_code._folders())
