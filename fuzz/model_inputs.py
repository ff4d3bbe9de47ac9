"""ONNX models whose RoI nodes are almost right."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import onnx
from onnx import AttributeProto, TensorProto, helper

from fuzz.mutation import mutate

WHOLE = (0, 1, 2, 7, 14, -1, 1024, 1025, 10**9, 2**31, 2**62, -(2**63), 2**63 - 1)
REAL = (1.0, 0.25, 1 / 16, 0.0, -1.0, 1e-40, 3e38, float("nan"), float("inf"))
TEXTS = (
    b"avg", b"max", b"half_pixel", b"output_half_pixel", b"", b"\xff\xfe", b"AVG", b"a\nb",
    b"x" * 999,
)  # fmt: skip
NAMES = (
    "output_height", "output_width", "sampling_ratio", "spatial_scale", "mode", "pooled_shape",
    "coordinate_transformation_mode", "else_branch", "",
)  # fmt: skip
RIGHT: dict[str, tuple[Any, ...]] = {
    "output_height": (7, 2), "output_width": (7, 3), "sampling_ratio": (2, 0),
    "spatial_scale": (0.25, 1.0), "mode": (b"avg",), "pooled_shape": ((7, 7), (2, 3)),
    "coordinate_transformation_mode": (b"half_pixel", b"output_half_pixel"),
}  # fmt: skip
DOMAINS = ("", "", "", "ai.onnx", "custom", "org.pytorch.aten", "\x00", "ai.onnx.ml")
OPERATORS = ("RoiAlign", "RoiAlign", "MaxRoiPool", "BatchedRoiAlign", "Conv", "ROIAlignX", "")


def _value(rng: random.Random) -> Any:
    kinds: tuple[Callable[[], Any], ...] = (
        lambda: rng.choice(WHOLE),
        lambda: rng.choice(REAL),
        lambda: rng.choice(TEXTS),
        lambda: [rng.choice(WHOLE) for _ in range(rng.choice((1, 2, 3, 99)))],
        lambda: [rng.choice(REAL) for _ in range(2)],
        lambda: helper.make_tensor("t", TensorProto.FLOAT, [1], [1.0]),
        lambda: helper.make_graph([], "empty", [], []),
    )
    return rng.choice(kinds)()


def _attribute(name: str, rng: random.Random) -> AttributeProto:
    found = helper.make_attribute(name, _value(rng))
    odd = rng.random()
    if odd < 0.1:
        found.type = rng.choice((0, 1, 2, 3, 4, 5, 7, 11, 13))
    elif odd < 0.15:
        found.ref_attr_name = "outer"
    return found


def _node(rng: random.Random, odd: float) -> onnx.NodeProto:
    operator = rng.choice(OPERATORS) if rng.random() < odd else rng.choice(OPERATORS[:3])
    node = helper.make_node(
        operator, ["features", "rois", "batch"][: rng.choice((3, 3, 2, 0))],
        ["out"] * rng.choice((1, 1, 0)), name=rng.choice(("roi", "", "a::b", "\n")),
        domain=rng.choice(DOMAINS) if rng.random() < odd else "",
    )  # fmt: skip
    for name in rng.sample(NAMES, rng.randrange(len(NAMES))):
        if rng.random() < odd or name not in RIGHT:
            node.attribute.append(_attribute(name, rng))
        else:
            node.attribute.append(helper.make_attribute(name, rng.choice(RIGHT[name])))
    return node


def build_model(rng: random.Random, odd: float) -> bytes:
    """A model of a few nodes; ``odd`` is how much of it is not as it should be."""
    nodes = [_node(rng, odd) for _ in range(rng.choice((1, 1, 1, 2, 0)))]
    graph = helper.make_graph(nodes, "g", [], [])
    for depth in range(rng.choice((0, 0, 1, 3, 29))):
        outer = helper.make_node("If", ["c"], ["o"], name=f"if{depth}", then_branch=graph)
        graph = helper.make_graph([outer], "g", [], [])
    if rng.random() < 0.2:
        graph.initializer.append(_external_weight(rng))
    opsets = [(rng.choice(DOMAINS), rng.choice(WHOLE)) for _ in range(rng.randrange(3))]
    if rng.random() > odd:
        opsets = [("", rng.choice((10, 13, 16, 17, 21, 22, 25)))]
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(*each) for each in opsets])
    if rng.random() < odd / 2:
        model.functions.append(
            helper.make_function("f", "Roi", [], [], [_node(rng, odd)], model.opset_import)
        )
    data = bytes(model.SerializeToString())
    return nest_deeply(graph, rng.choice((34, 100, 3000))) if rng.random() < odd / 10 else data


def nest_deeply(graph: onnx.GraphProto, depth: int) -> bytes:
    """A model with the graph in ``depth`` If nodes, deeper than the library itself would write."""
    data = bytes(graph.SerializeToString())
    for _ in range(depth):
        branch = _field(1, b"then_branch") + _field(6, data)
        data = _field(1, _field(4, b"If") + _field(5, branch))
    return _field(7, data)


def _field(number: int, data: bytes) -> bytes:
    """One field of bytes in protobuf's wire format."""
    length, size = len(data), b""
    while length > 127:
        size, length = size + bytes([length & 127 | 128]), length >> 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + data


def _external_weight(rng: random.Random) -> TensorProto:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[rng.choice((1, 2**40))])
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = (
        "location",
        rng.choice(("/etc/passwd", "../../x", "w.bin", "/dev/zero")),
    )
    return weight


def model_seeds() -> dict[str, bytes]:
    """Models that are right."""
    return {f"model{index}": build_model(random.Random(index), 0.0) for index in range(12)}


def generate_model(seeds: list[bytes], rng: random.Random) -> bytes:
    """A model with odd attributes, or the bytes of one mutated."""
    data = (
        build_model(rng, rng.choice((0.1, 0.3, 1.0))) if rng.random() < 0.6 else rng.choice(seeds)
    )
    return mutate(data, seeds, rng) if rng.random() < 0.5 else data
