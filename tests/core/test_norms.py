"""Sums against Python's own integers and fractions, at every size that the dtypes reach."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roicli.core.norms import (
    LARGEST,
    Rows,
    Sums,
    divide_norms,
    find_cosine,
    mean_of,
    measure_distance,
    no_sums,
    widen,
)

INTEGERS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(2**53 - 4, 2**53 + 4))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def distance(a: Any, b: Any) -> float:
    """The distance of two numbers of NumPy."""
    return float(measure_distance(widen(np.array([a])), widen(np.array([b])))[0])


def rounded(exact: Fraction) -> float:
    """The nearest float64, the largest where it is past that."""
    return LARGEST if exact > Fraction(LARGEST) else float(exact)


@given(INTEGERS, INTEGERS)
def test_distances_of_integers(a: int, b: int) -> None:
    found = distance(np.int64(a), np.int64(b))
    assert (found == 0) is (a == b)
    assert found == pytest.approx(abs(a - b), rel=1e-15)


@given(st.integers(0, 2**64 - 1), INTEGERS)
def test_distances_of_unsigned_and_signed(a: int, b: int) -> None:
    found = distance(np.uint64(a), np.int64(b))
    assert (found == 0) is (a == b)
    assert found == pytest.approx(abs(a - b), rel=1e-15)


@given(INTEGERS, st.one_of(FLOATS, INTEGERS.map(float)))
def test_distances_of_integers_and_floats(a: int, b: float) -> None:
    found = distance(np.int64(a), np.float64(b))
    assert (found == 0) is (a == b)
    exact = abs(Fraction(a) - Fraction(b))
    assert found == pytest.approx(rounded(exact), rel=1e-15)


@given(FLOATS, FLOATS)
def test_distances_of_floats_are_rounded_once(a: float, b: float) -> None:
    assert distance(np.float64(a), np.float64(b)) == rounded(abs(Fraction(a) - Fraction(b)))


@pytest.mark.parametrize("power", [0, -200, 200, -1070, 1015])
def test_norms_and_cosine_at_every_size(power: int) -> None:
    """What has a power of two for a factor has the same measures, but where numbers lose bits."""
    rng = np.random.default_rng(3)
    a, b = np.round(rng.uniform(-9, 9, (2, 4, 30)), 0)
    plain = [Rows(part) for part in (a - b, a, b)]
    moved = [Rows(np.ldexp(part, power)) for part in (a - b, a, b)]
    for rows in (plain, moved):
        relative = divide_norms(rows[0].dot(rows[0]), rows[2].dot(rows[2]))
        cosine = find_cosine(rows[1].dot(rows[2]), rows[1].dot(rows[1]), rows[2].dot(rows[2]))
        expected = np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)
        np.testing.assert_allclose(relative, expected, rtol=1e-14)
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        np.testing.assert_allclose(cosine, (a * b).sum(axis=1) / norms, rtol=1e-12)


def test_sums_of_different_sizes_are_added() -> None:
    rows = Rows(np.array([[3e300, 4e300], [3e-300, 4e-300], [0.0, 0.0]]))
    squared = rows.dot(rows)
    norms = divide_norms(squared, Rows(np.ones((3, 1))).sum())
    np.testing.assert_allclose(norms, [5e300, 5e-300, 0.0], rtol=1e-15)
    together = no_sums(1)
    together.add(slice(None), squared.total(0))
    assert divide_norms(together, Rows(np.ones((1, 1))).sum())[0] == pytest.approx(5e300)
    small = no_sums(1)
    small.add(slice(None), Sums(squared.values[1:], squared.exponents[1:]).total(0))
    assert divide_norms(small, Rows(np.ones((1, 1))).sum())[0] == pytest.approx(5e-300)


def test_long_rows_give_the_same_bits_alone() -> None:
    values = np.random.default_rng(0).normal(size=(3, 9000))
    together = Rows(values).dot(Rows(values)).values
    alone = [Rows(row[None]).dot(Rows(row[None])).values[0] for row in values]
    assert together.tolist() == alone


def test_means() -> None:
    assert mean_of(np.array([1.0, 2.0])) == 1.5
    assert mean_of(np.full(8, LARGEST)) == LARGEST
    assert mean_of(np.array([LARGEST, LARGEST, -LARGEST])) == pytest.approx(LARGEST / 3)


def test_what_is_past_float64_is_the_largest() -> None:
    assert distance(np.float64(LARGEST), np.float64(-LARGEST)) == LARGEST
    assert math.isinf(distance(np.float64(math.inf), np.float64(0)))
    assert math.isnan(distance(np.float64(math.nan), np.int64(0)))
    assert Rows(np.full((1, 9), LARGEST)).sum().to_float64()[0] == LARGEST
