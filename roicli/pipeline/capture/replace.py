"""RoI nodes of a user's model, replaced by the exact graph of another rule.

A node keeps its inputs, the name of its output, its size and its scale; what computes between them
is the graph that ``export`` writes. Both models are then run on the same inputs, and every node
that was replaced must give what the operator gives for the map and the RoIs that it read.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from roicli.core.exceptions import InputError, ParameterError, VerificationError
from roicli.core.system import available_bytes
from roicli.core.types import Array, FloatType
from roicli.operators.export import EXPORT_OPSETS, build_export_graph
from roicli.operators.interface import OperatorSpec
from roicli.operators.table import operator_type
from roicli.pipeline.capture.feeds import open_run_inputs
from roicli.pipeline.capture.graph import (
    CutModel,
    ModelEditor,
    ModelInput,
    NotLedOutError,
    has_external,
    infer_elements,
    open_model,
)
from roicli.pipeline.capture.photos import settle_preparation
from roicli.pipeline.capture.plan import SiteTensors
from roicli.pipeline.capture.sites import RoiSite, find_sites
from roicli.pipeline.capture.values import read_site
from roicli.pipeline.model_nodes import Step, opset_versions, walk_nodes
from roicli.pipeline.request import ExportRequest
from roicli.runtime.devices import HOST
from roicli.runtime.model_run import Limits, Model, Value, run_model
from roicli.runtime.runners import build_runner
from roicli.storage.address import SEPARATOR
from roicli.storage.atomic import check_output, replace_atomically

logger = logging.getLogger("roicli")

# A graph of an operator at a node's size and scale, from what the node itself is set to.
SpecOf = Callable[[RoiSite], OperatorSpec]
IR_VERSION = 8
# Sides of made inputs where the model leaves them open: an image's, and any other's.
IMAGE_SIDE, OTHER_SIDE = 128, 8
CHANNELS_TRIED = 3
# What each of the models may take.
SECONDS = 600.0


def replace_nodes(
    path: str, wanted: str | None, spec_of: SpecOf
) -> tuple[Any, list[tuple[RoiSite, OperatorSpec]]]:
    """The model with its RoI nodes replaced, and those nodes.

    ``wanted`` is the name of one node; None takes all whose rule is another. Raises InputError.
    """
    model = _at_known_opset(open_model(path), path)
    sites = [one for one in find_sites(model, path) if one.operator in ("align", "pool")]
    chosen = [one for one in sites if wanted is None or wanted in one.names()]
    if not chosen:
        names = ", ".join(str(one.name) for one in sites)
        raise InputError(
            f"{path}: has no node {wanted!r}, its RoI nodes are: {names}" if sites
            else f"{path}: the model has no RoiAlign or MaxRoiPool node"
        )  # fmt: skip
    pairs = [(site, spec_of(site)) for site in chosen]
    for site, spec in pairs:
        if spec.offset_shape or len(spec.roi_columns) != 4:
            raise ParameterError(
                f"{path}: node {site.name} has upright RoIs alone, and {spec.name} takes more",
                "choose an operator of upright RoIs",
            )
    pairs = [pair for pair in pairs if _is_another_rule(*pair)]
    if not pairs:
        raise InputError(
            f"{path}: its RoI nodes follow this rule already: there is nothing to replace",
            "say the rule that they are to follow, like --aligned or --mode max",
        )
    elements = infer_elements(model)
    for number, (site, spec) in enumerate(pairs):
        kind = elements.get(site.features, 1)
        if kind not in (1, 11):
            raise InputError(
                f"{path}: node {site.name} reads a map of another dtype than float32 and float64, "
                "which no exported graph takes"
            )
        dtype = np.dtype(np.float32 if kind == 1 else np.float64)
        _replace(model, site, spec, dtype, kind, f"roicli.{number}")
    model.ir_version = max(int(model.ir_version), IR_VERSION)
    return model, pairs


def _is_another_rule(site: RoiSite, spec: OperatorSpec) -> bool:
    """Whether the graph computes something else than the node."""
    if type(spec) is not operator_type(site.operator) or site.maximum:
        return True
    own = {name: value for name, value in site.options.items() if name != "mode"}
    said = {**spec.describe(), "spatial_scale": spec.spatial_scale}
    same = all(_plain(said[name]) == _plain(value) for name, value in own.items() if name in said)
    return not same or said.get("mode", "avg") != "avg"


def _describe_change(site: RoiSite, spec: OperatorSpec) -> str:
    """What is another rule now, in words."""
    if type(spec) is not operator_type(site.operator):
        said = ", ".join(f"{name} {value}" for name, value in spec.describe().items())
        return f"{site.op_type} -> {spec.name} ({said})"
    if site.maximum and spec.describe().get("mode") == "max":
        return "maximum over weighted corners -> maximum of the samples"
    return ", ".join(
        f"{name} {site.options[name]} -> {value}"
        for name, value in spec.describe().items()
        if name in site.options and _plain(site.options[name]) != _plain(value)
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value


def _at_known_opset(model: Any, path: str) -> Any:
    """The model in an opset that the exact graph can be written in."""
    import onnx

    opset, first, last = opset_versions(model).get("", 1), min(EXPORT_OPSETS), max(EXPORT_OPSETS)
    if first <= opset <= last:
        return model
    target = first if opset < first else last
    try:
        converted = onnx.version_converter.convert_version(model, target)
    except Exception as error:
        raise InputError(
            f"{path}: is of opset {opset}, and cannot be converted to {target}, which the exact "
            "graph is of",
            f"export the model with an opset from {first} to {last}",
        ) from error
    logger.info(f"{path}: is of opset {opset}, converted to {target}")
    return converted


def _replace(
    model: Any, site: RoiSite, spec: OperatorSpec, dtype: np.dtype[Any], kind: int, prefix: str
) -> None:
    """Put the graph in the node's place, its values called by ``prefix``."""
    import onnx

    graph = site.path[-1].graph if site.path else model.graph
    opset = opset_versions(model)[""]
    exact = onnx.load_from_string(build_export_graph(spec, dtype, {}, opset).model).graph
    made: list[Any] = []
    rows = site.rois
    if site.batch is not None:
        # (K, 4) and (K,) to (K, 5), which the exact graph takes.
        axis = f"{prefix}.axis"
        graph.initializer.append(onnx.helper.make_tensor(axis, onnx.TensorProto.INT64, [1], [1]))
        real, column, rows = (f"{prefix}.{name}" for name in ("images", "column", "rois"))
        made += [
            onnx.helper.make_node("Cast", [site.batch], [real], to=kind),
            onnx.helper.make_node("Unsqueeze", [real, axis], [column]),
            onnx.helper.make_node("Concat", [column, site.rois], [rows], axis=1),
        ]
    names = {"features": site.features, "rois": rows, exact.output[0].name: site.output, "": ""}

    def rename(name: str) -> str:
        return names.get(name, f"{prefix}.{name}")

    for constant in exact.initializer:
        graph.initializer.add().CopyFrom(constant)
        graph.initializer[-1].name = rename(constant.name)
    for number, node in enumerate(exact.node):
        node.input[:] = [rename(name) for name in node.input]
        node.output[:] = [rename(name) for name in node.output]
        node.name = f"{prefix}.{node.op_type}.{number}"
        made.append(node)
    place = next(i for i, node in enumerate(graph.node) if site.output in node.output)
    del graph.node[place]
    for node in reversed(made):
        graph.node.insert(place, node)


def replace_in_model(request: ExportRequest, output: str, spec_of: SpecOf) -> dict[str, Any]:
    """Write the model ``request.into`` with its nodes replaced to ``output``, once both were run.

    Returns what was replaced. Raises RoicliError, with nothing left behind.
    """
    path, _, wanted = str(request.into).partition(SEPARATOR)
    check_output(output, [path], request.force, (".onnx",))
    model, pairs = replace_nodes(path, wanted or None, spec_of)
    folders = [os.path.realpath(os.path.dirname(os.path.abspath(one))) for one in (path, output)]
    if folders[0] != folders[1] and has_external(model.graph):
        raise InputError(
            f"{path}: has weights in other files of its folder",
            f"write the new model there: {os.path.join(os.path.dirname(path), 'fixed.onnx')}",
        )
    with replace_atomically(output, request.force) as temporary:
        with open(temporary, "wb") as stream:
            stream.write(model.SerializeToString())
        problem = _problem_of(temporary)
        if problem and not _problem_of(path):
            raise VerificationError(f"{path}: onnx.checker refuses the new model: {problem}")
        limits = Limits(available_bytes(), SECONDS)
        checked = check_replaced(path, temporary, pairs, request.input, limits)
    nodes = [
        {"node": str(site.name), "change": _describe_change(site, spec)} for site, spec in pairs
    ]
    return {"opset": opset_versions(model).get("", 1), "nodes": nodes, "checked": checked}


def _problem_of(path: str) -> str:
    """What ``onnx.checker`` says against a model; many that run do not pass it."""
    import onnx

    try:
        onnx.checker.check_model(path)
    except Exception as error:
        return " ".join(str(error).split())
    return ""


# --- both are run ---------------------------------------------------------------------------------


def check_replaced(
    original: str,
    path: str,
    pairs: Sequence[tuple[RoiSite, OperatorSpec]],
    given: Any,
    limits: Limits,
) -> str:
    """Run the original and the model at ``path`` on the same inputs; what was checked, in words.

    ``given`` are the inputs as ``capture`` takes them; without any they are made. Raises
    VerificationError where a node gives something else than the operator, or nothing runs.
    """
    fixed = open_model(path)
    editor = ModelEditor(fixed, path)
    tensors: list[tuple[RoiSite, OperatorSpec, SiteTensors]] = []
    names: list[str] = []
    for site, spec in pairs:
        steps = _path_of(fixed, site.output)
        try:
            led = [
                None if name is None else editor.lead_out(name, steps)
                for name in (site.features, site.rois, site.batch, site.output)
            ]
        except NotLedOutError as error:
            logger.warning(f"node {site.name} is not checked: {error}")
            continue
        names += [name for name in led if name is not None and name not in names]
        places = [None if name is None else names.index(name) for name in led]
        tensors.append((site, spec, SiteTensors(*places)))  # type: ignore[arg-type]
    cut = editor.cut()
    order = [cut.outputs.index(name) for name in names]
    feeds = _feeds(original, cut, given)
    before = ModelEditor(open_model(original), original)
    for site, _, _ in tensors:
        before.lead_out(site.output, _path_of(before.model, site.output))
    ran_before, problem = _run(before.cut(), feeds, limits)
    if ran_before is None and given is not None:
        raise InputError(problem)
    if ran_before is None:
        logger.warning(
            f"{original}: does not run on made inputs ({problem}): only the graphs themselves are "
            "checked; --input NAME=FILE runs both models on yours"
        )
        return _check_alone(pairs)
    ran, problem = _run(cut, feeds, limits)
    if ran is None:
        raise VerificationError(f"{original}: the new model does not run: {problem}")
    values = [ran[place] for place in order]
    found = [read_site(site, places, values) for site, _, places in tensors]
    what = "made inputs" if given is None else "the inputs"
    rois, are_bits = 0, True
    for (site, spec, _), one in zip(tensors, found, strict=True):
        if one is not None and len(one.rois):
            rois += len(one.rois)
            wanted = compute(spec, one.features, one.rois)
            are_bits = _check_equal(site, one.output, wanted) and are_bits
    if rois == 0:
        return f"{_check_alone(pairs)}; no RoI came to the nodes on {what}"
    how = "equal bits" if are_bits else "equal within rounding"
    return f"both models run on {what}; {rois:,} RoIs against the operator: {how}"


def _path_of(model: Any, output: str) -> tuple[Step, ...]:
    return next(one.path for one in walk_nodes(model) if output in one.node.output)


def _run(
    cut: CutModel, feeds: Mapping[str, Array], limits: Limits
) -> tuple[list[Value] | None, str]:
    """The outputs of a model, or why it does not run."""
    model = Model(cut.path, cut.model, cut.outputs, cut.folder)
    given = {one.name: feeds[one.name] for one in cut.inputs if one.name in feeds}
    try:
        ((values, _),) = run_model(model, [(given, {})], HOST, 1, limits)
    except Exception as error:
        return None, str(error)
    return values, ""


def _feeds(path: str, cut: CutModel, given: Any) -> dict[str, Array]:
    """One run's inputs: those that are given, or made ones."""
    if given is None:
        return make_inputs(cut.inputs)
    nothing = dict.fromkeys(("photo_preset", "resize", "channels", "mean", "std", "pad"))
    preparation = settle_preparation({**nothing, "photo_layout": "auto"})
    inputs = open_run_inputs(path, cut.inputs, cut.inputs, (), given, preparation)
    return next(inputs.feeds(0))[0]


def make_inputs(inputs: Sequence[ModelInput]) -> dict[str, Array]:
    """Random numbers of the shapes that a model takes, open sides of one name being alike."""
    random, sides = np.random.default_rng(0), dict[str, int]()
    made: dict[str, Array] = {}
    for one in inputs:
        shape = list(_sides(one, sides))
        dtype = one.dtype or np.dtype(np.float32)
        values = random.random(shape) * (IMAGE_SIDE if len(shape) == 2 else 1)
        if len(shape) == 2 and shape[1] in (4, 5):
            values[:, -2:] += values[:, -4:-2]  # boxes have a size
            values[:, : shape[1] - 4] = 0
        made[one.name] = values.astype(dtype) if dtype.kind == "f" else np.zeros(shape, dtype)
    return made


def _sides(one: ModelInput, known: dict[str, int]) -> Iterator[int]:
    rank = len(one.shape or ())
    for axis, side in enumerate(one.shape or ()):
        if isinstance(side, int) and side > 0:
            yield side
            continue
        usual = IMAGE_SIDE if rank >= 3 and axis >= rank - 2 else OTHER_SIDE
        usual = 1 if rank == 4 and axis == 0 else usual
        usual = CHANNELS_TRIED if rank >= 3 and axis == rank - 3 else usual
        yield known.setdefault(side, usual) if isinstance(side, str) else usual


def _check_equal(site: RoiSite, output: Array, wanted: Array) -> bool:
    """Whether the bits are equal. Raises VerificationError where the numbers are not."""
    if output.shape != wanted.shape or not np.allclose(output, wanted, 1e-5, 1e-5, equal_nan=True):
        raise VerificationError(
            f"node {site.name}: the graph in its place does not give what the operator gives"
        )
    return np.array_equal(output, wanted, equal_nan=True)


def compute(spec: OperatorSpec, features: Array, rois: Array) -> Array:
    """What the operator itself gives, image by image."""
    dtype: FloatType = np.dtype(np.float64 if features.dtype == np.float64 else np.float32)
    runner = build_runner(spec, dtype, "cpu", 1)
    out = np.zeros((len(rois), features.shape[1], *spec.output_size), dtype)
    for image in np.unique(rois[:, 0]).astype(int):
        rows = np.flatnonzero(rois[:, 0] == image)
        block = np.zeros((len(rows), *out.shape[1:]), dtype)
        runner.load(np.ascontiguousarray(features[image], dtype))
        runner.run(np.ascontiguousarray(rois[rows, 1:], dtype), block)
        out[rows] = block
    return out


def _check_alone(pairs: Sequence[tuple[RoiSite, OperatorSpec]]) -> str:
    """Every graph on a made map and made RoIs. Raises VerificationError."""
    random = np.random.default_rng(0)
    for site, spec in pairs:
        features = random.normal(size=(1, CHANNELS_TRIED, 24, 24)).astype(np.float32)
        corners = np.sort(random.random((OTHER_SIDE, 2, 2)) * 24 / spec.spatial_scale, axis=1)
        rois = np.column_stack([np.zeros(len(corners)), corners.reshape(-1, 4)]).astype(np.float32)
        graph = build_export_graph(spec, np.dtype(np.float32), {})
        model = Model(str(site.name), graph.model, (graph.output,), os.curdir)
        feeds = {"features": features, "rois": rois}
        ((values, _),) = run_model(model, [(feeds, {})], HOST, 1, Limits(1 << 30, 60))
        found = values[0]
        assert not isinstance(found, list)
        _check_equal(site, found, compute(spec, features, rois))
    return f"{len(pairs)} graphs on made maps and RoIs, as the operator gives them"
