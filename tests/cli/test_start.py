"""How the program starts and ends, with the Typer of today and without its private names."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from roicli.cli.app import COMMANDS as COMMANDS_THERE_ARE
from tests.cli.conftest import Arrays
from tests.cli.running import FEATURES, FPN, ROIS, SAMPLES, SCALE, TEXT_ROIS, run, save
from tests.options import some

WITHOUT = {
    "no private names": (
        "import builtins\n"
        "usual = builtins.__import__\n"
        "def importing(name, globals=None, *rest, **named):\n"
        "    asks = (globals or {}).get('__name__', '')\n"
        "    if name.startswith('typer._') and asks.startswith('roicli'):\n"
        "        raise ImportError(name)\n"
        "    return usual(name, globals, *rest, **named)\n"
        "builtins.__import__ = importing\n"
    ),
    "another constructor": (
        "import roicli.cli.fast_typer as fast\n"
        "def refuse(one): raise TypeError('renamed')\n"
        "fast.PlainRuntimeParam = refuse\n"
    ),
    "another method": ("import roicli.cli.fast_typer as fast\nfast.RuntimeParam = object\n"),
}
COMMANDS = [
    ["--version"],
    ["--help"],
    ["align", "--help"],
    ["align", FEATURES, ROIS, *SCALE, "--rows", "2", "--output-size", "3", "--threads", "1",
     "--force", "--fail-over", "iou=2"],
    ["compare", FEATURES, FEATURES, "--atol", "0.5"],
    ["check", FEATURES, ROIS, *SCALE, "--rows", "3"],
    ["align", FEATURES, ROIS, "--roi-format", "none"],
    ["check", FEATURES, ROIS, "--rows", "many"],
    ["align", "--none"],
    ["none"],
]  # fmt: skip
SCRIPT = """
{without}
import json, sys
from typer.testing import CliRunner
from roicli.cli.app import build_app
found = []
for command in {commands!r}:
    done = CliRunner().invoke(build_app(), command, prog_name="roicli", env={{"COLUMNS": "80"}})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    found.append([done.exit_code, done.stdout, done.stderr])
print(json.dumps(found))
"""


def outcomes(without: str) -> Any:
    """Codes, stdout and stderr of every command, in one process of its own."""
    if not without:
        return [[one.code, one.text, one.err] for one in (run(*command) for command in COMMANDS)]
    script = SCRIPT.format(without=without, commands=COMMANDS)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=False, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.full
@some("name", [(name,) for name in WITHOUT], ("no private names",))
def test_typer_without_its_private_names(inputs: Arrays, name: str) -> None:
    """Every command works, and says and shows the same."""
    found = outcomes(WITHOUT[name])
    assert [code for code, _, _ in found] == [0, 0, 0, 0, 0, 0, 2, 2, 2, 2]
    assert found == outcomes("")


def test_the_end_leaves_out_no_handler_no_thread_and_no_stream() -> None:
    code = """
import atexit, sys, threading, weakref
class Held:
    pass
held = Held()
weakref.finalize(held, print, "finalized")
atexit.register(print, "handled")
threading.Thread(target=lambda: print("waited for", threading.main_thread().join())).start()
sys.argv = ["roicli", "--version"]
print("begun")
from roicli.__main__ import main
main()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, _, *last = ended.stdout.splitlines()
    assert (first, last) == ("begun", ["waited for None", "handled", "finalized"])
    assert ended.stderr == ""


PAIR = (f"{FPN}::p3", TEXT_ROIS)
DETECTOR, PHOTO = f"{SAMPLES}/two_stage.onnx", f"{SAMPLES}/image1.jpg"
EVERY_COMMAND = [
    ["--version"], ["--help"],
    ["align", *PAIR, "-o", "a.h5", "--values", "--verify"],
    ["align", *PAIR, "-o", "native.npy", "--provider", "native"],
    ["align", FPN, TEXT_ROIS, "--levels", "p3,p4,p5", "-o", "a.zarr", "--mode", "max"],
    ["pool", *PAIR, "-o", "p.h5", "--compression", "gzip", "--resume", "--format", "md"],
    ["pool", *PAIR, "-o", "part.h5", "--shard", "1/1", "--format", "json"],
    ["merge", "part.h5", "-o", "whole.npy"],
    ["precise-pool", *PAIR, "-o", "precise.h5"],
    ["average-pool", *PAIR, "-o", "average.h5"],
    ["crop-and-resize", *PAIR, "--image-size", "512x512", "-o", "crop.h5"],
    ["ps-pool", *PAIR, "--output-size", "2", "-o", "ps.h5"],
    ["ps-align", *PAIR, "--output-size", "2", "-o", "psa.h5"],
    ["deform-pool", *PAIR, "-o", "deform.h5"],
    ["rotated-align", PAIR[0], "turned.npy", "-o", "rotated.h5"],
    ["errors", *PAIR, "--errors-out", "e.csv"],
    ["errors", TEXT_ROIS, "--spatial-scale", "1/8", "--format", "tsv"],
    ["check", *PAIR, "--fail-on", "error"],
    ["explain", *PAIR, "--roi", "3", "--result", "a.h5"],
    ["draw", *PAIR, "--roi", "3"],
    ["draw", *PAIR, "--roi", "3", "-o", "d.svg"],
    ["draw", *PAIR, "--roi", "3", "-o", "d.pdf"],
    ["report", *PAIR, "-o", "r.html"],
    ["compare", "a.h5", "native.npy", "--atol", "1e9"],
    ["diagnose", *PAIR, "a.h5", "--sample", "4"],
    ["sweep", *PAIR, "--sample", "4"],
    ["sample"], ["config"], ["config", "align"],
    ["inspect", FPN, "--stats"],
    ["inspect", "a.zarr"],
    ["inspect", "g.onnx"],
    ["export", "align", "h.onnx", "--mode", "max"],
    ["capture", DETECTOR, "--image", PHOTO, "--channels", "rgb", "-o", "c.h5"],
    ["verify-model", "c.h5"],
    ["bench", "align", *PAIR, "--runs", "1", "--providers", "cpu,native"],
    ["presets"],
    ["rules"],
    ["columns"],
    ["providers"],
    ["native"],
]  # fmt: skip
STRICT = """
import sys
from roicli.__main__ import main
for command in {commands!r}:
    sys.argv = ["roicli", *command]
    try:
        main()
    except SystemExit as left:
        assert left.code in (0, None), (command, left.code)
print("all")
"""


def test_every_command_is_among_them() -> None:
    assert {command[0] for command in EVERY_COMMAND} >= set(COMMANDS_THERE_ARE)


SOME_COMMANDS = [one for one in EVERY_COMMAND if one[0] in ("--help", "check")]


@some("commands", [(EVERY_COMMAND,), (SOME_COMMANDS,)], (SOME_COMMANDS,), ids=["all", "some"])
def test_no_command_warns(commands: list[list[str]]) -> None:
    """``python -W error``: a deprecation of any library ends the run, and the test."""
    save("turned.npy", np.array([[0, 200, 100, 64, 32, 0.5]], np.float32))
    script = STRICT.format(commands=[["export", "align", "g.onnx"], *commands])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, check=False, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith("all\n")
    assert "Warning" not in done.stderr
    assert "Exception ignored" not in done.stderr
