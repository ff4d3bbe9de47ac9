"""The table of formats: a file is what its first bytes say, whatever it is called."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

import roicli
from roicli.core.exceptions import InputError
from roicli.storage.address import Address, parse_address
from roicli.storage.formats import FORMATS, recognize
from roicli.storage.open import open_array, read_contents

MAPS = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)


def write_hdf5(path, block=0):
    with h5py.File(path, "w", userblock_size=block) as file:
        file["maps"] = MAPS
    if block:
        with open(path, "r+b") as stream:
            stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(block, b" "))
    return str(path)


def check_reading(path):
    stored = open_array(parse_address(path), "features")
    np.testing.assert_array_equal(stored.read_all(), MAPS)
    stored.close()


def test_every_format_has_what_the_table_promises():
    for found in FORMATS:
        if found.holds == "packed":
            assert callable(found.unpacker.unpack)
            continue
        is_table = found.holds == "table"
        assert callable(getattr(found.reader, "open_table" if is_table else "open_array"))
        assert is_table or callable(found.reader.contents)
        parser = getattr(found.reader, "parse_table" if is_table else "parse", None)
        assert callable(parser) == found.streams
        assert set(found.written) <= set(found.endings)
        if found.written:
            assert callable(found.writer.create)
    endings = [ending for found in FORMATS for ending in found.endings]
    assert len(endings) == len(set(endings))


def test_the_table_imports_no_format():
    """--help imports it, and waits for no library."""
    code = (
        "import sys, roicli.storage.formats\n"
        "assert not {'numpy', 'h5py', 'zipfile', 'ml_dtypes'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "name", ["x.npy", "x.nc", "x.hf5", "x.hdf", "x", "x.csv", "x.bin", "x.zarr", "x.npz"]
)
def test_hdf5_under_every_name(tmp_path, name):
    check_reading(write_hdf5(tmp_path / name))


@pytest.mark.parametrize("block", [512, 1024, 2048, 1 << 16])
@pytest.mark.parametrize("name", ["x.mat", "x.h5"])
def test_hdf5_behind_a_block_of_anothers(tmp_path, name, block):
    path = write_hdf5(tmp_path / name, block)
    assert recognize(Address(path)).name == "hdf5"
    check_reading(path)


@pytest.mark.parametrize("name", ["x.h5", "x.csv", "x", "x.txt"])
def test_npy_under_every_name(tmp_path, name):
    with open(tmp_path / name, "wb") as stream:
        np.save(stream, MAPS)
    check_reading(str(tmp_path / name))
    assert read_contents(Address(str(tmp_path / name))).file_format == "npy"


def test_a_store_of_zarr_without_its_ending(tmp_path):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(tmp_path / "store", mode="w", zarr_format=3)
    group.create_array("maps", data=MAPS)
    check_reading(str(tmp_path / "store"))
    check_reading(str(tmp_path / "store" / "maps"))
    assert roicli.inspect(tmp_path / "store").file_format == "zarr"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"MATLAB 5.0 MAT-file, Platform", ("MAT-file of version 5", "-v7.3")),
        (b"CDF\x01\0\0\0\0", ("classic", "nccopy -k nc4")),
        (b"CDF\x02\0\0\0\0", ("classic", "nccopy -k nc4")),
        (b"\x0e\x03\x13\x01\0\0", ("HDF4",)),
    ],
)
def test_what_is_often_met_and_not_read_is_named(tmp_path, data, words):
    for name in ("x.mat", "x.nc", "x"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError) as caught:
            open_array(parse_address(str(tmp_path / name)), "features")
        for word in (name, *words):
            assert word in str(caught.value)


def test_a_folder_and_a_pipe_are_not_opened_to_be_recognized(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        recognize(Address(str(tmp_path / "folder")))
    os.mkfifo(tmp_path / "pipe.npy")
    assert recognize(Address(str(tmp_path / "pipe.npy"))).name == "npy"
    with pytest.raises(InputError, match="is not a regular file"):
        open_array(parse_address(str(tmp_path / "pipe.npy")), "features")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="unknown ending"):
        open_array(parse_address(str(tmp_path / "pipe")), "features")


def test_two_opaque_bytes_in_hdf5_are_bfloat16(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    half = MAPS.astype(ml_dtypes.bfloat16)
    for chunks in (None, (1, 3, 5, 4)):
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file.create_dataset("maps", data=half.view("V2"), chunks=chunks)
        stored = open_array(parse_address(f"{tmp_path}/x.h5"), "features")
        assert (stored.precision.name, stored.dtype) == ("bfloat16", np.float32)
        np.testing.assert_array_equal(stored.read_all(), half.astype(np.float32))
        stored.close()
    (only,) = roicli.inspect(tmp_path / "x.h5", stats=True).datasets
    assert (only.stored.dtype, only.usable_as) == ("bfloat16", "features")
    assert only.values.max == pytest.approx(float(half.max()))


@pytest.mark.parametrize("name", ["float8_e5m2", "float8_e4m3fn"])
def test_float8_as_numpy_saves_it(tmp_path, name):
    """e5m2 has a name of its own in the header, others are one opaque byte."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    values = MAPS.astype(getattr(ml_dtypes, name))
    np.save(tmp_path / "x.npy", values)
    if name == "float8_e5m2":
        stored = open_array(parse_address(f"{tmp_path}/x.npy"), "features")
        assert stored.precision.name == name
        np.testing.assert_array_equal(stored.read_all(), values.astype(np.float32))
        stored.close()
    else:
        with pytest.raises(InputError, match=r"float8_e4m3fn.*safetensors"):
            open_array(parse_address(f"{tmp_path}/x.npy"), "features")


def test_chunks_that_span_images_are_decoded_once(tmp_path, monkeypatch):
    from roicli.storage.formats.hdf5.array import Hdf5Array

    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("maps", (9, 3, 5, 4), "f4", chunks=(4, 1, 5, 4), compression="gzip")
        file["maps"][:] = np.arange(9 * 60).reshape(9, 3, 5, 4)
    reads, read = [], Hdf5Array.read
    monkeypatch.setattr(
        Hdf5Array, "read", lambda self, place, out: (reads.append(place[0]), read(self, place, out))
    )
    stored = open_array(parse_address(f"{tmp_path}/x.h5"), "features")
    out = np.empty((3, 5, 4), np.float32)
    for image in range(9):
        stored.read_item_into(image, out)
        assert out[0, 0, 0] == image * 60
    stored.close()
    assert reads == [slice(0, 4), slice(4, 8), slice(8, 9)]
