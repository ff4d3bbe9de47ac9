"""RoiAlign and MaxRoiPool nodes in the user's own ONNX models: found, read, turned into options."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

from roicli.core.exceptions import InputError
from roicli.core.foreign import ForeignText, foreign
from roicli.core.operator_table import Operator
from roicli.core.record import frozen
from roicli.core.types import Size
from roicli.storage.address import SEPARATOR, check_regular_file
from roicli.storage.limits import check_memory

Number = TypeVar("Number", int, float)

OPERATOR_OF_NODE: dict[str, Literal["align", "pool"]] = {"RoiAlign": "align", "MaxRoiPool": "pool"}
logger = logging.getLogger("roicli")

NOT_IMPLEMENTED_FROM = 22
HALF_PIXEL_FROM = 16
ONNX_DOMAIN = "ai.onnx"
# The first opset with the operator, and how RoiAlign may place its coordinates.
FIRST_OPSET = {"RoiAlign": 10, "MaxRoiPool": 1}
TRANSFORMATIONS = (b"half_pixel", b"output_half_pixel")
# Protobuf's own limit.
LARGEST_MODEL = (1 << 31) - 1
# A longer list among a node's attributes is shown by its beginning.
ATTRIBUTE_ITEMS = 64


@frozen
class RoiNode:
    """One node: what it computes, as this package's parameters. None does not apply."""

    name: ForeignText
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


def read_roi_node(address: str | os.PathLike[str], operator: Operator) -> RoiNode:
    """The node at ``MODEL.onnx[::NODE]``; NODE may be its name or its output's, and may be left out
    where the model has one. Weights in external files are not read. Raises InputError.
    """
    path, _, wanted = os.fspath(address).partition(SEPARATOR)
    nodes = list(find_roi_nodes(path))
    names = ", ".join(f"{node.name} ({node.operator})" for node, _ in nodes)
    if wanted:
        matches = [node for node, called in nodes if wanted in called]
    else:
        matches = [node for node, _ in nodes]
    if not matches:
        other = _type_of(path, wanted) if wanted else None
        kind = f"node {wanted} is a {other}, no RoI node" if other else f"has no node {wanted!r}"
        if not nodes:
            kind = f"{kind}; the model" if wanted else "the model"
            raise InputError(f"{path}: {kind} has no RoiAlign or MaxRoiPool node")
        raise InputError(f"{path}: {kind}, its RoI nodes are: {names}")
    if len(matches) > 1:
        raise InputError(
            f"{path}: {len(matches)} RoI nodes: {names}", f"name one: {path}::{matches[0].name}"
        )
    node = matches[0]
    _check_node(node, path, operator)
    _check_known_opset(node, path)
    if node.opset >= NOT_IMPLEMENTED_FROM:
        logger.info(
            f"{path}: node {node.name} is of opset {node.opset}, which ONNX Runtime does not "
            "implement; run as opset 18, which computes the same"
        )
    return node


def _type_of(path: str, wanted: str) -> str | None:
    """What a node that is no RoI node computes; None where there is none of this name."""
    for found in walk_nodes(load_graph(path)):
        names = [foreign(name) for name in (found.node.name, *found.node.output) if name]
        if wanted in (*names, *(name.raw for name in names)):
            return str(foreign(found.node.op_type))
    return None


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


def _check_known_opset(node: RoiNode, path: str) -> None:
    """What an operator of a later opset computes is not known here."""
    import onnx

    newest = onnx.defs.onnx_opset_version()
    if node.opset > newest:
        raise InputError(
            f"{path}: node {node.name} is of opset {node.opset}, onnx {onnx.__version__} knows up "
            f"to {newest}"
        )


def find_roi_nodes(path: str) -> Iterator[tuple[RoiNode, tuple[str, ...]]]:
    """Every RoI node of a model, subgraphs and functions included, with what it may be called:
    its name and its outputs', as stored and as shown.
    """
    for found in walk_nodes(load_graph(path)):
        if is_standard(found.node):
            node = read_node(found.node, found.opset, path)
            names = (node.name, *map(foreign, found.node.output))
            yield node, (*names, *(name.raw for name in names))


class Step(NamedTuple):
    """A way into a subgraph: the node that has it, as which attribute, and the subgraph."""

    node: Any
    attribute: str
    graph: Any


@frozen
class PlacedNode:
    """A node of a model's graph, subgraph or function, with the opset of its own domain there.

    ``inside`` says where, from the outside in; the main graph is empty. ``opset`` is that of the
    ONNX domain, ``domain_version`` that of the node's domain, None where it is not declared.
    ``path`` leads to the graph that it stands in.
    """

    node: Any
    opset: int
    domain_version: int | None
    inside: tuple[str, ...]
    path: tuple[Step, ...] = ()


def load_graph(path: str) -> Any:
    """The ONNX model without its external weights, which need not be there. Raises InputError.

    Its names are foreign text, and bytes where they are no UTF-8.
    """
    check_regular_file(path)
    import onnx

    size = os.stat(path).st_size
    if size > LARGEST_MODEL:
        raise InputError(f"{path}: {size:,} bytes, an ONNX model has at most {LARGEST_MODEL:,}")
    check_memory(path, "the model", 3 * size)
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except Exception as error:
        raise InputError(f"{path}: cannot be read as an ONNX model") from error
    if not model.HasField("graph"):
        raise InputError(f"{path}: cannot be read as an ONNX model")
    return model


def walk_nodes(model: Any) -> Iterator[PlacedNode]:
    """Every node, in order, each followed by what its subgraphs hold; then the functions'."""
    versions = opset_versions(model)
    yield from _walk(model.graph.node, versions, ())
    for function in model.functions:
        own = versions | opset_versions(function)
        place = f"function {foreign(function.domain)}::{foreign(function.name)}"
        yield from _walk(function.node, own, (place,))


def opset_versions(model: Any) -> dict[str, int]:
    """Opset by domain of a model or function; of the ONNX domain's two spellings the empty one."""
    return {
        foreign("" if entry.domain == ONNX_DOMAIN else entry.domain): int(entry.version)
        for entry in model.opset_import
    }


def _walk(
    nodes: Any,
    versions: Mapping[str, int],
    inside: tuple[str, ...],
    path: tuple[Step, ...] = (),
) -> Iterator[PlacedNode]:
    for node in nodes:
        domain = foreign("" if node.domain == ONNX_DOMAIN else node.domain)
        yield PlacedNode(node, versions.get("", 1), versions.get(domain), inside, path)
        for attribute in node.attribute:
            graphs = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
            names = map(foreign, (node.op_type, node.name, attribute.name))
            place = " ".join(name for name in names if name)
            for graph in graphs:
                step = Step(node, attribute.name, graph)
                yield from _walk(graph.node, versions, (*inside, place), (*path, step))


def is_standard(node: Any) -> bool:
    """Whether the node is one of ONNX's own two RoI operators."""
    return node.op_type in OPERATOR_OF_NODE and node.domain in ("", ONNX_DOMAIN)


def name_node(node: Any) -> ForeignText:
    """A node's name, else that of its output, else its operator's."""
    return foreign(node.name or (node.output[0] if node.output else node.op_type))


def read_node(node: Any, opset: int, path: str) -> RoiNode:
    """A standard RoI node as this package's parameters. Raises InputError for what is malformed."""
    name = name_node(node)
    referring = [foreign(a.name) for a in node.attribute if a.ref_attr_name]
    if any(isinstance(a.name, bytes) for a in node.attribute):
        raise InputError(f"{path}: node {name} has an attribute whose name is not UTF-8")
    if referring:
        raise InputError(f"{path}: node {name}: the function's caller sets {', '.join(referring)}")
    try:
        return _read_attributes(node, name, opset, path)
    except (AttributeError, OverflowError, TypeError, ValueError) as error:
        raise InputError(f"{path}: node {name} has an attribute of the wrong type") from error


def _read_attributes(node: Any, name: ForeignText, opset: int, path: str) -> RoiNode:
    """Attributes with the defaults of the node's own opset (ONNX operator specifications)."""
    import onnx

    if opset < FIRST_OPSET[node.op_type]:
        raise InputError(
            f"{path}: node {name} is of opset {opset}, {node.op_type} is there from opset "
            f"{FIRST_OPSET[node.op_type]} on"
        )
    values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    scale = _of_type(float, values.get("spatial_scale", 1.0))
    if node.op_type == "MaxRoiPool":
        shape = values.get("pooled_shape")
        if not isinstance(shape, list) or len(shape) != 2:
            raise InputError(f"{path}: node {name} has pooled_shape {shape}, expected two numbers")
        height, width = (_of_type(int, side) for side in shape)
        return RoiNode(name, "pool", opset, (height, width), scale)
    default = b"half_pixel" if opset >= HALF_PIXEL_FROM else b"output_half_pixel"
    transformation = values.get("coordinate_transformation_mode", default)
    if transformation not in TRANSFORMATIONS:
        raise InputError(
            f"{path}: node {name} has coordinate_transformation_mode {transformation!r}, expected "
            "half_pixel or output_half_pixel"
        )
    return RoiNode(
        name,
        "align",
        opset,
        (
            _of_type(int, values.get("output_height", 1)),
            _of_type(int, values.get("output_width", 1)),
        ),
        scale,
        _of_type(int, values.get("sampling_ratio", 0)),
        transformation == b"half_pixel",
        values.get("mode", b"avg").decode(),
    )


def _of_type(kind: type[Number], value: Any) -> Number:
    """``value``, which must be of just this type: 7.9 is not 7. Raises TypeError."""
    if type(value) is not kind:
        raise TypeError(type(value).__name__)
    return value


def plain_attributes(node: Any) -> dict[str, Any]:
    """Attributes as numbers, texts and lists; ``@NAME`` is one that a function's caller sets."""
    import onnx

    found: dict[str, Any] = {}
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            found[foreign(attribute.name)] = f"@{foreign(attribute.ref_attr_name)}"
            continue
        try:
            value = onnx.helper.get_attribute_value(attribute)
        except ValueError:
            value = b"of no known type"
        many = not isinstance(value, bytes | float | int) and hasattr(value, "__len__")
        items = [_plain(item) for item in (value[:ATTRIBUTE_ITEMS] if many else [value])]
        if many and len(value) > ATTRIBUTE_ITEMS:
            items.append("...")
        found[foreign(attribute.name)] = items if many else items[0]
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | str):
        return foreign(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, int | float) else type(value).__name__
