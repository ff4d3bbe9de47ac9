"""diagnose on results whose axes, bins or rows are not as the RoIs are."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest

import roicli
from roicli.analysis.diagnose.alignment import (
    Alignment,
    find_turned_axes,
    match_to_rois,
    read_axes,
)
from roicli.core.declaration import settle
from roicli.core.exceptions import InputError
from roicli.operators.convention import CROP
from roicli.pipeline.inputs import open_inputs
from roicli.pipeline.request import Reading
from roicli.storage.array import MemoryArray
from tests.cli.running import run, save

RNG = np.random.default_rng(4)
MAPS = RNG.normal(size=(2, 8, 24, 32)).astype(np.float32)
COUNT = 24
STARTS = RNG.uniform(0, 250, size=(COUNT, 2))
SIDES = RNG.uniform(40, 130, size=(COUNT, 2))
ROIS = np.column_stack([np.arange(COUNT) % 2, STARTS, STARTS + SIDES])
SCALE = 1 / 16
BASE = roicli.align(MAPS, ROIS, spatial_scale=SCALE, aligned=False).roi_features
POOLED = roicli.pool(MAPS, ROIS, spatial_scale=SCALE, output_size=(5, 3)).roi_features
ORDER = RNG.permutation(COUNT)


def diagnose(result, **options):
    return roicli.diagnose(MAPS, ROIS, result, spatial_scale=SCALE, **options)


def open_rois(rois=ROIS):
    reading = settle(Reading, {"spatial_scale": SCALE})
    return contextlib.closing(open_inputs(MAPS, rois, reading))


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (BASE[None], "(K, C, P_h, P_w)"),
        (BASE.reshape(COUNT, -1), "(K, C, P_h, P_w)"),
        (BASE.transpose(0, 2, 3, 1), "(K, P_h, P_w, C)"),
        (BASE.transpose(0, 2, 3, 1).reshape(COUNT, -1), "(K, P_h, P_w, C)"),
        (POOLED.transpose(0, 2, 3, 1), "(K, P_h, P_w, C)"),
        (POOLED.reshape(COUNT, -1), "(K, C, P_h, P_w)"),
        (BASE[:20].transpose(0, 2, 3, 1), "(K, P_h, P_w, C)"),
    ],
    ids=[
        "batch",
        "flat",
        "channels last",
        "flat, channels last",
        "no square",
        "flat, no square",
        "fewer rows",
    ],
)
def test_other_axes_are_read(result, words):
    with open_rois() as inputs:
        read, found = read_axes(inputs, MemoryArray(np.ascontiguousarray(result), "x"))
    expected = POOLED if result[0].size == POOLED[0].size else BASE
    np.testing.assert_array_equal(read.read_all(), expected[: len(read.read_all())])
    assert found == words


@pytest.mark.parametrize(
    "shape", [(COUNT, 8, 7, 7), (COUNT, 4, 7, 7), (COUNT, 121), (3, 3), (0, 8)]
)
def test_other_shapes_are_left_as_they_are(shape):
    stored = MemoryArray(np.ones(shape), "x")
    with open_rois() as inputs:
        assert read_axes(inputs, stored) == (stored, None)


def test_bins_that_are_transposed():
    with open_rois() as inputs:
        for values in (BASE, POOLED):
            turned = MemoryArray(np.ascontiguousarray(values.transpose(0, 1, 3, 2)), "x")
            read = find_turned_axes(inputs, turned)
            np.testing.assert_array_equal(read.result.read_all(), values)
            assert read.axes == "(K, C, P_w, P_h)"
            assert read.is_clear
            assert find_turned_axes(inputs, MemoryArray(values, "x")) is None


def test_pooled_bins_of_noise_that_are_transposed():
    """A maximum is like no mean."""
    result = roicli.pool(MAPS, ROIS, spatial_scale=SCALE, output_size=(5, 3), quantization="floor")
    with open_rois() as inputs:
        turned = MemoryArray(result.roi_features.transpose(0, 1, 3, 2).copy(), "x")
        assert find_turned_axes(inputs, turned).axes == "(K, C, P_w, P_h)"


@pytest.mark.parametrize("values", [BASE, POOLED], ids=["align", "pool"])
def test_rows_in_another_order_are_found(values):
    with open_rois() as inputs:
        found = match_to_rois(inputs, MemoryArray(values[ORDER], "x"))
        fewer = match_to_rois(inputs, MemoryArray(values[ORDER[:20]], "x"))
    np.testing.assert_array_equal(found.b[np.argsort(found.a)], ORDER)
    np.testing.assert_array_equal(fewer.b[np.argsort(fewer.a)], ORDER[:20])
    assert fewer.only_b.tolist() == sorted(ORDER[20:].tolist())


@pytest.mark.full
def test_what_is_found_is_diagnosed():
    plain = diagnose(BASE).match.candidate
    moved = np.ascontiguousarray(BASE[ORDER])
    found = diagnose(moved)
    assert found.match is None
    assert found.nearest.candidate == plain
    assert diagnose(moved, match_rows=True).match.candidate == plain
    turned = np.ascontiguousarray(BASE.transpose(0, 1, 3, 2))
    found = diagnose(turned)
    assert found.match.candidate == plain
    assert found.alignment == Alignment("(K, C, P_w, P_h)")
    with pytest.raises(InputError, match="expected"):
        diagnose(POOLED.reshape(COUNT, -1)[:, 1:])


@pytest.mark.full
def test_missing_rows_keep_the_rois_numbers():
    kept = np.delete(np.arange(COUNT), [1, 7, 20])
    result = BASE[kept].copy()
    result[kept == 9] += RNG.normal(size=result[0].shape).astype(np.float32) / 2
    found = diagnose(result, match_rows=True)
    assert found.alignment.rows.only_b.tolist() == [1, 7, 20]
    assert found.rois == COUNT
    assert found.partial.others[0].rows == (9,)
    assert set(found.partial.rows) == set(kept.tolist()) - {9}


def test_channels_last_of_as_many_channels_as_bins():
    maps, rois = MAPS[:, :3], ROIS
    values = roicli.align(maps, rois, spatial_scale=SCALE, output_size=3).roi_features
    with contextlib.closing(open_inputs(maps, rois, settle(Reading, {"spatial_scale": SCALE}))) as (
        inputs
    ):
        last = MemoryArray(np.ascontiguousarray(values.transpose(0, 2, 3, 1)), "x")
        assert find_turned_axes(inputs, last).axes == "(K, P_h, P_w, C)"


def test_rows_are_matched_by_the_convention_that_is_known():
    """Points at the ends of boxes are like those of no RoI Align."""
    rule = CROP.placed(normalization="image-less-1", end_px=-1.0)
    options = {"spatial_scale": SCALE, "output_size": 3, "normalization": "matterport"}
    values = roicli.crop_and_resize(MAPS, ROIS, **options).roi_features
    with open_rois() as inputs:
        found = match_to_rois(inputs, MemoryArray(values[ORDER], "x"), rule)
    np.testing.assert_array_equal(found.b[np.argsort(found.a)], ORDER)


def test_rows_that_are_like_no_roi_are_not_matched():
    noise = RNG.normal(size=BASE.shape).astype(np.float32)
    with open_rois(ROIS) as inputs:
        assert match_to_rois(inputs, MemoryArray(noise, "x")) is None
        assert match_to_rois(inputs, MemoryArray(BASE, "x")) is None
    twice = np.concatenate([ROIS, ROIS])
    with open_rois(twice) as inputs:
        assert match_to_rois(inputs, MemoryArray(np.concatenate([BASE, BASE]), "x")) is None


@pytest.mark.full
def test_the_command_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save("f.npy", MAPS)
    save("r.npy", ROIS)
    save("moved.npy", BASE[ORDER][:20])
    arguments = ("diagnose", "f.npy", "r.npy", "moved.npy", "--spatial-scale", "1/16", "-q")
    outcome = run(*arguments)
    assert outcome.code == 1
    assert "Rows are in another order" in outcome.text
    assert "not in the result, 4 rows of the RoIs" in " ".join(outcome.text.split())
    assert "--match-rows" in outcome.text
    outcome = run(*arguments, "--match-rows", "--format", "json")
    assert outcome.code == 0
    found = json.loads(outcome.text)
    assert found["match"]["coordinates"] == "legacy"
    assert sorted(found["rows"]["rois"]) == sorted(ORDER[:20].tolist())
    assert sorted(found["rows"]["only_rois"]) == sorted(ORDER[20:].tolist())
