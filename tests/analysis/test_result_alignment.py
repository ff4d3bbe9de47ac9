"""Results of other runtimes: other axes, rows in another order, rows that are missing, rounding."""

import json
from itertools import permutations
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import roicli
from roicli.analysis.result.axes import RowsArray, TakenRows, possible_axes
from roicli.analysis.result.rows import match_rows, pair_rows, project_rows
from roicli.core.exceptions import InputError
from roicli.storage.array import MemoryArray
from tests.cli.running import run, save

RNG = np.random.default_rng(11)
BASE = RNG.normal(size=(15, 8, 7, 7)).astype(np.float32)
SHUFFLED = RNG.permutation(15)
KEPT = np.array([0, 1, 3, 4, 5, 6, 8, 9, 10, 12, 13, 14])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def stored(values):
    return MemoryArray(values, "x")


# Axes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("turned", "words"),
    [
        (BASE[None], "(K, C, P_h, P_w)"),
        (BASE[:, None], "(K, C, P_h, P_w)"),
        (BASE.reshape(3, 5, 8, 7, 7), "(K, C, P_h, P_w)"),
        (BASE.reshape(15, -1), "(K, C, P_h, P_w)"),
        (BASE.reshape(15, 8, 49), "(K, C, P_h, P_w)"),
        (BASE.reshape(15, -1)[..., None, None], "(K, C, P_h, P_w)"),
        (BASE.transpose(0, 2, 3, 1), "(K, P_h, P_w, C)"),
        (BASE.transpose(0, 2, 3, 1).reshape(15, -1), "(K, P_h, P_w, C)"),
        (BASE.transpose(0, 2, 3, 1).reshape(15, 49, 8), "(K, P_h, P_w, C)"),
        (BASE.transpose(0, 3, 2, 1), "(K, P_w, P_h, C)"),
        (BASE.transpose(0, 2, 1, 3), "(K, P_h, C, P_w)"),
    ],
    ids=lambda value: "x".join(map(str, value.shape)) if isinstance(value, np.ndarray) else "",
)
@pytest.mark.parametrize("side", ["A", "B"])
def test_axes_in_another_order_are_read_and_said(turned, words, side):
    pair = (turned, BASE) if side == "A" else (BASE, turned)
    found = roicli.compare(*pair)
    assert found.equal
    assert found.max_difference == 0
    if turned.shape == BASE.shape:
        return
    assert f"axes are read as {words}" in found.axes
    assert found.shape in (BASE.shape, turned.shape)
    assert not roicli.compare(pair[0], pair[1] + 0.5).equal


def test_bins_that_are_transposed_are_named():
    found = roicli.compare(np.ascontiguousarray(BASE.transpose(0, 1, 3, 2)), BASE)
    assert not found.equal
    assert found.rows is None
    assert found.axes == "A is as B with its axes read as (K, C, P_w, P_h): equal"


def test_shapes_that_no_order_brings_together():
    for other in (BASE[:, :7], BASE[:, :, :6], BASE[0, 0, 0]):
        with pytest.raises(InputError, match="expected two equal shapes"):
            roicli.compare(BASE, other)
    noise = RNG.normal(size=(15, 7, 7, 8)).astype(np.float32)
    with pytest.raises(InputError, match=r"may be .*\(K, P_h, P_w, C\).* in none of these orders"):
        roicli.compare(noise, BASE)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_view_reads_any_place_of_any_order(order):
    rows = np.arange(4 * 2 * 3 * 5).reshape(4, 2, 3, 5).astype(np.float32)
    turned = rows.transpose(0, *(1 + axis for axis in order))
    for shape in (turned.shape, (2, 2, *turned.shape[1:]), (1, *turned.shape), (4, 30)):
        ways = possible_axes(shape, rows.shape[1:], 4)
        axes = next(way for way in ways if way.order == order)
        view = RowsArray(stored(np.ascontiguousarray(turned).reshape(shape)), axes)
        np.testing.assert_array_equal(view.read_all(), rows)
        place = (slice(1, 3), slice(0, 1), slice(1, 3), slice(2, 5))
        out = np.empty((2, 1, 2, 3), np.float32)
        view.read(place, out)
        np.testing.assert_array_equal(out, rows[place])


def test_axes_that_do_not_count_rows():
    assert not list(possible_axes((15, 7, 7, 8), (8, 7, 6)))
    assert not list(possible_axes((15, 7, 7, 8), (8, 7, 7), 14))
    assert [str(axes) for axes in possible_axes((15, 8, 49), (8, 7, 7))] == [
        "(K, C, P_h, P_w)", "(K, C, P_w, P_h)",
    ]  # fmt: skip


# Rows -------------------------------------------------------------------------------------------


def test_rows_in_another_order_are_found_and_only_accepted_when_asked():
    found = roicli.compare(BASE[SHUFFLED], BASE)
    assert not found.equal
    assert found.equal_where_matched
    assert found.max_difference > 1
    order = np.empty(15, int)
    order[found.rows.a] = found.rows.b
    np.testing.assert_array_equal(order, SHUFFLED)
    matched = roicli.compare(BASE[SHUFFLED], BASE, match_rows=True)
    assert matched.equal
    assert matched.max_difference == 0


@pytest.mark.parametrize("side", ["A", "B"])
def test_missing_rows_are_found(side):
    pair = (BASE[KEPT], BASE) if side == "A" else (BASE, BASE[KEPT])
    found = roicli.compare(*pair)
    assert not found.equal
    assert found.equal_where_matched
    missing = found.rows.only_b if side == "A" else found.rows.only_a
    assert missing.tolist() == [2, 7, 11]
    assert found.rows.moved == 0
    assert found.shape == (12, 8, 7, 7)
    assert roicli.compare(*pair, match_rows=True).equal
    # What is left must be equal.
    other = (pair[0] + 1e-3, pair[1])
    assert not roicli.compare(*other, match_rows=True).equal


def test_worst_rois_have_the_numbers_that_b_has():
    a = BASE[SHUFFLED][:12].copy()
    a[4, 0, 0, 0] += 0.01
    found = roicli.compare(a, BASE, match_rows=True)
    assert [roi.index for roi in found.worst_rois] == [SHUFFLED[4]]


def test_everything_at_once():
    a = BASE[SHUFFLED][:12].transpose(0, 2, 3, 1).astype(np.float16)
    found = roicli.compare(a, BASE, match_rows=True)
    assert found.equal
    assert "axes are read as (K, P_h, P_w, C)" in found.axes
    assert len(found.rows.only_b) == 3


def test_rows_of_another_result_are_not_matched():
    noise = RNG.normal(size=BASE.shape).astype(np.float32)
    assert roicli.compare(noise, BASE).rows is None
    with pytest.raises(InputError, match="expected two equal shapes"):
        roicli.compare(noise[:12], BASE)


def test_values_that_only_differ_are_not_moved():
    found = roicli.compare(BASE * 1.01, BASE)
    assert (found.equal, found.rows, found.axes) == (False, None, None)


def test_rows_that_are_alike_keep_their_order():
    """Zeros, as of RoIs off the map, and repeated RoIs."""
    many = np.concatenate([BASE, np.zeros_like(BASE), BASE])
    order = RNG.permutation(45)
    found = match_rows(stored(many[order]), stored(many))
    np.testing.assert_array_equal(many[order][found.a], many[found.b])
    assert (len(found.a), len(found.only_a), len(found.only_b)) == (45, 0, 0)
    assert match_rows(stored(many), stored(many)).is_plain


def test_rows_that_are_not_finite_are_matched():
    many = BASE.copy()
    many[3], many[5, 0, 0, 0] = np.nan, np.inf
    found = roicli.compare(many[SHUFFLED], many, match_rows=True, equal_nan=True)
    assert found.equal


def test_thousands_of_rows_rounded_and_shuffled():
    rows = RNG.normal(size=(3000, 4, 3, 3)).astype(np.float32)
    order = RNG.permutation(3000)
    rounded = rows[order].astype(ml_dtypes.bfloat16)
    found = match_rows(stored(rounded), stored(rows))
    again = np.empty(3000, int)
    again[found.a] = found.b
    np.testing.assert_array_equal(again, order)


def test_pairs_are_the_nearest_within_the_tolerance():
    other = np.array([[0.0, 0], [1, 0], [2, 0], [2.05, 0]])
    one = np.array([[2.04, 0], [0.01, 0], [5, 0], [1.99, 0]])
    assert pair_rows(one, other, 0.05).tolist() == [3, 0, -1, 2]
    assert project_rows(stored(BASE)).shape == (15, 8)


def test_taken_rows_read_in_any_order():
    rows = np.array([3, 4, 5, 1, 1, 0])
    view = TakenRows(stored(BASE), rows)
    np.testing.assert_array_equal(view.read_all(), BASE[rows])
    out = np.empty((2, 8, 7, 7), np.float32)
    view.read_rows_into(2, out)
    np.testing.assert_array_equal(out, BASE[[5, 1]])


# Rounding ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_what_was_only_rounded_is_equal(dtype):
    found = roicli.compare(BASE.astype(dtype), BASE)
    assert found.equal
    assert found.rounded
    assert found.ulp.max == 0
    other = BASE.astype(dtype)
    other[0, 0, 0, 0] = np.nextafter(np.float16(other[0, 0, 0, 0]), np.float16(9)) + dtype(0.1)
    assert not roicli.compare(other, BASE).equal
    assert not roicli.compare(BASE + np.float32(1e-3), BASE).rounded


def test_float32_of_float64_is_equal():
    wide = RNG.normal(size=(3, 2)) * 1e6
    assert roicli.compare(wide.astype(np.float32), wide, rtol=0).rounded


# The command ------------------------------------------------------------------------------------


def test_the_command_says_what_it_found():
    save("b.npy", BASE)
    save("moved.npy", BASE[SHUFFLED])
    save("fewer.npy", BASE[KEPT])
    save("half.npy", BASE.astype(np.float16))
    save("nhwc.npy", BASE.transpose(0, 2, 3, 1))
    outcome = run("compare", "moved.npy", "b.npy")
    assert outcome.code == 1
    assert "Different: rows are in another order" in outcome.text
    assert "--match-rows" in outcome.text
    assert "15 rows are equal" in outcome.text
    outcome = run("compare", "fewer.npy", "b.npy")
    assert outcome.code == 1
    assert "not in A, 3 rows of B: 2, 7, 11; matched, 12 rows are equal" in outcome.text
    for name in ("moved.npy", "fewer.npy"):
        assert run("compare", name, "b.npy", "--match-rows").code == 0
    outcome = run("compare", "half.npy", "b.npy")
    assert outcome.code == 0
    assert "Equal: but for rounding to float16 (0 ULP of it)" in outcome.text
    found = json.loads(run("compare", "fewer.npy", "b.npy", "--format", "json").text)
    assert found["rows"]["only_b"] == [2, 7, 11]
    assert found["rows"]["equal"]
    assert not found["equal"]
    found = json.loads(run("compare", "nhwc.npy", "b.npy", "--format", "json").text)
    assert found["axes"] == "A's axes are read as (K, P_h, P_w, C)"
