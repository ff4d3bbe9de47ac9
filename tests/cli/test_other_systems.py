"""Runs with what another system lacks taken away, as far as Linux can play it."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from tests.core.test_system import LACKING

# What the modules of the standard library are left with; then the program, as it is started.
PLAY = """
import sys
{before}
import os, signal
for name in {lacking!r}:
    if hasattr(os, name):
        delattr(os, name)
for name in {signals!r}:
    if hasattr(signal, name):
        delattr(signal, name)
sys.argv = ["roicli", *{args!r}]
from roicli.__main__ import main
main()
"""
# fcntl and resource are no modules there; the standard library imports them where it can.
WINDOWS = "import subprocess, multiprocessing; sys.modules.update(fcntl=None, resource=None)"


def play(system, *args, cwd):
    """Run roicli on what is left of this system."""
    is_windows = system == "Windows"
    code = PLAY.format(
        before=WINDOWS if is_windows else "",
        lacking=(*LACKING[system], "O_DIRECT"),
        signals=("pthread_sigmask", "SIGHUP", "SIGXCPU") if is_windows else (),
        args=args,
    )
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, check=False, cwd=cwd,
    )  # fmt: skip


@pytest.fixture
def inputs(tmp_path):
    generator = np.random.default_rng(7)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        maps = generator.normal(size=(2, 3, 12, 16)).astype(np.float32)
        file.create_dataset("x", data=maps, chunks=(1, 3, 12, 16), compression="gzip")
    corners = np.sort(generator.uniform(0, 11, (20, 2, 2)), 1).reshape(20, 4)
    np.save(tmp_path / "r.npy", np.column_stack([np.arange(20) % 2, corners]).astype(np.float32))
    return tmp_path


COMMANDS = {
    "align to npy": ("align", "f.h5", "r.npy", "-o", "o.npy", "-q"),
    "align to hdf5": ("align", "f.h5", "r.npy", "-o", "o.h5", "--compression", "gzip", "-q"),
    "pool": ("pool", "f.h5", "r.npy", "-o", "o.npy", "--errors-out", "e.csv", "-q"),
    "resume": ("align", "f.h5", "r.npy", "-o", "o.npy", "--resume", "-q"),
    "check": ("check", "f.h5", "r.npy"),
}


@pytest.mark.parametrize("system", [name for name in LACKING if name != "Linux"])
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run_on_what_is_left(system, command, inputs):
    ended = play(system, *COMMANDS[command], cwd=inputs)
    assert (ended.returncode, ended.stderr) == (0, "")
    if "-o" in COMMANDS[command]:
        name = COMMANDS[command][COMMANDS[command].index("-o") + 1]
        again = [COMMANDS[command][0], "f.h5", "r.npy", "-o", "linux.npy", "-q"]
        subprocess.run([sys.executable, "-m", "roicli", *again], check=True, cwd=inputs)
        ended = play(system, "compare", name, "linux.npy", "--atol", "0", "--rtol", "0", cwd=inputs)
        assert ended.returncode == 0, ended.stderr
    assert not [name for name in os.listdir(inputs) if name.startswith(".")]


def test_windows_is_refused_in_one_line(tmp_path):
    code = "import sys; sys.platform = 'win32'; from roicli.__main__ import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("roicli: error: Windows: ")
    assert ended.stderr.count("\n") == 1
