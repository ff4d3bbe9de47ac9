"""ULP distances and bfloat16."""

import numpy as np
import pytest

from roicli.analysis.compare.ulp import shared_float_type, ulp_distance
from roicli.storage.array import narrow_float, precision_of

BFLOAT16 = precision_of(narrow_float("bfloat16"))

DOUBLE = precision_of(np.dtype("f8"))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_neighbours_are_one_apart(dtype: type) -> None:
    values = np.array([1, -1, 0, 1e-3, -65000, 2.0**-14], dtype)
    up = np.nextafter(values, dtype(np.inf))
    kind = precision_of(np.dtype(dtype))
    assert ulp_distance(values, up, kind).tolist() == [1] * 6
    assert ulp_distance(up, values, kind).tolist() == [1] * 6
    assert ulp_distance(values, values, kind).tolist() == [0] * 6


def test_zero_has_no_sign_and_the_range_does_not_overflow() -> None:
    assert ulp_distance(np.float64([0.0]), np.float64([-0.0]), DOUBLE)[0] == 0
    tiny = np.float64([5e-324])
    assert ulp_distance(tiny, -tiny, DOUBLE)[0] == 2
    largest = np.float64([np.finfo(np.float64).max])
    expected = 2 * int(largest.view(np.uint64)[0])
    assert int(ulp_distance(largest, -largest, DOUBLE)[0]) == expected


def test_the_narrower_type_counts() -> None:
    single, half = precision_of(np.dtype("f4")), precision_of(np.dtype("f2"))
    assert shared_float_type(single, half) == half
    assert shared_float_type(BFLOAT16, half) == BFLOAT16
    assert shared_float_type(single, precision_of(np.dtype("i4"))) is None
    one = np.float32([1.0])
    assert ulp_distance(one, np.float16([1 + 2**-10]), half)[0] == 1
    assert ulp_distance(one, np.float32([1 + 2**-7]), BFLOAT16)[0] == 1
