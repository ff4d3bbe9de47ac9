"""A result of roicli's says where it comes from, and the command that it gives makes it again."""

import json
import shlex

import h5py
import numpy as np
import pytest

from roicli.analysis.result.origin import MEANINGS
from tests.cli.running import succeed

MAPS = np.random.default_rng(3).normal(size=(2, 8, 24, 32)).astype(np.float32)
BOXES = np.array(
    [[0, 3, 5, 40, 61], [1, 20, 11, 90, 70], [1, 8, 8, 30, 17], [0, 50, 2, 120, 88]], np.float32
)
RUNS = {
    "align": ("align",),
    "another rule": ("align", "--no-aligned", "--sampling-ratio", "0", "--mode", "max"),
    "pool": ("pool", "--quantization", "floor", "--output-size", "3x5"),
    "a preset": ("pool", "--preset", "mmcv"),
    "a preset of its own": ("align", "--preset", "tvm-onnx"),
    "chosen rows": ("align", "--where", "x1 > 5", "--roi-columns", "image,x1,y1,x2,y2"),
    "scaled": ("align", "--roi-scale", "0.5", "--dtype", "float16"),
    "other axes": ("align", "--layout", "ncwh"),
    "crop-and-resize": ("crop-and-resize", "--image-size", "96x128"),
    "ps-pool": ("ps-pool", "--output-size", "2"),
    "precise-pool": ("precise-pool", "--border", "zero"),
    "turned": ("rotated-align", "--angle-unit", "radians"),
    "a pyramid": ("align", "--levels", "p2,p3", "--canonical-size", "40"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with h5py.File("maps file.h5", "w") as file:
        for level, maps in (("p2", MAPS), ("p3", MAPS[:, :, ::2, ::2])):
            file[level] = maps
            file[level].attrs["spatial_scale"] = 1 / 4 if level == "p2" else 1 / 8
    np.save("boxes.npy", BOXES)
    np.save("turned.npy", np.array([[0, 40, 30, 20, 12, 0.3], [1, 60, 50, 31, 44, -1]], np.float32))


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_the_command_makes_it_again(run):
    rois = "turned.npy" if run[0] == "rotated-align" else "boxes.npy"
    features = "maps file.h5" if "--levels" in run else "maps file.h5::p2"
    succeed(run[0], features, rois, *run[1:], "-o", "result.h5", "-q")
    origin = json.loads(succeed("inspect", "result.h5", "--format", "json").text)["origin"]
    program, *words = shlex.split(origin["command"])
    assert program == "roicli"
    succeed(*words, "-q")
    with h5py.File("result.h5") as one, h5py.File("again.h5") as other:
        for name in ("roi_features", "rois"):
            assert one[name][()].tobytes() == other[name][()].tobytes()
        assert origin["created_utc"] == one.attrs["created_utc"]
        assert origin["parameters"]["output_size"] == one.attrs["output_size"].tolist()


def test_boxes_are_called_boxes():
    succeed("pool", "maps file.h5::p2", "boxes.npy", "-o", "result.h5", "-q")
    found = json.loads(succeed("inspect", "result.h5", "--format", "json").text)
    by_name = {one["address"].partition("::/")[2]: one["why"] for one in found["datasets"]}
    assert by_name == MEANINGS
    text = " ".join(succeed("inspect", "result.h5").text.split())
    for words in ("made by RoI Pool", "the boxes, as they were run", "maps file.h5::/p2",
                  "boxes.npy", found["origin"]["created_utc"], "43 columns"):  # fmt: skip
        assert words in text
    assert "<f8" not in text


def test_what_is_no_result_has_no_origin():
    assert json.loads(succeed("inspect", "boxes.npy", "--format", "json").text)["origin"] is None
    with h5py.File("like.h5", "w") as file:
        file["roi_features"] = MAPS
        file.attrs["operator"] = "align"
    assert json.loads(succeed("inspect", "like.h5", "--format", "json").text)["origin"] is None


def test_a_result_that_lost_what_it_says_of_itself_has_no_origin():
    succeed("pool", "maps file.h5::p2", "boxes.npy", "-o", "result.h5", "-q")
    with h5py.File("result.h5", "a") as file:
        file.attrs["features_name"] = "[[1]]"
    found = json.loads(succeed("inspect", "result.h5", "--format", "json").text)["origin"]
    assert found["command"] is None
    for name in ("output_size", "dtype", "spatial_scale"):
        with h5py.File("result.h5", "a") as file:
            kept = file.attrs.pop(name)
        found = json.loads(succeed("inspect", "result.h5", "--format", "json").text)
        assert found["origin"] is None
        with h5py.File("result.h5", "a") as file:
            file.attrs[name] = kept
