"""Zarr arrays: the same numbers as in HDF5, image by image."""

import json
import os
import warnings

import numpy as np
import pytest

import roicli
from roicli.storage.formats.zarr import read as zarr_read
from tests.zarr_stores import MAPS, opened, refused, store, zarr


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
    read = zarr_read.ZarrArray.read
    monkeypatch.setattr(
        zarr_read.ZarrArray, "read", lambda self, *a: (reads.append(a[0][0]), read(self, *a))
    )
    out = np.empty(MAPS.shape[1:], MAPS.dtype)
    for image in range(5):
        array.read_item_into(image, out)
        np.testing.assert_array_equal(out, MAPS[image])
    assert reads == [np.s_[0:4], np.s_[4:5]]
    monkeypatch.setattr("roicli.storage.array.KEPT_BYTES", 1)
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


def test_check_says_that_an_image_lies_in_very_many_files(tmp_path):
    values = np.random.default_rng(0).normal(size=(2, 20, 4, 4)).astype(np.float32)
    rois = np.array([[0, 0, 0, 3, 3], [1, 0, 0, 3, 3]], np.float32)
    said = "each image lies in 20 files of 64 bytes, which are opened one by one"
    for name, given, expected in (
        ("many", {"chunks": (1, 1, 4, 4)}, [said]),
        ("whole", {"chunks": (1, 20, 4, 4)}, []),
        ("shards", {"chunks": (1, 1, 4, 4), "shards": (1, 20, 4, 4)}, []),
    ):
        address = store(tmp_path / f"{name}.zarr", values, **given)
        found = roicli.check(address, rois, spatial_scale=1).findings
        assert [one.message for one in found if one.rule == "R20"] == expected
