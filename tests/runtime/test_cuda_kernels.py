"""Every node of every graph that CUDA runs has a CUDA kernel in ONNX Runtime.

``KERNELS`` is what ONNX Runtime registers for CUDAExecutionProvider: docs/OperatorKernels.md of
microsoft/onnxruntime at 001d12d2, and for RoiAlign pull request 27646 ("RoiAlign for opset versions
16 and 22"), which is in 1.31.1: its CUDA library holds the kernels for the four types with the
half-pixel argument. Before it RoiAlign of opset 16 ran on the CPU, silently (issue 21990).
A kernel serves a node where its range holds the version since which the operator is what it is; an
open range only where it starts there (``KernelDef`` and ``VerifyVersion``).
"""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, shape_inference

from roicli.core.operator_table import OPERATORS
from roicli.operators import graphs, roi_align, roi_pool
from roicli.operators.libraries import ROWS
from roicli.operators.preset_rule import build_preset_spec
from roicli.operators.presets import rule_of_preset
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.operators.table import operator_type
from roicli.operators.taps import TapSpec

FLOAT, DOUBLE, HALF = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16
WHOLE = {TensorProto.INT32, TensorProto.INT64}
REAL = {FLOAT, DOUBLE, HALF}
TRUTH = {TensorProto.BOOL}

# operator: (first version, last or None, types of the first input, types of the second)
KERNELS = {
    "Abs": (13, None, REAL, None),
    "Add": (14, None, REAL | WHOLE, REAL | WHOLE),
    "And": (7, None, TRUTH, TRUTH),
    "Cast": (13, 18, REAL | WHOLE | TRUTH, None),
    "CastLike": (15, None, REAL | WHOLE | TRUTH, None),  # a function of Cast, which takes its place
    "Ceil": (13, None, REAL, None),
    "Concat": (13, None, REAL | WHOLE, REAL | WHOLE),
    "Cos": (7, None, REAL, None),
    "Div": (14, None, REAL | WHOLE, REAL | WHOLE),
    "Expand": (13, None, REAL | WHOLE | TRUTH, {TensorProto.INT64}),
    "Flatten": (13, None, REAL | WHOLE, None),
    "Floor": (13, None, REAL, None),
    "Gather": (13, None, REAL | WHOLE, WHOLE),
    "Greater": (13, None, REAL | WHOLE, REAL | WHOLE),
    "GreaterOrEqual": (16, None, REAL | WHOLE, REAL | WHOLE),
    "Identity": (14, 18, REAL | WHOLE, None),
    "IsNaN": (13, 19, REAL, None),
    "Less": (13, None, REAL | WHOLE, REAL | WHOLE),
    "LessOrEqual": (16, None, REAL | WHOLE, REAL | WHOLE),
    "MatMul": (13, None, REAL, REAL),
    "Max": (13, None, REAL | WHOLE, REAL | WHOLE),
    "MaxPool": (12, None, REAL, None),
    "Min": (13, None, REAL | WHOLE, REAL | WHOLE),
    "Mul": (14, None, REAL | WHOLE, REAL | WHOLE),
    "Not": (1, None, TRUTH, None),
    "Or": (7, None, TRUTH, TRUTH),
    "Range": (11, None, REAL | WHOLE, REAL | WHOLE),
    "ReduceMax": (18, None, REAL | WHOLE, {TensorProto.INT64}),
    "ReduceSum": (13, None, REAL | WHOLE, {TensorProto.INT64}),
    "Reshape": (14, 18, REAL | WHOLE | TRUTH, {TensorProto.INT64}),
    "RoiAlign": (16, 21, REAL, REAL),
    "Round": (11, None, REAL, None),
    "Shape": (15, 18, REAL | WHOLE, None),
    "Sign": (13, None, REAL | WHOLE, None),
    "Sin": (7, None, REAL, None),
    "Slice": (13, None, REAL | WHOLE, WHOLE),
    "Split": (18, None, REAL | WHOLE, {TensorProto.INT64}),
    "Squeeze": (13, 20, REAL | WHOLE | TRUTH, {TensorProto.INT64}),
    "Sub": (14, None, REAL | WHOLE, REAL | WHOLE),
    "Transpose": (13, 20, REAL | WHOLE, None),
    "Unsqueeze": (13, 20, REAL | WHOLE | TRUTH, {TensorProto.INT64}),
    "Where": (16, None, TRUTH, REAL | WHOLE),
}


def tap_operators():
    """(name, spec) of all that runs by reading cells with weights: operators and presets."""
    for name in OPERATORS:
        kind = operator_type(name)
        if issubclass(kind, TapSpec):
            yield name, kind(output_size=(2, 2))
    for row in ROWS:
        found = rule_of_preset(row.name, row.operator, {}) if row.runs else None
        if found is not None:
            yield row.name, build_preset_spec(*found, (2, 2))


DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]
RUN_GRAPHS = {
    f"{name}-{dtype}": graph
    for dtype in DTYPES
    for name, graph in {
        "cell table": graphs.build_cell_table_graph(dtype),
        "window pool": roi_pool.build_window_pool_graph(dtype, 4),
        "placing": graphs.build_placing_graph(dtype, dtype),
        "placing float16": graphs.build_placing_graph(np.dtype(np.float16), dtype),
        "align": roi_align.build_align_graph(AlignSpec(), dtype),
        "align max": roi_align.build_align_graph(AlignSpec(mode="max"), dtype, (2, 3)),
        "thirds": roi_align.build_align_graph(AlignSpec(sampling_grid="thirds"), dtype, (3, 2)),
        "thirds max": roi_align.build_align_graph(
            AlignSpec(mode="max", sampling_grid="thirds"), dtype, (2, 2)
        ),
    }.items()
} | {
    f"{name} {what}": graph
    for name, spec in tap_operators()
    for what, graph in {"rows": spec.rows_graph(DTYPES[0]), "taps": spec.graph(DTYPES[0])}.items()
}


def kernel_problem(node, types, opset=18):
    """Why CUDA has no kernel for a node; empty where it has one."""
    if node.op_type not in KERNELS:
        return f"{node.op_type}: none"
    first, last, *wanted = KERNELS[node.op_type]
    since = onnx.defs.get_schema(node.op_type, opset).since_version
    if not (since == first if last is None else first <= since <= last):
        return f"{node.op_type}: since {since}, kernel {first} to {last}"
    for name, allowed in zip(node.input, wanted, strict=False):
        if allowed is not None and types[name] not in allowed:
            return f"{node.op_type}: {name} is {TensorProto.DataType.Name(types[name])}"
    return ""


def types_of(model):
    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


@pytest.mark.parametrize("name", RUN_GRAPHS)
def test_every_node_has_a_cuda_kernel(name):
    model = onnx.load_from_string(RUN_GRAPHS[name].model)
    types = types_of(model)
    problems = [
        kernel_problem(node, types, model.opset_import[0].version) for node in model.graph.node
    ]
    assert model.graph.node
    assert not any(problems), problems


@pytest.mark.parametrize(
    ("op_type", "kind", "problem"),
    [("MaxRoiPool", FLOAT, "none"), ("MaxPool", TensorProto.INT32, "is INT32"), ("Min", FLOAT, "")],
)
def test_the_check_finds_what_has_none(op_type, kind, problem):
    node = helper.make_node(op_type, ["x", "x"], ["y"])
    assert kernel_problem(node, {"x": kind}).endswith(problem)
    assert bool(kernel_problem(node, {"x": kind})) == bool(problem)


def test_max_roi_pool_is_what_cuda_lacks():
    model = onnx.load_from_string(roi_pool.build_max_roi_pool_graph(PoolSpec()).model)
    assert kernel_problem(model.graph.node[0], types_of(model)) == "MaxRoiPool: none"


def test_an_open_range_serves_only_the_version_that_it_starts_at():
    node = helper.make_node("ReduceMax", ["x", "axes"], ["y"])
    types = {"x": FLOAT, "axes": TensorProto.INT64}
    assert kernel_problem(node, types, opset=18) == ""
    assert kernel_problem(node, types, opset=20) == "ReduceMax: since 20, kernel 18 to None"
