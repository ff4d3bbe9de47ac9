"""Zarr stores that are refused: lost, cut short, lying, not there. One clear line each."""

import json
import os
import pickle
import warnings
from importlib import import_module

import numpy as np
import pytest

import roicli
from roicli.core.exceptions import InputError, MissingPackageError
from roicli.storage.file_state import check_unchanged, hash_file, read_state
from tests.zarr_stores import MAPS, PROJECT, opened, refused, store, zarr


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
        ("s3://bucket/x.zarr", "pip install", MissingPackageError),
        ("gs://bucket/x.zarr", "pip install", MissingPackageError),
    ],
)
def test_urls_that_cannot_be_opened(url, words, error, monkeypatch):
    for driver, protocol in (("s3fs", "s3"), ("gcsfs", "gs")):
        monkeypatch.setitem(__import__("sys").modules, driver, None)
        # A driver that another test used is remembered here.
        monkeypatch.delitem(import_module("fsspec.registry")._registry, protocol, raising=False)
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
        with pytest.raises(MissingPackageError, match=r"pip install 'roicli\[zarr\]'"):
            call()
    assert os.listdir(tmp_path) == ["x.zarr"]


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


def test_a_change_of_a_store_is_noticed_in_size_time_or_contents(tmp_path):
    store(tmp_path / "x.zarr")
    path, chunk = str(tmp_path / "x.zarr"), tmp_path / "x.zarr/p3/c/1/0/0/0"
    state, digest = read_state(path), hash_file(path)
    check_unchanged({path: state})
    data = chunk.read_bytes()
    chunk.write_bytes(b"x" + data[1:])
    os.utime(chunk, ns=(state.mtime_ns + 1, state.mtime_ns + 1))
    with pytest.raises(InputError, match="was changed while it was read: its time is another"):
        check_unchanged({path: state})
    assert hash_file(path) != digest
    chunk.write_bytes(data)
    assert hash_file(path) == digest
    chunk.write_bytes(data + b"x")
    with pytest.raises(InputError, match=r"it had .* bytes and has"):
        check_unchanged({path: state})


def test_a_url_is_not_watched_and_cannot_be_hashed():
    check_unchanged({"memory://x.zarr": read_state("memory://x.zarr")})
    with pytest.raises(InputError, match="reads files, not URLs"):
        hash_file("memory://x.zarr")
