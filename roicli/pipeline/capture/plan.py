"""What will be captured of a model: its RoI nodes as heads, and the tensors that were named."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign
from roicli.core.parse import did_you_mean
from roicli.core.record import frozen
from roicli.pipeline.capture.graph import (
    INT64,
    CutModel,
    ModelEditor,
    ModelInput,
    NotLedOutError,
    list_inputs,
    open_model,
)
from roicli.pipeline.capture.heads import Head, find_heads
from roicli.pipeline.capture.inner_maps import InnerMap, find_maps
from roicli.pipeline.capture.sites import RoiSite, find_sites
from roicli.pipeline.model_nodes import Step, is_standard, name_node, opset_versions, walk_nodes

logger = logging.getLogger("roicli")

ROI_LIKE = "roi"
NAMES_SHOWN = 8


@frozen
class SiteTensors:
    """Where the tensors of a node are among the outputs of the model that is run."""

    features: int
    rois: int
    batch: int | None
    output: int


@frozen
class NamedTensor:
    """A tensor that was asked for by name, and where it is among the outputs."""

    name: str
    place: int


@frozen
class ModelPlan:
    """A model, what it takes, and its RoI nodes; ``custom`` are those that nobody here knows.

    ``skipped`` is why single nodes cannot be captured, by their names. ``maps`` are what may be
    wanted of a model without RoI nodes.
    """

    path: str
    opset: int
    inputs: tuple[ModelInput, ...]
    outputs: tuple[str, ...]
    heads: tuple[Head, ...]
    custom: tuple[str, ...]
    skipped: dict[str, str]
    maps: tuple[InnerMap, ...] = ()

    @property
    def sites(self) -> list[RoiSite]:
        """The nodes of all heads."""
        return [site for head in self.heads for site in head.sites]


@frozen
class CapturePlan:
    """The model that is run, and where of its outputs everything is."""

    model: ModelPlan
    cut: CutModel
    places: dict[RoiSite, SiteTensors]
    named: tuple[NamedTensor, ...]


def list_model(path: str, model: Any = None) -> ModelPlan:
    """What there is to capture of a model. Raises InputError where it cannot be read."""
    model = open_model(path) if model is None else model
    custom = [
        f"{foreign(node.op_type)} {name_node(node)}"
        for node in (placed.node for placed in walk_nodes(model))
        if not is_standard(node) and ROI_LIKE in foreign(node.op_type).lower()
    ]  # fmt: skip
    heads = find_heads(find_sites(model, path))
    return ModelPlan(
        str(foreign(path)), opset_versions(model).get("", 1), tuple(list_inputs(model.graph)),
        tuple(one.name for one in model.graph.output), heads, tuple(custom), {},
        () if heads else find_maps(model),
    )  # fmt: skip


def plan_capture(path: str, names: Sequence[str], allow_external: bool) -> CapturePlan:
    """The model cut down to its RoI nodes and the tensors ``names``. Raises InputError."""
    model = open_model(path)
    plan = list_model(path, model)
    if not plan.heads and not names:
        raise _nothing_to_capture(plan)
    editor = ModelEditor(model, path, allow_external)
    tensors = [(name, _find_tensor(model, path, name)) for name in names]
    led: dict[RoiSite, list[str | None]] = {}
    skipped: dict[str, str] = {}
    for site in plan.sites:
        try:
            led[site] = _lead_out(editor, site)
        except NotLedOutError as error:
            skipped[str(site.name)] = str(error)
    named = [(name, _lead_named(editor, path, name, *found)) for name, found in tensors]
    if not led and not named:
        node, reason = next(iter(skipped.items()))
        raise InputError(f"{path}: node {node} cannot be captured: {reason}")
    for node, reason in skipped.items():
        logger.warning(f"{path}: node {node} is not captured: {reason}")
    cut = editor.cut()
    where = {name: place for place, name in enumerate(cut.outputs)}
    heads = find_heads(list(led)) if skipped else plan.heads
    places = {
        site: SiteTensors(*(None if name is None else where[name] for name in found))  # type: ignore[arg-type]
        for site, found in led.items()
    }
    return CapturePlan(
        replace(plan, heads=heads, skipped=skipped), cut, places,
        tuple(NamedTensor(name, where[output]) for name, output in named),
    )  # fmt: skip


def _lead_out(editor: ModelEditor, site: RoiSite) -> list[str | None]:
    batch = None
    if site.batch is not None:
        # CropAndResize has int32, which inference finds out.
        element = INT64 if site.operator == "align" else 0
        batch = editor.lead_out(site.batch, site.path, element)
    return [
        editor.lead_out(site.features, site.path),
        editor.lead_out(site.rois, site.path),
        batch,
        editor.lead_out(site.output, site.path),
    ]


def _lead_named(
    editor: ModelEditor, path: str, name: str, tensor: str, steps: tuple[Step, ...]
) -> str:
    try:
        return editor.lead_out(tensor, steps)
    except NotLedOutError as error:
        raise InputError(f"{path}: tensor {name} cannot be captured: {error}") from None


def _find_tensor(model: Any, path: str, name: str) -> tuple[str, tuple[Step, ...]]:
    """A tensor by its name, as stored or as shown, or by that of the node that makes it."""
    graph = model.graph
    main = [one.name for one in (*graph.input, *graph.initializer)]
    by_node: dict[str, tuple[str, tuple[Step, ...]]] = {}
    by_name: dict[str, tuple[str, tuple[Step, ...]]] = {own: (own, ()) for own in main}
    for placed in walk_nodes(model):
        for output in filter(None, placed.node.output):
            by_name.setdefault(output, (output, placed.path))
            by_name.setdefault(str(foreign(output)), (output, placed.path))
        if placed.node.name and placed.node.output:
            by_node.setdefault(placed.node.name, (placed.node.output[0], placed.path))
    found = by_name.get(name) or by_node.get(name)
    if found is None:
        outputs = ", ".join(str(foreign(one.name)) for one in graph.output[:NAMES_SHOWN])
        raise InputError(
            f"{path}: has no tensor {foreign(name)}, its outputs are: {outputs or 'none'}",
            did_you_mean(name, [*by_name, *by_node]) or None,
        )
    return found


def _nothing_to_capture(plan: ModelPlan) -> InputError:
    if plan.custom:
        shown = ", ".join(plan.custom[:NAMES_SHOWN])
        return InputError(
            f"{plan.path}: its RoI nodes are of custom operators, which ONNX Runtime has not: "
            f"{shown}",
            "name the tensors that they read with --outputs",
        )
    return InputError(
        f"{plan.path}: the model has no RoiAlign, MaxRoiPool or CropAndResize node",
        "name tensors with --outputs, like "
        f"{', '.join(str(foreign(name)) for name in plan.outputs[:2])}; --list shows more",
    )
