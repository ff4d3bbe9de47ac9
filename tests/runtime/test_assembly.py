"""The kernels' LLVM assembly that the package brings, and what happens where it does not fit."""

from __future__ import annotations

import ast
import json
import lzma
from collections.abc import Iterator
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roicli.core.exceptions import ProviderError
from roicli.operators.interface import OperatorSpec
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.runtime.native import assembly
from roicli.runtime.native import run as native
from roicli.runtime.native.signatures import SIGNATURES

pytest.importorskip("numba")
kernels, machine_code = map(
    import_module, ("roicli.runtime.native.kernels", "roicli.runtime.native.machine_code")
)
FUNCTIONS = list(product(SIGNATURES, ("float32", "float64")))


@pytest.fixture(autouse=True)
def _nothing_is_remembered() -> Iterator[None]:
    assembly._read.cache_clear()
    yield
    assembly._read.cache_clear()


def test_the_package_brings_every_function_of_these_sources() -> None:
    missing = [one for one in FUNCTIONS if assembly.find_assembly(*one) is None]
    assert not missing, "run docs/make_kernels.py"


def test_the_sources_are_all_that_the_functions_are_made_of() -> None:
    """``compile`` and what it imports of this folder, but for what LLVM's result does not show."""
    found, waiting = set(), ["compile"]
    while waiting:
        name = waiting.pop()
        found.add(name)
        tree = ast.parse((assembly.FOLDER / f"{name}.py").read_text())
        modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        inside = {m.rpartition(".")[2] for m in modules if m.startswith("roicli.runtime.native.")}
        waiting += inside - found
    assert found - {"machine_code"} == set(assembly.SOURCES)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_assembly_is_of_no_machine_and_needs_nothing(function: tuple[str, str]) -> None:
    text = assembly.find_assembly(*function)
    assert text is not None
    declared = [line for line in text.splitlines() if line.startswith("declare")]
    assert all(" @llvm." in line and "x86" not in line for line in declared)
    # No flag that lets LLVM fuse or reorder, and no product that it may fuse.
    assert not {"fast", "contract", "reassoc", "afn"} & set(text.split())
    assert "fmuladd" not in text
    assert "target " not in text


def spoil(kind: str, content: bytes) -> bytes:
    """The file's bytes, in one way not what they should be."""
    found = json.loads(lzma.decompress(content))
    match kind:
        case "cut short":
            return content[:-100]
        case "other bytes":
            return b"no archive"
        case "other sources":
            return lzma.compress(json.dumps({**found, "sources": 1}).encode())
    functions = dict.fromkeys(found["functions"], "define nonsense")
    return lzma.compress(json.dumps({**found, "functions": functions}).encode())


@pytest.mark.parametrize(
    "kind", ["cut short", "other bytes", "other sources", "no such file", "another LLVM's"]
)
def test_what_does_not_fit_is_left_to_numba(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "assembly"
    if kind != "no such file":
        file.write_bytes(spoil(kind, assembly.FILE.read_bytes()))
    asked: list[str] = []

    def refuse(name: str) -> Any:
        asked.append(name)
        raise ImportError("no Numba here")

    monkeypatch.setattr(assembly, "FILE", file)
    monkeypatch.setattr(kernels, "find_code", lambda key: None)
    monkeypatch.setattr(kernels, "import_module", refuse)
    with pytest.raises(ProviderError, match="no Numba here"):
        kernels.kernel.__wrapped__("pool_blocks", "float32")
    assert asked == ["roicli.runtime.native.compile"]


@pytest.mark.full
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numba_here_makes_the_same_of_the_sources(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits, whatever Numba and LLVM are installed."""
    specs = [AlignSpec(), AlignSpec(sampling_ratio=0), PoolSpec()]
    rng = np.random.default_rng(5)
    feature_map = rng.normal(size=(19, 30, 41)).astype(dtype)
    low = rng.uniform(-20, 120, (40, 2))
    corners = np.hstack([low, low + rng.uniform(1, 90, (40, 2))]).astype(dtype)

    def compute(spec: OperatorSpec) -> Any:
        out = np.empty((len(corners), len(feature_map), *spec.output_size), dtype)
        getattr(native, native.compiled_of(spec).call)(feature_map, corners, spec, out, 1)
        return out

    expected = [compute(spec) for spec in specs]
    compiling = import_module("roicli.runtime.native.compile")
    own = {}
    for name in ("plan_align", "align_blocks", "pool_blocks"):
        code, is_complete = machine_code.build_code(compiling.assemble(name, dtype))
        assert is_complete
        own[name] = kernels.Kernel(name, dtype, code)
    monkeypatch.setattr(kernels, "kernel", lambda name, _: own[name])
    for spec, one in zip(specs, expected, strict=True):
        assert np.array_equal(compute(spec), one)
