"""diagnose on results whose axes, bins or rows are not as the RoIs are."""

import json
from pathlib import Path

import numpy as np
import pytest

import roicli
from roicli.analysis.diagnose.alignment import Alignment, match_to_rois
from roicli.core.exceptions import InputError
from roicli.pipeline.inputs import open_inputs
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


@pytest.fixture(scope="module")
def plain():
    return diagnose(BASE).match.convention


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (BASE[None], "(K, C, P_h, P_w)"),
        (BASE.reshape(COUNT, -1), "(K, C, P_h, P_w)"),
        (BASE.transpose(0, 2, 3, 1), "(K, P_h, P_w, C)"),
        (BASE.transpose(0, 2, 3, 1).reshape(COUNT, -1), "(K, P_h, P_w, C)"),
        (BASE.transpose(0, 1, 3, 2), "(K, C, P_w, P_h)"),
    ],
    ids=["batch", "flat", "channels last", "flat, channels last", "transposed bins"],
)
def test_other_axes_are_read(result, words, plain):
    found = diagnose(result)
    assert found.match.convention == plain
    assert found.alignment == Alignment(words)


def test_bins_that_are_no_square():
    found = diagnose(POOLED.transpose(0, 2, 3, 1))
    assert found.match is not None
    assert found.alignment.axes == "(K, P_h, P_w, C)"
    assert diagnose(POOLED.transpose(0, 1, 3, 2)).alignment.axes == "(K, C, P_w, P_h)"
    with pytest.raises(InputError, match="expected"):
        diagnose(POOLED.reshape(COUNT, -1))


def test_rows_in_another_order_are_no_match_unless_accepted(plain):
    moved = np.ascontiguousarray(BASE[ORDER])
    found = diagnose(moved)
    assert found.match is None
    assert found.nearest.convention == plain
    order = np.empty(COUNT, int)
    order[found.alignment.rows.a] = found.alignment.rows.b
    np.testing.assert_array_equal(order, ORDER)
    assert diagnose(moved, match_rows=True).match.convention == plain


def test_missing_rows_keep_the_rois_numbers():
    kept = np.delete(np.arange(COUNT), [1, 7, 20])
    result = BASE[kept].copy()
    result[kept == 9] += RNG.normal(size=result[0].shape).astype(np.float32) / 2
    found = diagnose(result, match_rows=True)
    assert found.alignment.rows.only_b.tolist() == [1, 7, 20]
    assert found.rois == COUNT
    assert found.partial.others[0].rows == (9,)
    assert set(found.partial.rows) == set(kept.tolist()) - {9}


def test_rows_of_another_operator_are_found_too():
    """What rows are matched with is RoI Align, and the result is RoI Pool's."""
    found = diagnose(POOLED[ORDER], match_rows=True)
    assert found.match is not None
    assert found.alignment.rows.moved == np.count_nonzero(np.arange(COUNT) != ORDER)


def test_rows_that_are_like_no_roi_are_not_matched():
    noise = RNG.normal(size=BASE.shape).astype(np.float32)
    with open_inputs_of(ROIS) as inputs:
        assert match_to_rois(inputs, MemoryArray(noise, "x")) is None
        assert match_to_rois(inputs, MemoryArray(BASE, "x")) is None
    twice = np.concatenate([ROIS, ROIS])
    with open_inputs_of(twice) as inputs:
        assert match_to_rois(inputs, MemoryArray(np.concatenate([BASE, BASE]), "x")) is None


def open_inputs_of(rois):
    import contextlib

    from roicli.core.declaration import settle
    from roicli.pipeline.request import Reading

    reading = settle(Reading, {"spatial_scale": SCALE})
    return contextlib.closing(open_inputs(MAPS, rois, reading))


def test_the_command_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save("f.npy", MAPS)
    save("r.npy", ROIS)
    save("moved.npy", BASE[ORDER][:20])
    arguments = ("diagnose", "f.npy", "r.npy", "moved.npy", "--spatial-scale", "1/16", "-q")
    outcome = run(*arguments)
    assert outcome.code == 1
    assert "Rows are in another order" in outcome.text
    assert "no row for 4 of the RoIs" in " ".join(outcome.text.split())
    assert "--match-rows" in outcome.text
    outcome = run(*arguments, "--match-rows", "--format", "json")
    assert outcome.code == 0
    found = json.loads(outcome.text)
    assert found["match"]["coordinates"] == "legacy"
    assert sorted(found["rows"]["rois"]) == sorted(ORDER[:20].tolist())
    assert sorted(found["rows"]["only_rois"]) == sorted(ORDER[20:].tolist())
