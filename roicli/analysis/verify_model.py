"""A detector's RoI nodes: do they give these bits, whose rule is it, what would others cost.

The nodes of a captured file are computed again with their own attributes. Where the bits differ,
``diagnose`` says which convention they follow. Another runtime's results of the same inputs are
compared with the nodes' own, and ``diagnose`` names the rule where they depart.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Literal, Unpack

import numpy as np

from roicli import api
from roicli.analysis.diagnose.candidates import Candidate
from roicli.analysis.diagnose.run import Diagnosis, diagnose
from roicli.analysis.result.source import open_stored_result
from roicli.core.declaration import check_known, keywords, record, settle
from roicli.core.exceptions import InputError, ParameterError, RoicliError
from roicli.core.foreign import foreign
from roicli.core.model_options import CaptureOptions, VerifyModelOptions
from roicli.core.operator_table import Operator
from roicli.core.record import frozen
from roicli.core.shown import Shown
from roicli.core.types import Array
from roicli.operators.phrases import as_options
from roicli.operators.table import operator_type
from roicli.pipeline.capture.run import ModelRunRequest, capture
from roicli.pipeline.capture.store import RESULT, StoredHead
from roicli.pipeline.capture.stored import HeadRows, is_capture, read_heads, read_rows
from roicli.pipeline.rules import NEEDED, ROI_RULES
from roicli.storage.address import SEPARATOR
from roicli.storage.open import inputs_unchanged

Outcome = Literal[
    "equal bits", "within rounding", "the same rule", "another convention", "unexplained", "no RoIs"
]
GOOD: tuple[Outcome, ...] = ("equal bits", "within rounding", "the same rule", "no RoIs")
# Sums of another order, where an operator has no bits in common with any other.
ROUNDING = 1e-5


@frozen
class Agreement:
    """How two results of the same RoIs agree: ``rows`` are those that do not.

    ``distance`` is the largest difference over how the reference varies; ``convention`` is what
    the one that departs follows, "" where that is not known, ``libraries`` whose that is.
    """

    outcome: Outcome
    max_difference: float
    distance: float
    rows: tuple[int, ...] = ()
    convention: str = ""
    libraries: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether there is nothing to look into."""
        return self.outcome in GOOD


@frozen
class Cost:
    """What another rule would have changed of a node's RoIs: relative L2, median and 95 %."""

    rule: str
    relative_l2_median: float
    relative_l2_p95: float


@frozen
class NodeCheck:
    """One node: how it agrees with its own attributes, and what other rules would cost."""

    head: str
    node: str
    operator: str
    options: Mapping[str, Any]
    rois: int
    own: Agreement
    costs: tuple[Cost, ...]


@frozen
class DeploymentCheck:
    """Another runtime's result for a node's RoIs."""

    source: str
    head: str
    node: str
    agreement: Agreement


@frozen
class ModelCheck(Shown):
    """What was found: ``nodes`` computed again, ``deployments`` other runtimes' results of them.

    ``source`` is the captured file, or the model.
    """

    source: str
    nodes: tuple[NodeCheck, ...]
    deployments: tuple[DeploymentCheck, ...]

    @property
    def findings(self) -> int:
        """Nodes that nothing explains, and results that depart."""
        own = sum(one.own.outcome == "unexplained" for one in self.nodes)
        return own + sum(not one.agreement.is_good for one in self.deployments)


@record(VerifyModelOptions)
class VerifyRequest(ModelRunRequest):
    """What was asked of ``verify_model``."""

    against: list[str] | None
    tolerance: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.tolerance < 1:
            raise ParameterError(f"tolerance is {self.tolerance:g}, expected between 0 and 1")


def verify_model(
    source: str | os.PathLike[str], **options: Unpack[VerifyModelOptions]
) -> ModelCheck:
    """Check the RoI nodes of a captured file, or of a model that is captured for it first.

    ``against`` are other runtimes' results of the captured inputs: ``[HEAD=]FILE[::DATASET]``, with
    a head's rows (K, C, P_h, P_w), or a node's by the name of its output. Raises RoicliError.
    """
    check_known("verify_model", options, VerifyModelOptions)
    request, path = settle(VerifyRequest, options), os.fspath(source)
    if is_capture(path):
        if request.image or request.input:
            raise ParameterError(
                f"{path} is captured already, and --image or --input are given",
                "give the model, or drop them",
            )
        return _verify(path, path, request)
    given = keywords(CaptureOptions, options)
    with tempfile.TemporaryDirectory(prefix="roicli-") as folder:
        captured = os.path.join(folder, "captured.h5")
        capture(path, captured, **given)
        return _verify(captured, path, request)


@inputs_unchanged()
def _verify(path: str, shown: str, request: VerifyRequest) -> ModelCheck:
    heads = read_heads(path)
    if not heads:
        raise InputError(f"{shown}: holds no RoI nodes, only tensors by name")
    rows = {head.name: read_rows(path, head) for head in heads}
    nodes = [one for head in heads for one in _check_head(path, head, rows[head.name], request)]
    deployments = [
        one
        for text in request.against or ()
        for one in _check_deployment(path, heads, rows, text, request.tolerance)
    ]
    return ModelCheck(str(foreign(shown)), tuple(nodes), tuple(deployments))


# --- the nodes' own results -----------------------------------------------------------------------


def _check_head(
    path: str, head: StoredHead, rows: HeadRows, request: VerifyRequest
) -> Iterator[NodeCheck]:
    other = {rule: _compute(path, head, *found, request) for rule, found in _other_rules(head)}
    again = None
    if not _is_onnx_maximum(head):
        # A node of float16 rounds what it computed in float32.
        again = _compute(path, head, _operator(head), head.options, request)
        again = again.astype(rows.result.dtype)
    for place, node in enumerate(head.nodes):
        mask = rows.node_of_roi == place
        own = _agree(path, head, rows, mask, rows.result, again, ROUNDING)
        costs = tuple(
            _cost(rule, rows.result[mask], values[mask])
            for rule, values in other.items()
            if mask.any()
        )
        options = {**head.options, "spatial_scale": head.scales[place]}
        yield NodeCheck(head.name, node, head.operator, options, int(mask.sum()), own, costs)


def _operator(head: StoredHead) -> Operator:
    found: Any = head.operator
    return found  # type: ignore[no-any-return]


def _is_onnx_maximum(head: StoredHead) -> bool:
    """Whether the node takes the maximum over weighted corners, as no operator here does."""
    return bool(head.options.get("mode") == "max")


def _other_rules(head: StoredHead) -> Iterator[tuple[str, tuple[Operator, Mapping[str, Any]]]]:
    """Rules that others have in the node's place, by what they are called."""
    size = {"output_size": head.options["output_size"]}
    pool: tuple[Operator, Mapping[str, Any]] = ("pool", size)
    if head.operator == "align":
        if _is_onnx_maximum(head):
            yield "the true maximum", ("align", head.options)
        aligned = bool(head.options["aligned"])
        other = {**head.options, "aligned": not aligned, "mode": "avg"}
        yield "legacy" if aligned else "half-pixel", ("align", other)
        yield "RoI Pool", pool
        return
    for word, aligned in (("half-pixel", True), ("legacy", False)):
        yield f"RoI Align, {word}", ("align", {**size, "aligned": aligned})
    if head.operator != "pool":
        yield "RoI Pool", pool


def _compute(
    path: str,
    head: StoredHead,
    operator: Operator,
    options: Mapping[str, Any],
    request: VerifyRequest,
) -> Array:
    """The head's RoIs under a rule; what ``check`` calls an error is computed all the same."""
    features, rois, levels = head.arguments(path)
    ignored = [rule.id for rule in ROI_RULES if rule.id not in NEEDED]
    given = {
        **levels, **options, "ignore": ignored, "provider": "cpu", "threads": request.threads,
        "roi_scale": 1.0,
    }  # fmt: skip
    found = api.run(operator, features, rois, None, given).roi_features
    assert found is not None
    return found


def _cost(rule: str, own: Array, other: Array) -> Cost:
    """Relative L2 of each RoI, as the error table has it."""
    axes = tuple(range(1, own.ndim))
    with np.errstate(all="ignore"):
        difference = np.sqrt(np.sum((other.astype(np.float64) - own) ** 2, axis=axes))
        norm = np.sqrt(np.sum(own.astype(np.float64) ** 2, axis=axes))
        relative = difference / norm
    relative = relative[np.isfinite(relative)]
    if not len(relative):
        return Cost(rule, 0.0, 0.0)
    return Cost(rule, float(np.median(relative)), float(np.percentile(relative, 95)))


def _agree(
    path: str,
    head: StoredHead,
    rows: HeadRows,
    mask: Array,
    result: Array,
    reference: Array | None,
    tolerance: float,
) -> Agreement:
    """How ``result`` agrees with ``reference`` on the RoIs of ``mask``, else whose rule it is.

    Without a reference it is diagnosed at once.
    """
    if not mask.any():
        return Agreement("no RoIs", 0.0, 0.0)
    worst, distance, away = np.inf, np.inf, mask
    if reference is not None:
        one, other = result[mask], reference[mask]
        if _are_equal(one, other):
            return Agreement("equal bits", 0.0, 0.0)
        differences = _differences(one, other)
        spread = float(np.std(other[np.isfinite(other)], dtype=np.float64)) or 1.0
        worst, distance = float(differences.max()), float(differences.max()) / spread
        if distance <= tolerance:
            return Agreement("within rounding", worst, distance)
        away = np.zeros(len(mask), bool)
        away[np.flatnonzero(mask)[differences > tolerance * spread]] = True
    found = _diagnose(path, head, rows, mask, result)
    places = tuple(np.flatnonzero(away).tolist())
    match = None if found is None else found.match
    if found is None or match is None:
        return Agreement("unexplained", worst, distance, places)
    same = any(_is_own_rule(head, one) for one in (match.candidate, *found.synonyms))
    if same and reference is not None:
        return Agreement("the same rule", worst, distance, places)
    libraries = tuple(row.name for row in found.libraries)
    name = match.candidate.name
    return Agreement("another convention", worst, distance, places, name, libraries)


def _is_own_rule(head: StoredHead, candidate: Candidate) -> bool:
    """Whether a candidate is what the node is set to: only its numbers are rounded otherwise."""
    found = as_options(candidate.convention) if candidate.command is not None else None
    if found is None or found[0] != head.operator:
        return False
    said = {**operator_type(head.operator).defaults(), **found[1]}
    names = head.options.keys() - {"output_size"}
    return all(said.get(name) == head.options[name] for name in names)


def _are_equal(one: Array, other: Array) -> bool:
    """Whether all numbers are the same; which NaN it is means nothing."""
    return bool(one.dtype == other.dtype and np.array_equal(one, other, equal_nan=True))


def _differences(one: Array, other: Array) -> Array:
    """The largest difference of each RoI; infinite where one alone is no number."""
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(one.astype(np.float64) - other.astype(np.float64))
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    difference = np.where(same, 0.0, np.where(np.isnan(difference), np.inf, difference))
    return np.asarray(difference.reshape(len(difference), -1).max(axis=1, initial=0.0))


def _diagnose(
    path: str, head: StoredHead, rows: HeadRows, mask: Array, result: Array
) -> Diagnosis | None:
    """Whose rule made a node's rows; None where they cannot be looked at."""
    features, _, levels = head.arguments(path)
    given: dict[str, Any] = {name: text for name, text in levels.items() if name == "levels"}
    if len(head.nodes) > 1:
        numbers = np.array(head.numbers)[rows.node_of_roi[mask]]
        given["level_from"] = numbers
    ignored = [rule.id for rule in ROI_RULES if rule.id not in NEEDED]
    try:
        return diagnose(
            features, rows.rois[mask], result[mask], ignore=ignored, roi_scale=1.0, **given
        )
    except RoicliError:
        return None


# --- other runtimes' results ----------------------------------------------------------------------


def _check_deployment(
    path: str,
    heads: Sequence[StoredHead],
    rows: Mapping[str, HeadRows],
    text: str,
    tolerance: float,
) -> Iterator[DeploymentCheck]:
    """The results of one file, for the heads and nodes that it has some for."""
    found = list(_find_results(heads, rows, text))
    if not found:
        wanted = "; ".join(_describe_wanted(head) for head in heads)
        raise InputError(
            f"{text}: has no result of any head: expected one of {wanted}",
            "name the head and the array: HEAD=FILE::DATASET",
        )
    for head, places, values, name in found:
        own = rows[head.name]
        for place in places:
            mask = own.node_of_roi == place
            agreement = _agree(path, head, own, mask, values, own.result, tolerance)
            yield DeploymentCheck(name, head.name, head.nodes[place], agreement)


def _describe_wanted(head: StoredHead) -> str:
    return f"{head.name}/{RESULT} {head.result_shape}"


def _find_results(
    heads: Sequence[StoredHead], rows: Mapping[str, HeadRows], text: str
) -> Iterator[tuple[StoredHead, Sequence[int], Array, str]]:
    """(head, places of its nodes, rows for all of the head's RoIs, what they were read from)."""
    label, equals, address = text.partition("=")
    if not equals or os.path.exists(text):
        label, address = "", text
    chosen = [head for head in heads if not label or label in (head.name, *head.nodes)]
    if label and not chosen:
        names = ", ".join(head.name for head in heads)
        raise InputError(f"{text}: there is no head or node {label!r}, the heads are: {names}")
    for head in chosen:
        own = rows[head.name]
        every = range(len(head.nodes))
        places = [place for place in every if not label or label in (head.name, head.nodes[place])]
        if SEPARATOR in address or label:
            yield from _read_result(head, own, places, address, is_sure=bool(label))
            continue
        named = list(_read_named(head, own, address))
        yield from named or _read_result(head, own, every, address, is_sure=len(heads) == 1)


def _read_named(
    head: StoredHead, rows: HeadRows, address: str
) -> Iterator[tuple[StoredHead, Sequence[int], Array, str]]:
    """Results under the head's name or under those of its nodes' outputs."""
    every = range(len(head.nodes))
    if os.path.splitext(address)[1].lower() not in (".npy", ".csv", ".txt", ".bin"):
        whole = list(_read_result(head, rows, every, f"{address}::{head.name}/{RESULT}"))
        if whole:
            yield from whole
            return
        for place in every:
            yield from _read_result(
                head, rows, [place], f"{address}::{head.outputs[place]}", is_sure=False
            )


def _read_result(
    head: StoredHead,
    rows: HeadRows,
    places: Sequence[int],
    address: str,
    is_sure: bool = False,
) -> Iterator[tuple[StoredHead, Sequence[int], Array, str]]:
    """The array at an address as rows of the head; nothing where it is not there or does not fit.

    ``is_sure`` raises InputError then.
    """
    try:
        with closing(open_stored_result(address, "result")) as stored:
            values, name = stored.read_all(), str(stored.name)
    except InputError:
        if is_sure or not os.path.isfile(address.partition(SEPARATOR)[0]):
            raise
        return
    row_shape = head.result_shape[1:]
    mask = np.isin(rows.node_of_roi, places)
    for wanted in (np.ones(len(mask), bool), mask):
        if values.size == wanted.sum() * int(np.prod(row_shape)):
            whole = np.zeros((len(mask), *row_shape), values.dtype)
            whole[wanted] = values.reshape(-1, *row_shape)
            yield head, places, whole, name
            return
    if is_sure:
        raise InputError(
            f"{name}: shape is {values.shape}, expected ({int(mask.sum())}, "
            f"{', '.join(map(str, row_shape))}), the rows of {head.name}"
        )
