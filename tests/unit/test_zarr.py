"""Zarr arrays and results: the same numbers as in HDF5, whole or not there, or one clear line."""

import json
import os
import pickle
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

zarr = pytest.importorskip("zarr", reason="the extra roicli[zarr] is not installed")
fsspec = pytest.importorskip("fsspec", reason="the extra roicli[zarr] is not installed")

import roicli  # noqa: E402
from roicli.exceptions import InputError, OutputError, ParameterError, ProviderError  # noqa: E402
from roicli.storage import whole_chunks, zarr_array, zarr_place, zarr_result  # noqa: E402
from roicli.storage.address import parse_address  # noqa: E402
from roicli.storage.file_state import check_unchanged, hash_file, read_state  # noqa: E402
from roicli.storage.opening import open_array  # noqa: E402
from roicli.storage.result_file import ResultFile, open_result  # noqa: E402
from roicli.storage.whole_chunks import WholeChunks  # noqa: E402

PROJECT = Path(__file__).parents[2]
MAPS = np.random.default_rng(0).normal(size=(5, 3, 8, 6)).astype(np.float32)


@pytest.fixture
def memory_url():
    """A URL of this process's memory, emptied afterwards."""
    url = f"memory://{os.urandom(4).hex()}/x.zarr"
    yield url
    system, path = fsspec.core.url_to_fs(url)
    if system.exists(path):
        system.rm(path, recursive=True)


def store(path, values=MAPS, name="p3", chunks=None, attributes=None, **options):
    group = zarr.open_group(str(path), mode="a", zarr_format=options.get("zarr_format", 3))
    options.pop("zarr_format", None)
    array = group.create_array(
        name, shape=values.shape, dtype=values.dtype, chunks=chunks or (1, *values.shape[1:]),
        attributes=attributes or {}, **options,
    )  # fmt: skip
    array[...] = values
    return f"{path}::{name}"


def opened(address, role="features"):
    return open_array(parse_address(str(address)), role)


def refused(address, role="features"):
    with pytest.raises(InputError) as caught:
        opened(address, role).read_all()
    return str(caught.value)


# --- reading ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "u2", "i4", "u8"])
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("chunks", [(1, 3, 8, 6), (2, 2, 5, 6), (5, 3, 8, 6)])
def test_every_dtype_and_chunking_reads_as_it_was_written(tmp_path, dtype, version, chunks):
    values = (MAPS * 50).astype(dtype) if dtype[0] != "u" else np.abs(MAPS * 50).astype(dtype)
    address = store(tmp_path / "x.zarr", values, chunks=chunks, zarr_format=version)
    array = opened(address)
    assert array.dtype == values.dtype
    np.testing.assert_array_equal(array.read_all(), values)
    for index in (4, 0, 3):
        out = np.empty(values.shape[1:], values.dtype)
        array.read_item_into(index, out)
        np.testing.assert_array_equal(out, values[index])
    rows = np.empty((3, *values.shape[1:]), values.dtype)
    array.read_rows_into(1, rows)
    np.testing.assert_array_equal(rows, values[1:4])


def test_big_endian_values_come_in_native_order(tmp_path):
    address = store(tmp_path / "x.zarr", MAPS.astype(">f4"), zarr_format=2)
    array = opened(address)
    assert array.dtype.isnative
    np.testing.assert_array_equal(array.read_all(), MAPS)


def test_bfloat16_by_name_is_widened_and_its_precision_is_told(tmp_path):
    bits = (MAPS.view(np.uint32) >> 16).astype(np.uint16)
    address = store(tmp_path / "x.zarr", bits)
    path = tmp_path / "x.zarr" / "p3" / "zarr.json"
    metadata = json.loads(path.read_text())
    path.write_text(json.dumps({**metadata, "data_type": "bfloat16", "fill_value": "NaN"}))
    array = opened(address)
    assert (array.precision.name, array.precision.mantissa_bits) == ("bfloat16", 7)
    np.testing.assert_array_equal(array.read_all(), (bits.astype(np.uint32) << 16).view(np.float32))
    dataset = roicli.inspect(str(tmp_path / "x.zarr"), stats=True).datasets[0]
    assert (dataset.stored.dtype, dataset.stored.is_numeric) == ("bfloat16", True)
    assert dataset.values.nan == 0
    # What zarr itself makes of uint16 stays what it was.
    np.testing.assert_array_equal(opened(store(tmp_path / "y.zarr", bits)).read_all(), bits)


def test_opaque_bfloat16_reads_as_in_npy(tmp_path):
    bits = (MAPS.view(np.uint32) >> 16).astype(np.uint16)
    with warnings.catch_warnings():  # zarr warns whoever stores such a dtype
        warnings.simplefilter("ignore")
        address = store(tmp_path / "x.zarr", bits.view("V2"))
    array = opened(address)
    assert array.precision.name == "bfloat16"
    np.testing.assert_array_equal(array.read_all(), (bits.astype(np.uint32) << 16).view(np.float32))


def test_sharded_arrays_read_and_their_empty_inner_chunks_are_no_loss(tmp_path):
    values = MAPS.copy()
    values[1] = 0
    address = store(
        tmp_path / "x.zarr", values, shards=(4, 3, 8, 6), config={"write_empty_chunks": False}
    )
    np.testing.assert_array_equal(opened(address).read_all(), values)
    os.remove(tmp_path / "x.zarr/p3/c/0/0/0/0")
    assert "chunk p3/c/0/0/0/0 is not in the store" in refused(address)


def test_one_image_reads_only_its_own_chunks(tmp_path):
    address = store(tmp_path / "x.zarr")
    for image in (0, 1, 3, 4):
        os.remove(tmp_path / f"x.zarr/p3/c/{image}/0/0/0")
    out = np.empty(MAPS.shape[1:], MAPS.dtype)
    opened(address).read_item_into(2, out)
    np.testing.assert_array_equal(out, MAPS[2])


def test_a_chunk_of_several_images_is_decoded_once(tmp_path, monkeypatch):
    array = opened(store(tmp_path / "x.zarr", chunks=(4, 3, 8, 6)))
    reads = []
    read = zarr_array.ZarrArray._read
    monkeypatch.setattr(
        zarr_array.ZarrArray, "_read", lambda self, *a: (reads.append(a[0]), read(self, *a))
    )
    out = np.empty(MAPS.shape[1:], MAPS.dtype)
    for image in range(5):
        array.read_item_into(image, out)
        np.testing.assert_array_equal(out, MAPS[image])
    assert reads == [np.s_[0:4], np.s_[4:5]]
    monkeypatch.setattr(zarr_array, "KEPT_BYTES", 1)
    array.read_item_into(1, out)
    assert reads[-1] == np.s_[1:2]
    np.testing.assert_array_equal(out, MAPS[1])


def test_attributes_of_the_array_and_of_its_store(tmp_path):
    address = store(tmp_path / "x.zarr", attributes={"spatial_scale": 0.25})
    zarr.open_group(str(tmp_path / "x.zarr")).attrs["operator"] = "pool"
    array = opened(address)
    assert array.name == f"{tmp_path}/x.zarr::/p3"
    assert array.attributes == {"spatial_scale": 0.25}
    assert array.file_attributes == {"operator": "pool"}


def test_a_store_that_is_one_array_needs_no_name(tmp_path):
    path = str(tmp_path / "x.zarr")
    zarr.create_array(path, shape=MAPS.shape, dtype="f4")[...] = MAPS
    array = opened(path)
    assert array.name == path
    np.testing.assert_array_equal(array.read_all(), MAPS)
    assert roicli.inspect(path).features.address == path
    assert "has no dataset 'p3'; its datasets are: /" in refused(f"{path}::p3")


def test_the_only_array_that_fits_is_taken_also_in_a_group(tmp_path):
    path = tmp_path / "x.zarr"
    store(path, MAPS, "maps/p3")
    store(path, np.zeros((4, 5)), "rois")
    store(path, np.zeros(7), "levels")
    assert opened(path).name.endswith("::/maps/p3")
    assert opened(f"{path}::maps").name.endswith("::/maps/p3")
    assert opened(path, "rois").name.endswith("::/rois")
    assert opened(path, "vector").name.endswith("::/levels")
    store(path, MAPS, "maps/p4")
    message = refused(path)
    assert "2 datasets fit (numeric and 4-D (N, C, H, W)): /maps/p3 (5, 3, 8, 6) float32" in message
    assert f"name one: {path}::/maps/p3" in message
    assert "has no dataset 'p9'; its datasets are: /levels, /maps/p3" in refused(f"{path}::p9")
    assert "no dataset is numeric and 2-D with 5 columns; found: /maps/p3" in refused(
        f"{path}::maps", "rois"
    )


def test_foreign_files_in_the_folder_do_not_matter(tmp_path):
    store(tmp_path / "x.zarr")
    (tmp_path / "x.zarr" / "notes.txt").write_text("mine")
    np.testing.assert_array_equal(opened(tmp_path / "x.zarr").read_all(), MAPS)


# --- what is refused ---------------------------------------------------------------------------


def test_a_lost_chunk_is_an_error_not_zeros(tmp_path):
    address = store(tmp_path / "x.zarr")
    os.remove(tmp_path / "x.zarr/p3/c/2/0/0/0")
    message = refused(address)
    assert "::/p3: chunk p3/c/2/0/0/0 is not in the store, where zarr would read" in message
    assert "\n" not in message


@pytest.mark.parametrize("codec", [None, "gzip", "blosc", "zstd"])
def test_a_chunk_cut_short_is_an_error(tmp_path, codec):
    codecs = {"gzip": zarr.codecs.GzipCodec, "blosc": zarr.codecs.BloscCodec,
              "zstd": zarr.codecs.ZstdCodec}  # fmt: skip
    address = store(tmp_path / "x.zarr", compressors=codec and codecs[codec]())
    for size in (300, 30, 0):
        os.truncate(tmp_path / "x.zarr/p3/c/2/0/0/0", size)
        message = refused(address)
        assert "::/p3: its values cannot be read: " in message
        assert "\n" not in message


def change_metadata(path, **changes):
    file = path / "p3" / "zarr.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"codecs": [{"name": "mystery"}]}, "mystery"),
        ({"data_type": "float1024"}, "float1024"),
        ({"shape": "everything"}, "cannot be read"),
        ({"shape": [-5, 3, 8, 6]}, "cannot be read"),
        ({"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2**30, 3, 8, 6]}}},
         "takes 618,475,290,624 bytes, expected at most 2,147,483,648"),
    ],
)  # fmt: skip
def test_metadata_that_cannot_be_used(tmp_path, changes, words):
    address = store(tmp_path / "x.zarr")
    change_metadata(tmp_path / "x.zarr", **changes)
    message = refused(address)
    assert words in message
    assert str(tmp_path / "x.zarr") in message
    assert "\n" not in message


def test_a_giant_shape_is_refused_before_it_is_read(tmp_path):
    address = store(tmp_path / "x.zarr")
    change_metadata(tmp_path / "x.zarr", shape=[2, 2**40, 8, 6])
    with pytest.raises(InputError, match=r"x\.zarr::/p3: .* bytes for one image of shape"):
        roicli.align(address, np.zeros((1, 5), np.float32), spatial_scale=1)


def test_texts_and_objects_are_no_numbers(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group = zarr.open_group(str(tmp_path / "x.zarr"), mode="w")
        group.create_array("words", shape=(2,), dtype=str)
    assert "expected float16" in refused(f"{tmp_path}/x.zarr::words", "vector")
    assert roicli.inspect(str(tmp_path / "x.zarr")).datasets[0].stored.is_numeric is False


class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("place", ["filters", "compressor"])
def test_a_pickle_is_never_loaded(tmp_path, place):
    address = store(tmp_path / "x.zarr", zarr_format=2, compressors=None)
    path = tmp_path / "x.zarr" / "p3" / ".zarray"
    codec = {"id": "pickle", "protocol": 5}
    metadata = json.loads(path.read_text())
    path.write_text(json.dumps({**metadata, place: [codec] if place == "filters" else codec}))
    (tmp_path / "x.zarr/p3/0.0.0.0").write_bytes(pickle.dumps(Bomb(str(tmp_path / "ran"))))
    assert "pickle" in refused(address)
    with pytest.raises(InputError, match="pickle"):
        roicli.inspect(str(tmp_path / "x.zarr"), stats=True)
    assert not (tmp_path / "ran").exists()


def test_no_folder_a_file_an_empty_folder(tmp_path):
    (tmp_path / "file.zarr").write_text("x")
    (tmp_path / "empty.zarr").mkdir()
    assert "no such folder" in refused(tmp_path / "gone.zarr")
    assert "is a file, expected the folder of a Zarr store" in refused(tmp_path / "file.zarr")
    assert "is no Zarr store, it has none of zarr.json" in refused(tmp_path / "empty.zarr")
    (tmp_path / "empty.zarr" / "zarr.json").write_text("{")
    assert "empty.zarr: cannot be read" in refused(tmp_path / "empty.zarr")


@pytest.mark.parametrize(
    ("url", "words", "error"),
    [
        ("nowhere://x.zarr", "Protocol not known: nowhere", InputError),
        ("memory://gone/x.zarr", "memory://gone/x.zarr: is no Zarr store", InputError),
        ("memory://x.h5", "a URL is read as a Zarr store, not as .h5", InputError),
        ("s3://bucket/x.zarr", "pip install", ProviderError),
        ("gs://bucket/x.zarr", "pip install", ProviderError),
    ],
)
def test_urls_that_cannot_be_opened(url, words, error, monkeypatch):
    for driver in ("s3fs", "gcsfs"):
        monkeypatch.setitem(__import__("sys").modules, driver, None)
    with pytest.raises(error) as caught:
        opened(url)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_the_extra_the_line_says_what_to_install(tmp_path, monkeypatch):
    store(tmp_path / "x.zarr")
    monkeypatch.setitem(__import__("sys").modules, "zarr", None)
    for call in (
        lambda: opened(tmp_path / "x.zarr"),
        lambda: roicli.inspect(str(tmp_path / "x.zarr")),
        lambda: roicli.align(MAPS, np.zeros((1, 5)), str(tmp_path / "y.zarr"), spatial_scale=1),
    ):
        with pytest.raises(ProviderError, match=r"pip install 'roicli\[zarr\]'"):
            call()
    assert os.listdir(tmp_path) == ["x.zarr"]


# --- whole chunks ------------------------------------------------------------------------------


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


# --- results -----------------------------------------------------------------------------------


def write(path, values, compression="none", order=None, block=3, force=False, **beside):
    order = np.arange(len(values)) if order is None else order
    with open_result(ResultFile(str(path), values.shape, values.dtype, compression, force)) as made:
        for start in range(0, len(order), block):
            rows = order[start : start + block]
            made.write_rows(rows, values[rows])
        made.finish(beside.get("tables", {}), beside.get("attributes", {}))


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
    monkeypatch.setattr(zarr_result, "CHUNK_BYTES", chunk_bytes)
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
    monkeypatch.setattr(zarr_result, "CHUNK_BYTES", 200)
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

    monkeypatch.setattr(zarr_place.os, "rename", fail)
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


def test_until_the_end_nothing_at_a_url_opens(memory_url):
    values = np.ones((4, 2, 3, 3), np.float32)
    with open_result(ResultFile(memory_url, values.shape, values.dtype)) as made:
        made.write_rows(np.arange(4), values)
        assert "is no Zarr store" in refused(memory_url)
        assert "cannot be read" in refused(f"{memory_url}::roi_features")
        system, path = fsspec.core.url_to_fs(memory_url)
        assert [key.removeprefix(f"{path}/") for key in system.find(path)] == [
            "roi_features/c.0.0.0.0"
        ]
        made.finish({}, {"operator": "align"})
    assert opened(memory_url).file_attributes == {"operator": "align"}
    np.testing.assert_array_equal(opened(memory_url).read_all(), values)


@pytest.mark.parametrize("error", [ValueError, Interruption])
def test_an_exception_leaves_nothing_at_a_url(memory_url, error):
    def fail():
        with open_result(ResultFile(memory_url, (4, 1, 1, 1), np.dtype("f4"))) as made:
            made.write_rows(np.arange(4), np.ones((4, 1, 1, 1), np.float32))
            raise error("stop")

    with pytest.raises(error):
        fail()
    system, path = fsspec.core.url_to_fs(memory_url)
    assert not system.exists(path)


def test_the_root_is_written_last_at_a_url(memory_url, monkeypatch):
    put, keys = zarr_place.Remote.put, []
    monkeypatch.setattr(
        zarr_place.Remote, "put", lambda self, *a: (keys.append(a[0]), put(self, *a))
    )
    rois = np.zeros((4, 5), np.float32)
    write(memory_url, np.ones((4, 1, 1, 1), np.float32), tables={"rois": lambda a, b: rois[a:b]})
    assert sorted(keys[:-1]) == ["roi_features/zarr.json", "rois/zarr.json"]
    assert keys[-1] == "zarr.json"


def test_what_a_url_refuses_is_one_line(memory_url, monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    def full(*_, **__):
        raise RuntimeError("quota\nexceeded")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", full)
    with pytest.raises(OutputError, match=r"x\.zarr: cannot be written: quota$"):
        write(memory_url, np.ones((4, 1, 1, 1), np.float32))


# --- where a result may go ----------------------------------------------------------------------


def place_refused(path, taken=(), force=False):
    with pytest.raises(OutputError) as caught:
        zarr_place.check_place(str(path), list(map(str, taken)), force, (".h5", ".zarr"))
    return str(caught.value)


def test_places_that_a_store_must_not_go_to(tmp_path):
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "folder.zarr" / "thesis.tex").write_text("x")
    (tmp_path / "file.zarr").write_text("x")
    store(tmp_path / "in.zarr", MAPS, "inner")
    assert "does not exist" in place_refused(tmp_path / "gone" / "r.zarr")
    for name in ("folder.zarr", "file.zarr"):
        assert "exists and is no Zarr store" in place_refused(tmp_path / name, force=True)
    assert "exists already; add --force" in place_refused(tmp_path / "in.zarr")
    assert "would overwrite" in place_refused(tmp_path / "in.zarr", [tmp_path / "in.zarr"], True)
    inner = tmp_path / "in.zarr" / "inner"
    assert "would overwrite" in place_refused(tmp_path / "in.zarr", [inner], True)
    zarr_place.check_place(str(tmp_path / "r.zarr"), [str(inner)], False, ())


def test_urls_that_a_store_must_not_go_to(memory_url):
    assert "unknown ending '.h5'" in place_refused("memory://x.h5")
    zarr_place.check_place(memory_url, [], False, ())
    write(memory_url, np.ones((1, 1, 1, 1), np.float32))
    assert "exists already" in place_refused(memory_url)
    assert "would overwrite" in place_refused(memory_url, [memory_url], True)
    zarr_place.check_place(memory_url, [], True, ())
    system, path = fsspec.core.url_to_fs(memory_url)
    system.rm_file(f"{path}/zarr.json")  # what a killed run leaves
    zarr_place.check_place(memory_url, [], True, ())
    system.pipe_file(f"{path}/thesis.tex", b"x")
    assert "is no Zarr store" in place_refused(memory_url, force=True)


@pytest.mark.parametrize(
    ("name", "compression", "words"),
    [("r.zarr", "lzf", "compression lzf is HDF5's"), ("r.h5", "zstd", "zstd is for .zarr")],
)
def test_a_compression_of_the_other_format(tmp_path, name, compression, words):
    with pytest.raises(OutputError, match=words):
        write(tmp_path / name, np.ones((1, 1, 1, 1), np.float32), compression)
    assert os.listdir(tmp_path) == []


def test_a_result_larger_than_the_disk_is_refused_before_it_is_begun(tmp_path, monkeypatch):
    from collections import namedtuple

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


def test_chunks_that_were_left_out_are_stored_as_the_documentation_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = MAPS.copy()
    values[2] = 0
    address = store("maps.zarr", values)
    assert "chunk p3/c/2/0/0/0 is not in the store" in refused(address)
    text = (PROJECT / "docs" / "zarr.md").read_text(encoding="utf-8")
    with zarr.config.set({"array.write_empty_chunks": False}):  # puts the setting back afterwards
        exec(text.split("```python\n")[1].split("```")[0], {})
    np.testing.assert_array_equal(opened(address).read_all(), values)


def test_rows_share_the_chunks_evenly(tmp_path, monkeypatch):
    monkeypatch.setattr(zarr_result, "CHUNK_BYTES", 4 * 6)
    write(tmp_path / "r.zarr", np.ones((13, 1, 1, 1), np.float32))
    held = zarr.open_group(str(tmp_path / "r.zarr"), mode="r")["roi_features"]
    assert held.chunks == (5, 1, 1, 1)


def test_a_change_of_a_store_is_noticed_in_size_time_or_contents(tmp_path):
    store(tmp_path / "x.zarr")
    path, chunk = str(tmp_path / "x.zarr"), tmp_path / "x.zarr/p3/c/1/0/0/0"
    state, digest = read_state(path), hash_file(path)
    check_unchanged(path, state)
    data = chunk.read_bytes()
    chunk.write_bytes(b"x" + data[1:])
    os.utime(chunk, ns=(state.mtime_ns + 1, state.mtime_ns + 1))
    with pytest.raises(InputError, match="was changed while it was read: its time is another"):
        check_unchanged(path, state)
    assert hash_file(path) != digest
    chunk.write_bytes(data)
    assert hash_file(path) == digest
    chunk.write_bytes(data + b"x")
    with pytest.raises(InputError, match="it had .* bytes and has"):
        check_unchanged(path, state)


def test_a_url_is_not_watched_and_cannot_be_hashed():
    check_unchanged("memory://x.zarr", read_state("memory://x.zarr"))
    with pytest.raises(InputError, match="reads files, not URLs"):
        hash_file("memory://x.zarr")
