"""What is written: HDF5 with its provenance, NPY, stdout; equal calls give equal bytes."""

import io
import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnxruntime
import pytest

import roicli
from roicli.error_table.columns import GEOMETRIC_COLUMNS, VALUE_COLUMNS
from tests.cli.conftest import Arrays
from tests.cli.running import FEATURES, FPN, ROIS, SCALE, TEXT_ROIS, refuse, run, save, succeed
from tests.options import some


def read_attributes(path: str) -> dict[str, Any]:
    """The attributes of an HDF5 result as plain values."""
    with h5py.File(path) as file:
        return {k: v.tolist() if isinstance(v, np.generic | np.ndarray) else v
                for k, v in file.attrs.items()}  # fmt: skip


def test_hdf5_of_align(inputs: Arrays) -> None:
    epoch: Any = {"SOURCE_DATE_EPOCH": "1700000000"}
    options = ("--sampling-ratio", "3", "--output-size", "5x4", "--threads", "1")
    succeed("align", FEATURES, ROIS, *SCALE, *options, **epoch)
    with h5py.File("f.align.h5") as file:
        assert sorted(file) == ["quantization_error", "roi_features", "rois"]
        assert file["roi_features"].shape == (5, 3, 5, 4)
        assert file["roi_features"].dtype == np.float32
        assert np.array_equal(file["rois"], inputs[1])
        table = file["quantization_error"][()]
    assert table.dtype.names == tuple(column.name for column in GEOMETRIC_COLUMNS)
    assert table["roi"].tolist() == [0, 1, 2, 3, 4]
    assert table["batch_index"].tolist() == [0, 1, 0, 1, 0]
    expected = {
        "operator": "align",
        "roicli_version": roicli.__version__,
        "onnxruntime_version": onnxruntime.__version__,
        "output_size": [5, 4],
        "spatial_scale": 0.25,
        "sampling_ratio": 3,
        "aligned": True,
        "mode": "avg",
        "sampling_grid": "quarters",
        "quantization": "caffe",
        "partition": "overlap",
        "pixel_model": "half-pixel",
        "provider_requested": "auto",
        "provider_used": "cpu",
        "features_name": FEATURES,
        "features_dtype": "float32",
        "rois_name": ROIS,
        "rois_shape": [5, 5],
        "rois_dtype": "float32",
        "dtype": "float32",
        "created_utc": "2023-11-14T22:13:20Z",
    }
    found = read_attributes("f.align.h5")
    assert {key: found[key] for key in expected} == expected
    assert 16 <= found["opset"] <= 21
    assert found["features_shape"] == [2, 3, 12, 16]


def test_hdf5_of_pool(inputs: Arrays) -> None:
    rule = ("--quantization", "hull", "--partition", "disjoint", "--pixel-model", "legacy")
    succeed("pool", FEATURES, ROIS, *SCALE, *rule, "--provider", "cpu", "-o", "out.hdf5")
    found = read_attributes("out.hdf5")
    names = ("operator", "quantization", "partition", "pixel_model", "provider_requested")
    assert [found[name] for name in names] == ["pool", "hull", "disjoint", "legacy", "cpu"]
    assert "sampling_ratio" not in found
    with h5py.File("out.hdf5") as file:
        assert file["quantization_error"].dtype.names[0] == "roi"


def test_hdf5_names_datasets_and_levels() -> None:
    succeed("align", FPN, TEXT_ROIS, "--levels", "p3,p4", "-o", "out.h5")
    found = read_attributes("out.h5")
    assert found["features_dataset"] == ["/p3", "/p4"]
    assert json.loads(found["features_shape"]) == [[2, 24, 64, 64], [2, 24, 32, 32]]
    assert found["spatial_scale"] == [1 / 8, 1 / 16]


def test_values_stand_in_the_table(inputs: Arrays) -> None:
    succeed("pool", FEATURES, ROIS, *SCALE, "--values", "-o", "out.h5")
    with h5py.File("out.h5") as file:
        names = file["quantization_error"].dtype.names
    assert names == tuple(column.name for column in GEOMETRIC_COLUMNS + VALUE_COLUMNS)


@pytest.mark.parametrize("command", ["align", "pool"])
def test_every_shape_of_output_holds_the_same_array(inputs: Arrays, command: str) -> None:
    names = ["out.npy", "out.h5", "out.hdf5", "gzip.h5", "lzf.h5"]
    for name in names:
        compression = Path(name).stem if "z" in name else "none"
        succeed(command, FEATURES, ROIS, *SCALE, "-o", name, "--compression", compression)
    expected = np.load("out.npy")
    piped = succeed(command, FEATURES, ROIS, *SCALE, "-o", "-")
    assert piped.out == Path("out.npy").read_bytes()
    for name in names[1:]:
        with h5py.File(name) as file:
            assert np.array_equal(file["roi_features"], expected)
            wanted = Path(name).stem if "z" in name else None
            assert file["roi_features"].compression == wanted


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_dtype_of_the_result(inputs: Arrays, name: Any) -> None:
    reference = succeed("align", FEATURES, ROIS, *SCALE, "-o", "-")
    expected = np.load(io.BytesIO(reference.out)).astype(name)
    for output in ("out.npy", "out.h5", "gzip.h5"):
        compression = "gzip" if output == "gzip.h5" else "none"
        options = ("--dtype", name, "--compression", compression, "-o", output)
        outcome = succeed("align", FEATURES, ROIS, *SCALE, *options)
        assert f"wrote {output} (5, 3, 7, 7) {name}" in outcome.err
        if output == "out.npy":
            found = np.load(output)
        else:
            with h5py.File(output) as file:
                found = file["roi_features"][()]
        assert found.dtype == np.dtype(name)
        assert np.array_equal(found, expected)


@some("command", [("align",), ("pool",)], ("pool",))
def test_equal_calls_give_equal_bytes(command: str) -> None:
    arguments = (command, FPN, TEXT_ROIS, "--levels", "p3,p4,p5", "--values")
    found = set()
    for number, threads in enumerate(("1", "2", "2")):
        for ending in ("npy", "h5"):
            out = f"{number}.{ending}"
            options = ("-o", out, "--threads", threads, "--errors-out", f"{out}.csv")
            succeed(*arguments, *options, SOURCE_DATE_EPOCH="0")
        found.add((Path(f"{number}.npy").read_bytes(), Path(f"{number}.h5").read_bytes(),
                   Path(f"{number}.npy.csv").read_bytes()))  # fmt: skip
    assert len(found) == 1


def test_a_bad_date_is_an_error(inputs: Arrays) -> None:
    outcome = run("align", FEATURES, ROIS, *SCALE, SOURCE_DATE_EPOCH="yesterday")
    assert outcome.code == 2
    assert "SOURCE_DATE_EPOCH" in outcome.err
    assert sorted(os.listdir(".")) == [FEATURES, ROIS]


def test_default_names(inputs: Arrays) -> None:
    Path("sub").mkdir()
    Path("sub/maps.1.npy").write_bytes(Path(FEATURES).read_bytes())
    succeed("align", "sub/maps.1.npy", ROIS, *SCALE)
    succeed("pool", f"{FPN}::p3", TEXT_ROIS)
    succeed("pool", f"{FPN}::p4,{FPN}::p5", TEXT_ROIS, "--force")
    assert sorted(os.listdir(".")) == [
        FEATURES, "maps.1.align.h5", ROIS, "sub", "text_fpn.pool.h5"
    ]  # fmt: skip
    assert os.listdir("sub") == ["maps.1.npy"]


def test_nothing_but_the_result_is_left(inputs: Arrays) -> None:
    for name in ("o.npy", "o.h5", "c.h5"):
        compression = "gzip" if name == "c.h5" else "none"
        succeed("align", FEATURES, ROIS, *SCALE, "-o", name, "--compression", compression)
    assert sorted(os.listdir(".")) == ["c.h5", FEATURES, "o.h5", "o.npy", ROIS]


def test_the_result_obeys_the_umask(inputs: Arrays) -> None:
    before = os.umask(0o027)
    try:
        for name in ("o.npy", "o.h5", "c.h5"):
            compression = "lzf" if name == "c.h5" else "none"
            succeed("align", FEATURES, ROIS, *SCALE, "-o", name, "--compression", compression)
            assert Path(name).stat().st_mode & 0o777 == 0o640
        succeed("errors", ROIS, *SCALE, "--errors-out", "e.csv")
        assert Path("e.csv").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


def test_errors_out_and_table_on_stdout_are_the_same(inputs: Arrays) -> None:
    for ending in ("csv", "tsv", "json", "jsonl"):
        name = f"e.{ending}"
        options = ("--errors-out", name, "--format", ending, "--force")
        outcome = succeed("align", FEATURES, ROIS, *SCALE, *options, SOURCE_DATE_EPOCH="0")
        assert Path(name).read_bytes() == outcome.out


@pytest.mark.parametrize("output", ["out.npy", "out.h5", "gzip.h5", "-"])
def test_a_dtype_too_narrow_for_the_result(inputs: Arrays, output: str) -> None:
    save("large.npy", inputs[0] * 1e6)
    compression = "gzip" if output == "gzip.h5" else "none"
    options = ("--dtype", "float16", "--compression", compression, "-o", output)
    words = ("float16", "65504", "--dtype")
    refuse("align", "large.npy", ROIS, *SCALE, *options, words=words)
