"""Addresses, and which reader opens them."""

import io
import os

import h5py
import numpy as np
import pytest

from roicli.core.exceptions import InputError
from roicli.storage.address import Address, check_regular_file, parse_address
from roicli.storage.formats import recognize
from roicli.storage.open import open_array, open_rois
from roicli.storage.table import as_table

ROIS = np.array([[0, 1, 2, 3, 4]], np.float32)


@pytest.mark.parametrize(
    ("text", "path", "dataset"),
    [
        ("a.npy", "a.npy", None), ("a.h5::x", "a.h5", "x"), ("a.h5::/x/y", "a.h5", "/x/y"),
        ("a.h5::", "a.h5", None), ("a.h5::/", "a.h5", None), ("a.h5::x::y", "a.h5", "x::y"),
        ("-", "-", None), ("/b c/a:b.h5::x", "/b c/a:b.h5", "x"),
    ],
)  # fmt: skip
def test_the_spelling(text, path, dataset):
    assert parse_address(text) == Address(path, dataset)


def test_a_path_object_is_an_address(tmp_path):
    assert parse_address(tmp_path / "a.npy") == Address(str(tmp_path / "a.npy"))


@pytest.mark.parametrize("text", ["", "::x"])
def test_an_address_without_a_file_is_refused(text):
    with pytest.raises(InputError, match="names no file"):
        parse_address(text)


def test_an_address_shows_as_it_is_written():
    assert [str(parse_address(t)) for t in ("a.h5::/x", "a.npy", "-")] == [
        "a.h5::/x", "a.npy", "stdin",
    ]  # fmt: skip
    assert [parse_address(t).stem for t in ("/b/a.x.h5::y", "-")] == ["a.x", "stdin"]


@pytest.mark.parametrize(
    ("text", "inside"), [("a.h5", "p3"), ("a.h5::/fpn", "/fpn/p3"), ("a.h5::/fpn/", "/fpn/p3")]
)
def test_a_name_within_an_address(text, inside):
    assert parse_address(text).within("p3") == Address("a.h5", inside)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.npy", "npy"), ("a.H5", "hdf5"), ("a.hdf5", "hdf5"), ("a.b.CSV", "text"),
     ("a.tsv", "text"), ("a.NPZ", "npz"), ("a.mat", "hdf5"), ("a.safetensors", "safetensors")],
)  # fmt: skip
def test_where_bytes_say_nothing_the_ending_is_the_format(name, kind):
    assert recognize(parse_address(name)).name == kind


@pytest.mark.parametrize("name", ["a", "a.foo", "a.log", ".npy"])
def test_an_unknown_ending_lists_the_known_ones(name, tmp_path):
    path = tmp_path / name
    with pytest.raises(InputError, match="no such file or folder"):
        recognize(parse_address(str(path)))
    path.write_bytes(bytes(range(256)))  # neither an array nor a table
    with pytest.raises(InputError, match=r"expected one of: \.npy \.npz .* \.h5 .*\.tsv"):
        recognize(parse_address(str(path)))


# --- opening ----------------------------------------------------------------------------------


def test_every_format_gives_the_same_rois(tmp_path):
    np.save(tmp_path / "r.npy", ROIS)
    with h5py.File(tmp_path / "r.h5", "w") as file:
        file["rois"] = ROIS
    (tmp_path / "r.csv").write_text("0,1,2,3,4\n")
    (tmp_path / "r.tsv").write_text("0\t1\t2\t3\t4\n")
    for ending in ("npy", "h5", "csv", "tsv"):
        source = open_rois(parse_address(tmp_path / f"r.{ending}"))
        table = as_table(source)
        np.testing.assert_array_equal(np.column_stack([x.values for x in table.columns]), ROIS)
        source.close()


def test_only_hdf5_holds_datasets(tmp_path):
    np.save(tmp_path / "r.npy", ROIS)
    with pytest.raises(InputError, match="only files of several arrays hold datasets"):
        open_array(parse_address(f"{tmp_path}/r.npy::x"), "rois")


def test_features_are_not_read_from_text(tmp_path):
    (tmp_path / "f.csv").write_text("1,2\n")
    with pytest.raises(InputError, match="not from a table"):
        open_array(parse_address(tmp_path / "f.csv"), "features")


def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(InputError, match="is not a regular file"):
        check_regular_file(str(tmp_path / "pipe.npy"))


@pytest.mark.parametrize("path", ["a\0b.npy", "gone/x.npy"])
def test_a_path_that_leads_nowhere_is_an_input_error(path):
    with pytest.raises(InputError):
        check_regular_file(path)


# --- standard input ---------------------------------------------------------------------------


def feed(monkeypatch, data):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    return open_array(parse_address("-"), "rois")


def test_npy_and_hdf5_are_told_apart_on_stdin(monkeypatch):
    for save in ("npy", "h5"):
        stream = io.BytesIO()
        if save == "npy":
            np.save(stream, ROIS)
        else:
            with h5py.File(stream, "w") as file:
                file["boxes"] = ROIS
        stored = feed(monkeypatch, stream.getvalue())
        np.testing.assert_array_equal(stored.read_all(), ROIS)
        assert stored.name.startswith(("stdin", "-"))
        stored.close()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "stdin: is empty"),
        (b"PK\3\5", r"stdin: is none of \.npy, \.npz"),
        (b"PK\3\4", "stdin: cannot be read"),
        (b"CDF\1", "classic format, which is not read"),
    ],
)
def test_other_bytes_on_stdin_are_refused(monkeypatch, data, message):
    with pytest.raises(InputError, match=message):
        feed(monkeypatch, data)


@pytest.mark.parametrize(
    ("text", "path", "dataset", "stem"),
    [
        ("x.zarr", "x.zarr", None, "x"),
        ("x.zarr/::p3", "x.zarr/", "p3", "x"),
        ("s3://bucket/x.zarr::p3", "s3://bucket/x.zarr", "p3", "x"),
        ("memory://x.zarr", "memory://x.zarr", None, "x"),
        ("https://host:81/a/x.zarr/p3", "https://host:81/a/x.zarr/p3", None, "p3"),
        ("file:///a/x.zarr::p3", "/a/x.zarr", "p3", "x"),
    ],
)
def test_stores_and_urls(text, path, dataset, stem):
    address = parse_address(text)
    assert (address.path, address.dataset, address.stem) == (path, dataset, stem)
    assert recognize(address).name == "zarr"


@pytest.mark.parametrize("url", ["s3://bucket/x.npy", "https://host/x.h5", "memory://r.CSV"])
def test_a_url_is_a_store_and_nothing_else(url):
    with pytest.raises(InputError, match="a URL is read as a Zarr store"):
        recognize(parse_address(url))


def test_a_file_url_may_name_any_file():
    assert recognize(parse_address("file:///a/x.npy")).name == "npy"
