"""RoI nodes of models made here with onnx.helper."""

import onnx
import pytest
from onnx import TensorProto, helper

from roicli.core.declaration import settle
from roicli.core.exceptions import InputError, ParameterError
from roicli.pipeline.model_nodes import find_roi_nodes, read_roi_node
from roicli.pipeline.request import RunRequest
from roicli.pipeline.settings import resolve_setting
from tests.log import logged


def align_node(name="align", output="aligned", **attributes):
    return helper.make_node("RoiAlign", ["x", "rois", "batch"], [output], name=name, **attributes)


def pool_node(name="pool", output="pooled", **attributes):
    attributes = {"pooled_shape": [6, 4]} | attributes
    return helper.make_node("MaxRoiPool", ["x", "rois"], [output], name=name, **attributes)


@pytest.fixture
def save(tmp_path):
    def write(nodes, opset=16, name="model.onnx", functions=()):
        graph = helper.make_graph(nodes, "g", [], [])
        imports = [helper.make_opsetid("", opset), helper.make_opsetid("custom", 1)]
        model = helper.make_model(graph, opset_imports=imports, functions=functions)
        path = tmp_path / name
        onnx.save(model, path)
        return str(path)

    return write


def read(address, operator="align"):
    with logged() as notes:
        return read_roi_node(address, operator), notes


def test_all_attributes_are_read(save):
    attributes = {"output_height": 3, "output_width": 5, "spatial_scale": 0.25, "mode": "avg"}
    word = "output_half_pixel"
    path = save([align_node(sampling_ratio=2, coordinate_transformation_mode=word, **attributes)])
    node, notes = read(path)
    assert (node.name, node.operator, node.opset) == ("align", "align", 16)
    assert (node.output_size, node.spatial_scale) == ((3, 5), 0.25)
    assert (node.sampling_ratio, node.aligned, node.mode) == (2, False, "avg")
    assert notes == []


# ONNX: RoiAlign-10 has no coordinate_transformation_mode and no half pixel; 16 defaults to it.
@pytest.mark.parametrize(("opset", "aligned"), [(10, False), (15, False), (16, True), (22, True)])
def test_the_defaults_are_those_of_the_opset(save, opset, aligned):
    node, _ = read(save([align_node()], opset))
    assert node.aligned == aligned
    assert (node.output_size, node.spatial_scale, node.sampling_ratio) == ((1, 1), 1.0, 0)


def test_max_roi_pool_is_read(save):
    node, _ = read(save([pool_node(spatial_scale=0.5)]), "pool")
    assert (node.operator, node.output_size, node.spatial_scale) == ("pool", (6, 4), 0.5)
    assert resolve_setting(settle(RunRequest, {}), "pool", node).pool.output_size == (6, 4)


def test_opset_22_is_run_as_18_and_says_so(save):
    _, notes = read(save([align_node()], 22))
    assert len(notes) == 1
    assert "opset 22, which ONNX Runtime does not implement; run as opset 18" in notes[0]


def test_onnx_max_is_refused(save):
    with pytest.raises(InputError, match=r"mode='max'.*over weighted corners, not over") as caught:
        read(save([align_node(mode="max")]))
    assert "--mode max" in str(caught.value.hint)


def test_the_other_operator_is_refused(save):
    with pytest.raises(InputError, match="node pool is RoI Pool") as caught:
        read(save([pool_node()]))
    assert caught.value.hint == "run roicli pool"


def test_one_of_several_must_be_named(save):
    path = save([align_node("a", "one"), align_node("b", "two", output_height=9)])
    with pytest.raises(InputError, match="2 RoI nodes") as caught:
        read(path)
    assert "a (align), b (align)" in str(caught.value)
    assert caught.value.hint in {f"name one: {path}::a", f"name one: {path}::b"}
    assert read(f"{path}::b")[0].output_size == (9, 1)
    assert read(f"{path}::two")[0].name == "b"
    assert read(f"{path}::a")[0].output_size == (1, 1)


def test_a_node_that_is_not_there_lists_those_that_are(save):
    path = save([align_node("a")])
    with pytest.raises(InputError, match="has no node 'c', its RoI nodes are: a"):
        read(f"{path}::c")


def test_a_node_without_a_name_has_its_outputs(save):
    path = save([align_node(name="", output="roi_out")])
    assert read(f"{path}::roi_out")[0].name == "roi_out"


def test_subgraphs_are_searched(save):
    inner = helper.make_graph([align_node("inner", output_height=4)], "then", [], [])
    outer = helper.make_graph([helper.make_node("If", ["c"], ["o"], then_branch=inner)],
                              "else", [], [])  # fmt: skip
    path = save([helper.make_node("If", ["c"], ["out"], then_branch=outer, else_branch=outer)])
    assert [node.name for node, _ in find_roi_nodes(path)] == ["inner", "inner"]
    path = save([helper.make_node("If", ["c"], ["out"], then_branch=outer)])
    assert read(path)[0].output_size == (4, 1)


def test_functions_are_searched_with_their_own_opset(save):
    function = helper.make_function(
        "custom", "Head", ["x", "rois", "batch"], ["aligned"], [align_node("inside")],
        [helper.make_opsetid("", 10)],
    )  # fmt: skip
    call = helper.make_node("Head", ["x", "rois", "batch"], ["out"], domain="custom")
    node, _ = read(save([call], 16, functions=[function]))
    assert (node.name, node.opset, node.aligned) == ("inside", 10, False)


def test_another_domains_roi_align_is_another_operator(save):
    foreign = helper.make_node("RoiAlign", ["x", "rois", "batch"], ["o"], domain="custom")
    with pytest.raises(InputError, match="the model has no RoiAlign or MaxRoiPool node"):
        read(save([foreign]))


def test_weights_in_an_external_file_are_not_needed(tmp_path):
    tensor = TensorProto(name="w", data_type=1, dims=[3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="gone.bin")
    model = helper.make_model(helper.make_graph([align_node()], "g", [], [], [tensor]))
    path = tmp_path / "external.onnx"
    path.write_bytes(model.SerializeToString())
    assert read(str(path))[0].name == "align"


@pytest.mark.parametrize("content", [b"not an onnx model at all", b"\x08\x08"])
def test_what_is_no_model_is_named(tmp_path, content):
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.onnx: cannot be read as an ONNX model"):
        read(str(path))


def test_a_file_that_is_not_there_or_empty(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read(str(tmp_path / "none.onnx"))
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(InputError, match="the file is empty"):
        read(str(tmp_path / "empty.onnx"))


def test_a_pooled_shape_that_is_missing_is_named(save):
    node = helper.make_node("MaxRoiPool", ["x", "rois"], ["o"], name="p")
    with pytest.raises(InputError, match="node p has pooled_shape None, expected two numbers"):
        read(save([node]), "pool")


@pytest.mark.parametrize("ratio", [-1, 300])
def test_attributes_that_no_operator_allows_are_refused_when_resolved(save, ratio):
    node, _ = read(save([align_node(sampling_ratio=ratio)]))
    with pytest.raises(ParameterError, match=f"sampling ratio is {ratio}"):
        resolve_setting(settle(RunRequest, {}), "align", node)
