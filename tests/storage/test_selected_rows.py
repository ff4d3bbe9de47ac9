"""Some rows of an array are those rows, however far apart they lie."""

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roicli.storage import array as stored_arrays
from roicli.storage.address import parse_address
from roicli.storage.array import MemoryArray, SelectedRows
from roicli.storage.open import open_array


@given(
    rows=st.sets(st.integers(0, 199)).map(sorted),
    span=st.sampled_from([1, 40, 400, 1 << 20]),
    columns=st.sampled_from([(), (5,)]),
)
def test_rows_are_those_of_the_array(rows, span, columns):
    values = np.random.default_rng(0).normal(size=(200, *columns))
    before = stored_arrays.SPAN_BYTES
    stored_arrays.SPAN_BYTES = span
    try:
        selected = SelectedRows(MemoryArray(values, "x"), np.array(rows, np.int64))
        found = selected.read_all()
        assert selected.shape == (len(rows), *columns)
        np.testing.assert_array_equal(found, values[rows])
        if rows:
            out = np.empty(columns)
            selected.read_item_into(len(rows) - 1, out)
            np.testing.assert_array_equal(out, values[rows[-1]])
    finally:
        stored_arrays.SPAN_BYTES = before


@pytest.mark.parametrize("name", ["x.npy", "x.h5"])
def test_rows_of_files(tmp_path, name):
    values = np.arange(500, dtype=">f4").reshape(100, 5)
    path = tmp_path / name
    if name == "x.npy":
        np.save(path, values)
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("rois", data=values, chunks=(7, 5), compression="gzip")
    rows = np.array([0, 1, 2, 50, 98, 99])
    selected = SelectedRows(open_array(parse_address(str(path)), "rois"), rows)
    np.testing.assert_array_equal(selected.read_all(), values[rows])
    assert selected.dtype.isnative
    selected.close()
