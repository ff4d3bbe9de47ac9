"""``roicli providers``, ``presets``, ``--version``, ``--help``, completion, and --provider."""

import inspect
import json
import os
import re
import subprocess
import sys
from typing import get_args

import onnxruntime
import pytest
from typer.testing import CliRunner

import roicli
from roicli.analysis.check.rules import RULES
from roicli.cli.app import build_app, build_listing
from roicli.cli.commands import COMMANDS, PANELS
from roicli.cli.help import SHOWN_OPTIONS, find_example
from roicli.error_table.columns import COLUMNS
from roicli.operators.libraries import ROWS
from tests.cli.conftest import Arrays
from tests.cli.running import (
    FEATURES,
    ROIS,
    SCALE,
    TEXT_ROIS,
    refuse,
    run,
    run_process,
    succeed,
)
from tests.options import need_numba

HAS_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
without_cuda = pytest.mark.skipif(HAS_CUDA, reason="this ONNX Runtime has CUDA")


@without_cuda
def test_cuda_that_is_not_there(inputs: Arrays) -> None:
    words = ("cuda", "CPUExecutionProvider", "onnxruntime-gpu")
    refuse("align", FEATURES, ROIS, *SCALE, "--provider", "cuda", words=words, code=3)


def test_native_and_cpu_give_the_same_bytes(inputs: Arrays) -> None:
    need_numba()
    for command in ("align", "pool"):
        found = [
            succeed(command, FEATURES, ROIS, *SCALE, "--provider", name, "-o", "-", "-q").out
            for name in ("auto", "cpu", "native")
        ]
        assert found[0] == found[1] == found[2]


def test_providers() -> None:
    rows = json.loads(succeed("providers", "--format", "json").text)["providers"]
    by_name = {row["name"]: row for row in rows}
    assert by_name["cpu"]["available"] is True
    assert sum(row["auto"] for row in rows) == 1
    for row in rows:
        assert row["available"] or (row["reason"] and "pip install" in row["install"])
    text = succeed("providers", COLUMNS="200").text
    for row in rows:
        for cell in (row["name"], row["reason"], row["install"]):
            assert cell in text
    assert "\x1b" not in text


def test_presets() -> None:
    rows = json.loads(succeed("presets", "--format", "json").text)["presets"]
    assert [row["name"] for row in rows] == [row.name for row in ROWS]
    assert all(row["source"] for row in rows)
    text = succeed("presets", COLUMNS="200").text
    assert all(row.name in text for row in ROWS)


def test_presets_are_filtered() -> None:
    rows = json.loads(succeed("presets", "--match", "crop_and", "--format", "json").text)["presets"]
    assert {"tensorflow.matterport", "kornia.crop_and_resize"} <= {row["name"] for row in rows}
    assert all("crop" in str(row) for row in rows)
    (row,) = json.loads(succeed("presets", "--match", "tvm-onnx", "--format", "json").text)[
        "presets"
    ]
    assert row["differs_from_torchvision"] == "coordinates -0.5 px, no minimum extent"
    refuse("presets", "--match", "nobody", words=("nobody", "roicli presets"))


@pytest.mark.parametrize("width", ["80", "120"])
def test_listings_break_no_name(width: str) -> None:
    assert {row.name for row in ROWS} <= set(succeed("presets", COLUMNS=width).text.split())
    words = {"name", "available", "auto", "cuda"}
    assert words <= set(succeed("providers", COLUMNS=width).text.split())


def test_version() -> None:
    assert succeed("--version").text == f"roicli {roicli.__version__}\n"


def test_help() -> None:
    text = succeed("--help").text
    assert all(f" {name} " in text for name in COMMANDS)
    assert {"align", "pool", "errors", "export", "providers", "presets"} <= set(COMMANDS)
    assert succeed("-h").text == succeed("help").text == run().text == text
    assert run().code == 2
    panels = [line for line in text.splitlines() if line and not line.startswith((" ", "R", "U"))]
    panels += ["Run"]
    assert set(PANELS) < set(panels)
    for panel in PANELS.values():
        assert find_example(_describe(next(iter(panel)))) in " ".join(text.split())


def _describe(command: str) -> str:
    return build_app([command]).registered_commands[0].callback.__doc__  # type: ignore[union-attr,return-value]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_short_and_help_all_has_the_rest(command: str) -> None:
    short, whole = succeed(command, "--help").text, succeed(command, "--help-all").text
    assert short == succeed("help", command).text
    flags, every = (
        {
            line.split(" ")[0].strip(",")
            for line in re.findall(r"^ +(?:-\w, )?(--\S+.*)", text, re.MULTILINE)
        }
        for text in (short, whole)
    )
    assert flags <= every
    assert len(flags) == min(len(every), SHOWN_OPTIONS)
    assert ("--help-all" in short) == (len(every) > SHOWN_OPTIONS)
    assert max(map(len, short.splitlines())) <= 80


def test_the_first_options_are_those_that_are_given_most() -> None:
    short = succeed("align", "--help").text
    assert short.index("--output") < short.index("--spatial-scale") < short.index("--output-size")
    whole = succeed("align", "--help-all").text
    assert whole.index("Operator\n") < whole.index("Several machines\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_word_of_help_is_shown(command: str) -> None:
    """Brackets too, which could be read as markup: roicli[figures]."""
    text = " ".join(succeed(command, "--help-all", COLUMNS="800").text.split())
    assert "Usage: roicli" in text
    function = next(c for c in build_app([command]).registered_commands if c.name == command)
    assert function.callback is not None
    for parameter in inspect.signature(function.callback).parameters.values():
        for info in get_args(parameter.annotation)[1:]:
            assert " ".join(info.help.replace("\\[", "[").split()) in text


@pytest.mark.parametrize("command", ["draw", "report"])
def test_what_an_extra_is_needed_for_is_said(command: str) -> None:
    extra = {"draw": "figures", "report": "report"}[command]
    assert f"roicli[{extra}]" in " ".join(succeed(command, "--help", COLUMNS="200").text.split())


@pytest.mark.parametrize(
    "words", ["--help", "", "presets", "align --help", "align", "sweep --nothing", "aling"]
)
def test_listed_commands_are_the_built_ones(words: str) -> None:
    """What is not named first is listed, with its parameters built when it is called."""
    listed = CliRunner().invoke(
        build_listing(), words.split(), env={"COLUMNS": "80"}, prog_name="roicli"
    )
    built = run(*words.split())
    assert (listed.exit_code, listed.stdout, listed.stderr) == (built.code, built.text, built.err)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['roicli', 'align', '--help']\n"
        "from roicli.cli.app import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'numpy', 'rich', 'h5py', 'onnx', 'onnxruntime', 'numba'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("words", "expected"),
    [("roicli ", "align"), ("roicli al", "align"), ("roicli align --mode ", "max"),
     ("roicli pool --quant", "--quantization")],
)  # fmt: skip
def test_completion(words: str, expected: str) -> None:
    environment = {
        **os.environ,
        "_ROICLI_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    code = "import sys; sys.argv = ['roicli']; from roicli.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout.decode().split()


def test_a_bug_keeps_its_traceback() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['roicli', 'presets']\n"
        "import roicli.operators.presets\n"
        "roicli.operators.presets.all_rows = None\n"
        "from roicli.cli.app import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 1
    assert b"TypeError" in done.stderr


def test_python_dash_m() -> None:
    outcome = run_process("--version")
    assert (outcome.code, outcome.text) == (0, f"roicli {roicli.__version__}\n")


def test_rules_are_those_of_check() -> None:
    rows = json.loads(succeed("rules", "--format", "json").text)["rules"]
    assert [row["id"] for row in rows] == [rule.id for rule in RULES]
    assert all(len(row["meaning"]) > 10 and row["name"] for row in rows)
    assert all(row["meaning"].endswith(".") for row in rows)
    assert [row["id"] for row in rows if not row["ignorable"]] == [
        "R01",
        "R02",
        "R03",
        "R11",
        "R16",
    ]
    (line,) = succeed("rules", "r05", COLUMNS="200").text.splitlines()[2:]
    assert line.split()[0] == "R05"
    refuse("rules", "R50", words=("no rule 'R50'", "did you mean R"))


def test_columns_are_those_of_the_error_table() -> None:
    rows = json.loads(succeed("columns", "--format", "json").text)["columns"]
    assert [row["name"] for row in rows] == [column.name for column in COLUMNS]
    assert "intersection over union" in succeed("columns", "iou").text
    assert max(map(len, succeed("columns", COLUMNS="80").text.splitlines())) <= 80
    words = ("no column 'edge_eror_max'", "did you mean edge_error_max_px")
    refuse("errors", TEXT_ROIS, *SCALE, "--sort", "edge_eror_max", words=words)
    refuse("columns", "nonsense", words=("no column 'nonsense'", "roicli columns"))


def test_a_preset_of_another_operator_runs_that(inputs: Arrays) -> None:
    preset = ("--preset", "tensorflow.matterport", "--image-size", "64x48")
    outcome = succeed("align", FEATURES, ROIS, *SCALE, *preset, "--no-table")
    assert "preset tensorflow.matterport is a function of crop-and-resize: that runs" in outcome.err
    assert "wrote f.crop-and-resize.h5" in outcome.err
    succeed("crop-and-resize", FEATURES, ROIS, *SCALE, *preset, "-o", "same.h5", "-q")
    succeed("compare", "f.crop-and-resize.h5", "same.h5", "--atol", "0", "--rtol", "0")
    given = ("--preset", "tensorflow.matterport", "--mode", "max")
    words = ("runs crop-and-resize, which has no option mode",)
    refuse("align", FEATURES, ROIS, *SCALE, *given, "-o", "n.h5", words=words)
