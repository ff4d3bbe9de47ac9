"""``roicli diagnose`` as a user runs it."""

import json
from typing import Any

import numpy as np
import pytest

from roicli.operators.convention import Convention, Placement
from roicli.operators.evaluate import evaluate
from roicli.operators.sampled_map import SampledMap, all_bins
from tests.cli.running import FEATURES, FPN, ROIS, SCALE, TEXT_ROIS, refuse, run, save, succeed
from tests.options import some

pytestmark = pytest.mark.usefixtures("inputs")
INPUTS = (FEATURES, ROIS)
DIAGNOSE = ("diagnose", *INPUTS, "result.npy", *SCALE)


@pytest.fixture
def result(inputs: Any) -> None:
    """result.npy: legacy, adaptive."""
    succeed(
        "align", *INPUTS, *SCALE, "-o", "result.npy", "-q", "--no-aligned", "--sampling-ratio", "0"
    )


@pytest.mark.usefixtures("result")
@some("columns", [("60",), ("80",), ("120",)], ("60",))
def test_match(columns: str) -> None:
    outcome = succeed(*DIAGNOSE, COLUMNS=columns)
    lines = outcome.text.splitlines()
    assert lines[0] == "Match: RoI Align, average, legacy, adaptive"
    assert "  Same as: roicli align --no-aligned --sampling-ratio 0" in lines
    assert any(line.startswith("Runner-up: RoI Align") for line in lines)
    assert max(map(len, lines)) <= int(columns)
    assert "\u2026" not in outcome.text


@pytest.mark.usefixtures("result")
def test_json() -> None:
    found = json.loads(succeed(*DIAGNOSE, "--format", "json").text, parse_constant=pytest.fail)
    assert found["schema_version"] == 1
    assert found["match"]["coordinates"] == "legacy"
    assert found["match"]["sampling_ratio"] == 0
    assert found["distance"] == found["match"]["distance"] < 1e-6
    assert found["runner_up"]["distance"] > 1e-4
    assert found["synonyms"] == []
    assert found["rois_compared"] == found["rois"] == 5
    assert 0 < found["seconds"] < 600


def test_what_a_match_needs_and_whose_it_is() -> None:
    """Zero padding at the border: on which RoIs it tells, and that it is MegEngine's."""
    maps = np.load(FEATURES).astype(np.float64)
    rois = np.array([[0, 14, 12, 40, 30], [0, 12, 14, 30, 32], [1, 16, 10, 44, 36],
                     [1, 10, 16, 48, 34], [0, -3, 8, 30, 28]], np.float32)  # fmt: skip
    save(ROIS, rois)
    rule = Convention(Placement(shift_cells=-0.5, minimum=0.0), border="zero")
    values = [
        evaluate(rule, SampledMap(maps[int(n)], roi[None], 0.25), all_bins((3, 3)))
        for n, *roi in rois
        for roi in [np.array(roi, np.float32)]
    ]
    save("result.npy", np.concatenate(values).astype(np.float32))
    lines = succeed(*DIAGNOSE, COLUMNS="160").text.splitlines()
    assert lines[0].startswith("Match: RoI Align, average, half-pixel, ")
    assert "zero padding at the border" in lines[0]
    assert any(
        line.startswith("  without 'zero padding at the border' on 4 of 5 RoIs; the other one")
        and line.endswith(": 4")
        for line in lines
    )
    assert any(line.startswith("  As: megengine.roi_align (1.13.1)") for line in lines)
    found = json.loads(succeed(*DIAGNOSE, "--format", "json").text)
    assert found["match"]["parameters"]["border"] == "zero"
    assert [row["name"] for row in found["libraries"]] == ["megengine.roi_align"]
    assert [need["rows"] for need in found["needs"]] == [[4]]


@pytest.mark.full
def test_no_match() -> None:
    save("result.npy", np.random.default_rng(0).normal(size=(5, 3, 7, 7)))
    outcome = run(*DIAGNOSE)
    assert outcome.code == 1
    lines = outcome.text.splitlines()
    assert lines[0] == "No match: nothing is within 0.3 of the result, too far for any name."
    assert "Nearest" not in outcome.text
    assert "Runner-up" not in outcome.text
    outcome = run(*DIAGNOSE, "--format", "json")
    found = json.loads(outcome.text, parse_constant=pytest.fail)
    assert outcome.code == 1
    assert found["match"] is found["partial"] is found["nearest"] is found["runner_up"] is None
    assert found["distance"] > 0.3
    assert found["told_apart"] is True


@pytest.mark.full
@pytest.mark.usefixtures("result")
def test_near_is_no_match() -> None:
    save("result.npy", np.load("result.npy") * np.float32(1.01))
    outcome = run(*DIAGNOSE)
    assert outcome.code == 1
    assert outcome.text.startswith("No match: nothing is within 0.0001 of the result.\nNearest:")


@pytest.mark.full
@pytest.mark.usefixtures("result")
def test_a_part() -> None:
    """A convention that explains all but one RoI is named with its rows, and is no match."""
    values = np.load("result.npy")
    values[2, 1, 3, 4] = np.nan
    save("result.npy", values)
    outcome = run(*DIAGNOSE)
    assert outcome.code == 1
    lines = outcome.text.splitlines()
    assert lines[:2] == [
        "No match: nothing explains every RoI.",
        "Partial match: RoI Align, average, legacy, adaptive",
    ]
    assert "  on 4 of 5 RoIs: 0-1, 3-4" in lines
    assert "  not on 1 RoI NaN or infinite in the result: 2" in lines
    outcome = run(*DIAGNOSE, "--format", "json")
    found = json.loads(outcome.text, parse_constant=pytest.fail)
    assert outcome.code == 1
    assert found["match"] is None
    assert found["partial"]["coordinates"] == "legacy"
    assert found["partial"]["rows"] == [0, 1, 3, 4]
    assert found["partial"]["others"] == [{"reason": "NaN or infinite in the result", "rows": [2]}]


def test_position_sensitive() -> None:
    """A result with a group's channels is looked at; other numbers of channels are refused."""
    save(FEATURES, np.random.default_rng(0).normal(size=(2, 12, 12, 16)).astype(np.float32))
    save("result.npy", np.random.default_rng(1).normal(size=(5, 3, 2, 2)).astype(np.float32))
    assert run(*DIAGNOSE).code == 1
    save("result.npy", np.zeros((5, 5, 2, 2), np.float32))
    refuse(*DIAGNOSE, words=("expected (5, 12, P_h, P_w)", "position-sensitive results"))


def test_zeros_are_no_explanation() -> None:
    save("result.npy", np.zeros((5, 3, 64, 64)))
    outcome = run(*DIAGNOSE)
    assert outcome.code == 1
    assert "zeros come from" in outcome.text


def test_a_constant_map_tells_nothing_apart() -> None:
    save(FEATURES, np.ones((2, 3, 12, 16), np.float32))
    save(ROIS, np.array([[0, 20, 18, 28, 26], [1, 24, 20, 34, 28]], np.float32))
    save("result.npy", np.ones((2, 3, 2, 2), np.float32))
    outcome = run(*DIAGNOSE, "--sample", "all")
    assert outcome.code == 1
    assert "this data cannot tell conventions apart" in outcome.text
    found = json.loads(run(*DIAGNOSE, "--format", "json").text, parse_constant=pytest.fail)
    assert found["match"] is found["nearest"] is None
    assert found["told_apart"] is False


def test_many_synonyms_are_cut_to_a_few() -> None:
    """Of a map that rises evenly, every sampling ratio gives the same mean."""
    y, x = np.mgrid[:12, :16]
    save(FEATURES, np.broadcast_to(x + 20.0 * y, (2, 3, 12, 16)).astype(np.float32))
    rois = [[0, 12, 12, 28, 34], [1, 24, 16, 40, 28], [0, 20, 12, 30, 20], [1, 14, 20, 50, 36]]
    save(ROIS, np.array(rois, np.float32))
    succeed("align", *INPUTS, *SCALE, "-o", "result.npy", "-q", "--output-size", "2x2")
    outcome = succeed(*DIAGNOSE, "--sample", "all")
    assert "The same numbers on this data:" in outcome.text
    assert "more, all of them with --format json" in outcome.text


def test_real_pyramid_on_stdin() -> None:
    pyramid = (FPN, TEXT_ROIS)
    stored = succeed("pool", *pyramid, "--levels", "p3,p4,p5", "-o", "-", "--no-table").out
    outcome = succeed("diagnose", *pyramid, "-", "--levels", "p3,p4,p5", stdin=stored)
    assert outcome.text.startswith("Match: RoI Pool, quantization caffe, partition overlap\n")


@pytest.mark.usefixtures("result")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*INPUTS, FEATURES, *SCALE), ("f.npy", "(2, 3, 12, 16)", "expected (5, 3, P_h, P_w)")),
        ((*INPUTS, "none.npy", *SCALE), ("none.npy", "no such file")),
        ((*INPUTS, "result.npy", *SCALE, "--sample", "0"), ("sample", "at least 1")),
        ((*INPUTS, "result.npy", *SCALE, "--sample", "some"), ("sample", "'some'")),
        ((*INPUTS, "result.npy", *SCALE, "--tolerance", "0"), ("tolerance", "positive")),
        ((*INPUTS, "result.npy", "--spatial-scale", "0"), ("spatial scale",)),
        ((*INPUTS, "result.npy", *SCALE, "--image-size", "x"), ("image size",)),
    ],
)
def test_refused(arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    refuse("diagnose", *arguments, words=words)
