"""Small ONNX models with RoI nodes, made with onnx.helper, and what they are run on."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RANDOM = np.random.default_rng(21)
MAP = RANDOM.normal(size=(1, 3, 16, 16)).astype(np.float32)
BOXES = np.array([[0, 0, 7, 7], [2.2, 2.7, 29.5, 19.25], [5, 6, 40, 31]], np.float32)
IMAGES = np.zeros(len(BOXES), np.int64)
GIVEN = {"x": MAP, "boxes": BOXES, "images": IMAGES}
INPUTS = [
    helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "C", "H", "W"]),
    helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["K", 4]),
    helper.make_tensor_value_info("images", TensorProto.INT64, ["K"]),
]
HALF_PIXEL = {"coordinate_transformation_mode": "half_pixel"}


def align(features="x", boxes="boxes", images="images", output="y", **attributes):
    """A RoiAlign node called after its output."""
    usual = {
        "output_height": 2,
        "output_width": 3,
        "spatial_scale": 0.5,
        "sampling_ratio": 2,
        "name": f"{output}_node",
    }
    return helper.make_node("RoiAlign", [features, boxes, images], [output], **(usual | attributes))


def node(op_type, inputs, outputs, **attributes):
    """Any other node."""
    return helper.make_node(op_type, inputs, outputs, **attributes)


def constant(name, value):
    """An initializer."""
    return numpy_helper.from_array(np.asarray(value), name)


def graph(nodes, outputs=("y",), inputs=INPUTS, initializers=()):
    """A graph of nodes."""
    return helper.make_graph(
        nodes, "g", inputs, [onnx.ValueInfoProto(name=name) for name in outputs], initializers
    )


def save_model(path, made, opset=16, domains=(), functions=()):
    """A graph as a model; gives its path."""
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    model = helper.make_model(made, opset_imports=imports, ir_version=9, functions=functions)
    onnx.save(model, path)
    return str(path)


def if_model(path, opset=16):
    """RoiAlign in the branch that the input ``taken`` chooses."""
    yes = helper.make_graph([align()], "yes", [], [value("y")])
    no = helper.make_graph(
        [node("Constant", [], ["none"], value=constant("", np.zeros((0,), np.float32)))],
        "no", [], [value("none")],
    )  # fmt: skip
    taken = helper.make_tensor_value_info("taken", TensorProto.BOOL, [])
    chosen = node("If", ["taken"], ["out"], then_branch=yes, else_branch=no, name="choose")
    return save_model(path, graph([chosen], ("out",), [*INPUTS, taken]), opset)


def loop_model(path, opset=16):
    """Two turns of a loop, of which the n-th has n RoIs on a map of its own."""
    body = helper.make_graph(
        [
            node("Identity", ["go"], ["go_on"]),
            node("Add", ["x", "x"], ["doubled"]),
            node("Reshape", ["turn", "all"], ["turn_1d"]),
            node("Add", ["turn_1d", "one"], ["count"]),
            node("Slice", ["boxes", "zero", "count", "zero"], ["some"]),
            node("Slice", ["images", "zero", "count", "zero"], ["some_images"]),
            align("doubled", "some", "some_images"),
            node("ReduceSum", ["y"], ["sum"], keepdims=0),
            node("Add", ["total", "sum"], ["new_total"]),
        ],
        "body",
        [value("turn", TensorProto.INT64, []), value("go", TensorProto.BOOL, []),
         value("total", TensorProto.FLOAT, [])],
        [value("go_on", TensorProto.BOOL, []), value("new_total", TensorProto.FLOAT, [])],
    )  # fmt: skip
    numbers = {"turns": 2, "yes": True, "all": [-1], "one": [1], "zero": [0]}
    made = graph(
        [node("Loop", ["turns", "yes", "start"], ["total_of_all"], body=body, name="again")],
        ("total_of_all",),
        initializers=[*(constant(*pair) for pair in numbers.items()),
                      constant("start", np.float32(0))],
    )  # fmt: skip
    return save_model(path, made, opset)


def value(name, kind=TensorProto.FLOAT, shape=None):
    """What a graph takes or gives."""
    return helper.make_tensor_value_info(name, kind, shape)
