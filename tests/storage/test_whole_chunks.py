"""Rows in any order leave as whole chunks, each once."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roicli.core.exceptions import OutputError
from roicli.storage.formats.zarr import chunks as whole_chunks
from roicli.storage.formats.zarr.chunks import WholeChunks


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(0, 40),
    chunk_rows=st.integers(1, 9),
    block=st.integers(1, 17),
    waiting=st.sampled_from([0, 100, 1 << 20]),
    kind=st.sampled_from(["sorted", "random", "interleaved"]),
    seed=st.integers(0, 99),
)
def test_rows_in_any_order_leave_as_whole_chunks(
    tmp_path, monkeypatch, count, chunk_rows, block, waiting, kind, seed
):
    monkeypatch.setattr(whole_chunks, "WAITING_BYTES", waiting)
    random = np.random.default_rng(seed)
    order = np.arange(count)
    if kind == "random":
        order = random.permutation(count)
    elif kind == "interleaved":
        order = np.argsort(order % 3, kind="stable")
    values = random.normal(size=(count, 2, 3)).astype(np.float32)
    found, given_rows = np.full_like(values, np.nan), []

    def emit(first, rows):
        assert first % chunk_rows == 0
        assert len(rows) % chunk_rows == 0 or first + len(rows) == count
        given_rows.extend(range(first, first + len(rows)))
        found[first : first + len(rows)] = rows

    scratch = tmp_path / "scratch"
    with WholeChunks(values.shape, values.dtype, chunk_rows, emit, str(scratch)) as chunks:
        for start in range(0, count, block):
            rows = order[start : start + block]
            buffer = values[rows].copy()
            chunks.write_rows(rows, buffer)
            buffer[:] = np.nan  # the caller uses its room again
        chunks.check_complete()
    assert sorted(given_rows) == list(range(count))
    np.testing.assert_array_equal(found, values)
    assert not scratch.exists()


def test_rows_in_order_need_no_scratch_file(tmp_path):
    values, emitted = np.zeros((100, 4), np.float32), []
    with WholeChunks(
        values.shape, values.dtype, 8, lambda *a: emitted.append(a), str(tmp_path / "x")
    ) as chunks:
        for start in range(0, 100, 30):
            chunks.write_rows(np.arange(start, min(start + 30, 100)), values[start : start + 30])
            assert os.listdir(tmp_path) == []
    assert len(emitted) == 7


def test_rows_that_never_came_are_an_error(tmp_path):
    with WholeChunks((9, 1), np.dtype("f4"), 4, lambda *a: None, str(tmp_path / "x")) as chunks:
        chunks.write_rows(np.arange(5), np.zeros((5, 1), np.float32))
        with pytest.raises(OutputError, match="4 of 9 rows were not written"):
            chunks.check_complete()
