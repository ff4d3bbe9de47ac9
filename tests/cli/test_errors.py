"""``roicli errors``, with features and without, and the options that shape a table."""

import json
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import Arrays
from tests.cli.running import (
    FEATURES,
    FPN,
    ROIS,
    SAMPLES,
    SCALE,
    TEXT_ROIS,
    run,
    save,
    succeed,
)

SHARES = ("share_stage1", "share_stage2", "share_aggregation")


def read_table(*arguments: str) -> Any:
    """The table as JSON."""
    return json.loads(succeed(*arguments, "--format", "json", "--force").text)


def test_geometry_needs_no_features(inputs: Arrays) -> None:
    alone = read_table("errors", ROIS, *SCALE, "--map-size", "12x16")
    with_map = read_table("pool", FEATURES, ROIS, *SCALE)
    assert alone["rois"] == with_map["rois"]
    assert alone["summary"] == with_map["summary"]


def test_without_a_map_size_nothing_is_known_to_be_clipped(inputs: Arrays) -> None:
    rows = read_table("errors", ROIS, *SCALE)["rois"]
    assert {row["clipped_fraction"] for row in rows} == {None}
    save("out.npy", [[0.0, 0, 0, 127, 127]])
    rows = read_table("errors", "out.npy", *SCALE, "--map-size", "16x32")["rois"]
    assert rows[0]["clipped_fraction"] == pytest.approx(1 - 16 * 32 / 33**2)


def test_without_a_scale_a_note_says_so(inputs: Arrays) -> None:
    outcome = succeed("errors", ROIS)
    assert outcome.err.startswith("roicli: note: no --spatial-scale, taking 1.0")


def test_values_and_shares() -> None:
    table = read_table("errors", f"{FPN}::p3", TEXT_ROIS)
    for row in table["rois"]:
        assert sum(row[name] for name in SHARES) == pytest.approx(1, abs=1e-3)
        assert 0 <= row["value_error_mean"] <= row["value_error_max"]
        assert -1 <= row["value_cosine"] <= 1
    assert table["summary"]["all"]["value_error_relative_l2"]["mean"] > 0
    assert table["parameters"]["operator"] == "errors"


@pytest.mark.parametrize("command", ["align", "pool"])
def test_values_of_the_operators_are_those_of_errors(inputs: Arrays, command: str) -> None:
    expected = read_table("errors", FEATURES, ROIS, *SCALE)["rois"]
    assert read_table(command, FEATURES, ROIS, *SCALE, "--values")["rois"] == expected


def test_the_table_follows_the_pixel_model(inputs: Arrays) -> None:
    half = read_table("align", FEATURES, ROIS, *SCALE)
    legacy = read_table("align", FEATURES, ROIS, *SCALE, "--no-aligned")
    forced = read_table("align", FEATURES, ROIS, *SCALE, "--no-aligned", "--pixel-model=half-pixel")
    assert half["parameters"]["pixel_model"] == "half-pixel"
    assert legacy["parameters"]["pixel_model"] == "legacy"
    assert forced["rois"] == half["rois"]
    for one, other in zip(half["rois"], legacy["rois"], strict=True):
        assert one["x1_error_cells"] - other["x1_error_cells"] == pytest.approx(0.5)
        assert one["quantized_x1"] - other["quantized_x1"] == 0.5


W8 = [[0.0, 296, 192, 496, 337]]
RULES = {  # docs/semantics.md W10, W11
    ("floor", "overlap"): ([9, 6, 15, 10], 5.3203, 1.0, 0.78444),
    ("floor", "floor-size"): ([9, 6, 15, 9], 11.0703, 0.75, 0.59339),
    ("caffe", "overlap"): ([9, 6, 17, 12], 0, 19.6797, 0.59001),
}


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_rules(rule: tuple[str, str]) -> None:
    save("w8.npy", W8)
    options = ("--quantization", rule[0], "--partition", rule[1], "--output-size", "3")
    row = read_table("errors", "w8.npy", "--spatial-scale", "1/32", *options)["rois"][0]
    region, lost, gained, iou = RULES[rule]
    assert [row[f"quantized_{edge}"] for edge in ("x1", "y1", "x2", "y2")] == region
    assert row["area_lost_cells"] == pytest.approx(lost, abs=1e-4)
    assert row["area_gained_cells"] == pytest.approx(gained, abs=1e-4)
    assert row["iou"] == pytest.approx(iou, abs=1e-5)


def test_stage_0_shows_what_the_stored_dtype_cost() -> None:
    long_box = [[0, 920.11, 276.99, 1049.87, 322.0]]
    expected = {"f2": 0.5, "f4": 2**-14, "f8": 2**-43, "i4": 0.5}
    for dtype, error in expected.items():
        save("box.npy", np.array(long_box).astype(dtype))
        row = read_table("errors", "box.npy", "--spatial-scale", "1/4")["rois"][0]
        assert row["coordinate_error_px"] == error


def test_presets_set_and_options_override(inputs: Arrays) -> None:
    found = read_table("align", FEATURES, ROIS, *SCALE, "--preset", "torchvision")["parameters"]
    assert (found["aligned"], found["sampling_ratio"], found["preset"]) == (False, 0, "torchvision")
    assert found["pixel_model"] == "legacy"
    options = ("--preset", "torchvision", "--aligned", "--sampling-ratio", "3")
    found = read_table("align", FEATURES, ROIS, *SCALE, *options)["parameters"]
    assert (found["aligned"], found["sampling_ratio"]) == (True, 3)
    found = read_table("pool", FEATURES, ROIS, *SCALE, "--preset", "mmcv")["parameters"]
    assert found["quantization"] == "mmcv"


def test_help_shows_its_example_and_the_example_runs() -> None:
    for command in ("align", "pool", "errors"):
        text = " ".join(succeed(command, "--help", COLUMNS="200").text.split())
        example = text.partition("Example: roicli ")[2].split(" Arguments ")[0]
        arguments = [word.replace("sample_data", str(SAMPLES)) for word in example.split()]
        assert arguments[0] == command
        assert run(*arguments).code == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_of_maps_that_are_not_finite_are_not_defined(inputs: Arrays, value: float) -> None:
    features = inputs[0].copy()
    features[0, 1, 3, 3] = value
    save("holes.npy", features)
    table = read_table("errors", "holes.npy", ROIS, *SCALE)
    assert table["rois"][0]["share_stage1"] is None
    assert table["rois"][1]["share_stage1"] is not None  # the other image is whole
    assert table["summary"]["all"]["share_stage1"]["mean"] is not None
