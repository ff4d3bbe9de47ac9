"""Every graph is a valid ONNX model of opset 18 with the attributes that its spec means."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from roicli.operators import graphs, onnx_graph, roi_align, roi_pool
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec

FLOAT_TYPES = [np.dtype(np.float32), np.dtype(np.float64)]
SINGLE = FLOAT_TYPES[0]


def align(*arguments, counts=None, dtype=SINGLE):
    return roi_align.build_align_graph(AlignSpec((3, 5), 0.1, *arguments), dtype, counts)


ALL = {
    f"align-{mode}-{grid}-{dtype}": align(2, True, mode, grid, counts=counts, dtype=dtype)
    for mode in ("avg", "max")
    for grid in ("quarters", "thirds")
    for dtype in FLOAT_TYPES
    for counts in [None if (mode, grid) == ("avg", "quarters") else (2, 3)]
} | {
    "max-roi-pool": roi_pool.build_max_roi_pool_graph(PoolSpec((3, 5), 0.1)),
    "cell-table": graphs.build_cell_table_graph(SINGLE),
    "cell-table-64": graphs.build_cell_table_graph(FLOAT_TYPES[1]),
    "window-pool": roi_pool.build_window_pool_graph(SINGLE, 4),
    "window-pool-64": roi_pool.build_window_pool_graph(FLOAT_TYPES[1], 1),
    "placing-cast": graphs.build_placing_graph(np.dtype(np.float16), SINGLE),
    "placing": graphs.build_placing_graph(SINGLE, SINGLE),
}


def nodes_of(graph, op_type):
    model = onnx.load_from_string(graph.model)
    return [
        {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        for node in model.graph.node
        if node.op_type == op_type
    ]


@pytest.mark.parametrize("name", ALL)
def test_onnx_accepts_it_in_full(name):
    model = onnx.load_from_string(ALL[name].model)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]


@pytest.mark.parametrize("name", ALL)
def test_its_names_are_the_models(name):
    graph = ALL[name]
    model = onnx.load_from_string(graph.model).graph
    assert tuple(value.name for value in model.input) == graph.inputs
    assert [value.name for value in model.output] == [graph.output]


@pytest.mark.parametrize("name", ALL)
def test_no_roi_align_asks_for_onnx_max(name):
    assert all(node["mode"] == b"avg" for node in nodes_of(ALL[name], "RoiAlign"))


@pytest.mark.parametrize(
    ("aligned", "word"), [(True, b"half_pixel"), (False, b"output_half_pixel")]
)
def test_average_on_quarters_is_one_node_with_the_specs_attributes(aligned, word):
    graph = align(3, aligned)
    assert len(onnx.load_from_string(graph.model).graph.node) == 1
    (found,) = nodes_of(graph, "RoiAlign")
    assert found == {
        "mode": b"avg", "output_height": 3, "output_width": 5, "sampling_ratio": 3,
        "spatial_scale": np.float32(0.1), "coordinate_transformation_mode": word,
    }  # fmt: skip


def test_max_samples_a_finer_grid_once_and_pools_it():
    graph = align(0, True, "max", counts=(2, 3))
    (sampling,) = nodes_of(graph, "RoiAlign")
    assert (sampling["output_height"], sampling["output_width"]) == (6, 15)
    assert sampling["sampling_ratio"] == 1
    assert nodes_of(graph, "MaxPool") == [{"kernel_shape": [2, 3], "strides": [2, 3]}]


def test_thirds_sample_one_more_and_drop_it():
    graph = align(2, True, "max", "thirds", counts=(2, 3))
    (sampling,) = nodes_of(graph, "RoiAlign")
    assert (sampling["output_height"], sampling["output_width"]) == (9, 20)
    assert nodes_of(graph, "MaxPool") == [{"kernel_shape": [2, 3], "strides": [3, 4]}]


def test_max_roi_pool_is_one_node():
    (found,) = nodes_of(ALL["max-roi-pool"], "MaxRoiPool")
    assert found == {"pooled_shape": [3, 5], "spatial_scale": np.float32(0.1)}


def test_builder_names_are_unique_and_its_constants_are_read_back():
    builder = onnx_graph.GraphBuilder()
    name = builder.integers(3, -1, 2**62)
    other = builder.add("Identity", name)
    again = builder.add("Identity", other)
    assert len({name, other, again}) == 3
    tensor = onnx.TensorProto.FromString(builder.constants[0])
    assert numpy_helper.to_array(tensor).tolist() == [3, -1, 2**62]
