"""Limits of the system, really set: one line, exit 2 or 3, nothing left."""

import os
import resource
import signal
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Arrays
from tests.cli.running import (
    FEATURES,
    PATIENCE,
    ROIS,
    SCALE,
    Outcome,
    assert_refused,
    run,
    snapshot,
    start,
)
from tests.options import some

MIB = 1 << 20
COMMAND = ("align", FEATURES, ROIS, *SCALE, "-o", "r.h5", "--no-table", "-q")


def limit(which: int, size: int) -> Callable[[], None]:
    """Set a limit in the child; SIGXFSZ is ignored there as Python does."""

    def set_it() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(which, (size, size))

    return set_it


def run_limited(which: int, size: int, *arguments: str) -> Outcome:
    """A command in a process of its own that has the limit."""
    process = start(*arguments, preexec_fn=limit(which, size))
    out, err = process.communicate(timeout=PATIENCE)
    return Outcome(process.returncode, out, err.decode())


@some("mebibytes", [(n,) for n in (100, 150, 200, 230, 260, 300, 400, 500, 700)],
      (230,))  # fmt: skip
def test_an_address_space_of_any_size(inputs: Arrays, mebibytes: int) -> None:
    before = snapshot()
    outcome = run_limited(resource.RLIMIT_AS, mebibytes * MIB, *COMMAND, "--provider", "cpu")
    if outcome.code == 0:
        assert outcome.err == ""
    else:
        assert_refused(outcome, code=3)
        assert snapshot() == before


@some("mebibytes", [(n,) for n in (100, 300, 500, 700)], (500,))
def test_an_address_space_too_small_for_native(inputs: Arrays, mebibytes: int) -> None:
    outcome = run_limited(resource.RLIMIT_AS, mebibytes * MIB, *COMMAND, "--provider", "native")
    assert_refused(outcome, "MiB", "ulimit -v", code=3)


@some("count", [(n,) for n in (5, 6, 8, 16, 31, 32, 64)], (8,), (31,))
def test_few_file_descriptors(inputs: Arrays, count: int) -> None:
    before = snapshot()
    outcome = run_limited(resource.RLIMIT_NOFILE, count, *COMMAND, "--provider", "cpu")
    if outcome.code == 0:
        assert outcome.err == ""
    else:
        assert_refused(outcome, "open files", code=outcome.code)
        assert outcome.code in (2, 3)
        assert snapshot() == before


@some("size, compression", product((100, 3000, 10_000, 70_000), ("none", "gzip")),
      (10_000, "gzip"))  # fmt: skip
def test_a_limit_on_the_size_of_files(inputs: Arrays, size: int, compression: str) -> None:
    arguments = (*COMMAND, "--compression", compression)
    outcome = run_limited(resource.RLIMIT_FSIZE, size, *arguments)
    if outcome.code:
        assert_refused(outcome, "r.h5: needs", f"a file may have {size:,} here", "ulimit -f")
    assert sorted(os.listdir()) == sorted([FEATURES, ROIS, *(["r.h5"] if not outcome.code else [])])


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (MemoryError("Unable to allocate"), 3, ("out of memory: Unable to allocate",)),
        (RuntimeError("can't start new thread"), 3, ("no thread", "--threads")),
        (OSError(24, "Too many open files", "f.npy"), 3, ("f.npy", "ulimit -n")),
        (OSError(12, "Cannot allocate memory"), 3, ("out of memory",)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_system_says_is_one_line(
    inputs: Arrays, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, words: Any
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("roicli.api.open_run", fail)
    assert_refused(run(*COMMAND), *words, code=code)


def test_a_bug_keeps_its_traceback(inputs: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("roicli.api.open_run", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        run(*COMMAND)


def test_a_quota_that_is_reached_while_writing(
    inputs: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_quota(*_: Any) -> None:
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr("roicli.storage.row_file.os.posix_fallocate", no_quota)
    assert_refused(run(*COMMAND), "r.h5: cannot be written: Disk quota exceeded")
    assert sorted(os.listdir()) == [FEATURES, ROIS]


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of 256 KiB, where this user may mount one."""
    import subprocess

    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("name", ["r.npy", "r.h5", "gzip.h5"])
def test_a_disk_that_is_full_while_the_tables_are_written(
    inputs: Arrays, small_disk: Path, name: str
) -> None:
    compression = "gzip" if name.startswith("gzip") else "none"
    options = ("--compression", compression, "--no-table", "-q")
    features, rois = "many.npy", "rois.npy"
    import numpy as np

    np.save(features, np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32))
    np.save(rois, np.tile(np.array([[0, 1, 1, 20, 20]], np.float32), (380, 1)))
    # The features fit by themselves; with the CSV beside them they do not.
    target = small_disk / name
    table = ("--errors-out", str(small_disk / "e.csv"))
    outcome = run("align", features, rois, *SCALE, "-o", str(target), *options, *table)
    assert_refused(outcome, str(small_disk))
    assert os.listdir(small_disk) == []


def test_a_read_only_disk(inputs: Arrays, small_disk: Path) -> None:
    import subprocess

    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    arguments = ("align", FEATURES, ROIS, *SCALE, "-o", str(small_disk / "r.h5"))
    assert_refused(run(*arguments), "cannot be written to")
