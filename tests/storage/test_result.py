"""Results: rows in any order come back as they were, or nothing is left behind."""

import errno
import io
import os
import sys
import time
from collections import namedtuple

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roicli.core.exceptions import OutputError, ParameterError
from roicli.storage import atomic, row_file
from roicli.storage.atomic import check_output, replace_atomically
from roicli.storage.result import MemoryWriter, NoWriter, ResultFile, open_result
from roicli.storage.row_file import RowFile

KINDS = [("r.npy", "none"), ("r.h5", "none"), ("r.h5", "gzip"), ("r.hdf5", "lzf")]
ENDINGS = (".h5", ".npy")


def open_new(path):
    return os.open(path, os.O_RDWR | os.O_CREAT)


def values_of(shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def open_for(path, values, compression="none", force=False, dtype=None):
    dtype = np.dtype(dtype or values.dtype)
    return open_result(ResultFile(str(path), values.shape, dtype, compression, force))


def write(path, values, compression="none", order=None, block=3, force=False, **beside):
    order = np.arange(len(values)) if order is None else order
    with open_result(
        ResultFile(str(path), values.shape, values.dtype, compression, force)
    ) as writer:
        for start in range(0, len(order), block):
            rows = order[start : start + block]
            writer.write_rows(rows, values[rows])
        writer.finish(beside.get("tables", {}), beside.get("attributes", {}))


def read_back(path):
    if str(path).endswith(".npy"):
        return np.load(path)
    with h5py.File(path) as file:
        return file["roi_features"][()]


@pytest.mark.parametrize(("name", "compression"), KINDS)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(0, 9), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    seed=st.integers(0, 99),
    block=st.integers(1, 9),
)
def test_rows_in_any_order_come_back(tmp_path, name, compression, shape, dtype, seed, block):
    values = values_of(shape, dtype, seed)
    order = np.random.default_rng(seed).permutation(len(values))
    write(tmp_path / name, values, compression, order, block, force=True)
    found = read_back(tmp_path / name)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize(("name", "compression"), KINDS)
def test_a_block_of_another_float_type_is_converted(tmp_path, name, compression):
    values = values_of((4, 2, 3, 3))
    path = str(tmp_path / name)
    with open_result(
        ResultFile(path, values.shape, np.dtype(np.float16), compression, False)
    ) as writer:
        writer.write_rows(np.arange(4), values)
        writer.finish({}, {})
    np.testing.assert_array_equal(read_back(path), values.astype(np.float16))


@pytest.mark.parametrize("compression", ["none", "gzip", "lzf"])
def test_tables_and_attributes_stand_beside_the_features(tmp_path, monkeypatch, compression):
    monkeypatch.setattr("roicli.storage.formats.hdf5.write.TABLE_ROWS_A_BLOCK", 4)
    values, rois = values_of((11, 1, 2, 2)), values_of((11, 5))
    records = np.array([(k, k / 3, b"small") for k in range(11)],
                       [("roi", "i8"), ("iou", "f8"), ("size_class", "S6")])  # fmt: skip
    tables = {"rois": lambda a, b: rois[a:b], "quantization_error": lambda a, b: records[a:b]}
    attributes = {"operator": "pool", "spatial_scale": 0.25, "output_size": [7, 5]}
    write(tmp_path / "r.h5", values, compression, tables=tables, attributes=attributes)
    with h5py.File(tmp_path / "r.h5") as file:
        np.testing.assert_array_equal(file["roi_features"], values)
        np.testing.assert_array_equal(file["rois"], rois)
        assert file["quantization_error"][()].tolist() == records.tolist()
        assert file["quantization_error"].dtype == records.dtype
        assert file.attrs["operator"] == "pool"
        assert file.attrs["spatial_scale"] == 0.25
        assert file.attrs["output_size"].tolist() == [7, 5]
        assert (file["roi_features"].compression or "none") == compression


def test_large_rows_are_compressed_in_several_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("roicli.storage.formats.hdf5.write.ROWS_A_CHUNK_BYTES", 200)
    values = values_of((11, 2, 3, 3))
    write(tmp_path / "r.h5", values, "gzip", np.random.default_rng(0).permutation(11))
    np.testing.assert_array_equal(read_back(tmp_path / "r.h5"), values)
    with h5py.File(tmp_path / "r.h5") as file:
        assert file["roi_features"].chunks == (2, 2, 3, 3)


def test_equal_calls_give_equal_npy_bytes(tmp_path):
    values = values_of((7, 2, 3, 3))
    write(tmp_path / "a.npy", values)
    write(tmp_path / "b.npy", values, order=np.arange(7)[::-1], block=2)
    np.save(tmp_path / "c.npy", values)
    data = [(tmp_path / name).read_bytes() for name in ("a.npy", "b.npy", "c.npy")]
    assert data[0] == data[1] == data[2]


# --- nothing half there -----------------------------------------------------------------------


class Interruption(BaseException):
    """Like KeyboardInterrupt."""


@pytest.mark.parametrize(("name", "compression"), KINDS)
@pytest.mark.parametrize("error", [ValueError, Interruption])
@pytest.mark.parametrize("force", [True, False])
def test_an_exception_leaves_the_folder_as_it_was(tmp_path, name, compression, error, force):
    if force:
        (tmp_path / name).write_text("precious")
    values = values_of((4, 2, 3, 3))

    def fail():
        path = str(tmp_path / name)
        with open_result(
            ResultFile(path, values.shape, values.dtype, compression, force)
        ) as writer:
            writer.write_rows(np.arange(4), values)
            raise error("stop")

    with pytest.raises(error):
        fail()
    assert os.listdir(tmp_path) == ([name] if force else [])
    if force:
        assert (tmp_path / name).read_text() == "precious"


@pytest.mark.parametrize(("name", "compression"), KINDS)
def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path, name, compression):
    values, path = values_of((2, 1, 2, 2)), tmp_path / name

    def race():
        with open_result(
            ResultFile(str(path), values.shape, values.dtype, compression, False)
        ) as writer:
            path.write_text("first")
            writer.finish({}, {})

    with pytest.raises(OutputError, match="another run wrote it meanwhile") as caught:
        race()
    assert "--force" in str(caught.value.hint)
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == [name]


def test_force_replaces_a_whole_file_at_the_end(tmp_path):
    path, values = tmp_path / "r.npy", values_of((2, 1, 2, 2))
    path.write_text("old")
    with open_for(path, values, "none", True) as writer:
        writer.write_rows(np.arange(2), values)
        assert path.read_text() == "old"
    np.testing.assert_array_equal(np.load(path), values)


def test_a_system_error_while_writing_is_an_output_error(tmp_path):
    def fail():
        with replace_atomically(str(tmp_path / "r.npy"), False):
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"r\.npy: cannot be written: No space left on device"):
        fail()


def test_a_file_system_without_hard_links_still_gets_the_result(tmp_path, monkeypatch):
    def no_links(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", no_links)
    values = values_of((2, 1, 2, 2))
    write(tmp_path / "r.npy", values)
    np.testing.assert_array_equal(np.load(tmp_path / "r.npy"), values)
    assert os.listdir(tmp_path) == ["r.npy"]


def test_a_result_larger_than_the_disk_is_refused_before_it_is_begun(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(atomic.shutil, "disk_usage", lambda _: usage(0, 0, 100))
    with pytest.raises(OutputError, match=r"needs 1,440 bytes, the disk has 100 free"):
        write(tmp_path / "r.npy", values_of((10, 4, 3, 3)))
    assert os.listdir(tmp_path) == []


# --- where a result may go --------------------------------------------------------------------


def refused(path, inputs=(), force=False):
    with pytest.raises(OutputError) as caught:
        check_output(str(path), list(map(str, inputs)), force, ENDINGS)
    return str(caught.value)


def test_places_that_a_result_must_not_go_to(tmp_path):
    (tmp_path / "folder.h5").mkdir()
    os.mkfifo(tmp_path / "pipe.h5")
    assert "unknown ending '.txt', expected one of: .h5 .npy" in refused(tmp_path / "r.txt")
    assert "is a folder" in refused(tmp_path / "folder.h5")
    assert "does not exist" in refused(tmp_path / "gone" / "r.h5")
    assert "is not a regular file" in refused(tmp_path / "pipe.h5", force=True)
    check_output(str(tmp_path / "R.NPY"), [], False, ENDINGS)


def test_an_existing_file_needs_force(tmp_path):
    path = tmp_path / "r.h5"
    path.touch()
    assert "exists already; add --force" in refused(path)
    check_output(str(path), [], True, ENDINGS)


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_an_input_is_never_replaced_whatever_it_is_called(tmp_path, link):
    source = tmp_path / "source.h5"
    source.write_text("maps")
    link(source, tmp_path / "alias.h5")
    for path in (source, tmp_path / "alias.h5", tmp_path / "." / "source.h5"):
        assert "would overwrite" in refused(path, [source], force=True)


def test_a_link_to_nowhere_is_an_existing_file(tmp_path):
    os.symlink(tmp_path / "gone.h5", tmp_path / "r.h5")
    assert "exists already" in refused(tmp_path / "r.h5")


# --- the other writers ------------------------------------------------------------------------


def test_stdout_gets_an_npy_file_and_no_scratch_stays(monkeypatch, tmp_path):
    stream = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    values = values_of((7, 2, 3, 3))
    write("-", values, order=np.arange(7)[::-1])
    np.testing.assert_array_equal(np.load(io.BytesIO(stream.buffer.getvalue())), values)
    assert os.listdir(tmp_path) == []


def test_memory_and_nowhere():
    values = values_of((4, 1, 2, 2))
    kept, dropped = MemoryWriter(values.shape, np.dtype(np.float16)), NoWriter()
    for writer in (kept, dropped):
        writer.write_rows(np.array([2, 0]), values[[2, 0]])
        writer.write_rows(np.array([1, 3]), values[[1, 3]])
        writer.finish({}, {})
    np.testing.assert_array_equal(kept.array, values.astype(np.float16))


def test_rows_of_a_file_are_read_back_past_its_header(tmp_path):
    values = values_of((6, 5))
    rows = RowFile(open_new(tmp_path / "x"), 100, values.shape, values.dtype)
    rows.write_rows(np.array([4, 5, 0]), values[[4, 5, 0]])
    rows.write_rows(np.array([1, 2, 3]), values[1:4])
    np.testing.assert_array_equal(rows.read_rows(1, 5), values[1:5])
    assert os.path.getsize(tmp_path / "x") == 100 + values.nbytes
    with open(tmp_path / "x", "r+b") as stream:
        stream.truncate(120)
    with pytest.raises(OutputError, match="ended early"):
        rows.read_rows(0, 6)
    rows.close()


@pytest.mark.parametrize(("name", "compression"), KINDS)
def test_a_number_past_the_results_dtype_is_an_error_and_leaves_no_file(
    tmp_path, name, compression
):
    values = np.full((2, 1, 1, 1), 1e6, np.float32)

    def overflow():
        path = str(tmp_path / name)
        with open_result(
            ResultFile(path, values.shape, np.dtype(np.float16), compression, False)
        ) as writer:
            writer.write_rows(np.arange(2), values)

    with pytest.raises(ParameterError, match=r"numbers past what float16 holds .*wider --dtype"):
        overflow()
    assert os.listdir(tmp_path) == []


def test_memory_refuses_what_a_file_refuses():
    writer = MemoryWriter((2, 1), np.dtype(np.float16))
    with pytest.raises(ParameterError, match="numbers past what float16 holds"):
        writer.write_rows(np.arange(2), np.full((2, 1), 1e6, np.float32))
    writer.write_rows(np.arange(2), np.array([[np.inf], [65504]], np.float32))
    assert writer.array.tolist() == [[np.inf], [65504.0]]


@pytest.mark.parametrize("scattered", [False, True])
def test_pages_let_go_of_while_writing_lose_nothing(tmp_path, monkeypatch, scattered):
    monkeypatch.setattr(row_file, "FLUSH_BYTES", 1)
    values = np.random.default_rng(0).normal(size=(40, 333)).astype(np.float32)
    order = np.random.default_rng(1).permutation(40) if scattered else np.arange(40)
    rows = RowFile(open_new(tmp_path / "rows"), 77, values.shape, values.dtype)
    for part in np.array_split(order, 9):
        rows.write_rows(np.sort(part), values[np.sort(part)])
    rows.close()
    stored = (tmp_path / "rows").read_bytes()
    assert stored[77:] == values.tobytes()


def test_pieces_that_wait_for_a_flush_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(row_file, "MOST_PIECES", 3)
    flushed = []
    real = os.posix_fadvise
    monkeypatch.setattr(os, "posix_fadvise", lambda *a: (flushed.append(a[1:3]), real(*a)))
    values = values_of((10, 1, 2, 2))
    write(tmp_path / "a.npy", values, order=np.arange(10)[::-1], block=1)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), values)
    assert len(flushed) == 9


def test_flush_returns_when_the_rows_are_on_the_disk(tmp_path, monkeypatch):
    seen = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (time.sleep(0.05), seen.append(fd), real(fd)))
    rows = RowFile(open_new(tmp_path / "rows"), 0, (4, 2), np.dtype(np.float32))
    for row in range(4):
        rows.write_rows(np.array([row]), np.ones((1, 2), np.float32))
        rows.flush()
        assert len(seen) == row + 1
    rows.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(seen[0])


@pytest.mark.parametrize("name", ["a.npy", "a.h5"])
def test_a_disk_that_fails_behind_the_run_fails_the_run(tmp_path, monkeypatch, name):
    """Also for the last rows, which are on their way when the file is closed."""
    monkeypatch.setattr(row_file, "FLUSH_BYTES", 1)

    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(OutputError, match="cannot be written: Input/output error"):
        write(tmp_path / name, values_of((3, 1, 2, 2)), block=3)
    assert os.listdir(tmp_path) == []
