"""``verify-model``: a node's own bits, whose rule another result follows, what rules would cost."""

import json
import os

import numpy as np
import pytest

import roicli
from roicli.analysis.verify_model import verify_model
from roicli.core.exceptions import InputError, ParameterError
from tests import models
from tests.cli.running import run, succeed
from tests.pipeline.test_capture import DETECTOR, image, read


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def captured():
    """The sample detector's head on one image; gives its RoIs and results."""
    roicli.capture(DETECTOR, "c.h5", input={"image": image()})
    return read("c.h5", "head0/roi_features")


def head_again(**options):
    return roicli.align(
        "c.h5::head0", "c.h5::head0/rois", levels="p2,p3", level_from="c.h5::head0/levels",
        provider="cpu", **options,
    ).roi_features  # fmt: skip


def test_every_node_gives_its_bits_and_the_costs_are_the_error_tables(captured):
    found = verify_model("c.h5")
    assert [one.own.outcome for one in found.nodes] == ["equal bits"] * 2
    assert sum(one.rois for one in found.nodes) == 40
    assert found.findings == 0
    pool = roicli.pool(
        "c.h5::head0", "c.h5::head0/rois", levels="p2,p3", level_from="c.h5::head0/levels"
    ).roi_features
    first = read("c.h5", "head0/levels") == 2
    away = np.linalg.norm((pool - captured)[first].reshape(first.sum(), -1), axis=1)
    relative = away / np.linalg.norm(captured[first].reshape(first.sum(), -1), axis=1)
    cost = next(cost for cost in found.nodes[0].costs if cost.rule == "RoI Pool")
    assert cost.relative_l2_median == pytest.approx(np.median(relative), rel=1e-5)
    assert {cost.rule for cost in found.nodes[0].costs} == {"legacy", "RoI Pool"}


def test_a_deployment_that_departs_is_named_with_its_node(captured):
    """Legacy coordinates on one level alone, as trtexec writes them, by the outputs' names."""
    legacy = head_again(aligned=False)
    levels = read("c.h5", "head0/levels")
    outputs = []
    for level, name, values in ((2, "aligned_p2", captured), (3, "aligned_p3", legacy)):
        rows = values[levels == level]
        outputs.append({"name": name, "dimensions": "x".join(map(str, rows.shape)),
                        "values": rows.reshape(-1).tolist()})  # fmt: skip
    with open("engine.json", "w", encoding="utf-8") as stream:
        json.dump(outputs, stream)
    found = verify_model("c.h5", against=["engine.json"])
    good, bad = found.deployments
    assert good.agreement.outcome in ("equal bits", "within rounding")
    assert bad.node == "/aligned_p3/RoiAlign"
    assert bad.agreement.outcome == "another convention"
    assert "legacy" in bad.agreement.convention
    assert "torchvision.roi_align" in bad.agreement.libraries
    assert found.findings == 1
    outcome = run("verify-model", "c.h5", "--against", "engine.json")
    assert outcome.code == 1
    assert "legacy" in outcome.text


def test_one_wrong_roi_is_a_finding(captured, monkeypatch):
    """However few they are, and however well the others agree; nothing explains it."""

    def find_nothing(*given, **options):
        raise InputError("nothing")

    monkeypatch.setattr("roicli.analysis.verify_model.diagnose", find_nothing)
    spoilt = captured.copy()
    spoilt[7, 0, 0, 0] += 1
    np.save("other.npy", spoilt)
    found = verify_model("c.h5", against=["other.npy"])
    assert found.findings == 1
    (bad,) = [one for one in found.deployments if not one.agreement.is_good]
    assert bad.agreement.outcome == "unexplained"
    assert bad.agreement.rows == (7,)
    spoilt = captured + np.float32(1e-7)
    np.save("close.npy", spoilt)
    assert verify_model("c.h5", against=["head0=close.npy"]).findings == 0


@pytest.mark.full
def test_onnx_own_maximum_is_named():
    path = models.save_model("m.onnx", models.graph([models.align(mode="max")]))
    found = verify_model(path, input=models.GIVEN)
    (one,) = found.nodes
    assert one.own.outcome == "another convention"
    assert "weighted" in one.own.convention
    assert {cost.rule for cost in one.costs} == {"the true maximum", "legacy", "RoI Pool"}
    assert sorted(os.listdir()) == ["m.onnx"]


def test_as_json():
    np.save("image.npy", image())
    found = json.loads(
        succeed(
            "verify-model", str(DETECTOR), "--input", "image=image.npy", "--format", "json"
        ).text
    )
    assert [one["own"]["outcome"] for one in found["nodes"]] == ["equal bits"] * 2
    assert found["findings"] == 0


def test_wrong_calls_are_refused(captured):
    np.save("other.npy", captured[:3])
    with pytest.raises(InputError, match=r"other.npy: shape is \(3, 16, 7, 7\), expected"):
        verify_model("c.h5", against=["head0=other.npy"])
    with pytest.raises(InputError, match="there is no head or node 'head9'"):
        verify_model("c.h5", against=["head9=other.npy"])
    with pytest.raises(InputError, match="no such file"):
        verify_model("c.h5", against=["none.npy"])
    with pytest.raises(ParameterError, match="is captured already"):
        verify_model("c.h5", image=["a.jpg"])
    import h5py

    with h5py.File("not.h5", "w") as file:
        file["x"] = np.zeros((1, 2, 3, 3))
    with pytest.raises(InputError, match="is no file that capture wrote"):
        verify_model("not.h5")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "../head0"),
        ("levels", ["p2", "p3,/etc/passwd"]),
        ("options", {"graph": "other.onnx"}),
        ("operator", "merge"),
        ("nodes", ["one"]),
    ],
)
def test_a_file_of_a_stranger_names_no_other_file_and_no_other_option(captured, key, value):
    import h5py

    with h5py.File("c.h5", "r+") as file:
        said = json.loads(file["head0"].attrs["capture"])
        file["head0"].attrs["capture"] = json.dumps(said | {key: value})
    with pytest.raises(InputError, match="group head0 does not say what was captured"):
        verify_model("c.h5")


@pytest.mark.full
def test_an_engine_of_half_precision_has_the_same_rule(captured):
    """Its numbers are rounded, its convention is the node's: no finding."""
    np.save("engine.npy", captured.astype(np.float16))
    found = verify_model("c.h5", against=["engine.npy"])
    assert {one.agreement.outcome for one in found.deployments} == {"the same rule"}
    assert found.findings == 0
