"""What a result says about where it comes from."""

import json

import h5py
import numpy as np
import onnxruntime
import pytest

import roicli
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.pipeline.provenance import describe_export, flatten, utc_now
from tests.options import need_numba
from tests.strategies import normal_map

MAPS = normal_map((2, 3, 13, 17))
ROIS = np.array([[0, 1, 2, 30, 40], [1, 5, 6, 70, 80]], np.float32)


@pytest.fixture
def addresses(tmp_path):
    np.save(tmp_path / "boxes.npy", ROIS.astype(np.float16))
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        file["fpn/p4"] = MAPS.astype(np.float16)
        file["fpn/p4"].attrs["spatial_scale"] = 1 / 16
    return f"{tmp_path}/maps.h5", f"{tmp_path}/boxes.npy"


def test_a_run_names_its_inputs_versions_and_parameters(addresses):
    found = roicli.align(*addresses, preset="torchvision", output_size="3x5").parameters
    expected = {
        "operator": "align", "roicli_version": roicli.__version__, "opset": 18,
        "onnxruntime_version": onnxruntime.__version__, "output_size": [3, 5],
        "sampling_ratio": 0, "aligned": False, "mode": "avg", "sampling_grid": "quarters",
        "spatial_scale": [1 / 16], "preset": "torchvision", "pixel_model": "legacy",
        "quantization": "caffe", "partition": "overlap", "dtype": "float32",
        "result_shape": [2, 3, 3, 5], "provider_requested": "auto", "features_dtype": ["float16"],
        "features_name": [addresses[0]], "features_dataset": ["/fpn/p4"],
        "features_shape": [[2, 3, 13, 17]], "rois_name": addresses[1], "rois_dataset": "",
        "rois_shape": [2, 5], "rois_dtype": "float16",
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    assert found["provider_used"] in ("cpu", "cuda")


def test_the_compiled_kernels_name_no_onnx_runtime():
    need_numba()
    found = roicli.pool(MAPS, ROIS, provider="native").parameters
    assert (found["provider_used"], found["onnxruntime_version"]) == ("native", None)


def test_pool_names_no_parameter_of_align():
    found = roicli.pool(MAPS, ROIS, quantization="hull").parameters
    assert (found["operator"], found["quantization"]) == ("pool", "hull")
    assert not {"sampling_ratio", "aligned", "mode"} & set(found)


def test_errors_name_what_they_compared():
    found = roicli.errors(MAPS, ROIS, provider="cpu").parameters
    assert (found["operator"], found["sampling_ratio"], found["provider_used"]) == (
        "errors",
        2,
        "cpu",
    )
    assert "result_shape" not in found
    alone = roicli.errors(None, ROIS).parameters
    assert (alone["operator"], alone["rois_shape"]) == ("errors", [2, 5])
    assert not {"features_name", "sampling_ratio"} & set(alone)


def test_an_hdf5_result_carries_it_as_attributes(addresses, tmp_path):
    found = roicli.pool(*addresses, tmp_path / "out.h5").parameters
    with h5py.File(tmp_path / "out.h5") as file:
        stored = dict(file.attrs)
        np.testing.assert_array_equal(file["rois"], ROIS)
    assert set(stored) == set(found)
    assert stored["spatial_scale"] == 1 / 16
    assert stored["features_dataset"] == "/fpn/p4"
    assert stored["output_size"].tolist() == [7, 7]
    assert stored["preset"] == "none"


def test_lists_of_lists_become_json_and_lists_of_one_the_one():
    flat = flatten({"shape": [[1, 2], [3]], "one": ["a"], "output_size": [7], "none": None, "n": 3})
    assert json.loads(flat["shape"]) == [[1, 2], [3]]
    assert (flat["one"], flat["output_size"], flat["none"], flat["n"]) == ("a", [7], "none", 3)


def test_source_date_epoch_sets_the_time(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert utc_now() == "1970-01-02T00:00:00Z"
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert utc_now() > "2025"


@pytest.mark.parametrize(
    ("operator", "spec", "named"),
    [
        ("align", AlignSpec((3, 5), 0.25), {"sampling_ratio": 2, "aligned": True, "mode": "avg"}),
        ("pool", PoolSpec((3, 5), 0.25, "hull"), {"quantization": "hull", "partition": "overlap"}),
    ],
)
def test_an_exported_graph_says_what_it_computes(operator, spec, named):
    found = describe_export(operator, spec, np.dtype(np.float32), 18)
    expected = {"operator": operator, "output_size": [3, 5], "spatial_scale": 0.25} | named
    assert {key: found[key] for key in expected} == expected
