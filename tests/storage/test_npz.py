"""NPZ archives: every member is an array, compressed or not, and nothing is believed too early."""

import contextlib
import io
import struct
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import roicli
from roicli.core.exceptions import InputError
from roicli.storage.address import parse_address
from roicli.storage.array import RawArray, contiguous_runs
from roicli.storage.formats import npz
from roicli.storage.open import open_array, read_contents

MAPS = np.random.default_rng(0).normal(size=(3, 2, 5, 4)).astype(np.float32)
ROIS = np.array([[0, 0, 0, 3, 3], [2, 1, 1, 3, 4]], np.float32)
SAVES = {"stored": np.savez, "deflate": np.savez_compressed}


@pytest.fixture(params=SAVES)
def path(request, tmp_path):
    name = tmp_path / "x.npz"
    SAVES[request.param](
        name, maps=MAPS, rois=ROIS, fortran=np.asfortranarray(MAPS), big=MAPS.astype(">f8"),
        half=MAPS.astype(ml_dtypes.bfloat16), empty=np.empty((0, 5)), one=np.int64(7),
    )  # fmt: skip
    return str(name)


def read(address, role="any"):
    stored = open_array(parse_address(address), role)
    try:
        return stored.read_all()
    finally:
        stored.close()


def refused(address, role="any"):
    with pytest.raises(InputError) as caught:
        open_array(parse_address(str(address)), role).close()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_member_by_its_name(path):
    for name in ("maps", "fortran"):
        np.testing.assert_array_equal(read(f"{path}::{name}"), MAPS)
        np.testing.assert_array_equal(read(f"{path}::/{name}"), MAPS)
    big = read(f"{path}::big")
    assert big.dtype == np.float64
    np.testing.assert_array_equal(big, MAPS.astype(np.float64))
    np.testing.assert_array_equal(read(f"{path}::rois", "rois"), ROIS)
    assert read(f"{path}::empty").shape == (0, 5)
    assert read(f"{path}::one") == 7


def test_bfloat16_in_an_archive(path):
    stored = open_array(parse_address(f"{path}::half"), "features")
    assert (stored.precision.name, stored.dtype) == ("bfloat16", np.float32)
    np.testing.assert_array_equal(
        stored.read_all(), MAPS.astype(ml_dtypes.bfloat16).astype(np.float32)
    )
    stored.close()


def test_the_only_one_that_fits(tmp_path):
    np.savez(tmp_path / "x.npz", feats=MAPS, rois=ROIS, ids=np.arange(3))
    path = f"{tmp_path}/x.npz"
    np.testing.assert_array_equal(read(path, "features"), MAPS)
    np.testing.assert_array_equal(read(path, "rois"), ROIS)
    np.testing.assert_array_equal(read(path, "vector"), [0, 1, 2])
    np.savez(tmp_path / "y.npz", a=MAPS, b=MAPS)
    assert "2 datasets fit" in refused(tmp_path / "y.npz", "features")
    assert "y.npz::a" in refused(tmp_path / "y.npz", "features")
    message = refused(tmp_path / "y.npz::c")
    assert "has no dataset 'c'; its datasets are: a, b" in message


def test_images_in_any_order(path):
    for name in ("maps", "big"):
        stored = open_array(parse_address(f"{path}::{name}"), "features")
        out = np.empty(MAPS.shape[1:], stored.dtype)
        for index in (1, 2, 0, 2, 1):
            stored.read_item_into(index, out)
            np.testing.assert_array_equal(out, MAPS[index])
        part = np.empty((2, 1, 2, 3), stored.dtype)
        stored.read((slice(1, 3), slice(1, 2), slice(2, 4), slice(1, 4)), part)
        np.testing.assert_array_equal(part, MAPS[1:3, 1:2, 2:4, 1:4])
        stored.close()


def test_a_stored_member_is_read_where_it_lies(tmp_path):
    np.savez(tmp_path / "x.npz", maps=MAPS)
    stored = open_array(parse_address(f"{tmp_path}/x.npz"), "features")
    assert isinstance(stored, RawArray)
    assert set(stored.files) == {f"{tmp_path}/x.npz"}
    stored.close()


def test_a_compressed_member_is_not_held(tmp_path):
    """Its images are decompressed one by one, front to back."""
    maps = np.zeros((400, 8, 64, 64), np.float32)
    maps[399] = 3
    np.savez_compressed(tmp_path / "x.npz", maps=maps)
    stored = open_array(parse_address(f"{tmp_path}/x.npz"), "features")
    assert isinstance(stored, npz.CompressedArray)
    out = np.empty(maps.shape[1:], np.float32)
    stored.read_item_into(399, out)
    assert (out == 3).all()
    assert stored.reading_bytes < maps[0].nbytes * 10
    stored.close()


@given(
    shape=st.lists(st.integers(1, 5), min_size=0, max_size=4).map(tuple),
    data=st.data(),
)
def test_runs_of_a_place_are_its_values(shape, data):
    place = []
    for side in shape:
        start = data.draw(st.integers(0, side - 1))
        place.append(slice(start, data.draw(st.integers(start + 1, side))))
    values = np.arange(int(np.prod(shape))).reshape(shape)
    found = [np.arange(first, first + n) for first, n in contiguous_runs(shape, tuple(place))]
    np.testing.assert_array_equal(np.concatenate(found), values[tuple(place)].reshape(-1))


def test_from_a_pipe(path, monkeypatch):
    with open(path, "rb") as stream:
        data = stream.read()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    with pytest.raises(InputError, match="4 datasets fit"):
        open_array(parse_address("-"), "features")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    stored = open_array(parse_address("-::maps"), "features")
    np.testing.assert_array_equal(stored.read_all(), MAPS)
    stored.close()


def test_what_inspect_shows(path):
    found = {dataset.address.rpartition("::")[2]: dataset
             for dataset in read_contents(parse_address(path)).datasets}  # fmt: skip
    assert list(found) == ["maps", "rois", "fortran", "big", "half", "empty", "one"]
    assert (found["half"].dtype, found["half"].is_numeric) == ("bfloat16", True)
    assert (found["fortran"].layout, found["maps"].layout) == ("Fortran order", "C order")
    report = roicli.inspect(path, stats=True)
    maps = report.datasets[0]
    assert (maps.usable_as, maps.stored.shape) == ("features", MAPS.shape)
    assert maps.values.max == pytest.approx(float(MAPS.max()))
    assert "2 datasets are numeric and 2-D with 5 columns" in report.rois.why
    (only,) = roicli.inspect(f"{path}::rois").datasets
    assert only.stored.address == f"{path}::rois"


@pytest.mark.parametrize("save", SAVES.values(), ids=SAVES)
def test_a_run_from_an_archive(tmp_path, save):
    save(tmp_path / "x.npz", maps=MAPS, rois=ROIS)
    expected = roicli.align(MAPS, ROIS, spatial_scale=1.0).roi_features
    path = str(tmp_path / "x.npz")
    np.testing.assert_array_equal(
        roicli.align(path, path, spatial_scale=1.0).roi_features, expected
    )


# --- what is not as it seems ----------------------------------------------------------------------


class Trap:
    """Unpickling it leaves a mark."""

    def __reduce__(self):
        return (list.append, (sprung, 1))


sprung: list[int] = []


def test_a_pickle_among_the_members_is_never_loaded(tmp_path):
    np.savez(tmp_path / "x.npz", maps=MAPS, info=np.array({"a": Trap()}, object))
    np.savez(tmp_path / "only.npz", info=np.array({"a": Trap()}, object))
    for address in (f"{tmp_path}/x.npz::info", f"{tmp_path}/only.npz"):
        assert "a pickle is never loaded" in refused(address)
    for address in (f"{tmp_path}/x.npz::maps", f"{tmp_path}/x.npz"):
        np.testing.assert_array_equal(read(address), MAPS)
    assert sprung == []


def write(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return str(path)


def npy_bytes(values):
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def test_archives_without_arrays(tmp_path):
    path = write(tmp_path / "x.npz", {"archive/data.pkl": b"x", "archive/version": b"3"})
    assert "no member ends in .npy, found: archive/data.pkl" in refused(path)
    (tmp_path / "y.npz").write_bytes(b"PK\x03\x04 and no more")
    assert "cannot be read: File is not a zip file" in refused(tmp_path / "y.npz")
    (tmp_path / "z.npz").write_bytes(b"not a zip file at all")
    assert "z.npz: cannot be read" in refused(tmp_path / "z.npz")


def test_a_header_that_promises_more_than_the_member(tmp_path):
    data = bytearray(npy_bytes(np.zeros((1, 1, 4, 4), np.float32)))
    lie = data.replace(b"(1, 1, 4, 4)", b"(9, 9, 9, 9)")
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = write(tmp_path / "x.npz", {"m.npy": bytes(lie)}, compression=method)
        assert "x.npz::m: is cut short" in refused(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_list_that_promises_more_than_there_is(tmp_path, method):
    """The size of a member stands in the archive's list too, and may be anything there."""
    member = npy_bytes(MAPS).replace(b"(3, 2, 5, 4)", b"(3, 2, 9, 9)")
    path = write(tmp_path / "x.npz", {"m.npy": member}, compression=method)
    data = bytearray((tmp_path / "x.npz").read_bytes())
    at = data.rindex(struct.pack("<L", len(member)))
    data[at : at + 4] = struct.pack("<L", 0x7FFFFFFF)
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(InputError, match=r"x\.npz::m: (is cut short|cannot be read)"):
        read(path)


@pytest.mark.full
def test_a_bomb_takes_no_memory(tmp_path):
    """256 MiB of zeros in a quarter of one: RoIs must fit, maps are read one by one."""
    shape = (1 << 24, 4)
    head = npy_bytes(np.zeros((0, 4), np.float32)).replace(b"(0, 4)", b"(16777216, 4)")
    with (
        zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("m.npy", "w") as stream,
    ):
        stream.write(head)
        for _ in range(16):
            stream.write(bytes(1 << 24))
    assert (tmp_path / "x.npz").stat().st_size < 1 << 19
    stored = open_array(parse_address(f"{tmp_path}/x.npz"), "any")
    assert stored.shape == shape
    out = np.empty((10, 4), np.float32)
    stored.read_rows_into(5, out)
    assert not out.any()
    stored.close()


def test_an_altered_member_is_found_by_its_checksum(tmp_path):
    values = np.random.default_rng(0).normal(size=(2, 3, 40, 40)).astype(np.float32)
    np.savez_compressed(tmp_path / "x.npz", m=values)
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(InputError, match=r"x\.npz::m: cannot be read"):
        read(f"{tmp_path}/x.npz")


def test_members_that_are_encrypted_or_in_a_method_nobody_knows(tmp_path):
    path = tmp_path / "x.npz"
    for offset_in_list, value in ((8, 1), (10, 99)):
        write(path, {"m.npy": npy_bytes(MAPS)})
        data = bytearray(path.read_bytes())
        entry, local = data.index(b"PK\x01\x02"), 0
        data[entry + offset_in_list] |= value
        data[local + offset_in_list - 2] |= value
        path.write_bytes(data)
        assert "x.npz::m: cannot be read" in refused(path)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_no_alteration_gets_further_than_an_error(tmp_path, data):
    whole = bytearray()
    stream = io.BytesIO()
    (np.savez_compressed if data.draw(st.booleans()) else np.savez)(stream, m=MAPS[:1], r=ROIS)
    whole += stream.getvalue()
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    path = tmp_path / "f.npz"
    path.write_bytes(whole[: data.draw(st.integers(1, len(whole)))])
    with contextlib.suppress(InputError):
        for dataset in read_contents(parse_address(str(path))).datasets:
            if dataset.is_numeric:
                list(dataset.blocks())


def test_a_list_of_members_larger_than_memory(tmp_path, monkeypatch):
    path = write(tmp_path / "x.npz", {f"{n}.npy": b"" for n in range(50)})
    monkeypatch.setattr("roicli.storage.limits.available_bytes", lambda: 50_000)
    assert "for the list of its members" in refused(path)
