"""Commands as a user runs them: in this process where that is enough, else in one of their own."""

import hashlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import typer.testing
from typer.main import get_command
from typer.testing import CliRunner

from roicli.cli.app import build_app
from tests.render.schemas import check_document

SAMPLES = Path(__file__).parents[2] / "sample_data"
FPN, TEXT_ROIS = f"{SAMPLES}/text_fpn.h5", f"{SAMPLES}/text_rois.npy"
FEATURES, ROIS = "f.npy", "r.npy"
# For what takes a process a second on a machine that is not busy.
PATIENCE = 180
SCALE = ("--spatial-scale", "1/4")

APP = build_app()
# Typer's runner builds every command anew for each call, which takes ten times as long as a small
# run.
COMMANDS = get_command(APP)
typer.testing._get_command = lambda app: COMMANDS if app is APP else get_command(app)


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code, stdout as bytes, stderr as text."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """stdout as text."""
        return self.out.decode()

    @property
    def errors(self) -> list[str]:
        """The lines of stderr."""
        return self.err.splitlines()


def run(*args: str, stdin: bytes = b"", **environment: Any) -> Outcome:
    """Run roicli in this process; a bug comes out as the exception it is."""
    env = {"COLUMNS": "80", "NO_COLOR": None, "SOURCE_DATE_EPOCH": None, **environment}
    result = CliRunner().invoke(
        APP, list(args), input=stdin, env=env, catch_exceptions=False, prog_name="roicli"
    )
    if result.exit_code <= 1 and result.stdout_bytes[:1] == b"{":
        check_document(args, result.stdout_bytes)
    return Outcome(result.exit_code, result.stdout_bytes, result.stderr)


def succeed(*args: str, stdin: bytes = b"", **environment: Any) -> Outcome:
    """Run roicli in this process and insist on exit code 0."""
    outcome = run(*args, stdin=stdin, **environment)
    assert outcome.code == 0, outcome.err
    return outcome


def heed_signals() -> None:
    """A shell starts its background jobs with SIGINT ignored, nohup with SIGHUP; children inherit
    that.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


ROICLI = ("-m", "roicli")
# A block and a segment a RoI, each after a tenth of a second of sleep: whatever the machine, there
# is time to stop it in the middle, and little to compute.
SLOW_ROICLI = """
import time
from roicli.__main__ import main
from roicli.pipeline import stream
from roicli.runtime.engine import Engine
from roicli.storage import resume

class SlowRunner:
    def __init__(self, runner):
        self.runner, self.load = runner, runner.load

    def run(self, corners, out):
        time.sleep(0.1)
        self.runner.run(corners, out)

build_runner = Engine.build_runner
Engine.build_runner = lambda *given: SlowRunner(build_runner(*given))
stream.WORK_A_BLOCK, stream.HANDED_OVER_BYTES, resume.SECONDS_A_SEGMENT = 1, 1, 0
main()
"""


def start(*args: str, program: Any = ROICLI, **options: Any) -> "subprocess.Popen[bytes]":
    """A roicli process of its own, with pipes on stdout and stderr."""
    settings = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "preexec_fn": heed_signals,
        **options,
    }
    return subprocess.Popen([sys.executable, *program, *args], **settings)


def start_slowly(*args: str, **options: Any) -> "subprocess.Popen[bytes]":
    """A roicli process that is long at its RoIs."""
    return start(*args, program=("-c", SLOW_ROICLI), **options)


def run_process(*args: str, stdin: bytes = b"", **environment: Any) -> Outcome:
    """Run roicli in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "roicli", *args],
        input=stdin,
        capture_output=True,
        check=False,
        env={**os.environ, **environment},
    )
    return Outcome(done.returncode, done.stdout, done.stderr.decode())


def snapshot() -> dict[str, tuple[str, float]]:
    """Every file below the current folder, dot files too: its contents' hash and its time."""
    found = {}
    for folder, _, names in os.walk("."):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and os.access(path, os.R_OK):
                with path.open("rb") as stream:
                    digest = hashlib.md5(stream.read(1 << 16)).hexdigest()
                found[str(path)] = (f"{digest} {path.stat().st_size}", path.stat().st_mtime)
            else:
                found[str(path)] = (str(path.is_symlink()), 0.0)
    return found


def assert_refused(outcome: Outcome, *words: str, code: int = 2) -> None:
    """One line on stderr that holds ``words``, nothing on stdout, the exit code."""
    assert outcome.code == code, outcome.err
    assert outcome.out == b""
    assert len(outcome.errors) == 1, outcome.err
    assert outcome.err.startswith("roicli: error: ")
    for word in words:
        assert word in outcome.err


def refuse(*args: str, words: tuple[str, ...], stdin: bytes = b"", code: int = 2) -> Outcome:
    """Run a command that must be refused, and see that it left the folder as it was."""
    before = snapshot()
    outcome = run(*args, stdin=stdin)
    assert_refused(outcome, *words, code=code)
    assert snapshot() == before
    return outcome


def save_h5(path: str, attributes: dict[str, Any] | None = None, **datasets: Any) -> str:
    """An HDF5 file of ``datasets``, each with ``attributes``; ``__`` in a name is a slash."""
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            dataset = file.create_dataset(name.replace("__", "/"), data=values)
            dataset.attrs.update(attributes or {})
    return path


def save(path: str, values: Any) -> str:
    """An .npy file; gives its path."""
    np.save(path, values)
    return path
