"""Stores in one ZIP file, references to other files, and formats that other packages bring."""

import contextlib
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

import roicli
from roicli.core.exceptions import InputError
from roicli.storage import formats
from roicli.storage.address import parse_address
from roicli.storage.open import open_array, read_contents
from roicli.storage.pattern import find_keys

MAPS = np.random.default_rng(0).normal(size=(2, 3, 8, 9)).astype(np.float32)
ROIS = np.array([[0, 1, 1, 6, 6], [1, 2, 0, 7, 7]], np.float32)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=[2, 3])
def zipped(request):
    """x.zarr.zip with the maps, and each of them under its number."""
    zarr = pytest.importorskip("zarr")
    with zarr.storage.ZipStore("x.zarr.zip", mode="w") as store:
        root = zarr.open_group(store, mode="w", zarr_format=request.param)
        root.create_array("all", data=MAPS, chunks=(1, 3, 4, 9))
        for number, values in enumerate(MAPS):
            root.create_array(f"one/{number}", data=values)
    return "x.zarr.zip"


@pytest.mark.parametrize(
    "address",
    ["x.zarr.zip", "x.zarr.zip::/all", "zip://x.zarr.zip", "zip://::x.zarr.zip",
     "zip://all::file://x.zarr.zip", "renamed.zip::all", "x.zarr.zip::one/{image}"],
)  # fmt: skip
def test_a_store_in_one_file(zipped, address):
    shutil.copy(zipped, "renamed.zip")
    expected = roicli.align(MAPS, ROIS, spatial_scale=1).roi_features
    found = roicli.align(address, ROIS, spatial_scale=1).roi_features
    np.testing.assert_array_equal(found, expected)


def test_what_a_zipped_store_holds(zipped):
    assert len(read_contents(parse_address(zipped)).datasets) == 3
    assert find_keys(parse_address("x.zarr.zip::one/{image}")) == ("0", "1")
    with contextlib.closing(open_array(parse_address("x.zarr.zip::all"), "features")) as array:
        assert set(array.files) == {"x.zarr.zip"}
    Path(zipped).write_bytes(Path(zipped).read_bytes()[:-30])
    with pytest.raises(InputError, match=r"x.zarr.zip: .*cannot be"):
        roicli.align(zipped, ROIS)


def test_an_archive_of_giant_chunks_is_refused(monkeypatch, zipped):
    from roicli.storage.formats.zarr import store

    monkeypatch.setattr(store, "MAX_CHUNK_BYTES", 100)
    with pytest.raises(InputError, match=r"unpacks to \d+ bytes, expected at most 100"):
        roicli.align(zipped, ROIS)


def test_another_archive_is_no_store():
    with zipfile.ZipFile("x.zip", "w") as archive:
        archive.writestr("a.txt", "no array")
    with pytest.raises(InputError, match="is an archive without arrays"):
        roicli.align("x.zip", ROIS)


@pytest.mark.parametrize("address", ["reference://::k.json", "reference://k.json"])
def test_references_are_refused_in_one_line(address):
    pytest.importorskip("zarr")
    with pytest.raises(InputError, match="is a set of references to other files"):
        roicli.align(address, ROIS)


@pytest.fixture
def bring(bring_package):
    """Installs the example package with another value of its format's entry point."""
    formats.formats_of_others.cache_clear()
    yield lambda value: bring_package(f"[roicli.formats]\nnumbers = {value}\n")
    formats.formats_of_others.cache_clear()


@pytest.mark.parametrize("name", ["x.numbers", "x.unknown"])
def test_a_package_brings_a_format(bring, name, tmp_path):
    """By its ending, and by its first bytes."""
    numbers = " ".join(map(repr, MAPS.ravel().tolist()))
    (tmp_path / name).write_text(f"NUMBERS {'x'.join(map(str, MAPS.shape))}\n{numbers}")
    if name == "x.unknown":
        (tmp_path / name).write_bytes(b"NUMBERS\xff")
    bring("roicli_numbers:NUMBERS")
    found = formats.recognize(parse_address(name))
    assert found.name == "numbers"
    if name == "x.numbers":
        assert roicli.inspect(name).datasets[0].usable_as == "features"
        expected = roicli.align(MAPS, ROIS).roi_features
        np.testing.assert_array_equal(roicli.align(name, ROIS).roi_features, expected)


@pytest.mark.parametrize(
    ("value", "said"),
    [("roicli_numbers:np", "is no roicli.storage.formats.Format"),
     ("roicli_numbers:MISSING", "cannot be loaded"), ("no_such_module:X", "cannot be loaded")],
)  # fmt: skip
def test_a_package_that_brings_none_is_named(bring, value, said, tmp_path):
    (tmp_path / "x.nbr").write_bytes(b"\x00\x01")
    bring(value)
    with pytest.raises(InputError, match=said):
        roicli.align("x.nbr", ROIS)
