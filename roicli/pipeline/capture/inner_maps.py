"""The tensors inside a model that look like feature maps, for whoever has no RoI node to follow."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from roicli.core.foreign import foreign
from roicli.pipeline.capture.graph import infer_types

FLOATS = (1, 10, 11, 16)  # ONNX's float32, float16, float64, bfloat16


class InnerMap(NamedTuple):
    """A tensor (N, C, H, W) of floats; ``channels`` None where they are not fixed, ``made_by`` an
    operator of ONNX.
    """

    name: str
    channels: int | None
    made_by: str


def find_maps(model: Any) -> tuple[InnerMap, ...]:
    """The tensors of four axes, from the output up, that two nodes or more read.

    A detector's maps are such ones: the next level or another head reads them too. A tensor that
    one node reads is a step on the way.
    """
    nodes = model.graph.node
    readers = Counter(name for node in nodes for name in set(node.input))
    types = infer_types(model)
    found = []
    for node in reversed(nodes):
        for name in node.output:
            kind = types.get(name)
            if kind is None or readers[name] < 2 or kind.elem_type not in FLOATS:
                continue
            sides = list(kind.shape.dim)
            if len(sides) != 4 or any(side.dim_value == 1 for side in sides[2:]):
                continue  # what is 1 x 1 is a pooled vector
            found.append(InnerMap(foreign(name), sides[1].dim_value or None, foreign(node.op_type)))
    return tuple(found)
