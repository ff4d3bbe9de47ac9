"""The value columns against the oracle and hand arithmetic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roicli.error_table.columns import VALUE_COLUMNS
from roicli.error_table.values import measure_value_errors
from tests import oracle

SHARES = ("share_stage1", "share_stage2", "share_aggregation")


def four(seed, shape=(5, 3, 2, 4), scale=1.0):
    return np.random.default_rng(seed).normal(scale=scale, size=(4, *shape)).astype(np.float32)


@given(seed=st.integers(0, 10_000), scale=st.sampled_from([1e-3, 1.0, 1e4]))
def test_every_column_is_the_oracles(seed, scale):
    parts = four(seed, scale=scale)
    found = measure_value_errors(*parts)
    assert list(found) == [column.name for column in VALUE_COLUMNS]
    for row in range(parts.shape[1]):
        for name, expected in oracle.value_error(*parts[:, row]).items():
            assert found[name][row] == pytest.approx(expected, rel=1e-9, abs=1e-12), name


@given(seed=st.integers(0, 10_000))
def test_shares_sum_to_one(seed):
    found = measure_value_errors(*four(seed))
    np.testing.assert_allclose(sum(found[name] for name in SHARES), 1.0, atol=1e-9)


def test_by_hand():
    pool, average, maximum, warp = (np.array(v, np.float32).reshape(1, 1, 1, 2)
                                    for v in ([3, 4], [0, 0.5], [1, 1], [2, 4]))  # fmt: skip
    found = measure_value_errors(pool, average, maximum, warp)
    total = np.array([3, 3.5])
    assert found["value_error_max"] == [3.5]
    assert found["value_error_mean"] == [3.25]
    assert found["value_error_relative_l2"] == pytest.approx(np.hypot(3, 3.5) / 0.5)
    assert found["value_cosine"] == pytest.approx(2 / (5 * 0.5))
    for name, term in zip(SHARES, ([1, 3], [1, 0], [1, 0.5]), strict=True):
        assert found[name] == pytest.approx(np.dot(term, total) / np.dot(total, total))


def test_a_norm_of_zero_is_not_defined():
    pool, average, maximum, warp = four(1)
    zero = np.zeros_like(average)
    found = measure_value_errors(pool, zero, maximum, warp)
    assert np.isnan(found["value_error_relative_l2"]).all()
    assert np.isnan(found["value_cosine"]).all()
    same = measure_value_errors(pool, pool, maximum, warp)
    assert all(np.isnan(same[name]).all() for name in SHARES)
    assert (same["value_error_max"] == 0).all()
    np.testing.assert_allclose(same["value_cosine"], 1)


@pytest.mark.parametrize("power", [1015, 700, -700, -1010])
def test_numbers_of_every_size(power):
    """Maps of float64 whose squares, or whose differences, fit no float64."""
    rng = np.random.default_rng(2)
    parts = np.round(rng.uniform(-250, 250, (4, 3, 2, 2, 2)))
    plain, moved = measure_value_errors(*parts), measure_value_errors(*np.ldexp(parts, power))
    with np.errstate(over="ignore"):
        for name in ("value_error_max", "value_error_mean"):
            expected = np.minimum(np.ldexp(plain.pop(name), power), np.finfo(float).max)
            np.testing.assert_allclose(moved[name], expected, rtol=1e-12)
    for name, expected in plain.items():
        np.testing.assert_allclose(moved[name], expected, rtol=1e-12)


def test_a_cell_that_is_not_finite_leaves_no_number():
    parts = four(0).astype(np.float64)
    parts[1, 2, 0, 0, 0], parts[0, 3, 0, 0, 0] = np.inf, np.nan
    found = measure_value_errors(*parts)
    for values in found.values():
        assert np.isnan(values[[2, 3]]).all()
        assert np.isfinite(values[[0, 1, 4]]).all()
