"""Zarr results in folders: whole or not there."""

import json
import os
from collections import namedtuple

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import roicli
from roicli.core.exceptions import OutputError, ParameterError
from roicli.storage.formats.zarr import publish as publishing
from roicli.storage.formats.zarr import write as draft
from roicli.storage.result import ResultFile, open_result
from tests.zarr_stores import MAPS, opened, store, write, zarr


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(0, 9), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    chunk_bytes=st.sampled_from([1, 200, 1 << 22]),
    seed=st.integers(0, 99),
)
def test_a_result_reads_back_as_it_was(
    tmp_path, monkeypatch, compression, shape, dtype, chunk_bytes, seed
):
    monkeypatch.setattr(draft, "CHUNK_BYTES", chunk_bytes)
    values = np.random.default_rng(seed).normal(size=shape).astype(dtype)
    values[::2] = 0  # chunks that zarr would leave out by itself
    order = np.random.default_rng(seed).permutation(len(values))
    write(tmp_path / "r.zarr", values, compression, order, force=True)
    array = opened(tmp_path / "r.zarr", "result")
    assert array.dtype == dtype
    np.testing.assert_array_equal(array.read_all(), values)
    assert os.listdir(tmp_path) == ["r.zarr"]
    held = zarr.open_group(str(tmp_path / "r.zarr"), mode="r")["roi_features"]
    assert held.nchunks_initialized == held.nchunks or 0 in shape
    assert held.chunks[1:] == shape[1:]


def test_tables_and_attributes_stand_beside_the_features(tmp_path, monkeypatch):
    monkeypatch.setattr(draft, "CHUNK_BYTES", 200)
    values, rois = np.zeros((11, 1, 2, 2), np.float32), MAPS.reshape(-1)[:55].reshape(11, 5)
    records = np.array([(k, k / 3, [b"small", b"large"][k % 2]) for k in range(11)],
                       [("roi", "i8"), ("iou", "f8"), ("size_class", "S6")])  # fmt: skip
    tables = {"rois": lambda a, b: rois[a:b], "quantization_error": lambda a, b: records[a:b]}
    attributes = {"operator": "pool", "spatial_scale": np.float64(0.25), "output_size": [7, 5]}
    write(tmp_path / "r.zarr", values, tables=tables, attributes=attributes)
    group = zarr.open_group(str(tmp_path / "r.zarr"), mode="r")
    np.testing.assert_array_equal(group["rois"][:], rois)
    table = group["quantization_error"]
    assert table.attrs["columns"] == ["roi", "iou", "size_class"]
    assert table[:, 0].tolist() == records["roi"].tolist()
    assert table[:, 1].tolist() == records["iou"].tolist()
    words = [table.attrs["size_classes"][int(n)].encode() for n in table[:, 2]]
    assert words == records["size_class"].tolist()
    assert dict(group.attrs) == {"operator": "pool", "spatial_scale": 0.25, "output_size": [7, 5]}
    metadata = json.loads((tmp_path / "r.zarr/roi_features/zarr.json").read_text())
    assert metadata["dimension_names"] == ["roi", "channel", "bin_row", "bin_column"]


class Interruption(BaseException):
    """Like KeyboardInterrupt."""


@pytest.mark.parametrize("error", [ValueError, Interruption])
@pytest.mark.parametrize("force", [True, False])
def test_an_exception_leaves_the_folder_as_it_was(tmp_path, error, force):
    values, target = np.ones((4, 2, 3, 3), np.float32), tmp_path / "r.zarr"
    if force:
        write(target, values)

    def fail():
        with open_result(
            ResultFile(str(target), values.shape, values.dtype, "none", force)
        ) as made:
            made.write_rows(np.arange(4), values * 2)
            made.finish({}, {})
            raise error("stop")

    with pytest.raises(error):
        fail()
    assert os.listdir(tmp_path) == (["r.zarr"] if force else [])
    if force:
        np.testing.assert_array_equal(opened(target, "result").read_all(), values)


def test_a_store_that_appears_meanwhile_is_not_replaced(tmp_path):
    values, target = np.ones((2, 1, 2, 2), np.float32), tmp_path / "r.zarr"

    def race():
        with open_result(ResultFile(str(target), values.shape, values.dtype)) as made:
            made.write_rows(np.arange(2), values)
            store(target, MAPS)
            made.finish({}, {})

    with pytest.raises(OutputError, match="another run wrote it meanwhile"):
        race()
    np.testing.assert_array_equal(opened(target).read_all(), MAPS)
    assert os.listdir(tmp_path) == ["r.zarr"]


def test_two_runs_do_not_write_one_store(tmp_path):
    result = ResultFile(str(tmp_path / "r.zarr"), (1, 1, 1, 1), np.dtype("f4"))
    with open_result(result) as made:
        with pytest.raises(OutputError, match="another run is writing it"), open_result(result):
            pass
        made.write_rows(np.arange(1), np.ones((1, 1, 1, 1), np.float32))
        made.finish({}, {})
    assert opened(tmp_path / "r.zarr").read_all().item() == 1


def test_force_replaces_a_store_and_what_a_killed_run_left(tmp_path):
    target, values = tmp_path / "r.zarr", np.ones((2, 1, 2, 2), np.float32)
    store(target, MAPS, "old")
    left = tmp_path / ".r.zarr.roicli-part.store"
    left.mkdir()
    (left / "rubbish").write_text("x")
    write(target, values, force=True)
    assert os.listdir(tmp_path) == ["r.zarr"]
    assert sorted(os.listdir(target)) == ["roi_features", "zarr.json"]


def test_a_rename_that_fails_puts_the_old_store_back(tmp_path, monkeypatch):
    target, values = tmp_path / "r.zarr", np.ones((2, 1, 2, 2), np.float32)
    store(target)
    rename = os.rename

    def fail(source, place):
        if source.endswith(".store"):
            raise OSError(5, "Input/output error")
        rename(source, place)

    monkeypatch.setattr(publishing.os, "rename", fail)
    with pytest.raises(OutputError, match=r"r\.zarr: cannot be written: Input/output error"):
        write(target, values, force=True)
    np.testing.assert_array_equal(opened(target).read_all(), MAPS)
    assert os.listdir(tmp_path) == ["r.zarr"]


def test_force_through_a_link_replaces_the_link(tmp_path):
    store(tmp_path / "kept.zarr")
    os.symlink(tmp_path / "kept.zarr", tmp_path / "r.zarr")
    write(tmp_path / "r.zarr", np.ones((2, 1, 2, 2), np.float32), force=True)
    assert not (tmp_path / "r.zarr").is_symlink()
    np.testing.assert_array_equal(opened(tmp_path / "kept.zarr").read_all(), MAPS)


@pytest.mark.parametrize(
    ("name", "compression", "words"),
    [("r.zarr", "lzf", "compression lzf is HDF5's"), ("r.h5", "zstd", "zstd is for .zarr")],
)
def test_a_compression_of_the_other_format(tmp_path, name, compression, words):
    with pytest.raises(OutputError, match=words):
        write(tmp_path / name, np.ones((1, 1, 1, 1), np.float32), compression)
    assert os.listdir(tmp_path) == []


def test_a_result_larger_than_the_disk_is_refused_before_it_is_begun(tmp_path, monkeypatch):

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(0, 0, 100))
    with pytest.raises(OutputError, match=r"bytes, the disk has 100 free"):
        write(tmp_path / "r.zarr", np.ones((10, 4, 3, 3), np.float32))
    assert os.listdir(tmp_path) == []


def test_a_number_past_the_results_dtype(tmp_path):
    def overflow():
        path = str(tmp_path / "r.zarr")
        with open_result(ResultFile(path, (2, 1, 1, 1), np.dtype("f2"))) as made:
            made.write_rows(np.arange(2), np.full((2, 1, 1, 1), 1e6, np.float32))

    with pytest.raises(ParameterError, match="past what float16 holds"):
        overflow()
    assert os.listdir(tmp_path) == []


def test_h5_and_zarr_hold_the_same_error_table(tmp_path):
    rois = np.array([[0, 1, 2, 6, 7], [4, 0.3, 0.2, 5.1, 3.3], [2, 0, 0, 5, 7]], np.float32)
    for name in ("r.h5", "r.zarr"):
        roicli.pool(MAPS, rois, str(tmp_path / name), spatial_scale=1, values=True)
    with h5py.File(tmp_path / "r.h5") as file:
        records = file["quantization_error"][()]
        attributes = dict(file.attrs)
    group = zarr.open_group(str(tmp_path / "r.zarr"), mode="r")
    table = group["quantization_error"]
    assert table.attrs["columns"] == list(records.dtype.names)
    for place, name in enumerate(records.dtype.names):
        if name != "size_class":
            np.testing.assert_array_equal(table[:, place], records[name].astype(float))
    assert set(group.attrs) == set(attributes)


def test_rows_share_the_chunks_evenly(tmp_path, monkeypatch):
    monkeypatch.setattr(draft, "CHUNK_BYTES", 4 * 6)
    write(tmp_path / "r.zarr", np.ones((13, 1, 1, 1), np.float32))
    held = zarr.open_group(str(tmp_path / "r.zarr"), mode="r")["roi_features"]
    assert held.chunks == (5, 1, 1, 1)


def test_many_chunks_lie_in_shards_and_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr(draft, "CHUNK_BYTES", 200)
    monkeypatch.setattr(draft, "MOST_FILES", 3)
    values = np.random.default_rng(0).normal(size=(50, 3, 2, 2)).astype(np.float32)
    order = np.random.default_rng(1).permutation(len(values))
    path = tmp_path / "r.zarr"
    result = ResultFile(str(path), values.shape, values.dtype, "zstd", shard_bytes=1000)
    with open_result(result) as writer:
        for row in order:
            writer.write_rows(np.array([row]), values[[row]])
        writer.finish({}, {})
    held = zarr.open_group(str(path), mode="r")["roi_features"]
    assert (held.chunks[0], held.shards[0]) == (4, 20)
    assert sorted(os.listdir(path / "roi_features")) == [
        "c.0.0.0.0", "c.1.0.0.0", "c.2.0.0.0", "zarr.json",
    ]  # fmt: skip
    np.testing.assert_array_equal(held[:], values)
    np.testing.assert_array_equal(opened(path, "result").read_all(), values)


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("most_files", [1, 1000])
def test_plain_zarr_refuses_a_store_with_a_flipped_bit(
    tmp_path, monkeypatch, compression, most_files
):
    monkeypatch.setattr(draft, "CHUNK_BYTES", 200)
    monkeypatch.setattr(draft, "MOST_FILES", most_files)
    values = np.random.default_rng(0).normal(size=(10, 3, 2, 2)).astype(np.float32)
    tables = {"rois": lambda a, b: values.reshape(10, -1)[a:b, :5]}
    write(tmp_path / "r.zarr", values, compression, tables=tables)
    for name in ("roi_features", "rois"):
        for path in (tmp_path / "r.zarr" / name).glob("c.*"):
            whole = path.read_bytes()
            for place in range(0, len(whole), 13):
                spoiled = bytearray(whole)
                spoiled[place] ^= 4
                path.write_bytes(spoiled)
                with pytest.raises((ValueError, IndexError), match=r"[Cc]hecksum"):
                    zarr.open_group(str(tmp_path / "r.zarr"), mode="r")[name][:]
            path.write_bytes(whole)
    zarr.open_group(str(tmp_path / "r.zarr"), mode="r")["roi_features"][:]


def test_the_root_has_the_metadata_of_all_arrays(tmp_path, recwarn):
    values = np.zeros((3, 1, 2, 2), np.float32)
    write(tmp_path / "r.zarr", values, tables={"rois": lambda a, b: values[a:b, 0, 0]})
    group = zarr.open_consolidated(str(tmp_path / "r.zarr"), zarr_format=3)
    assert sorted(group.metadata.consolidated_metadata.metadata) == ["roi_features", "rois"]
    assert group["roi_features"].shape == values.shape
    assert not recwarn.list
