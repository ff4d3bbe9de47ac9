"""``roicli bench``: what takes turns, for each operator."""

import json

import pytest

from tests.cli.running import FPN, TEXT_ROIS, refuse, succeed

PAIR = (f"{FPN}::p3", TEXT_ROIS)


@pytest.mark.parametrize("operator", ["align", "pool", "precise-pool"])
def test_each_operator_is_measured_with_what_it_takes(operator: str) -> None:
    told = succeed(
        "bench", operator, *PAIR, "--runs", "1", "--output-size", "3", "--roi-format", "xyxy",
        "--format", "json",
    )  # fmt: skip
    (row,) = json.loads(told.text)["bench"]
    assert (row["operator"], row["provider"], row["runs"]) == (operator, "cpu", 1)


def test_what_cannot_be_measured_is_refused() -> None:
    refuse("bench", "align", *PAIR, "--runs", "0", words=("runs", "0", "at least 1"))
    refuse("bench", "align", *PAIR, "--providers", "gpu", words=("provider", "gpu", "cpu"))
    refuse("bench", "align", PAIR[0], "-", words=("again and again", "'-'"))
