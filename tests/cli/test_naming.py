"""How files get their names: whole or not at all, together, with the mode of what they replace."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import roicli
from roicli.core import system
from roicli.core.exceptions import OutputError
from tests.cli.conftest import Arrays
from tests.cli.running import FEATURES, ROIS, SCALE, succeed
from tests.crashes import die_at_every_step
from tests.options import some

ALIGN = ("align", FEATURES, ROIS, *SCALE)
# Every command that writes a file, by the file's name.
WRITERS = {
    "o.npy": (*ALIGN, "-o", "o.npy"),
    "o.h5": (*ALIGN, "-o", "o.h5"),
    "gzip.h5": (*ALIGN, "-o", "gzip.h5", "--compression", "gzip"),
    "o.zarr": (*ALIGN, "-o", "o.zarr"),
    "kept.h5": (*ALIGN, "-o", "kept.h5", "--resume"),
    "e.csv": ("errors", ROIS, *SCALE, "--errors-out", "e.csv"),
    "merged.npy": ("merge", "part.h5", "-o", "merged.npy"),
    "a.onnx": ("export", "align", "a.onnx", *SCALE),
    "d.png": ("draw", FEATURES, ROIS, *SCALE, "-o", "d.png", "--roi", "1"),
    "p.html": ("report", FEATURES, ROIS, *SCALE, "-o", "p.html"),
}
FILES = [name for name in WRITERS if name != "o.zarr"]
NEEDS = {"d.png": "matplotlib", "p.html": "jinja2", "o.zarr": "zarr"}


def prepare(name: str) -> tuple[str, ...]:
    """The command that writes ``name``, with its inputs there and its libraries loaded."""
    pytest.importorskip(NEEDS.get(name, "numpy"), reason=f"{name} needs {NEEDS.get(name)}")
    if name == "merged.npy":
        succeed(*ALIGN, "--shard", "1/1", "-o", "part.h5", "-q")
    return (*WRITERS[name], "--quiet") if name not in ("a.onnx", "d.png") else WRITERS[name]


@some("name", [(name,) for name in FILES], ("o.npy",))
def test_wherever_a_run_is_killed_the_next_one_leaves_the_file_that_has_the_name(
    inputs: Arrays, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system does not rename to a new name in one step, there is more to be killed at."""
    monkeypatch.setattr(system, "_load_renameat2", lambda: None)
    command = prepare(name)
    before, seen = sorted(os.listdir()), set()
    for _ in die_at_every_step(lambda: succeed(*command)):
        there = os.path.exists(name)
        seen.add(there)
        if there:
            with open(name, "rb") as published:
                data = published.read()
                succeed(*command, "--force")
                published.seek(0)
                assert published.read() == data
        else:
            succeed(*command)
        assert sorted(os.listdir()) == sorted([*before, name])
        os.unlink(name)
    assert seen == {True, False}
    assert sorted(os.listdir()) == sorted([*before, name])


@pytest.mark.parametrize("name", ["o.npy", "o.h5", "gzip.h5", "o.zarr", "e.csv", "a.onnx"])
def test_force_keeps_the_mode_of_what_it_replaces(inputs: Arrays, name: str) -> None:
    command = prepare(name)
    succeed(*command)
    mode = 0o700 if os.path.isdir(name) else 0o600
    os.chmod(name, mode)
    succeed(*command, "--force")
    assert os.stat(name).st_mode & 0o777 == mode


@pytest.mark.parametrize("output", ["o.npy", "o.h5", "o.zarr"])
@pytest.mark.parametrize("taken", ["result", "table"])
@pytest.mark.parametrize("resume", [False, True])
def test_of_a_run_that_is_refused_nothing_appears(
    inputs: Arrays, output: str, taken: str, resume: bool
) -> None:
    """The one or the other name is taken while the run goes on."""
    if output == "o.zarr":
        pytest.importorskip("zarr", reason="the extra roicli[zarr] is not installed")
    name = {"result": output, "table": "e.csv"}[taken]

    def take(done: int, total: int, size: int) -> None:
        Path(name).write_text("another program's")

    arguments: Any = (FEATURES, ROIS, output)
    options: Any = {"spatial_scale": 0.25, "errors_out": "e.csv", "resume": resume}
    with pytest.raises(OutputError, match=f"{name}: another run wrote it meanwhile"):
        roicli.align(*arguments, **options, progress=take)
    there = sorted(entry for entry in os.listdir() if not entry.startswith(f".{output}."))
    assert there == sorted([FEATURES, name, ROIS])
    assert Path(name).read_text() == "another program's"
    os.unlink(name)
    roicli.align(*arguments, **options)
    assert sorted(os.listdir()) == sorted([FEATURES, "e.csv", output, ROIS])


def test_the_result_has_its_name_before_the_table(
    inputs: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, real = [], os.replace

    def record(source: str, target: str) -> None:
        named.append(target)
        assert Path(".e.csv.roicli-part").read_text().startswith("roi,")
        real(source, target)

    monkeypatch.setattr(os, "replace", record)
    succeed(*ALIGN, "-o", "o.h5", "--errors-out", "e.csv", "--force")
    assert named == ["o.h5", "e.csv"]


def test_two_runs_do_not_write_one_table(inputs: Arrays) -> None:
    def run_another(done: int, total: int, size: int) -> None:
        with pytest.raises(OutputError, match=r"e\.csv: another run is writing it"):
            roicli.errors(None, ROIS, spatial_scale=0.25, errors_out="e.csv")

    features = np.load(FEATURES)
    roicli.align(features, ROIS, spatial_scale=0.25, errors_out="e.csv", progress=run_another)
    assert sorted(os.listdir()) == ["e.csv", FEATURES, ROIS]
