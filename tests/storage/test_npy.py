"""NPY files: what is read, and what is refused with a reason."""

import contextlib
import pickle

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roicli.core.exceptions import InputError
from roicli.storage.formats import npy

VALUES = np.arange(24).reshape(2, 3, 4)


def save(path, values, **options):
    np.save(path, values, **options)
    return str(path)


def check_reading(stored, values):
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
    stored.close()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    "dtype", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "|i1", "|u1", "<i4", ">i8", ">u2"]
)
def test_every_byte_order_and_memory_order(tmp_path, order, dtype):
    values = VALUES.astype(dtype)
    path = save(tmp_path / "x.npy", np.asarray(values, order=order))
    check_reading(npy.open_npy(path), values)
    with open(path, "rb") as stream:
        check_reading(npy.parse_npy(stream.read(), "stdin"), values)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    dtype=st.sampled_from(["<f4", ">f8", "<f2", ">i4"]),
    version=st.sampled_from([(1, 0), (2, 0), (3, 0)]),
)
def test_every_shape_and_version_of_the_format(tmp_path, shape, dtype, version):
    values = np.random.default_rng(0).normal(scale=9, size=shape).astype(dtype)
    path = tmp_path / "x.npy"
    with open(path, "wb") as stream:
        np.lib.format.write_array(stream, values, version=version)
    check_reading(npy.open_npy(str(path)), values)


def test_precision_is_that_of_the_file(tmp_path):
    stored = npy.open_npy(save(tmp_path / "x.npy", VALUES.astype(">f2")))
    assert (stored.precision.name, stored.precision.mantissa_bits) == ("float16", 10)
    stored.close()


def test_ml_dtypes_bfloat16_is_widened_and_remembered(tmp_path):
    values = np.array([[1.0, -2.5, 0.1, 3e38], [0, 1e-39, 7, 1049.87]], ml_dtypes.bfloat16)
    path = save(tmp_path / "x.npy", values)
    for stored in (npy.open_npy(path), npy.parse_npy((tmp_path / "x.npy").read_bytes(), "stdin")):
        assert stored.precision.name == "bfloat16"
        assert stored.dtype == np.float32
        np.testing.assert_array_equal(stored.read_all(), values.astype(np.float32))
        stored.close()


@pytest.mark.parametrize(
    "values", [VALUES > 3, VALUES * 1j, VALUES.astype("M8[s]"), np.zeros(3, [("a", "c8")])],
    ids=["bool", "complex", "dates", "records"],
)  # fmt: skip
def test_what_is_no_number_is_refused(tmp_path, values):
    path = save(tmp_path / "x.npy", values)
    with pytest.raises(InputError, match=r"x\.npy: dtype is"):
        npy.open_npy(path)
    with pytest.raises(InputError, match=r"stdin: dtype is"):
        npy.parse_npy((tmp_path / "x.npy").read_bytes(), "stdin")


class Trap:
    """Unpickling it leaves a mark."""

    def __reduce__(self):
        return (list.append, (sprung, 1))


sprung: list[int] = []


def test_a_pickle_is_never_loaded(tmp_path):
    path = save(tmp_path / "x.npy", np.array([Trap(), None]), allow_pickle=True)
    for read in (lambda: npy.open_npy(path),
                 lambda: npy.parse_npy((tmp_path / "x.npy").read_bytes(), "stdin")):  # fmt: skip
        with pytest.raises(InputError, match="a pickle is never loaded"):
            read()
    (tmp_path / "bare.npy").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match=r"is not a \.npy file"):
        npy.open_npy(str(tmp_path / "bare.npy"))
    assert sprung == []


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kept", [0.99, 0.6, 0.1])
def test_a_file_cut_short_is_refused(tmp_path, order, kept):
    path = tmp_path / "x.npy"
    save(path, np.asarray(np.zeros((50, 40)), order=order))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InputError, match=r"x\.npy: is cut short"):
        npy.open_npy(str(path))
    with pytest.raises(InputError, match=r"stdin: is cut short"):
        npy.parse_npy(path.read_bytes(), "stdin")


@pytest.mark.parametrize("length", [6, 8, 9, 40])
def test_a_header_cut_short_is_refused(tmp_path, length):
    path = tmp_path / "x.npy"
    save(path, VALUES)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match=r"x\.npy: "):
        npy.open_npy(str(path))


def test_a_file_that_shrinks_after_opening_is_refused(tmp_path):
    path = tmp_path / "x.npy"
    stored = npy.open_npy(save(path, np.zeros((4, 5000))))
    path.write_bytes(path.read_bytes()[:60_000])
    with pytest.raises(InputError, match=r"x\.npy: ends at byte 60000"):
        stored.read_item_into(1, np.zeros(5000))
    stored.close()


def test_what_is_no_npy_file_is_named(tmp_path):
    path = tmp_path / "x.npy"
    path.write_bytes(b"PK\x03\x04 zip")
    with pytest.raises(InputError, match=r"is not a \.npy file, its first bytes are b'PK"):
        npy.open_npy(str(path))
    path.write_bytes(b"")
    with pytest.raises(InputError, match="the file is empty"):
        npy.open_npy(str(path))
    with pytest.raises(InputError, match="no such file"):
        npy.open_npy(str(tmp_path / "gone.npy"))
    with pytest.raises(InputError, match="is a folder"):
        npy.open_npy(str(tmp_path))


@pytest.mark.parametrize("is_fortran", [False, True])
def test_a_shape_that_no_array_can_have_is_named(is_fortran, tmp_path):
    header = {"descr": "<f4", "fortran_order": is_fortran, "shape": (0, 1 << 62, 1 << 62, 3)}
    path = tmp_path / "x.npy"
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
    with pytest.raises(InputError, match=r"x\.npy: shape is .*, which no array can have"):
        npy.parse_npy(path.read_bytes(), "x.npy")
    with (
        pytest.raises(InputError, match="which no array can have"),
        contextlib.closing(npy.open_npy(str(path))) as array,
    ):
        array.read_all()
