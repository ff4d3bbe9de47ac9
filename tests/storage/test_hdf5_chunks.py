"""Chunks that are read and unpacked without HDF5, and those that it has to read itself."""

import logging
import zlib

import h5py
import numpy as np
import pytest

from roicli.analysis.check.run import check
from roicli.analysis.inspect_file import inspect
from roicli.core.exceptions import InputError
from roicli.pipeline.features import open_pyramid
from roicli.pipeline.memory import Budget, plan_memory
from roicli.storage.address import Address
from roicli.storage.formats.hdf5 import chunks
from roicli.storage.open import open_array

SHAPE = (7, 3, 6, 5)
VALUES = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
PACKED = {"compression": "gzip", "compression_opts": 1}


def write(path, values=VALUES, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("p3", data=values, **options)
    return str(path)


def chunks_of(path):
    with h5py.File(path, "r") as file:
        dataset = file["p3"]
        return chunks.find_chunks(dataset.id, dataset.dtype)


@pytest.fixture
def opened():
    arrays = []

    def open_one(path):
        arrays.append(open_array(Address(path, "p3"), "features"))
        return arrays[-1]

    yield open_one
    for array in arrays:
        array.close()


@pytest.mark.parametrize("options", [{}, PACKED, {"shuffle": True}, {**PACKED, "shuffle": True}])
def test_any_place_of_any_chunks_is_read(tmp_path, options):
    random = np.random.default_rng(5)
    for _ in range(30):
        shape = random.integers(1, 8, random.integers(3, 5))
        chunk = tuple(random.integers(1, shape + 1))
        values = random.normal(size=shape).astype(random.choice(["<f2", "<f4", "<f8"]))
        path = write(tmp_path / "x.h5", values, chunks=chunk, **options)
        with h5py.File(path, "r") as file:
            reader = chunks.find_chunks(file["p3"].id, file["p3"].dtype)
            for target in ("as stored", "as float64", "apart"):
                start = random.integers(0, shape)
                place = tuple(map(slice, start, random.integers(start + 1, shape + 1)))
                sides = values[place].shape
                out = np.empty(sides, values.dtype if target == "as stored" else np.float64)
                if target == "apart":
                    out = np.empty([2 * side for side in sides], values.dtype)
                    out = out[tuple(slice(0, None, 2) for _ in sides)]
                reader.read(place, out)
                np.testing.assert_array_equal(out, values[place])


@pytest.mark.parametrize("chunk", [(1, 3, 6, 5), (4, 3, 6, 5), (2, 2, 4, 3), (1, 1, 6, 5)])
@pytest.mark.parametrize("options", [{}, PACKED, {**PACKED, "shuffle": True}])
@pytest.mark.parametrize("dtype", ["<f4", ">f8"])
def test_chunks_are_read_at_their_places(tmp_path, opened, chunk, options, dtype):
    values = VALUES.astype(dtype)
    path = write(tmp_path / "x.h5", values, chunks=chunk, **options)
    assert chunks_of(path) is not None
    array = opened(path)
    assert not array.needs_child
    np.testing.assert_array_equal(array.read_all(), values)
    place = np.s_[2:6, 1:3, 1:5, 2:4]
    out = np.empty(values[place].shape, array.dtype)
    array.read(place, out)
    np.testing.assert_array_equal(out, values[place])


@pytest.mark.parametrize("chunk", [(1, 3, 6, 5), (2, 3, 6, 5), (1, 2, 6, 5), (2, 2, 4, 3)])
@pytest.mark.parametrize("options", [{}, PACKED], ids=["plain", "packed"])
def test_chunks_lie_in_any_order(tmp_path, opened, monkeypatch, chunk, options):
    path = str(tmp_path / "x.h5")
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("p3", SHAPE, np.float32, chunks=chunk, **options)
        places = list(dataset.iter_chunks())
        for number in np.random.default_rng(1).permutation(len(places)):
            dataset[places[number]] = VALUES[places[number]]
            file.flush()
    array = opened(path)
    np.testing.assert_array_equal(array.read_all(), VALUES)
    # In pieces by threads, as large chunks are.
    monkeypatch.setattr(chunks, "LEAST_A_THREAD", 0)
    monkeypatch.setattr(chunks, "TOGETHER_BYTES", 200)
    monkeypatch.setattr(chunks, "usable_cores", lambda: 3)
    np.testing.assert_array_equal(array.read_all(), VALUES)
    out = np.empty((1, *SHAPE[1:]), np.float32)
    array.read_rows_into(6, out)
    np.testing.assert_array_equal(out, VALUES[6:])


@pytest.mark.parametrize(
    "options",
    [{"compression": "lzf"}, {**PACKED, "fletcher32": True}, {"scaleoffset": 3}],
    ids=["lzf", "fletcher32", "scaleoffset"],
)
def test_what_hdf5_has_to_undo_it_undoes(tmp_path, opened, options):
    path = write(tmp_path / "x.h5", chunks=(2, 3, 6, 5), **options)
    assert chunks_of(path) is None
    array = opened(path)
    assert array.needs_child
    np.testing.assert_allclose(array.read_all(), VALUES, atol=1e-3)


def test_chunks_that_are_not_stored_are_the_fill_value(tmp_path, opened):
    path = str(tmp_path / "x.h5")
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("p3", SHAPE, np.float32, chunks=(1, 3, 6, 5), fillvalue=7)
        dataset[2] = VALUES[2]
    assert chunks_of(path) is None
    found = opened(path).read_all()
    np.testing.assert_array_equal(found[2], VALUES[2])
    assert np.all(found[[0, 1, 3, 4, 5, 6]] == 7)


def test_a_chunk_that_skipped_a_filter_is_left_to_hdf5(tmp_path, opened):
    path = write(tmp_path / "x.h5", chunks=(7, 3, 6, 5), **PACKED)
    with h5py.File(path, "r+") as file:
        file["p3"].id.write_direct_chunk((0, 0, 0, 0), VALUES.tobytes(), filter_mask=1)
    assert chunks_of(path) is None
    np.testing.assert_array_equal(opened(path).read_all(), VALUES)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"no zlib at all", "cannot be unpacked"),
        (zlib.compress(VALUES.tobytes()[:-4]), "does not unpack to"),
        (zlib.compress(bytes(1 << 20)), "does not unpack to"),
        (zlib.compress(VALUES.tobytes())[:-9], "does not unpack to|cannot be unpacked"),
    ],
    ids=["other bytes", "short", "a bomb", "cut"],
)
def test_a_damaged_chunk_is_refused(tmp_path, opened, data, said):
    path = write(tmp_path / "x.h5", chunks=(7, 3, 6, 5), **PACKED)
    with h5py.File(path, "r+") as file:
        file["p3"].id.write_direct_chunk((0, 0, 0, 0), data)
    assert chunks_of(path) is not None
    with pytest.raises(InputError, match=said):
        opened(path).read_all()


def test_images_of_a_chunk_are_read_together_as_memory_allows(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "roicli")
    path = write(tmp_path / "x.h5", chunks=(4, 3, 6, 5), **PACKED)
    reads, read = [], chunks.ChunkReader.read
    monkeypatch.setattr(
        chunks.ChunkReader, "read", lambda self, *a: (reads.append(a[0][0]), read(self, *a))
    )

    def read_all(pyramid):
        reads.clear()
        out = np.empty(SHAPE[1:], np.float32)
        for image in range(SHAPE[0]):
            pyramid.levels[0].stored.read_item_into(image, out)
            np.testing.assert_array_equal(out, VALUES[image])
        return reads

    pyramid = open_pyramid(f"{path}::p3", (), (0.5,))
    try:
        plan_memory(Budget(1 << 40, True), pyramid, 10, 100, False)
        assert read_all(pyramid) == [np.s_[0:4], np.s_[4:7]]
        assert not caplog.messages
        pyramid.levels[0].keep_images(3 * VALUES[0].nbytes, "--max-memory")
        pyramid.levels[0].stored._kept = None
        assert read_all(pyramid) == [np.s_[0:3], np.s_[3:4], np.s_[4:7]]
    finally:
        pyramid.close()
    assert "each chunk holds 4 images" in caplog.text
    assert "leaves room to keep 3: chunks are read 2 times" in caplog.text


@pytest.mark.parametrize(("chunk", "kept"), [((4, 3, 6, 5), 1), ((4, 3, 6, 4), 4)])
def test_an_image_in_one_piece_is_read_without_its_neighbours(tmp_path, opened, chunk, kept):
    path = write(tmp_path / "x.h5", chunks=chunk)
    array, out = opened(path), np.empty(SHAPE[1:], np.float32)
    for image in range(SHAPE[0]):
        array.read_item_into(image, out)
        np.testing.assert_array_equal(out, VALUES[image])
    assert array.kept_rows == kept
    assert ("each chunk holds" in inspect(path).datasets[0].why) == (kept > 1)


def test_check_and_inspect_say_that_images_share_a_chunk(tmp_path, monkeypatch):
    path = write(tmp_path / "x.h5", chunks=(4, 3, 6, 5), **PACKED)
    said = "each chunk holds 4 images: reading one image reads 4"
    assert said in inspect(path).datasets[0].why
    monkeypatch.setattr("roicli.analysis.check.maps.KEPT_BYTES", 1)
    rois = np.array([[0, 0, 0, 4, 4]], np.float32)
    found = check(f"{path}::p3", rois, spatial_scale=1).findings
    assert [one.message for one in found if one.rule == "R20"] == [said]
    alone = write(tmp_path / "y.h5", chunks=(1, 3, 6, 5))
    assert "each chunk" not in inspect(alone).datasets[0].why
