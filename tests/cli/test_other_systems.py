"""Commands on what other systems leave of Linux, as far as it can play them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from roicli.core import system
from tests.cli.conftest import Arrays
from tests.cli.running import FEATURES, ROIS, SCALE, refuse, succeed
from tests.core.test_system import LACKING

COMMANDS = [
    ("align", FEATURES, ROIS, *SCALE, "-o", "o.npy"),
    ("align", FEATURES, ROIS, *SCALE, "-o", "o.h5", "--errors-out", "e.csv"),
    ("pool", FEATURES, ROIS, *SCALE, "-o", "o.h5", "--compression", "gzip"),
    ("pool", FEATURES, ROIS, *SCALE, "-o", "o.h5", "--resume"),
    ("align", FEATURES, ROIS, *SCALE, "-o", "o.h5", "--compression", "lzf", "--resume"),
]


def features_of(path: str) -> Any:
    if path.endswith(".npy"):
        return np.load(path)
    with h5py.File(path) as file:
        return file["roi_features"][()]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: " ".join(words[6:]))
def test_results_are_written_and_replaced_as_on_linux(
    inputs: Arrays, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = command[command.index("-o") + 1]
    succeed(*command)
    there, expected = sorted(os.listdir()), features_of(output)
    os.unlink(output)
    Path("e.csv").unlink(missing_ok=True)
    for name in LACKING["macOS"]:
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(system, "_load_renameat2", lambda: None)
    succeed(*command)
    assert sorted(os.listdir()) == there
    refuse(*command, words=("exists already",))
    succeed(*command, "--force")
    assert sorted(os.listdir()) == there
    np.testing.assert_array_equal(features_of(output), expected)


# What is left, before anything is imported; then one command after another.
PLAY = """
import json, os, signal, sys
{before}
for name in {lacking!r}:
    delattr(os, name)
for name in {signals!r}:
    delattr(signal, name)
from roicli.__main__ import main
codes = []
for command in {commands!r}:
    sys.argv = ["roicli", *command]
    try:
        main()
        codes.append(0)
    except SystemExit as ended:
        codes.append(ended.code or 0)
    sys.stdout.flush()
print(json.dumps(codes))
"""
# There these are no modules; the standard library imports them where it can.
WINDOWS = "import subprocess, multiprocessing; sys.modules.update(fcntl=None, resource=None)"
SIGNALS = ("pthread_sigmask", "setitimer", "SIGHUP", "SIGXCPU", "SIGPROF")
PROGRAM = [
    ("align", FEATURES, ROIS, *SCALE, "-o", "a.npy", "-q"),
    ("align", FEATURES, ROIS, *SCALE, "-o", "a.h5", "--compression", "gzip", "-q"),
    ("align", "chunked.h5", ROIS, *SCALE, "-o", "b.npy", "-q"),
    ("pool", FEATURES, ROIS, *SCALE, "-o", "p.npy", "--errors-out", "e.csv", "--resume", "-q"),
    ("check", FEATURES, ROIS, *SCALE),
    ("compare", "a.npy", "a.h5", "--atol", "0", "--rtol", "0"),
    ("compare", "a.npy", "b.npy", "--atol", "0", "--rtol", "0"),
    ("compare", "a.npy", "p.npy"),
]


@pytest.mark.parametrize("system_name", [name for name in LACKING if name != "Linux"])
def test_programs_run_on_what_is_left(system_name: str, inputs: Arrays) -> None:
    is_windows = system_name == "Windows"
    with h5py.File("chunked.h5", "w") as file:
        file.create_dataset("x", data=inputs[0], chunks=(1, 1, 12, 16), compression="gzip")
    code = PLAY.format(
        before=WINDOWS if is_windows else "",
        lacking=LACKING[system_name],
        signals=SIGNALS if is_windows else (),
        commands=PROGRAM,
    )
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    codes = json.loads(ended.stdout.splitlines()[-1])
    assert codes == [0, 0, 0, 0, 0, 0, 0, 1]
    for command in (PROGRAM[0], PROGRAM[3]):
        output = command[command.index("-o") + 1]
        played = features_of(output)
        succeed(*command, "--force")
        np.testing.assert_array_equal(features_of(output), played)
    assert not [name for name in os.listdir() if name.startswith(".")]


def test_windows_is_refused_in_one_line() -> None:
    code = "import sys; sys.platform = 'win32'; from roicli.__main__ import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("roicli: error: Windows: ")
    assert ended.stderr.count("\n") == 1
