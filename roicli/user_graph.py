"""RoiAlign and MaxRoiPool nodes in the user's own ONNX models: found, read, turned into options."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from roicli.datatypes import Size
from roicli.exceptions import InputError
from roicli.storage.address import SEPARATOR, check_regular_file
from roicli.vocabulary import Operator

OPERATOR_OF_NODE: dict[str, Operator] = {"RoiAlign": "align", "MaxRoiPool": "pool"}
NOT_IMPLEMENTED_FROM = 22


@dataclass(frozen=True)
class RoiNode:
    """One node: what it computes, as this package's parameters. None does not apply."""

    name: str
    operator: Operator
    opset: int
    output_size: Size
    spatial_scale: float
    sampling_ratio: int | None = None
    aligned: bool | None = None
    mode: str = "avg"

    def options(self) -> dict[str, Any]:
        """The options that this node stands for."""
        found: dict[str, Any] = {
            "output_size": self.output_size,
            "spatial_scale": self.spatial_scale,
        }
        if self.operator == "align":
            return found | {
                "sampling_ratio": self.sampling_ratio,
                "aligned": self.aligned,
                "mode": "avg",
                "sampling_grid": "quarters",
            }
        return found | {"quantization": "caffe", "partition": "overlap"}


def read_roi_node(
    address: str | os.PathLike[str], operator: Operator, note: Callable[[str], None]
) -> RoiNode:
    """The node at ``MODEL.onnx[::NODE]``; NODE may be its name or its output's, and may be left out
    where the model has one. Weights in external files are not read. Raises InputError.
    """
    path, _, wanted = os.fspath(address).partition(SEPARATOR)
    nodes = list(find_roi_nodes(path))
    names = ", ".join(f"{node.name} ({node.operator})" for node, _ in nodes)
    if wanted:
        matches = [node for node, outputs in nodes if wanted == node.name or wanted in outputs]
    else:
        matches = [node for node, _ in nodes]
    if not nodes:
        raise InputError(f"{path}: the model has no RoiAlign or MaxRoiPool node")
    if not matches:
        raise InputError(f"{path}: has no node {wanted!r}, its RoI nodes are: {names}")
    if len(matches) > 1:
        raise InputError(
            f"{path}: {len(matches)} RoI nodes: {names}", f"name one: {path}::{matches[0].name}"
        )
    node = matches[0]
    _check_node(node, path, operator)
    if node.opset >= NOT_IMPLEMENTED_FROM:
        note(
            f"{path}: node {node.name} is of opset {node.opset}, which ONNX Runtime does not "
            "implement; run as opset 18, which computes the same"
        )
    return node


def _check_node(node: RoiNode, path: str, operator: Operator) -> None:
    if node.operator != operator:
        raise InputError(
            f"{path}: node {node.name} is RoI {node.operator.capitalize()}",
            f"run roicli {node.operator}",
        )
    if node.mode != "avg":
        raise InputError(
            f"{path}: node {node.name} has mode={node.mode!r}, which takes the maximum over "
            "weighted corners, not over samples (microsoft/onnxruntime#6146), and is not run",
            "for the maximum of the samples drop --graph and use --mode max",
        )


def find_roi_nodes(path: str) -> Iterator[tuple[RoiNode, tuple[str, ...]]]:
    """Every RoI node of a model, subgraphs and functions included, with its outputs' names."""
    check_regular_file(path)
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
        opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
    except Exception as error:
        raise InputError(f"{path}: cannot be read as an ONNX model") from error
    if not model.HasField("graph"):
        raise InputError(f"{path}: cannot be read as an ONNX model")
    containers: list[tuple[Any, int]] = [(model.graph.node, opset)]
    for function in model.functions:
        own = next((o.version for o in function.opset_import if o.domain in ("", "ai.onnx")), opset)
        containers.append((function.node, own))
    while containers:
        nodes, version = containers.pop()
        for node in nodes:
            if node.op_type in OPERATOR_OF_NODE and node.domain in ("", "ai.onnx"):
                yield _read_node(node, version, path), tuple(node.output)
            for attribute in node.attribute:
                graphs = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
                containers += [(graph.node, version) for graph in graphs]


def _read_node(node: Any, opset: int, path: str) -> RoiNode:
    """Attributes with the defaults of the node's own opset (ONNX operator specifications)."""
    import onnx

    values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    name = node.name or node.output[0]
    scale = float(values.get("spatial_scale", 1.0))
    if node.op_type == "MaxRoiPool":
        shape = values.get("pooled_shape")
        if shape is None or len(shape) != 2:
            raise InputError(f"{path}: node {name} has pooled_shape {shape}, expected two numbers")
        return RoiNode(name, "pool", opset, (int(shape[0]), int(shape[1])), scale)
    default = b"half_pixel" if opset >= 16 else b"output_half_pixel"
    transformation = values.get("coordinate_transformation_mode", default)
    return RoiNode(
        name,
        "align",
        opset,
        (int(values.get("output_height", 1)), int(values.get("output_width", 1))),
        scale,
        int(values.get("sampling_ratio", 0)),
        transformation == b"half_pixel",
        values.get("mode", b"avg").decode(),
    )
