"""Comparing two results: tolerances, what is not finite, blocks, provenance."""

import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import roicli
from roicli.analysis.compare.difference import Tolerance
from roicli.analysis.compare.run import Comparison, compare, compare_provenance, compare_stored
from roicli.core.exceptions import InputError, ParameterError
from roicli.storage.array import MemoryArray
from tests.strategies import normal_map

SHAPE = (6, 3, 2, 2)


def pair() -> tuple[Any, Any]:
    """Two equal results of order 1."""
    a = normal_map(SHAPE, seed=5)
    return a, a.copy()


def test_equal() -> None:
    a, b = pair()
    found = roicli.compare(a, b, atol=0, rtol=0)
    assert found.equal
    assert (found.identical, found.outside, found.max_difference) == (a.size, 0, 0.0)
    assert found.ulp is not None
    assert found.ulp.max == 0
    assert found.relative_l2 == 0.0
    assert found.cosine == pytest.approx(1)
    assert found.worst_rois == found.worst_channels == ()
    assert [(b.upper, b.count) for b in found.histogram] == [(0.0, a.size)]


def test_where_it_differs() -> None:
    a, b = pair()
    b[4, 1, 0, 1] += 0.5
    b[2] *= np.float32(1.001)
    found = compare(a, b)
    assert not found.equal
    assert found.worst_rois[0].index == 4
    assert found.worst_rois[0].max_difference == pytest.approx(0.5, rel=1e-6)
    assert found.worst_rois[1].index == 2
    assert found.worst_rois[1].relative_l2 == pytest.approx(0.001 / 1.001, rel=1e-3)
    assert found.worst_rois[1].cosine == pytest.approx(1)
    assert found.worst_channels[0].index == 1
    assert len(found.worst_rois) == 2
    assert found.outside == 13
    difference = a.astype(np.float64) - b
    assert found.max_difference == np.abs(difference).max()
    assert found.mean_difference == pytest.approx(np.abs(difference).mean())
    assert found.relative_l2 == pytest.approx(np.linalg.norm(difference) / np.linalg.norm(b))
    row = found.worst_rois[0]
    cosine = np.vdot(a[4], b[4]) / np.linalg.norm(a[4]) / np.linalg.norm(b[4])
    assert row.cosine == pytest.approx(float(cosine))
    assert sum(bin_.count for bin_ in found.histogram) == a.size


@pytest.mark.parametrize(
    ("statistic", "atol", "equal"),
    [
        ("elementwise", 0.49, False),
        ("elementwise", 0.51, True),
        ("max", 0.49, False),
        ("max", 0.51, True),
        ("mean", 0.5 / 1000, False),
        ("mean", 0.51 / 100, True),
        ("p99", 1e-9, True),
    ],
)
def test_statistics(statistic: Any, atol: float, equal: bool) -> None:
    """One difference of 0.5 among 100 elements: 1 % of them, so the p99 does not see it."""
    a = normal_map((10, 10))
    b = a.copy()
    b[3, 3] += 0.5
    assert compare(a, b, atol=atol, rtol=0, stat=statistic).equal is equal


def test_relative_tolerance_is_of_b() -> None:
    a, b = np.array([[100.0, 1.0]]), np.array([[101.0, 1.0]])
    assert compare(a, b, atol=0, rtol=1 / 101).equal
    assert not compare(b, a, atol=0, rtol=1 / 101).equal
    assert compare(a, b, atol=0, rtol=0.0099, stat="max").equal is False
    assert compare(a, b, atol=0, rtol=0.01, stat="mean").equal
    assert compare(a, b, atol=0, rtol=0.01, stat="p99").equal


def test_not_a_number() -> None:
    a, b = pair()
    a[0, 0, 0, 0] = b[0, 0, 0, 0] = np.nan
    a[1, 0, 0, 0] = b[1, 0, 0, 0] = np.inf
    found = compare(a, b)
    assert (found.equal, found.not_finite, found.outside) == (False, 1, 1)
    assert math.isinf(found.worst_rois[0].max_difference)
    assert found.max_difference == 0.0
    assert compare(a, b, equal_nan=True).equal
    b[1, 0, 0, 0] = -np.inf
    assert compare(a, b, equal_nan=True).not_finite == 1
    b[1, 0, 0, 0] = 3
    assert not compare(a, b, equal_nan=True, atol=1e9, stat="max").equal


def test_ulp_of_the_narrower_type() -> None:
    a, _ = pair()
    found = compare(a, np.nextafter(a, np.float32(99)))
    assert found.ulp is not None
    assert (found.ulp.dtype, found.ulp.max, found.ulp.mean) == ("float32", 1, 1.0)
    found = compare(a, a.astype(np.float16), rtol=1e-3)
    assert found.equal
    assert found.ulp is not None
    assert (found.ulp.dtype, found.ulp.max) == ("float16", 0)
    assert compare(np.ones((2, 2), int), np.ones((2, 2))).ulp is None


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        (np.int64(2**53), np.int64(2**53 + 1), 1),
        (np.int64(2**62), np.int64(2**62 - 3), 3),
        (np.uint64(2**64 - 1), np.uint64(2**64 - 2), 1),
        (np.uint64(2**64 - 1), np.int64(-(2**63)), 2**64 + 2**63 - 1),
        (np.int64(2**53 + 1), np.float64(2**53), 1),
        (np.uint64(2**64 - 1), np.float64(2**64), 1),
        (np.int64(2**24 + 1), np.float32(2**24), 1),
        (np.int64(-(2**53) - 1), np.float64(-(2**53)), 1),
        (np.int64(3), np.float16(2.5), 0.5),
    ],
)
def test_integers_are_compared_as_integers(a: Any, b: Any, distance: float) -> None:
    one, other = (np.full((2, 3), value) for value in (a, b))
    for pair in ((one, other), (other, one)):
        found = compare(*pair, atol=0, rtol=0)
        assert not found.equal
        assert (found.identical, found.outside, found.not_finite) == (0, 6, 0)
        assert found.max_difference == found.mean_difference == float(distance)
        assert found.measured == float(distance)
        assert sum(part.count for part in found.histogram if part.upper) == 6
        assert compare(*pair, atol=float(distance), rtol=0).equal
        assert found.ulp is None
    assert compare(one, one, atol=0, rtol=0).identical == 6


@pytest.mark.parametrize("size", [1e308, 1e200, 1e-200, 1e-310, 1e-323])
def test_numbers_of_every_size(size: float) -> None:
    """Sums of their squares fit no float64."""
    a = np.array([[[1.0, -1.0]], [[1.0, 1.0]], [[0.0, 1.0]]]) * size
    b = np.array([[[1.0, 1.0]], [[1.0, 1.0]], [[1.0, 1.0]]]) * size
    found = compare(a, b, atol=0, rtol=0.5)
    largest = np.finfo(np.float64).max
    step = min(2 * size, largest)
    assert (found.identical, found.outside, found.not_finite) == (4, 2, 0)
    assert found.max_difference == step
    assert found.mean_difference == pytest.approx(size / 2, rel=1e-6, abs=5e-324)
    assert found.relative_l2 == pytest.approx(math.sqrt(5 / 6))
    assert found.cosine == pytest.approx(3 / math.sqrt(5 * 6))
    assert [group.index for group in found.worst_rois] == [0, 2]
    assert found.worst_rois[1].relative_l2 == pytest.approx(math.sqrt(1 / 2))
    assert found.worst_rois[1].cosine == pytest.approx(math.sqrt(1 / 2))
    assert found.worst_channels[0].cosine == found.cosine
    for statistic in ("max", "mean", "p99"):
        assert compare(a, b, atol=0, rtol=2.1, stat=statistic).equal
    assert not compare(a, b, atol=0, rtol=0.1, stat="mean").equal


def test_narrow_floats_and_differences_past_float64() -> None:
    half = np.full((2, 4), 65504, np.float16)
    found = compare(half, -half)
    assert found.max_difference == found.mean_difference == 131008
    assert (found.relative_l2, found.cosine) == pytest.approx((2, -1))
    assert found.ulp is not None
    assert found.ulp.max == 2 * 0x7BFF
    single = np.full((2, 4), 3e38, np.float32)
    assert compare(single, -single).relative_l2 == pytest.approx(2)
    wide = np.full((2, 4), 1.7e308)
    assert compare(wide, -wide, atol=0, rtol=2).equal
    found = compare(wide, -wide, atol=0, rtol=1.99)
    assert (found.equal, found.outside, found.not_finite) == (False, 8, 0)
    assert found.measured == pytest.approx(0.01 * 1.7e308)
    assert found.relative_l2 == pytest.approx(2)


def test_ulps_are_rounded_once_and_go_on_past_the_type() -> None:
    """Through float32 the first would be a tie; past float16's end it is 16 binades of 1024."""
    one = np.array([1 + 2**-11 + 2**-40])
    found = compare(one, np.ones(1, np.float16))
    assert found.ulp is not None
    assert found.ulp.max == 1
    found = compare(np.array([2.0**31]), np.array([2.0**15], np.float16))
    assert found.ulp is not None
    assert found.ulp.max == 16 * 1024


def test_ulps_and_means_leave_out_what_is_not_finite() -> None:
    a = np.array([[1.0, np.inf, np.nan, 1.0]], np.float32)
    b = np.array([[np.nextafter(np.float32(1), np.float32(2)), np.inf, 5, 1.0]], np.float32)
    found = compare(a, b)
    assert found.ulp is not None
    assert (found.ulp.max, found.ulp.mean) == (1, 0.5)
    assert found.worst_rois[0].mean_difference == pytest.approx(2**-23 / 3)


def test_blocks_change_nothing() -> None:
    a, b = pair()
    b += np.float32(0.01) * normal_map(SHAPE, seed=9)
    b[5, 2, 1, 1] = np.nan
    tolerance = Tolerance(1e-3, 1e-3, "p99")
    stored = MemoryArray(a, "a"), MemoryArray(b, "b")
    whole = compare_stored(*stored, tolerance)
    rows = compare_stored(*stored, tolerance, block_bytes=1)
    assert whole.histogram == rows.histogram
    assert whole.ulp == rows.ulp
    for name in ("outside", "not_finite", "max_difference", "p99_difference", "measured"):
        assert getattr(whole, name) == getattr(rows, name)
    np.testing.assert_allclose(whole.mean_difference, rows.mean_difference)
    assert [r.index for r in whole.worst_rois] == [r.index for r in rows.worst_rois]


@pytest.mark.full
def test_memory_does_not_grow_with_the_files(tmp_path: Path) -> None:
    """47 MiB a file, and less than that of both held at any moment."""
    shape = (3000, 16, 16, 16)
    for name in "ab":
        rows = np.lib.format.open_memmap(tmp_path / f"{name}.npy", "w+", np.float32, shape)
        rows[:] = 1.0
        rows.flush()
        del rows
    tracemalloc.start()
    try:
        found = compare_files(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.equal
    assert peak < 40 << 20 < found.elements * 4


def compare_files(folder: Path) -> Comparison:
    """a.npy and b.npy of a folder."""
    return compare(folder / "a.npy", folder / "b.npy")


@pytest.mark.parametrize("shape", [(0, 3, 2, 2), (4, 0), (7,)])
def test_odd_shapes(shape: tuple[int, ...]) -> None:
    found = compare(np.ones(shape), np.ones(shape))
    assert found.equal
    assert found.elements == math.prod(shape)


@pytest.mark.parametrize("other", [(6, 3, 2), (6, 3, 2, 3), (6, 3, 5), (24, 3)])
def test_other_shapes_cannot_be_compared(other: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="expected two equal shapes"):
        compare(np.ones(SHAPE), np.ones(other))


def test_scalars_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="shape"):
        compare(np.float32(1), np.float32(1))


@pytest.mark.parametrize(
    "options", [{"atol": -1}, {"rtol": math.nan}, {"atol": math.inf}, {"stat": "median"}]
)
def test_bad_tolerance(options: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        compare(np.ones(3), np.ones(3), **options)


def test_stdin_once() -> None:
    with pytest.raises(ParameterError, match="only once"):
        compare("-", "-")


def test_provenance() -> None:
    a = {"aligned": np.True_, "sampling_ratio": np.int64(2), "created_utc": "now", "x": b"one"}
    b = {"aligned": np.False_, "sampling_ratio": np.int64(2), "created_utc": "then"}
    found = compare_provenance(a, b)
    assert found is not None
    assert [(d.name, d.a, d.b) for d in found] == [("aligned", True, False), ("x", "one", None)]
    assert compare_provenance(a, a) == ()
    assert compare_provenance(a, {}) is None


def test_provenance_of_a_long_double() -> None:
    wide = np.longdouble("0.25")
    (found,) = compare_provenance({"s": wide}, {"s": np.array([wide])}) or ()
    assert (found.a, found.b) == ("0.25", ["0.25"])


def test_provenance_of_any_attribute() -> None:
    one = {"size": np.array([7, 7]), "nan": np.float64("nan"), "odd": np.void(b"xx")}
    found = compare_provenance(one, {"size": np.array([7, 5])})
    assert found is not None
    assert (found[0].a, found[0].b) == ([7, 7], [7, 5])
    assert [d.name for d in found] == ["size", "nan", "odd"]
    assert all(isinstance(d.a, str) for d in found[1:])
