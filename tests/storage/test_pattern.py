"""Addresses with {image}: which names fit, in which order, and what is said where none does."""

import json

import h5py
import numpy as np
import pytest

from roicli.core.exceptions import InputError
from roicli.storage import pattern
from roicli.storage.address import parse_address
from roicli.storage.formats.hdf5 import child, read

MAP = np.zeros((1, 2, 2), np.float32)


def keys_of(text):
    return pattern.find_keys(parse_address(text))


def refusal_of(text):
    with pytest.raises(InputError) as raised:
        keys_of(text)
    return raised.value.message


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("img10", "img2", "img1"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "p3.npy", MAP)
        np.save(tmp_path / name / f"{name}.npy", MAP)
        np.save(tmp_path / f"{name}.npy", MAP)
    (tmp_path / "other").mkdir()
    return tmp_path


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """One file of each format with arrays b/img2, b/img10, a/1/p3 and a/2/p4."""
    monkeypatch.chdir(tmp_path)
    arrays = dict.fromkeys(("b/img10", "b/img2", "a/1/p3", "a/2/p4"), MAP)
    with h5py.File("x.h5", "w") as file:
        for name, values in arrays.items():
            file[name] = values
    np.savez("x.npz", **arrays)
    return tmp_path


@pytest.mark.parametrize(
    "text",
    ["{image}.npy", "{image}/p3.npy", "./{image}/{image}.npy", "{image}.npy::"],
)
def test_the_keys_of_a_folder_are_in_natural_order(folder, text):
    assert keys_of(text) == ("img1", "img2", "img10")


def test_an_absolute_folder_and_part_of_a_name(folder):
    assert keys_of(f"{folder}/img{{image}}.npy") == ("1", "2", "10")


def test_the_address_of_a_key_has_it_everywhere():
    address = parse_address("{image}/{image}.h5::{image}/p3")
    assert str(pattern.address_of(address, "a.b")) == "a.b/a.b.h5::a.b/p3"
    assert pattern.is_pattern(address)
    assert not pattern.is_pattern(parse_address("x.h5::image"))


@pytest.mark.parametrize("ending", ["h5", "npz"])
def test_the_keys_of_a_file(stored, ending):
    assert keys_of(f"x.{ending}::b/img{{image}}") == ("2", "10")
    assert keys_of(f"x.{ending}::/a/{{image}}/p3") == ("1",)
    assert keys_of(f"x.{ending}::a/{{image}}") == ("1", "2")


def test_the_keys_of_safetensors_and_zarr(tmp_path):
    tensor = {"dtype": "F32", "shape": [1, 2, 2], "data_offsets": [0, 16]}
    header = json.dumps({"f/2": tensor, "f/10": {**tensor, "data_offsets": [16, 32]}}).encode()
    data = len(header).to_bytes(8, "little") + header + bytes(32)
    (tmp_path / "x.safetensors").write_bytes(data)
    assert keys_of(f"{tmp_path}/x.safetensors::f/{{image}}") == ("2", "10")
    zarr = pytest.importorskip("zarr")
    root = zarr.open_group(f"{tmp_path}/x.zarr", mode="w")
    for name in ("f/10/p3", "f/2/p3", "f/3/p4"):
        root.create_array(name, data=MAP)
    assert keys_of(f"{tmp_path}/x.zarr::f/{{image}}/p3") == ("2", "10")


def test_what_does_not_match_is_refused_with_what_is_there(folder, stored):
    assert "nothing matches {image}; there is: img1, img1.npy, img2" in refusal_of("map{image}.npy")
    assert "these have no p9: 1, 2" in refusal_of("x.h5::a/{image}/p9")
    assert "b holds: img2, img10" in refusal_of("x.h5::b/map{image}")
    assert "cannot be listed" in refusal_of("nowhere/{image}.npy")
    assert "URLs cannot be listed" in refusal_of("s3://bucket/{image}.zarr")
    np.save("one.npy", MAP)
    assert "only files of several arrays" in refusal_of("one.npy::{image}")


def test_two_of_them_must_agree(folder):
    assert keys_of("{image}/{image}.npy") == ("img1", "img2", "img10")
    (folder / "a_b.npy").touch()
    assert "must be the same each time" in refusal_of("{image}_{image}.npy")
    (folder / "a_a.npy").touch()
    assert keys_of("{image}_{image}.npy") == ("a",)
    for name in ("img1", "img2", "img10"):
        (folder / name / f"{name}.npy").unlink()
    assert "the same in both places: a_a.npy, a_b.npy, img1" in refusal_of("{image}/{image}.npy")


def test_a_link_that_leads_out_of_the_file_is_not_followed(stored):
    with h5py.File("y.h5", "w") as file:
        file["1/p3"] = MAP
        file["2"] = h5py.ExternalLink("x.h5", "/a/1")
        file["3"] = h5py.SoftLink("/1")
        file["4"] = h5py.SoftLink("/nowhere")
    assert "outside the file" in refusal_of("y.h5::{image}/p3")
    with h5py.File("y.h5", "a") as file:
        del file["2"]
    assert keys_of("y.h5::{image}/p3") == ("1", "3")


def test_no_dataset_is_opened_for_the_keys(stored, monkeypatch):
    monkeypatch.setattr(child, "is_contained", lambda: False)
    monkeypatch.setattr(h5py.Group, "__getitem__", lambda self, name: 1 / 0)
    monkeypatch.setattr(read, "look_up", lambda file, address, others: (file, ""))
    assert keys_of("x.h5::{image}") == ("a", "b")


@pytest.mark.full
def test_a_hundred_thousand_names(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        for number in range(100_000):
            file[f"{number}/p3"] = np.float32(0)
    keys = keys_of(f"{tmp_path}/x.h5::{{image}}/p3")
    assert keys == tuple(map(str, range(100_000)))
