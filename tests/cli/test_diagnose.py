"""``roicli diagnose`` as a user runs it."""

import json
from typing import Any

import numpy as np
import pytest

from tests.cli.running import FEATURES, FPN, ROIS, SCALE, TEXT_ROIS, refuse, run, save, succeed

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
@pytest.mark.parametrize("columns", ["60", "80", "120"])
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


def test_no_match() -> None:
    save("result.npy", np.random.default_rng(0).normal(size=(5, 3, 7, 7)))
    outcome = run(*DIAGNOSE)
    assert outcome.code == 1
    assert outcome.text.startswith("No match: nothing is within 0.0001 of the result.\nNearest:")
    outcome = run(*DIAGNOSE, "--format", "json")
    found = json.loads(outcome.text, parse_constant=pytest.fail)
    assert outcome.code == 1
    assert found["match"] is None
    assert found["runner_up"]["distance"] >= found["distance"] > 0.1
    assert found["nearest"]["name"]
    save("result.npy", np.zeros((5, 3, 30, 30)))
    assert run(*DIAGNOSE).code == 1


def test_zeros_are_no_explanation() -> None:
    save("result.npy", np.zeros((5, 3, 64, 64)))
    outcome = run(*DIAGNOSE)
    assert outcome.code == 1
    assert "zeros come from" in outcome.text


def test_many_synonyms_are_cut_to_a_few() -> None:
    save(FEATURES, np.ones((2, 3, 12, 16), np.float32))
    save(ROIS, np.array([[0, 20, 18, 28, 26], [1, 24, 20, 34, 28]], np.float32))
    save("result.npy", np.ones((2, 3, 2, 2), np.float32))
    outcome = succeed(*DIAGNOSE, "--sample", "all")
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
