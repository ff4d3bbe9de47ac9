"""One input through one command, as a user would run it, and whether the outcome is one of ours."""

from __future__ import annotations

import os
import resource
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

import h5py
import numpy as np
from typer.main import get_command
from typer.testing import CliRunner

from fuzz.hdf5_seeds import MAPS, OUTSIDE, ROIS
from fuzz.targets import STREAM, Target
from roicli.cli.app import build_app

# Typer's own runner would build all commands again for every input.
COMMAND = get_command(build_app())
RESULTS = ("out.npy", "out.h5", "out.onnx")
MOST_MEMORY_KIB = 2 << 20


@dataclass(frozen=True)
class Outcome:
    """What a command left. ``error`` is an exception that nobody caught."""

    code: object
    out: bytes
    err: str
    error: BaseException | None = None


@dataclass(frozen=True)
class Finding:
    """What went wrong: crash, traceback, hang, memory, exit code, output, files."""

    kind: str
    text: str


def make_folder(path: str) -> None:
    """An empty folder with the files beside the input, made the current one."""
    os.makedirs(path, exist_ok=True)
    os.chdir(path)
    for name in os.listdir("."):
        os.remove(name)
    np.save("f.npy", MAPS)
    np.save("r.npy", ROIS)
    with h5py.File(OUTSIDE, "w") as file:
        file["maps"] = MAPS
    with open("outside.bin", "wb") as stream:
        stream.write(MAPS.tobytes())


def execute(target: Target, data: bytes, command: Sequence[str] | None = None) -> Finding | None:
    """Run one input in the current folder, in this process; None where all is as promised."""
    chosen = target.choose(data) if command is None else command
    name = "x" + target.ending(data)
    stdin = data if chosen == STREAM else b""
    with open(name, "wb") as stream:
        stream.write(data)
    before = set(os.listdir("."))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    arguments = [part.replace("{x}", name) for part in chosen]
    outcome = _run(arguments, stdin)
    found = _judge(outcome)
    left = set(os.listdir(".")) - before
    os.remove(name)
    for each in left:
        os.remove(each)
    expected = set(RESULTS) if outcome.code in (0, 1) else set()
    if found is None and left - expected:
        found = Finding("files left behind", " ".join(sorted(left)))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if found is None and grown > peak + MOST_MEMORY_KIB:
        found = Finding("memory", f"{(grown - peak) >> 10} MiB")
    return found and Finding(found.kind, f"{' '.join(chosen)}: {found.text}")


def _run(arguments: list[str], stdin: bytes) -> Outcome:
    """The command line with streams of its own."""
    code: object = 0
    error = None
    with CliRunner().isolation(input=stdin, env={"NO_COLOR": "1"}) as (out, err, _):
        try:
            COMMAND.main(arguments, prog_name="roicli")
        except SystemExit as end:
            code = end.code or 0
        except Exception as problem:
            error = problem
        sys.stdout.flush()
        sys.stderr.flush()
        return Outcome(code, out.getvalue(), err.getvalue().decode(errors="replace"), error)


def _judge(outcome: Outcome) -> Finding | None:
    """Exit code 0 to 3, at most one error line, nothing else that a user did not ask for."""
    if outcome.error is not None:
        lines = traceback.format_exception(outcome.error)
        return Finding("traceback", "".join(lines[-4:]).strip())
    code, lines = outcome.code, outcome.err.splitlines()
    errors = [line for line in lines if line.startswith("roicli: error: ")]
    if code not in (0, 1, 2, 3):
        return Finding("exit code", f"{code} {outcome.err[-300:]}")
    if any(not line.startswith("roicli: ") for line in lines):
        return Finding("output", f"{outcome.err[-600:]!r}")
    if code in (2, 3) and (len(errors) != 1 or outcome.out):
        return Finding(
            "output", f"exit {code}, {len(errors)} error lines, {len(outcome.out)} bytes out"
        )
    if code in (0, 1) and errors:
        return Finding("output", f"exit {code} with {errors[0]!r}")
    return None
