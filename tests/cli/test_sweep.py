"""``roicli sweep`` as a user runs it."""

import json

import pytest

from tests.cli.running import FEATURES, FPN, ROIS, SCALE, TEXT_ROIS, refuse, succeed

pytestmark = pytest.mark.usefixtures("inputs")
SWEEP = ("sweep", FEATURES, ROIS, *SCALE)


@pytest.mark.parametrize("columns", ["40", "60", "80", "120"])
def test_table(columns: str) -> None:
    outcome = succeed(*SWEEP, "--tolerance", "0.2", COLUMNS=columns)
    lines = outcome.text.splitlines()
    table = [line for line in lines if "adaptive" in line]
    assert table[0].split()[0] == "adaptive"
    assert any(line.startswith("--sampling-ratio ") for line in lines)
    assert max(map(len, lines[1:-2])) <= max(int(columns), 60)
    assert "\u2026" not in outcome.text


def test_json() -> None:
    outcome = succeed(
        "sweep", f"{FPN}::p3", TEXT_ROIS, "--format", "json", "--sample", "30", "--no-aligned"
    )
    found = json.loads(outcome.text, parse_constant=pytest.fail)
    assert found["schema_version"] == 1
    assert found["rois_measured"] == 30
    assert found["recommended_sampling_ratio"] in (1, 2, 3, 4, 8)
    everything = [r for r in found["records"] if r["size_class"] == "all"]
    assert [r["sampling_ratio"] for r in everything] == [1, 2, 3, 4, 8, 0]
    assert set(everything[0]) == {
        "sampling_ratio", "size_class", "n", "samples_per_bin", "seconds", "relative_l2",
        "relative_l2_p95", "max_difference", "fine_grid_relative_l2", "fine_grid_max_difference",
    }  # fmt: skip
    best = next(r for r in everything if r["sampling_ratio"] == found["recommended_sampling_ratio"])
    assert best["relative_l2"] <= found["tolerance"] == 0.01


def test_nothing_is_good_enough() -> None:
    outcome = succeed(*SWEEP, "--tolerance", "1e-12")
    assert outcome.text.splitlines()[-1].startswith("No sampling ratio has a median relative L2")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--tolerance", "-1"), ("tolerance", "positive")),
        (("--sample", "none"), ("sample", "'none'")),
        (("--output-size", "500"), ("output size", "fine grid")),
        (("--image-size", "3"), ("image size", "--normalized")),
    ],
)
def test_refused(options: tuple[str, ...], words: tuple[str, ...]) -> None:
    refuse(*SWEEP, *options, words=words)
