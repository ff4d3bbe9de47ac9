"""RoI nodes of models made here: parameters, providers, traps."""

import onnx
import pytest
from onnx import TensorProto, helper

from roicli.analysis.inspect_model import inspect_model
from roicli.core.exceptions import InputError
from roicli.pipeline.model_nodes import read_roi_node


def align_node(name="align", **attributes):
    return helper.make_node("RoiAlign", ["x", "rois", "batch"], [f"{name}_out"], name, **attributes)


def pool_node(name="pool", **attributes):
    attributes = {"pooled_shape": [6, 4]} | attributes
    return helper.make_node("MaxRoiPool", ["x", "rois"], [f"{name}_out"], name, **attributes)


@pytest.fixture
def inspect(tmp_path):
    def run(*nodes, opset=18, functions=(), domains=("custom",)):
        imports = [helper.make_opsetid("", opset)]
        imports += [helper.make_opsetid(domain, 3) for domain in domains]
        model = helper.make_model(
            helper.make_graph(nodes, "g", [], []), opset_imports=imports, functions=functions,
            producer_name="tests",
        )  # fmt: skip
        onnx.save(model, tmp_path / "m.onnx")
        return inspect_model(str(tmp_path / "m.onnx"))

    return run


def remarks(node, weight=None):
    return [remark.id for remark in node.remarks if weight in (None, remark.weight)]


def runs(node):
    return {support.name: support.runs for support in node.providers}


def test_a_node_without_traps(inspect):
    report = inspect(
        align_node(output_height=7, output_width=5, spatial_scale=0.25, sampling_ratio=2)
    )
    (node,) = report.nodes
    assert (node.kind, node.opset, node.inside) == ("align", 18, ())
    assert node.inputs == ("x", "rois", "batch")
    assert node.attributes["output_height"] == 7
    assert node.parameters == {
        "output_size": [7, 5], "spatial_scale": 0.25, "sampling_ratio": 2, "aligned": True,
        "mode": "avg", "sampling_grid": "quarters",
    }  # fmt: skip
    assert runs(node) == {"cpu": True, "cuda": True}
    assert (report.traps, remarks(node)) == (0, [])
    assert (report.producer, dict(report.opsets)) == ("tests", {"": 18, "custom": 3})


LEGACY, HALF = "output_half_pixel", "half_pixel"


@pytest.mark.parametrize(
    ("opset", "attributes", "traps", "notes"),
    [
        (18, {"mode": "max"}, ["mode-max"], []),
        (16, {}, [], []),
        (10, {}, ["legacy-by-opset"], ["onnx-reference"]),
        (15, {}, ["legacy-by-opset"], ["onnx-reference"]),
        (16, {"coordinate_transformation_mode": LEGACY}, [], ["legacy"]),
        (16, {"coordinate_transformation_mode": HALF}, [], []),
        (21, {}, [], []),
        (22, {}, ["opset-not-implemented"], []),
        (18, {"sampling_ratio": 0}, [], ["adaptive-sampling"]),
        (18, {"sampling_ratio": -1}, ["negative-sampling-ratio"], []),
        (10, {"mode": "max", "sampling_ratio": 0}, ["mode-max", "legacy-by-opset"],
         ["adaptive-sampling", "onnx-reference"]),
    ],
)  # fmt: skip
def test_traps_and_notes_of_roi_align(inspect, opset, attributes, traps, notes):
    report = inspect(align_node(**({"sampling_ratio": 2} | attributes)), opset=opset)
    (node,) = report.nodes
    assert remarks(node, "trap") == traps
    assert remarks(node, "note") == notes
    assert report.traps == len(traps)


def test_adaptive_is_the_default(inspect):
    assert remarks(inspect(align_node()).nodes[0])[0] == "adaptive-sampling"


@pytest.mark.parametrize(("opset", "cpu"), [(1, True), (21, True), (22, False), (25, False)])
def test_max_roi_pool(inspect, opset, cpu):
    (node,) = inspect(pool_node(spatial_scale=0.5), opset=opset).nodes
    assert node.kind == "pool"
    assert runs(node) == {"cpu": cpu, "cuda": False}
    assert remarks(node) == ([] if cpu else ["opset-not-implemented"])
    assert node.parameters["output_size"] == [6, 4]


def test_roi_align_on_cuda_past_opset_21_is_not_known(inspect):
    (node,) = inspect(align_node(sampling_ratio=1), opset=22).nodes
    assert runs(node) == {"cpu": False, "cuda": None}


@pytest.mark.parametrize(
    ("op_type", "domain"),
    [("PyramidROIAlign_TRT", ""), ("MMCVRoiAlign", "mmdeploy"), ("ROIAlign_TRT", "custom"),
     ("ExperimentalDetectronROIFeatureExtractor", "org.openvinotoolkit"), ("RoiAlign", "custom")],
)  # fmt: skip
def test_custom_nodes_are_shown_with_their_attributes(inspect, op_type, domain):
    node = helper.make_node(op_type, ["x"], ["y"], domain=domain, aligned=1, mode="max", sizes=[7])
    (found,) = inspect(node).nodes
    assert (found.kind, found.name, found.parameters) == ("custom", "y", None)
    assert found.attributes == {"aligned": 1, "mode": "max", "sizes": [7]}
    assert runs(found) == {"cpu": False, "cuda": False}
    known = (
        ["known-operator"]
        if op_type in ("PyramidROIAlign_TRT", "MMCVRoiAlign", "ROIAlign_TRT")
        else []
    )
    assert remarks(found) == [*known, "custom-operator"]
    expected = {"": 18, "custom": 3}.get(domain)
    assert found.opset == expected


def test_other_nodes_are_not_shown(inspect):
    assert inspect(helper.make_node("Relu", ["x"], ["y"])).nodes == ()


def test_subgraphs_and_functions(inspect):
    inner = helper.make_graph([align_node("inner", sampling_ratio=2)], "then", [], [])
    branch = helper.make_node("If", ["c"], ["o"], "choose", then_branch=inner, else_branch=inner)
    function = helper.make_function(
        "custom", "RoiHead", ["x", "rois", "batch"], ["align_out"], [align_node(sampling_ratio=2)],
        [helper.make_opsetid("", 10)],
    )  # fmt: skip
    call = helper.make_node("RoiHead", ["x", "rois", "batch"], ["out"], domain="custom")
    nodes = inspect(branch, call, functions=[function]).nodes
    assert [node.kind for node in nodes] == ["align", "align", "function", "align"]
    assert {node.inside for node in nodes[:2]} == {
        ("If choose then_branch",), ("If choose else_branch",),
    }  # fmt: skip
    assert nodes[3].inside == ("function custom::RoiHead",)
    assert remarks(nodes[3]) == ["legacy-by-opset", "onnx-reference"]
    assert remarks(nodes[2]) == ["function"]


def test_attributes_that_a_functions_caller_sets(inspect, tmp_path):
    node = align_node()
    node.attribute.add(name="sampling_ratio", type=2, ref_attr_name="ratio")
    function = helper.make_function(
        "custom", "Head", ["x", "rois", "batch"], ["align_out"], [node],
        [helper.make_opsetid("", 18)], ["ratio"],
    )  # fmt: skip
    (found,) = inspect(functions=[function]).nodes
    assert found.attributes == {"sampling_ratio": "@ratio"}
    assert (found.parameters, remarks(found, "note")) == (None, ["unreadable"])
    with pytest.raises(InputError, match="the function's caller sets sampling_ratio"):
        read_roi_node(str(tmp_path / "m.onnx"), "align")


@pytest.mark.parametrize(
    "node",
    [helper.make_node("MaxRoiPool", ["x", "r"], ["o"]), pool_node(pooled_shape=[1]),
     align_node(mode=3), align_node(output_height="x")],
)  # fmt: skip
def test_a_malformed_node_is_a_trap(inspect, node):
    (found,) = inspect(node).nodes
    assert remarks(found, "trap") == ["unreadable"]


def test_odd_attributes_and_a_node_without_outputs(inspect):
    node = helper.make_node(
        "MyRoi", [], [], domain="custom", weights=helper.make_tensor("w", 1, [1], [1.0])
    )
    node.attribute.add(name="unknown")
    (found,) = inspect(node).nodes
    assert found.name == "MyRoi"
    assert found.attributes == {"weights": "TensorProto", "unknown": "NoneType"}


def test_external_weights_are_neither_read_nor_needed(tmp_path):
    tensor = TensorProto(
        name="w", data_type=1, dims=[1 << 20, 1 << 12], data_location=TensorProto.EXTERNAL
    )
    tensor.external_data.add(key="location", value="gone.bin")
    tensor.external_data.add(key="length", value=str(1 << 34))
    model = helper.make_model(helper.make_graph([align_node()], "g", [], [], [tensor]))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert inspect_model(str(tmp_path / "m.onnx")).nodes[0].name == "align"


@pytest.mark.parametrize("content", [b"not a model", b"\x08\x08", b""])
def test_what_is_no_model(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(InputError):
        inspect_model(str(tmp_path / "m.onnx"))


@pytest.mark.parametrize(
    ("op_type", "domain", "attributes", "words"),
    [
        ("CropAndResize", "com.microsoft", {"mode": "nearest"},
         ("ONNX Runtime's CropAndResize", "y1, x1, y2, x2", "extrapolation_value is 0.0 where")),
        ("ROIAlign_TRT", "", {"mode": 0, "sampling_ratio": 2},
         ("mode 0 is the maximum over weighted corners",
          "coordinate_transformation_mode 1 is half-pixel", "NaN")),
        ("MMCVRoiAlign", "mmdeploy", {"aligned": 0, "mode": "avg", "sampling_ratio": -1},
         ("aligned 0 is legacy coordinates", "mode avg is the average",
          "sampling_ratio -1 is adaptive")),
        ("MMCVRoIAlignRotated", "mmcv", {"clockwise": 1}, ("clockwise 1 is clockwise", "radians")),
        ("MMCVMultiLevelRoiAlign", "mmdeploy", {}, ("mmdet's level rule", "finest_scale")),
        ("CropAndResizePlugin", "TRT", {}, ("crop_and_resize",)),
        ("CropAndResizeDynamic", "", {}, ("crop_and_resize",)),
        ("MultilevelCropAndResize_TRT", "", {}, ("one point in the middle",)),
        ("PyramidROIAlign_TRT", "", {"fpn_scale": 224, "sampling_ratio": 2},
         ("P2 to P5", "canonical size", "roi_coords_transform 2 is half-pixel")),
    ],
)  # fmt: skip
def test_operators_of_other_runtimes_are_known_by_name(inspect, op_type, domain, attributes, words):
    node = helper.make_node(op_type, ["x", "rois"], ["y"], domain=domain, **attributes)
    (found,) = inspect(node, domains=(domain,) if domain else ()).nodes
    assert found.kind == "custom"
    (remark,) = [remark for remark in found.remarks if remark.id == "known-operator"]
    for word in words:
        assert word in remark.message
    is_own = domain == "com.microsoft"
    assert runs(found)["cpu"] == is_own
    assert ("custom-operator" in remarks(found)) != is_own


def test_an_operator_of_another_domain_is_not_that_one(inspect):
    node = helper.make_node("CropAndResize", ["x", "rois"], ["y"], domain="mine")
    assert inspect(node, domains=("mine",)).nodes == ()


def test_a_sampling_ratio_that_is_left_out_is_remarked_on(inspect):
    (found,) = inspect(align_node(output_height=7), opset=16).nodes
    assert remarks(found, "note") == ["adaptive-sampling", "sampling-ratio-left-out"]
    assert found.parameters["sampling_ratio"] == 0
    (found,) = inspect(align_node(sampling_ratio=0)).nodes
    assert "sampling-ratio-left-out" not in remarks(found)


@pytest.mark.parametrize(("opset", "is_told"), [(10, True), (15, True), (16, False), (21, False)])
def test_onnx_own_evaluator_is_no_reference_before_opset_16(inspect, opset, is_told):
    (found,) = inspect(align_node(sampling_ratio=2), opset=opset).nodes
    assert ("onnx-reference" in remarks(found, "note")) == is_told
