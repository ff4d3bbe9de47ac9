"""--fail-over and --fail-under: strict, repeatable, exit 1, everything written all the same."""

import json
import os
from typing import Any

import numpy as np
import pytest

from tests.cli.running import FPN, TEXT_ROIS, run, save, succeed

BOXES = ("errors", TEXT_ROIS, "--spatial-scale", "1/8")


@pytest.fixture(scope="module")
def found() -> Any:
    """The whole table of BOXES."""
    return json.loads(run(*BOXES, "--format", "json").text)


def test_over_is_strict(found: Any) -> None:
    worst = max(row["edge_error_max_px"] for row in found["rois"])
    for value, code in ((worst, 0), (worst - 1e-9, 1), (worst + 1e-9, 0)):
        outcome = run(*BOXES, "--fail-over", f"edge_error_max_px={value!r}", "--no-table")
        assert outcome.code == code
        assert outcome.out == b""
        assert len(outcome.errors) == code


def test_under_is_strict(found: Any) -> None:
    worst = min(row["iou"] for row in found["rois"])
    for value, code in ((worst, 0), (worst + 1e-9, 1), (worst - 1e-9, 0)):
        outcome = run(*BOXES, "--fail-under", f"iou={value!r}", "--no-table")
        assert outcome.code == code


def test_the_rois_are_named(found: Any) -> None:
    rows = [row["roi"] for row in found["rois"] if row["iou"] < 0.2]
    assert 0 < len(rows) <= 10
    outcome = run(*BOXES, "--fail-under", "iou=0.2", "-q")
    names = ", ".join(map(str, rows))
    worst = min(row["iou"] for row in found["rois"])
    assert outcome.errors == [
        f"roicli: finding: iou under 0.2 (found {worst:g}): RoIs {names}"
    ]  # fmt: skip
    many = run(*BOXES, "--fail-under", "iou=1.1", "-q")
    assert "RoIs 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 92 more" in many.err


@pytest.mark.parametrize("statistic", ["mean", "median", "p95", "max", "min"])
def test_statistics(found: Any, statistic: str) -> None:
    value = found["summary"]["all"]["edge_error_max_px"][statistic]
    for option, direction in (("--fail-over", -1), ("--fail-under", 1)):
        threshold = f"{statistic}:edge_error_max_px="
        at = run(*BOXES, option, f"{threshold}{value!r}", "-q")
        past = run(*BOXES, option, f"{threshold}{value + direction * 1e-9!r}", "-q")
        assert (at.code, at.err) == (0, "")
        assert past.code == 1
        assert past.err.startswith(f"roicli: finding: {statistic}:edge_error_max_px ")


def test_several_thresholds() -> None:
    options = ("--fail-over", "p95:edge_error_max_px=8", "--fail-over", "empty_bins=9999",
               "--fail-under", "iou=0.5", "--fail-under", "width_ratio=0.001")  # fmt: skip
    outcome = run(*BOXES, *options, "--no-table")
    assert outcome.code == 1
    assert len(outcome.errors) == 2
    assert "p95:edge_error_max_px over 8" in outcome.errors[0]
    assert "iou under 0.5" in outcome.errors[1]


def test_everything_is_still_written() -> None:
    arguments = ("align", f"{FPN}::p3", TEXT_ROIS, "-o", "out.npy", "--errors-out", "e.csv")
    outcome = run(*arguments, "--fail-over", "edge_error_max_px=0", "--format", "json")
    assert outcome.code == 1
    assert len(json.loads(outcome.text)["rois"]) == 102
    assert sorted(os.listdir(".")) == ["e.csv", "out.npy"]
    assert "finding" in outcome.errors[-1]


def test_thresholds_on_values() -> None:
    arguments = ("errors", f"{FPN}::p3", TEXT_ROIS, "-q")
    assert run(*arguments, "--fail-under", "value_cosine=-1").code == 0
    outcome = run(*arguments, "--fail-under", "median:value_cosine=1")
    assert outcome.code == 1
    assert "median:value_cosine under 1" in outcome.err


def test_what_is_not_defined_crosses_nothing() -> None:
    save("point.npy", [[0.0, 5, 5, 5, 5]])
    save("none.npy", np.zeros((0, 5)))
    for option in ("--fail-over", "--fail-under"):
        for threshold in ("width_ratio=1", "p95:width_ratio=1"):
            succeed("errors", "point.npy", "--spatial-scale", "1/4", option, threshold)
            succeed("errors", "none.npy", "--spatial-scale", "1/4", option, threshold)
