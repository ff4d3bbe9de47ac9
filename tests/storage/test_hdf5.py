"""HDF5: the dataset that is meant is found, and read whatever its layout."""

import os
from itertools import product

import h5py
import numpy as np
import pytest

from roicli.core.exceptions import InputError
from roicli.storage.address import parse_address
from roicli.storage.formats.hdf5 import dataset as opening
from roicli.storage.limits import external_files
from roicli.storage.open import open_array
from tests.options import some

pytestmark = pytest.mark.contained
VALUES = np.random.default_rng(0).normal(scale=9, size=(3, 2, 5, 4))


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "x.h5")


def write(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name.replace("__", "/")] = values
    return path


def read(address, role="features"):
    return open_array(parse_address(address), role)


def refused(address, role="features"):
    with pytest.raises(InputError) as caught:
        read(address, role)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check_reading(path, values):
    stored = read(path)
    assert stored.shape == values.shape
    assert stored.dtype.isnative
    whole = stored.read_all()
    assert whole.flags.c_contiguous
    np.testing.assert_array_equal(whole, values)
    for index in range(len(values)):
        out = np.zeros(values.shape[1:], stored.dtype)
        stored.read_item_into(index, out)
        np.testing.assert_array_equal(out, values[index])
        rows = np.zeros_like(values[index:], stored.dtype, order="C")
        stored.read_rows_into(index, rows)
        np.testing.assert_array_equal(rows, values[index:])
    precision = stored.precision
    stored.close()
    return precision


# --- layouts and types ------------------------------------------------------------------------


LAYOUTS = [
    {}, {"chunks": (2, 1, 3, 2)}, {"chunks": True, "compression": "gzip"},
    {"chunks": (1, 2, 5, 4), "compression": "lzf", "shuffle": True},
    {"chunks": True, "fletcher32": True}, {"maxshape": (None, 2, 5, 4)},
]  # fmt: skip
DTYPES = ["<f4", ">f4", "<f2", ">f8", "<i2", ">u4", "|i1"]


@some("options, dtype", product(LAYOUTS, DTYPES),
      *zip([*LAYOUTS, LAYOUTS[3]], DTYPES, strict=True))  # fmt: skip
def test_every_layout_and_byte_order(path, options, dtype):
    values = VALUES.astype("i1").astype(dtype) if dtype[1] == "u" else VALUES.astype(dtype)
    with h5py.File(path, "w") as file:
        file.create_dataset("maps", data=values, **options)
    precision = check_reading(path, values)
    assert precision.name == np.dtype(dtype).newbyteorder("=").name


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f8"])
def test_precision_of_a_float_is_numpys(path, dtype):
    write(path, maps=VALUES.astype(dtype))
    information = np.finfo(dtype)
    precision = check_reading(path, VALUES.astype(dtype))
    assert precision.mantissa_bits == information.nmant
    assert precision.minimum_exponent == information.minexp


def test_bfloat16_is_known_by_its_stored_type(path):
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_size(2)
    kind.set_precision(16)
    kind.set_offset(0)
    kind.set_ebias(127)
    single = np.array([[[[1.0, 0.5, 1049.87, -3.0]]]], np.float32)
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple(single.shape)
        dataset = h5py.h5d.create(file.id, b"maps", kind, space)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, single)
    precision = check_reading(path, np.array([[[[1.0, 0.5, 1048.0, -3.0]]]], np.float32))
    assert (precision.name, precision.mantissa_bits, precision.minimum_exponent) == (
        "bfloat16", 7, -126,
    )  # fmt: skip


def test_attributes_are_read(path):
    with h5py.File(path, "w") as file:
        file["maps"] = VALUES
        file["maps"].attrs["spatial_scale"] = 0.25
    stored = read(path)
    assert dict(stored.attributes) == {"spatial_scale": 0.25}
    stored.close()


@pytest.mark.parametrize("values", [VALUES > 0, VALUES * 1j, VALUES.astype("S3")])
def test_a_dataset_of_no_numbers_is_refused(path, values):
    write(path, maps=values)
    assert "::/maps: dtype is " in refused(f"{path}::maps")


# --- which dataset ----------------------------------------------------------------------------

ROIS = np.zeros((6, 5), np.float32)


def test_the_only_one_that_fits_is_taken(path):
    write(path, maps=VALUES, deep__rois=ROIS, names=np.array([b"a", b"b"]), flags=VALUES > 0)
    for role, name in (("features", "/maps"), ("rois", "/deep/rois")):
        stored = read(path, role)
        assert stored.name == f"{path}::{name}"
        stored.close()


def test_a_group_is_searched_alone(path):
    write(path, a__maps=VALUES, b__maps=VALUES + 1)
    stored = read(f"{path}::b")
    np.testing.assert_array_equal(stored.read_all(), VALUES + 1)
    stored.close()


def test_several_that_fit_are_listed(path):
    write(path, p3=VALUES, p4=VALUES)
    text = refused(path)
    assert "2 datasets fit (numeric and 4-D (N, C, H, W)): /p3 (3, 2, 5, 4) float64, /p4" in text
    assert text.endswith(f"name one: {path}::/p3")


def test_none_that_fits_lists_what_there_is(path):
    write(path, rois=ROIS)
    assert "no dataset is numeric and 4-D (N, C, H, W); found: /rois (6, 5) float32" in refused(
        path
    )
    write(path)
    assert refused(path).endswith("found: none")


def test_a_missing_dataset_lists_those_there_are(path):
    write(path, p3=VALUES, deep__p4=VALUES)
    assert f"{path}: has no dataset 'p5'; its datasets are: /deep/p4, /p3" in refused(f"{path}::p5")


def test_a_null_dataspace_is_empty(path):
    write(path, maps=h5py.Empty("f4"))
    assert "is empty (a null dataspace)" in refused(f"{path}::maps")
    assert "no dataset is numeric" in refused(path)


def test_a_named_datatype_is_no_dataset(path):
    write(path, kind=np.dtype("f4"))
    assert "is a named datatype, expected a dataset" in refused(f"{path}::kind")


def test_a_link_that_leads_nowhere_is_a_missing_dataset(path):
    with h5py.File(path, "w") as file:
        file["soft"] = h5py.SoftLink("/gone")
    assert "has no dataset 'soft'" in refused(f"{path}::soft")


# --- files that are no HDF5 -------------------------------------------------------------------


def test_what_is_no_hdf5_file_is_named(path):
    with open(path, "wb") as stream:
        stream.write(b"hello, world" * 100)
    assert f"{path}: cannot be opened as HDF5: " in refused(path)


def test_a_file_cut_short_is_refused(path):
    write(path, maps=np.zeros((9, 9, 9, 9)))
    with open(path, "r+b") as stream:
        stream.truncate(3000)
    assert f"{path}: cannot be opened as HDF5: " in refused(path)


def test_a_damaged_chunk_is_named_when_it_is_read(path):
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("maps", data=VALUES, chunks=(1, 2, 5, 4), fletcher32=True)
        offset = dataset.id.get_chunk_info(1).byte_offset
    with open(path, "r+b") as stream:
        stream.seek(offset)
        stream.write(b"\xff" * 8)
    stored = read(path)
    stored.read_item_into(0, np.zeros(VALUES.shape[1:]))
    with pytest.raises(InputError, match="::/maps: item 1 cannot be read"):
        stored.read_item_into(1, np.zeros(VALUES.shape[1:]))
    with pytest.raises(InputError, match="::/maps: cannot be read"):
        stored.read_all()
    stored.close()


def test_the_file_is_closed_when_it_is_refused(path):
    write(path, p3=VALUES, p4=VALUES)
    refused(path)
    with h5py.File(path, "r+"):  # a file still open for reading could not be opened for writing
        pass


# --- opened in a child first ------------------------------------------------------------------


@pytest.fixture
def forks(monkeypatch):
    """The names of what was opened in a child."""
    seen, real = [], opening.OpeningChild

    def start(action, name, size):
        seen.append(name)
        return real(action, name, size)

    monkeypatch.setattr(opening, "OpeningChild", start)
    monkeypatch.setattr(opening, "_OPENED", set())
    return seen


def test_an_unchanged_file_is_opened_in_a_child_once(path, forks):
    write(path, a=VALUES)
    for _ in range(3):
        check_reading(path, VALUES)
    assert forks == [path]


def test_what_is_asked_of_the_same_file_anew_is_tried_anew(path, forks):
    write(path, a=VALUES, b=np.ones((4, 5)))
    for address, role in ((path, "features"), (path, "rois"), (f"{path}::a", "features")):
        read(address, role).close()
    assert len(forks) == 3


@pytest.mark.parametrize("how", ["written", "replaced"])
def test_a_changed_file_is_tried_anew_even_where_its_time_is_the_same(path, how, forks):
    write(path, a=VALUES)
    check_reading(path, VALUES)
    before = os.stat(path)
    if how == "written":
        with h5py.File(path, "r+") as file:
            file["a"][...] = VALUES + 1
    else:
        os.rename(write(f"{path}.new", a=VALUES + 1), path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    check_reading(path, VALUES + 1)
    assert len(forks) == 2


def test_what_is_decoded_has_a_child_every_time(path, forks):
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=VALUES, chunks=(1, 2, 5, 4), compression="lzf")
    for _ in range(2):
        check_reading(path, VALUES)
    assert len(forks) == 2


def test_what_another_file_holds_is_tried_every_time(path, forks):
    write(path, a=VALUES)
    other = f"{path}.link.h5"
    with h5py.File(other, "w") as file:
        file["there"] = h5py.ExternalLink(path, "a")
    with external_files(allowed=True):
        for _ in range(2):
            read(f"{other}::there").close()
    assert len(forks) == 2
