"""safetensors files: read as documented, and nothing of a header is believed too early."""

import contextlib
import io
import json
import struct
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import roicli
from roicli.core.exceptions import InputError
from roicli.storage.address import parse_address
from roicli.storage.open import open_array, read_contents

MAPS = np.random.default_rng(0).normal(size=(3, 2, 5, 4)).astype(np.float32)
ROIS = np.array([[0, 0, 0, 3, 3], [2, 1, 1, 3, 4]], np.float32)
NAMES = {
    "F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1",
    "U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip


def dtype_of(name):
    return np.dtype(getattr(ml_dtypes, NAMES[name], NAMES[name]))


def encode(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def save(path, tensors, metadata=None):
    """As the format's README says, byte by byte; ``tensors`` are (dtype name, array)."""
    header, data = {}, b""
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, (dtype_name, values) in tensors.items():
        raw = np.ascontiguousarray(values).tobytes()
        header[name] = {
            "dtype": dtype_name, "shape": list(values.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }  # fmt: skip
        data += raw
    path.write_bytes(encode(header, data))
    return str(path)


@pytest.fixture
def path(tmp_path):
    tensors = {"maps": ("F32", MAPS), "rois": ("F32", ROIS), "ids": ("I64", np.arange(3))}
    return save(tmp_path / "x.safetensors", tensors, {"format": "pt"})


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


@pytest.mark.parametrize("name", NAMES)
def test_every_dtype(tmp_path, name):
    dtype = dtype_of(name)
    values = np.arange(24).reshape(1, 2, 3, 4).astype(dtype)
    path = save(tmp_path / "x.safetensors", {"pad": ("U8", np.uint8([1])), "m": (name, values)})
    stored = open_array(parse_address(f"{path}::m"), "features")
    assert stored.precision.name == dtype.name
    np.testing.assert_array_equal(stored.read_all(), values.astype(stored.dtype))
    out = np.empty((2, 3, 4), stored.dtype)
    stored.read_item_into(0, out)
    np.testing.assert_array_equal(out, values[0].astype(stored.dtype))
    stored.close()


def test_as_the_reference_writes_it(tmp_path):
    reference = pytest.importorskip("safetensors.numpy")
    reference.save_file({"maps": MAPS, "rois": ROIS}, tmp_path / "x.safetensors", {"a": "b"})
    path = f"{tmp_path}/x.safetensors"
    np.testing.assert_array_equal(read(path, "features"), MAPS)
    assert read_contents(parse_address(path)).attributes == {"a": "b"}


def test_the_only_one_that_fits_and_by_name(path):
    np.testing.assert_array_equal(read(path, "features"), MAPS)
    np.testing.assert_array_equal(read(path, "rois"), ROIS)
    np.testing.assert_array_equal(read(f"{path}::ids", "vector"), [0, 1, 2])
    np.testing.assert_array_equal(read(f"{path}::/maps"), MAPS)
    assert "has no dataset 'x'; its datasets are: maps, rois, ids" in refused(f"{path}::x")


def test_what_inspect_shows(path):
    report = roicli.inspect(path, stats=True)
    assert report.file_format == "safetensors"
    assert report.attributes == {"format": "pt"}
    assert report.features.address == f"{path}::maps"
    assert report.rois.address == f"{path}::rois"
    assert report.datasets[0].values.max == pytest.approx(float(MAPS.max()))
    assert roicli.inspect(f"{path}::ids").datasets[0].stored.dtype == "int64"


def test_a_run_and_its_provenance(path):
    expected = roicli.align(MAPS, ROIS, spatial_scale=1.0).roi_features
    found = roicli.align(path, path, spatial_scale=1.0)
    np.testing.assert_array_equal(found.roi_features, expected)
    assert found.parameters["features_dataset"] == ["maps"]


def test_from_a_pipe(path, monkeypatch):
    with open(path, "rb") as stream:
        data = stream.read()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    np.testing.assert_array_equal(read("-", "features"), MAPS)


# --- what is not as it seems ----------------------------------------------------------------------

ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
WRONG = {
    "longer than the file": (struct.pack("<Q", 1 << 40) + b"{}", "header has 1,099,511,627,776"),
    "no json": (encode(b"{'a': 1}", b""), "header cannot be read"),
    "no object": (encode([1], b""), "expected names of tensors"),
    "nested": (encode(b"{" + b'"a":[' * 200_000, b""), "header cannot be read"),
    "not utf-8": (encode(b'{"\xff": 1}', b""), "header cannot be read"),
    "twice": (encode(b'{"a": 1, "a": 2}', b""), "there twice"),
    "no tensor": (encode({"a": 3}, b""), "expected a tensor"),
    "no dtype": (encode({"a": {"shape": [1], "data_offsets": [0, 4]}}, b"1234"), "dtype"),
    "metadata": (encode({"__metadata__": 3}, b""), "expected texts"),
    "negative": (encode({"a": {**ONE, "shape": [-1]}}, b"1234"), "whole numbers from 0"),
    "true": (encode({"a": {**ONE, "shape": [True]}}, b"1234"), "whole numbers from 0"),
    "text": (encode({"a": {**ONE, "data_offsets": ["0", 4]}}, b"1234"), "whole numbers"),
    "one offset": (encode({"a": {**ONE, "data_offsets": [0]}}, b"1234"), "cannot be read"),
    "backwards": (encode({"a": {**ONE, "data_offsets": [4, 0]}}, b"1234"), "in order"),
    "another size": (encode({"a": {**ONE, "shape": [2]}}, b"1234"), "8 bytes, and has 4"),
    "huge": (encode({"a": {**ONE, "shape": [1 << 62, 1 << 62]}}, b"1234"), "and has 4"),
    "digits": (encode(b'{"a": ' + b"9" * 9000 + b"}", b""), "header cannot be read"),
    "cut short": (encode({"a": ONE}, b"123"), "is cut short"),
    "more": (encode({"a": ONE}, b"12345"), "has more than its tensors"),
    "overlap": (encode({"a": ONE, "b": ONE}, b"1234"), "without gaps"),
    "gap": (encode({"a": {**ONE, "data_offsets": [4, 8]}}, b"12345678"), "without gaps"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_header_is_one_line(tmp_path, monkeypatch, what):
    data, message = WRONG[what]
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    assert message in refused(path)
    assert "x.safetensors" in refused(f"{path}::a")
    with pytest.raises(InputError):
        read_contents(parse_address(str(path)))


def test_a_dtype_of_less_than_a_byte_is_named(tmp_path):
    header = {"a": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}, "b": {
        "dtype": "F32", "shape": [1], "data_offsets": [2, 6]}}  # fmt: skip
    path = tmp_path / "x.safetensors"
    path.write_bytes(encode(header, b"123456"))
    assert "dtype is F4, expected one of: F64" in refused(f"{path}::a")
    shown = read_contents(parse_address(str(path))).datasets
    assert [(one.dtype, one.is_numeric) for one in shown] == [("F4", False), ("float32", True)]
    assert len(read(f"{path}::b")) == 1


def test_a_header_of_a_gigabyte_is_not_read(tmp_path):
    path = tmp_path / "x.safetensors"
    with open(path, "wb") as stream:
        stream.write(struct.pack("<Q", 1 << 30) + b'{"')
        stream.truncate(1 << 31)
    assert "expected at most 100,000,000" in refused(path)


def test_a_header_larger_than_memory(tmp_path, monkeypatch, path):
    monkeypatch.setattr("roicli.storage.limits.available_bytes", lambda: 1000)
    monkeypatch.setattr("roicli.storage.limits.ALWAYS_FREE", 0)
    assert "for its header" in refused(path)


def test_recognized_by_its_first_bytes(tmp_path, path):
    other = tmp_path / "model.bin"
    other.write_bytes(Path(path).read_bytes())
    np.testing.assert_array_equal(read(str(other), "features"), MAPS)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_no_alteration_gets_further_than_an_error(tmp_path, data):
    whole = bytearray(encode({"m": {"dtype": "F32", "shape": [2, 5], "data_offsets": [0, 40]}},
                             ROIS.tobytes()))  # fmt: skip
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "f.safetensors"
    path.write_bytes(whole[: data.draw(st.integers(1, len(whole)))])
    with contextlib.suppress(InputError):
        for dataset in read_contents(parse_address(str(path))).datasets:
            if dataset.is_numeric:
                list(dataset.blocks())
