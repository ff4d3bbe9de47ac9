"""``roicli native``: which kernels are compiled, and compiling them beforehand."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest

from roicli.core.operator_table import OPERATORS
from roicli.runtime.native import apart
from roicli.runtime.native import run as native
from tests.cli.running import refuse, succeed

pytest.importorskip("numba")
kernels = import_module("roicli.runtime.native.kernels")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """The functions that are on disk; compiling puts them there, and takes no time."""
    kept = {("pool_blocks", "float32")}
    monkeypatch.setattr(kernels, "is_kept", lambda *function: function in kept)
    monkeypatch.setattr(apart, "compile_apart", lambda functions, _: kept.update(functions))
    monkeypatch.setattr(kernels, "kernel", lambda *function: kept.add(function))
    return kept


def compiled_rows(text: str) -> dict[tuple[str, str], bool]:
    rows = [line.split() for line in text.splitlines() if "float" in line]
    return {(kernel, dtype): word == "yes" for kernel, dtype, word, *_ in rows}


@pytest.mark.parametrize("cores", [1, 2])
def test_compile_compiles_what_is_not_there(
    cores: int, disk: set[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roicli.core.system.usable_cores", lambda: cores)
    before = succeed("native", COLUMNS="200").text
    assert all(name in before for name in OPERATORS)
    assert [function for function, there in compiled_rows(before).items() if there] == [*disk]
    assert set(compiled_rows(before)) > disk
    outcome = succeed("native", "--compile", COLUMNS="200")
    assert f"compiling {len(compiled_rows(before)) - 1} kernels" in outcome.err
    assert all(compiled_rows(outcome.text).values())
    assert disk == set(compiled_rows(before))
    assert not succeed("native", "--compile").err


def test_kernels_that_cannot_be_kept_are_an_error(
    disk: set[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "compile_apart", lambda *_: None)
    monkeypatch.setattr(kernels, "kernel", lambda *_: None)
    refuse(
        "native", "--compile", "-q", words=("no folder to keep them in", "XDG_CACHE_HOME"), code=3
    )


def test_processes_compile_side_by_side_and_end_with_the_caller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    most = 0

    def start(name: str, dtype: str) -> subprocess.Popen[bytes]:
        nonlocal most
        if name == "last":
            raise KeyboardInterrupt
        wait = "" if name == "short" else "import time; time.sleep(600)"
        started.append(subprocess.Popen([sys.executable, "-c", wait]))
        most = max(most, sum(process.poll() is None for process in started))
        return started[-1]

    monkeypatch.setattr(apart, "_start_compiling", start)
    apart.compile_apart([("short", "float32")] * 4, 3)
    assert [process.returncode for process in started] == [0] * 4
    assert most <= 3
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    apart.compile_apart([("short", "float32")], 3)
    assert len(started) == 4
    monkeypatch.delattr(sys, "frozen")
    with pytest.raises(KeyboardInterrupt):
        apart.compile_apart([("long", ""), ("long", ""), ("last", "")], 3)
    assert all(process.returncode for process in started[4:])


@pytest.mark.full
def test_a_process_of_its_own_finds_the_package() -> None:
    native.compile_functions([("pool_blocks", "float32")], 1)  # at most the kernel is loaded
    process = apart._start_compiling("pool_blocks", "float32")
    assert process.wait() == 0
    assert apart._start_compiling("no such function", "float32").wait() != 0
