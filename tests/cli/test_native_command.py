"""``roicli native``: which kernels are compiled, and compiling them beforehand."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from roicli.core.operator_table import OPERATORS
from tests.cli.running import refuse, succeed

pytest.importorskip("numba")
kernels = import_module("roicli.runtime.native.kernels")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """The functions that are on disk; compiling puts them there, and takes no time."""
    kept = {("pool_blocks", "float32")}
    monkeypatch.setattr(kernels, "is_kept", lambda *function: function in kept)
    monkeypatch.setattr(kernels, "kernel", lambda *function: kept.add(function))
    return kept


def compiled_rows(text: str) -> dict[tuple[str, str], bool]:
    rows = [line.split() for line in text.splitlines() if "float" in line]
    return {(kernel, dtype): word == "yes" for kernel, dtype, word, *_ in rows}


def test_compile_compiles_what_is_not_there(disk: set[Any]) -> None:
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
    monkeypatch.setattr(kernels, "kernel", lambda *_: None)
    refuse(
        "native", "--compile", "-q", words=("no folder to keep them in", "XDG_CACHE_HOME"), code=3
    )
