"""What is one way over all commands: quiet, formats, what fails, sizes, and lines that know."""

import json

import h5py
import numpy as np
import onnx
import pytest
from onnx import helper

from roicli.cli.commands import COMMANDS, find_function, options_of
from roicli.core.declaration import Opt
from roicli.core.operator_table import OPERATORS
from roicli.error_table.columns import COLUMNS
from tests.cli.conftest import Arrays
from tests.cli.running import FEATURES, FPN, ROIS, SCALE, TEXT_ROIS, refuse, run, save, succeed

PAIR = (FEATURES, ROIS, *SCALE)
BESIDE = {
    "align": ("align", *PAIR, "-o", "a.npy", "--force"),
    "errors": ("errors", ROIS, *SCALE),
    "check": ("check", *PAIR),
}
ANSWERS = {
    "explain": ("explain", *PAIR, "--roi", "0"),
    "sweep": ("sweep", *PAIR, "--sample", "2"),
    "inspect": ("inspect", FEATURES),
    "compare": ("compare", FEATURES, FEATURES),
}


@pytest.mark.parametrize("command", [*BESIDE.values(), *ANSWERS.values()], ids=[*BESIDE, *ANSWERS])
def test_quiet_silences_notes_and_never_the_format_that_is_asked_for(
    inputs: Arrays, command: tuple[str, ...]
) -> None:
    outcome = succeed(*command, "-q")
    assert outcome.err == ""
    assert (outcome.out == b"") == (command[0] in BESIDE)
    outcome = succeed(*command, "-q", "--format", "json")
    assert outcome.err == ""
    assert json.loads(outcome.text)["schema_version"] == 1
    assert succeed(*command, "-q", "--format", "table").text


def test_quiet_says_what_it_does() -> None:
    """A command that draws, writes a page or answers has no table to keep back."""
    for name in COMMANDS:
        flags = {one.flag: one.opt for one in options_of(name).values()}
        quiet = flags.get("--quiet")
        assert quiet is None or isinstance(quiet, Opt)
        keeps_back = name in BESIDE or name in OPERATORS
        assert quiet is None or ("no table" in quiet.help) == keeps_back, name


def test_one_option_is_called_the_same_everywhere() -> None:
    """A flag has one short form, and --fail-on one set of words."""
    forms: dict[str, set[str]] = {}
    for name in COMMANDS:
        for one in options_of(name).values():
            assert isinstance(one.opt, Opt)
            forms.setdefault(one.flag, set()).add(one.opt.flags)
            if one.flag == "--fail-on":
                assert one.words == ("error", "warning", "note")
    assert {flag for flag, found in forms.items() if len(found) > 1} == set()
    assert forms["--output"] == {"-o --output"}


def test_a_note_fails_where_notes_are_to_fail(inputs: Arrays) -> None:
    arguments = ("check", *PAIR, "--select", "R19")
    notes = json.loads(succeed(*arguments, "--format", "json").text)["notes"]
    assert run(*arguments, "--fail-on", "note").code == int(notes > 0)
    save(ROIS, -inputs[1])
    for severity in ("error", "warning", "note"):
        assert run("check", *PAIR, "--fail-on", severity, "-q").code == 1


def test_beside_features_on_stdout_no_note_is_told(inputs: Arrays) -> None:
    save("cells.npy", np.array([[0, 1, 1, 9, 9], [1, 2, 2, 12, 11]], np.float32))
    assert "scale 1.0" in succeed("align", FEATURES, "cells.npy", "-o", "x.npy").err
    (line,) = succeed("align", FEATURES, "cells.npy", "-o", "-").errors
    assert line.startswith("roicli: RoI Pool")
    assert succeed("align", FEATURES, "cells.npy", "-o", "-", "-q").err == ""


def test_several_maps_may_be_a_pyramid(inputs: Arrays) -> None:
    refuse("align", FPN, TEXT_ROIS, words=("3 datasets fit", "with --levels p3,p4,p5"))
    with h5py.File("maps.h5", "w") as file:
        for name, side in (("b", 9), ("a", 17)):
            file[f"fpn/{name}"] = np.zeros((1, 2, side, side), np.float32)
        file["other"] = np.zeros((1, 2, 9, 9), np.float32)
    refuse("align", "maps.h5::/fpn", ROIS, words=("2 datasets fit", "with --levels a,b"))
    outcome = refuse("align", "maps.h5", ROIS, words=("3 datasets fit",))
    assert "--levels" not in outcome.err


def test_a_node_that_is_no_roi_node_is_not_missing(inputs: Arrays) -> None:
    convolution = helper.make_node("Conv", ["x", "w"], ["y"], "backbone")
    pooled = helper.make_node("MaxRoiPool", ["y", "r"], ["z"], "head", pooled_shape=[7, 7])
    for nodes, words in (
        ([convolution, pooled], ("node backbone is a Conv", "its RoI nodes are: head (pool)")),
        ([convolution], ("node backbone is a Conv", "the model has no RoiAlign")),
    ):
        graph = helper.make_graph(nodes, "g", [], [])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), "m.onnx")
        for name in ("backbone", "y"):
            given = ("pool", *PAIR, "--graph", f"m.onnx::{name}")
            refuse(*given, words=(words[0].replace("backbone", name), words[1]))
    refuse("pool", *PAIR, "--graph", "m.onnx::neck", words=("has no node 'neck'",))


def test_the_json_of_an_example_has_the_cells_and_the_size(inputs: Arrays) -> None:
    arguments = ("explain", f"{FPN}::p3", TEXT_ROIS, "--roi", "37")
    pool = json.loads(succeed(*arguments, "--format", "json").text)["explanation"]["pool"]
    x1, y1, x2, y2 = pool["cells"]
    assert pool["size"] == [y2 - y1 + 1, x2 - x1 + 1]
    said = f"cells ({x1}, {y1}) to ({x2}, {y2}), "
    assert said in " ".join(succeed(*arguments, COLUMNS="80").text.split())
    mmcv = json.loads(succeed(*arguments, "--quantization", "mmcv", "--format", "json").text)
    assert mmcv["explanation"]["pool"]["cells"] is None


def test_boxes_are_rounded_in_every_sentence() -> None:
    """Names have "quantization" from the literature; sentences say rounded."""
    said = [column.meaning for column in COLUMNS]
    for name in COMMANDS:
        said += [one.opt.help for one in options_of(name).values() if isinstance(one.opt, Opt)]
        said.append(find_function(name).__doc__ or "")
    assert [text for text in said if "quantized" in text.lower()] == []
