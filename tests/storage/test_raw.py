"""Raw binary whose address says dtype and shape, and the JSON that trtexec writes."""

import json
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest

import roicli
from roicli.core.exceptions import InputError
from tests.cli.running import refuse, run, save, succeed

VALUES = np.random.default_rng(3).normal(size=(3, 2, 5, 7)).astype(np.float32)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("ending", ["bin", "raw", "dat", "out", "0"])
@pytest.mark.parametrize(
    ("dtype", "word"),
    [("float32", "float32"), ("float16", "float16"), (ml_dtypes.bfloat16, "bfloat16"),
     ("<f8", "float64"), (">f4", ">float32"), ("<f4", "<float32"), ("int8", "int8")],
)  # fmt: skip
def test_an_address_says_dtype_and_shape(ending, dtype, word):
    values = (VALUES * 20).astype(dtype)
    Path(f"x.{ending}").write_bytes(values.tobytes())
    address = f"x.{ending}::{word}[3, 2,5,7]"
    assert roicli.compare(address, values).max_difference == 0
    maps = roicli.align(address, np.array([[1, 1, 1, 5, 4]]), spatial_scale=1).roi_features
    expected = roicli.align(values.astype(float), np.array([[1, 1, 1, 5, 4]]), spatial_scale=1)
    np.testing.assert_allclose(maps, expected.roi_features, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("x.bin", ("raw binary of 210 float32 values", "x.bin::float32[K,C,P_h,P_w]")),
        ("x.bin::float32[3,2,5,8]", ("takes 960 bytes, and the file has 840",)),
        ("x.bin::float31[3,2,5,7]", ("expected a dtype and a shape", "bfloat16")),
        ("x.bin::float32[3,,5,7]", ("expected a dtype and a shape",)),
        ("x.bin::/data", ("expected a dtype and a shape",)),
        ("none.bin::float32[1]", ("no such file",)),
    ],
)
def test_a_description_that_does_not_fit(address, words):
    Path("x.bin").write_bytes(VALUES.tobytes())
    save("b.npy", VALUES)
    refuse("compare", address, "b.npy", words=words)


def test_inspect_shows_what_the_address_says():
    Path("x.bin").write_bytes(VALUES.tobytes())
    found = json.loads(succeed("inspect", "x.bin::float32[3,2,5,7]", "--format", "json").text)
    assert found["format"] == "raw"
    assert found["datasets"][0]["shape"] == [3, 2, 5, 7]


def test_a_file_that_says_what_it_is_is_not_raw():
    with h5py.File("x.bin", "w") as file:
        file["roi_features"] = VALUES
    assert roicli.compare("x.bin", VALUES).equal


# trtexec ----------------------------------------------------------------------------------------


def write_outputs(*outputs, path="out.json"):
    Path(path).write_text(json.dumps([
        {"name": name, "dimensions": dimensions, "values": values}
        for name, dimensions, values in outputs
    ]))  # fmt: skip
    return path


def short(values):
    return [float(f"{value:.6g}") for value in values.reshape(-1).tolist()]


def test_outputs_of_trtexec_are_results():
    corners = [image if place == 0 else 4.0 for image in (0.0, 1.0, 2.0) for place in range(5)]
    features, boxes = ("roi_feats", "3x2x5x7", short(VALUES)), ("boxes", "3x5", corners)
    assert roicli.compare(write_outputs(features), VALUES).equal
    address = write_outputs(boxes, features, path="two.json")
    outputs = {one.stored.address: one.stored.shape for one in roicli.inspect(address).datasets}
    assert outputs == {"two.json::roi_feats": (3, 2, 5, 7), "two.json::boxes": (3, 5)}
    maps = save("m.npy", VALUES), f"{address}::roi_feats"
    found = [roicli.align(one, f"{address}::boxes", spatial_scale=1) for one in maps]
    np.testing.assert_allclose(*(one.roi_features for one in found), rtol=1e-5)
    assert roicli.compare(f"{address}::roi_feats", VALUES).equal
    save("b.npy", VALUES)
    refuse("compare", address, "b.npy", words=("2 datasets fit", "roi_feats (3, 2, 5, 7)"))
    refuse("compare", f"{address}::x", "b.npy", words=("no output 'x'", "roi_feats"))


def test_an_output_that_was_cut_off_is_read_with_a_warning():
    path = write_outputs(("f", "3x2x5x7", short(VALUES[:2])))
    save("b.npy", VALUES)
    outcome = run("compare", path, "b.npy")
    assert outcome.code == 1
    assert "values of the first 2 of 3 rows" in outcome.err
    assert "not in A, 1 row of B: 2; matched, 2 rows are equal" in outcome.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ('{"a": 1}', "not from a table"), ("[]", "not from a table"),
        ('[{"name": "f", "dimensions": "3x2", "values": [1, 2, 3, 4, 5]}]', r"values of shape \(5"),
        ('[{"name": "f", "dimensions": "3x2", "values": [1, 2, 3, 4, 5, "x"]}]', "not all numbers"),
        ('[{"name": "f", "dimensions": "axb", "values": []}]', "dimensions are 'axb'"),
        ('[{"name": "f", "dimensions": "1x2", "values": [1, 2, 3, 4]}]', r"values of shape \(4"),
    ],
)  # fmt: skip
def test_json_that_is_none_of_trtexecs(text, words):
    Path("x.json").write_text(text)
    with pytest.raises(InputError, match=words):
        roicli.compare("x.json", VALUES)
