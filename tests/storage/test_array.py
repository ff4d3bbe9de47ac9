"""Precision against numpy.spacing, and which dtypes are numbers."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from roicli.core.exceptions import InputError
from roicli.storage.array import MemoryArray, check_numeric, narrow_float, precision_of

BFLOAT16 = precision_of(narrow_float("bfloat16"))

FLOATS = [np.float16, np.float32, np.float64]


@pytest.mark.parametrize("dtype", FLOATS)
@given(data=st.data())
def test_half_spacing_is_half_of_numpys_spacing(dtype, data):
    finite = {"allow_nan": False, "allow_infinity": False}
    value = data.draw(hnp.from_dtype(np.dtype(dtype), **finite))
    found = precision_of(np.dtype(dtype)).half_spacing(np.array([value], dtype))[0]
    # numpy's spacing of the largest float16 reaches past the type, so it is taken below.
    magnitude = np.abs(value)
    if magnitude == np.finfo(dtype).max:
        magnitude = np.nextafter(magnitude, dtype(0))
    assert found == np.float64(np.spacing(magnitude)) / 2


@pytest.mark.parametrize("dtype", FLOATS)
def test_half_spacing_of_zero_and_of_powers_of_two(dtype):
    values = np.array([0, 0.5, 1, 2, 1024, 1049], dtype)
    np.testing.assert_array_equal(
        precision_of(np.dtype(dtype)).half_spacing(values), np.spacing(values).astype(float) / 2
    )


@pytest.mark.parametrize("value", [1.0, 0.75, 3.0, 1049.0, 1e-3, 3e5])
def test_half_spacing_of_bfloat16(value):
    stored = ml_dtypes.bfloat16(value)
    following = (np.array(stored).view(np.uint16) + np.uint16(1)).view(ml_dtypes.bfloat16)
    expected = (float(following) - float(stored)) / 2
    assert BFLOAT16.half_spacing(np.array([float(stored)]))[0] == expected


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64])
def test_whole_numbers_are_half_a_pixel_off_at_most(dtype):
    assert precision_of(np.dtype(dtype)).half_spacing(np.array([0, 9], dtype)).tolist() == [0.5] * 2


@pytest.mark.parametrize("dtype", ["?", "c8", "O", "S4", "U2", "M8[s]", "V3", "g"])
def test_dtypes_that_are_no_numbers_are_refused(dtype):
    if np.dtype(dtype).kind == "f" and np.dtype(dtype).itemsize == 8:
        pytest.skip("long double is double here")
    with pytest.raises(InputError, match=r"^here: dtype is .*, expected float16, float32"):
        check_numeric(np.dtype(dtype), "here")


@pytest.mark.parametrize("dtype", ["<i1", ">u8", "<f2", ">f4", "=f8"])
def test_an_array_in_memory_is_read_in_native_order(dtype):
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    stored = MemoryArray(values.transpose(0, 2, 1), "here")
    whole = stored.read_all()
    assert whole.flags.c_contiguous
    assert whole.dtype == stored.dtype
    assert whole.dtype.isnative
    np.testing.assert_array_equal(whole, values.transpose(0, 2, 1))
    out = np.zeros((4, 3), stored.dtype)
    stored.read_item_into(1, out)
    np.testing.assert_array_equal(out, whole[1])
    rows = np.zeros((1, 4, 3), stored.dtype)
    stored.read_rows_into(1, rows)
    np.testing.assert_array_equal(rows[0], whole[1])
