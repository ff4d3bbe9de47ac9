"""The RoI nodes of an ONNX model: what they compute, what can run them, what they trap with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from roicli.analysis.foreign_operators import find_operator
from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign
from roicli.core.record import frozen
from roicli.core.shown import Shown
from roicli.pipeline.model_nodes import (
    HALF_PIXEL_FROM,
    NOT_IMPLEMENTED_FROM,
    OPERATOR_OF_NODE,
    PlacedNode,
    RoiNode,
    is_standard,
    load_graph,
    name_node,
    opset_versions,
    plain_attributes,
    read_node,
    walk_nodes,
)

Kind = Literal["align", "pool", "function", "custom"]
Weight = Literal["trap", "note"]
# What makes a foreign operator worth a line, in any domain and any case.
ROI_LIKE = "roi"
TRANSFORMATION = "coordinate_transformation_mode"


@frozen
class ProviderSupport:
    """Whether an execution provider of ONNX Runtime runs a node; ``runs`` None is not known."""

    name: str
    runs: bool | None
    detail: str


@frozen
class Remark:
    """A trap, which gives wrong results or none, or a note, which is good to know."""

    id: str
    weight: Weight
    message: str


@frozen
class NodeReport:
    """One RoI node. ``kind``: RoI Align, RoI Pool, a call of the model's own function, or custom.

    ``opset`` is the version of the node's domain, None where the model does not say; ``inside`` is
    where it stands, from the outside in; ``attributes`` are as stored, ``parameters`` what they and
    the opset's defaults amount to, in this package's words (None unless align or pool).
    """

    name: str
    op_type: str
    domain: str
    opset: int | None
    kind: Kind
    inside: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    parameters: Mapping[str, Any] | None
    providers: tuple[ProviderSupport, ...]
    remarks: tuple[Remark, ...]


@frozen
class ModelReport(Shown):
    """A model: who wrote it, its opsets by domain ("" is ONNX's own), its RoI nodes."""

    path: str
    producer: str
    ir_version: int
    opsets: Mapping[str, int]
    nodes: tuple[NodeReport, ...]
    file_format: str = "onnx"

    @property
    def traps(self) -> int:
        """How many traps there are in all nodes."""
        return sum(remark.weight == "trap" for node in self.nodes for remark in node.remarks)


@frozen
class _Standard:
    """A standard node: its parameters, and which attributes are written down."""

    node: RoiNode
    said: frozenset[str]


@frozen
class _RemarkRule:
    id: str
    weight: Weight
    applies: Callable[[_Standard], bool]
    message: str


# docs/semantics.md, sections 2 and 4.
REMARK_RULES: tuple[_RemarkRule, ...] = (
    _RemarkRule(
        "mode-max", "trap", lambda s: s.node.mode == "max",
        "mode=max takes the maximum over weighted corners, not over samples, and comes out far too "
        "small on positive maps (microsoft/onnxruntime#6146): export roicli's graph of --mode max",
    ),
    _RemarkRule(
        "legacy-by-opset", "trap",
        lambda s: s.node.aligned is False and s.node.opset < HALF_PIXEL_FROM,
        "before opset 16 RoiAlign has no half-pixel step: everything is read half a cell to the "
        "lower right of aligned=True; convert to opset 16 and set the mode that was trained with",
    ),
    _RemarkRule(
        "opset-not-implemented", "trap", lambda s: s.node.opset >= NOT_IMPLEMENTED_FROM,
        "ONNX Runtime 1.31.1 has no CPU kernel from opset 22 on: convert to opset 21 or less, "
        "which computes the same",
    ),
    _RemarkRule(
        "negative-sampling-ratio", "trap", lambda s: (s.node.sampling_ratio or 0) < 0,
        "a negative sampling_ratio is illegal in ONNX: adaptive is 0 (torchvision takes -1)",
    ),
    _RemarkRule(
        "adaptive-sampling", "note", lambda s: s.node.sampling_ratio == 0,
        "sampling_ratio 0 is adaptive: points a bin, and so time and memory, grow with the RoI",
    ),
    _RemarkRule(
        "sampling-ratio-left-out", "note",
        lambda s: s.node.operator == "align" and "sampling_ratio" not in s.said,
        "sampling_ratio is left out, which is 0, adaptive, in ONNX; OpenVINO's front end takes 1 "
        "(openvinotoolkit/openvino#37826): write it down",
    ),
    _RemarkRule(
        "onnx-reference", "note",
        lambda s: s.node.operator == "align" and s.node.opset < HALF_PIXEL_FROM,
        "onnx's own reference evaluator (1.23.2) computes this opset as half-pixel, against its "
        "text: it is no reference for this node",
    ),
    _RemarkRule(
        "legacy", "note",
        lambda s: s.node.aligned is False and s.node.opset >= HALF_PIXEL_FROM
        and TRANSFORMATION in s.said,
        "legacy coordinates, asked for: torchvision's aligned=False",
    ),
)  # fmt: skip


def inspect_model(path: str) -> ModelReport:
    """Every RoI node of an ONNX model, in order; external weights are not read, nor needed.

    Subgraphs and functions are searched too. Raises InputError.
    """
    model = load_graph(path)
    functions = {(function.domain, function.name) for function in model.functions}
    nodes = [
        _report(placed, functions, path)
        for placed in walk_nodes(model)
        if is_standard(placed.node)
        or ROI_LIKE in foreign(placed.node.op_type).lower()
        or find_operator(placed.node.op_type, placed.node.domain) is not None
    ]
    producer = " ".join(map(foreign, (model.producer_name, model.producer_version))).strip()
    return ModelReport(
        foreign(path), producer, int(model.ir_version), opset_versions(model), tuple(nodes)
    )


def _report(placed: PlacedNode, functions: set[tuple[str, str]], path: str) -> NodeReport:
    node = placed.node
    attributes = plain_attributes(node)
    kind: Kind
    parameters: dict[str, Any] | None = None
    if is_standard(node):
        kind, parameters, providers, remarks = _judge_standard(placed, attributes, path)
    elif (node.domain, node.op_type) in functions:
        kind, providers = "function", ()
        remarks = (Remark("function", "note", "a function of this model: its nodes are listed"),)
    elif (known := find_operator(node.op_type, node.domain)) is not None:
        kind = "custom"
        providers = _OWN_SUPPORT if known.runs_on_cpu else _CUSTOM_SUPPORT
        remarks = (Remark("known-operator", "note", known.describe(attributes)),)
        if not known.runs_on_cpu:
            remarks = (*remarks, _CUSTOM_REMARK)
    else:
        kind, providers, remarks = "custom", _CUSTOM_SUPPORT, (_CUSTOM_REMARK,)
    return NodeReport(
        name_node(node), foreign(node.op_type), foreign(node.domain), placed.domain_version, kind,
        placed.inside, tuple(map(foreign, node.input)), tuple(map(foreign, node.output)),
        attributes, parameters, providers, remarks,
    )  # fmt: skip


_CUSTOM_SUPPORT = (
    ProviderSupport("cpu", False, "not an operator of ONNX Runtime"),
    ProviderSupport("cuda", False, "not an operator of ONNX Runtime"),
)
_OWN_SUPPORT = (
    ProviderSupport("cpu", True, "float32"),
    ProviderSupport("cuda", None, "not measured"),
)
_CUSTOM_REMARK = Remark(
    "custom-operator", "note",
    "a custom operator: it runs only with the library that brings it (a TensorRT plugin, custom "
    "ops), which decides what its attributes mean",
)  # fmt: skip


def _judge_standard(
    placed: PlacedNode, attributes: Mapping[str, Any], path: str
) -> tuple[Kind, dict[str, Any] | None, tuple[ProviderSupport, ...], tuple[Remark, ...]]:
    """Parameters, providers and remarks of a standard node; one that is malformed is a trap."""
    kind: Kind = OPERATOR_OF_NODE[placed.node.op_type]
    providers = list_providers(kind, placed.opset)
    try:
        node = read_node(placed.node, placed.opset, path)
    except InputError as error:
        weight: Weight = "note" if any_reference(attributes) else "trap"
        message = error.message.removeprefix(f"{path}: ")
        return kind, None, providers, (Remark("unreadable", weight, message),)
    parameters = node.options()
    parameters["output_size"] = list(node.output_size)
    if kind == "align":
        parameters["mode"] = node.mode
    standard = _Standard(node, frozenset(attributes))
    remarks = tuple(
        Remark(rule.id, rule.weight, rule.message)
        for rule in REMARK_RULES
        if rule.applies(standard)
    )
    return kind, parameters, providers, remarks


def any_reference(attributes: Mapping[str, Any]) -> bool:
    """Whether an attribute is set by the caller of the function that the node is in."""
    return any(isinstance(value, str) and value.startswith("@") for value in attributes.values())


def list_providers(kind: Kind, opset: int) -> tuple[ProviderSupport, ...]:
    """Which execution providers of ONNX Runtime 1.31.1 run a standard node (docs/semantics.md)."""
    past = opset >= NOT_IMPLEMENTED_FROM
    types = "float32, float64" if kind == "align" else "float32"
    cpu = ProviderSupport("cpu", not past, f"no kernel at opset {opset}" if past else types)
    if kind == "pool":
        return cpu, ProviderSupport("cuda", False, "no kernel; falls back to the CPU")
    if past:
        return cpu, ProviderSupport("cuda", None, f"not measured at opset {opset}")
    return cpu, ProviderSupport("cuda", True, "float32, float64, float16, bfloat16")
