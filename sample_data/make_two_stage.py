"""A two-stage detector in small, as exporters write it: ``python make_two_stage.py OUT.onnx``.

A backbone of two strides, a region proposal network (RPN) whose best boxes ``TopK`` takes, boxes
shared out between the levels by their size (``NonZero``, ``Gather``), a ``RoiAlign`` a level, the
results put together again (``ScatterND``), and a head that scores them. Weights are seeded: the
boxes mean nothing, and every step is there. Any photo of at least 64 px will do.
"""

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHANNELS, PROPOSALS, BINS = 16, 40, 7
STRIDES = {"p2": 4.0, "p3": 8.0}
# Boxes whose longer side is over this are on the coarser level.
BETWEEN_LEVELS_PX = 64.0


class Builder:
    """Collects nodes and weights."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(7)

    def add(self, op_type: str, inputs: list[str], output: str, **attributes: object) -> str:
        """A node; gives its output."""
        node = helper.make_node(
            op_type, inputs, [output], name=f"/{output}/{op_type}", **attributes
        )
        self.nodes.append(node)
        return output

    def constant(self, values: object, name: str) -> str:
        """A weight; gives its name."""
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def conv(
        self, source: str, output: str, shape: tuple[int, ...], stride: int = 1, gain: float = 1
    ) -> str:
        """A convolution that keeps the size but for its stride."""
        spread = gain * (2 / np.prod(shape[1:])) ** 0.5
        weight = self.random.normal(0, spread, shape).astype(np.float32)
        pads = [(shape[2] - 1) // 2] * 2 + [shape[2] // 2] * 2
        self.constant(weight, f"{output}.weight")
        return self.add(
            "Conv", [source, f"{output}.weight"], output, strides=[stride, stride], pads=pads
        )


def add_backbone(b: Builder) -> None:
    """Maps p2 and p3 of an image of zero mean."""
    b.constant(np.float32(127.5), "half")
    b.add("Div", [b.add("Sub", ["image", "half"], "centred"), "half"], "scaled")
    b.add("Relu", [b.conv("scaled", "stem", (CHANNELS, 3, 4, 4), 4)], "stem_relu")
    b.conv("stem_relu", "p2", (CHANNELS, CHANNELS, 3, 3))
    b.add("Relu", ["p2"], "p2_relu")
    b.conv("p2_relu", "p3", (CHANNELS, CHANNELS, 3, 3), 2)


def add_proposals(b: Builder) -> None:
    """Boxes (K, 4) of the best cells of p2, clipped to the image."""
    b.conv("p2_relu", "objectness", (1, CHANNELS, 1, 1))
    b.conv("p2_relu", "extents", (2, CHANNELS, 1, 1), gain=2)
    for name, value in {"all": [-1], "pairs": [2, -1], "zero": [0], "one": [1], "two": [2],
                        "three": [3], "four": [4], "k": [PROPOSALS]}.items():  # fmt: skip
        b.constant(np.array(value, np.int64), name)
    b.add("Reshape", ["objectness", "all"], "scores")
    b.nodes.append(helper.make_node("TopK", ["scores", "k"], ["best", "cells"], name="/rpn/TopK"))
    b.add("Shape", ["image"], "image_shape")
    b.add("Slice", ["image_shape", "two", "three"], "height")
    b.add("Slice", ["image_shape", "three", "four"], "width")
    b.add("Shape", ["p2"], "map_shape")
    b.add("Slice", ["map_shape", "three", "four"], "map_width")
    b.constant(np.float32(STRIDES["p2"]), "stride")
    b.constant(np.float32(0.5), "middle")
    for axis, op_type in (("x", "Mod"), ("y", "Div")):
        b.add(op_type, ["cells", "map_width"], f"cell_{axis}")
        b.add("Cast", [f"cell_{axis}"], f"real_{axis}", to=TensorProto.FLOAT)
        b.add("Add", [f"real_{axis}", "middle"], f"middle_{axis}")
        b.add("Mul", [f"middle_{axis}", "stride"], f"centre_{axis}")
    b.add("Reshape", ["extents", "pairs"], "extents_of_cells")
    b.add("Gather", ["extents_of_cells", "cells"], "extents_of_best", axis=1)
    b.constant(np.array([[6.0], [6.0]], np.float32), "least")
    b.constant(np.array([[38.0], [30.0]], np.float32), "range")
    b.add("Sigmoid", ["extents_of_best"], "shares")
    b.add("Add", [b.add("Mul", ["shares", "range"], "spread"), "least"], "half_sides")
    b.add("Split", ["half_sides"], "half_width", axis=0, num_outputs=2)
    b.nodes[-1].output.append("half_height")
    b.constant(np.float32(0), "origin")
    for axis, half, side in (("x", "half_width", "width"), ("y", "half_height", "height")):
        b.add("Cast", [side], f"real_{side}", to=TensorProto.FLOAT)
        b.add("Reshape", [half, "all"], f"{half}_1d")
        for op_type, end in (("Sub", "1"), ("Add", "2")):
            b.add(op_type, [f"centre_{axis}", f"{half}_1d"], f"raw_{axis}{end}")
            b.add("Max", [f"raw_{axis}{end}", "origin"], f"above_{axis}{end}")
            b.add("Min", [f"above_{axis}{end}", f"real_{side}"], f"{axis}{end}")
    for corner in ("x1", "y1", "x2", "y2"):
        b.add("Unsqueeze", [corner, "one"], f"{corner}_column")
    b.add("Concat", [f"{c}_column" for c in ("x1", "y1", "x2", "y2")], "boxes", axis=1)


def add_roi_heads(b: Builder) -> None:
    """RoI features (K, C, 7, 7) of boxes on two levels, and their class scores."""
    b.add("Sub", ["x2", "x1"], "box_width")
    b.add("Sub", ["y2", "y1"], "box_height")
    b.add("Max", ["box_width", "box_height"], "box_side")
    b.constant(np.float32(BETWEEN_LEVELS_PX), "between")
    b.add("Greater", ["box_side", "between"], "is_p3")
    b.add("Not", ["is_p3"], "is_p2")
    b.add("Shape", ["boxes"], "boxes_shape")
    b.add("Slice", ["boxes_shape", "zero", "one"], "count")
    b.constant(np.array([CHANNELS, BINS, BINS], np.int64), "feature_shape")
    b.add("Concat", ["count", "feature_shape"], "result_shape", axis=0)
    joined = b.add("ConstantOfShape", ["result_shape"], "empty")
    for level, stride in STRIDES.items():
        b.add("NonZero", [f"is_{level}"], f"rows_{level}_2d")
        b.add("Reshape", [f"rows_{level}_2d", "all"], f"rows_{level}")
        b.add("Gather", ["boxes", f"rows_{level}"], f"rois_{level}")
        b.add("Shape", [f"rows_{level}"], f"count_{level}")
        zeros = numpy_helper.from_array(np.zeros(1, np.int64))
        b.add("ConstantOfShape", [f"count_{level}"], f"images_{level}", value=zeros)
        b.add(
            "RoiAlign", [level, f"rois_{level}", f"images_{level}"], f"aligned_{level}",
            output_height=BINS, output_width=BINS, sampling_ratio=2, spatial_scale=1 / stride,
            mode="avg", coordinate_transformation_mode="half_pixel",
        )  # fmt: skip
        b.add("Unsqueeze", [f"rows_{level}", "one"], f"places_{level}")
        joined = b.add(
            "ScatterND", [joined, f"places_{level}", f"aligned_{level}"], f"joined_{level}"
        )
    b.add("GlobalAveragePool", [joined], "pooled")
    b.add("Flatten", ["pooled"], "vectors")
    weight = b.random.normal(0, 0.3, (CHANNELS, 3)).astype(np.float32)
    b.add("MatMul", ["vectors", b.constant(weight, "classes.weight")], "logits")
    b.add("Softmax", ["logits"], "class_scores", axis=1)


def make_model() -> onnx.ModelProto:
    """The whole detector."""
    b = Builder()
    add_backbone(b)
    add_proposals(b)
    add_roi_heads(b)
    graph = helper.make_graph(
        b.nodes, "two_stage",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "height", "width"])],
        [helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["K", 4]),
         helper.make_tensor_value_info("class_scores", TensorProto.FLOAT, ["K", 3])],
        b.weights,
    )  # fmt: skip
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8, producer_name="roicli"
    )


if __name__ == "__main__":
    model = make_model()
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, sys.argv[1])
