"""What every ``--format json`` holds, as types.

Each is a TypedDict, made of the records that are written into it: a record is an object of its
fields and properties. ``docs/make_schemas.py`` makes JSON Schemas of them, with ``schema_version``
and ``version`` (of roicli) before the other keys. Numbers that are not finite are null in all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from roicli.analysis.bench import BenchRow
from roicli.analysis.bin_reading import BinReading
from roicli.analysis.check.records import CheckedMap, CheckedRois, Finding
from roicli.analysis.compare.magnitudes import HistogramBin
from roicli.analysis.compare.run import ProvenanceDifference, UlpDifference
from roicli.analysis.diagnose.run import RoiGroup
from roicli.analysis.explanation import Explanation
from roicli.analysis.inspect_file import Choice, ValueRange
from roicli.analysis.inspect_model import NodeReport
from roicli.analysis.result.origin import Origin
from roicli.analysis.sweep import SweepRecord
from roicli.analysis.verify_model import DeploymentCheck, NodeCheck
from roicli.core.vocabulary import ComparedStatistic
from roicli.error_table.table import ColumnStatistics
from roicli.runtime.providers import ProviderStatus

Cell = int | float | str | None


class CheckDocument(TypedDict):
    """``check``: what was looked at, the rules that ran, those that could not, and the findings."""

    features: Sequence[CheckedMap]
    rois: CheckedRois
    rules: Sequence[str]
    skipped: Mapping[str, str]
    errors: int
    warnings: int
    notes: int
    findings: Sequence[Finding]


class ComparedName(TypedDict):
    """One of the two results."""

    name: str
    dtype: str


class DifferenceOfOne(TypedDict):
    """How one RoI or channel differs; a null maximum is not finite."""

    max_difference: float
    mean_difference: float
    relative_l2: float
    cosine: float


class RoiDifference(DifferenceOfOne):
    """How one RoI differs."""

    roi: int


class ChannelDifference(DifferenceOfOne):
    """How one channel differs."""

    channel: int


class ComparedRows(TypedDict):
    """The rows of A and B that are the same RoI's, those of one alone, and how these compare."""

    a: list[int]
    b: list[int]
    only_a: list[int]
    only_b: list[int]
    compared: bool
    equal: bool | None


class CompareDocument(TypedDict):
    """``compare``: whether two results are equal, and how they differ."""

    equal: bool
    a: ComparedName
    b: ComparedName
    shape: Sequence[int]
    atol: float
    rtol: float
    stat: ComparedStatistic
    equal_nan: bool
    measured: float
    limit: float
    elements: int
    identical: int
    outside: int
    not_finite: int
    max_difference: float
    mean_difference: float
    p99_difference: float
    relative_l2: float
    cosine: float
    ulp: UlpDifference | None
    histogram: Sequence[HistogramBin]
    worst_rois: Sequence[RoiDifference]
    worst_channels: Sequence[ChannelDifference]
    provenance_differences: Sequence[ProvenanceDifference] | None
    axes: str | None
    rows: ComparedRows | None


class ConventionFound(TypedDict):
    """A convention, by name, as parameters and as roicli's command; null what it has not."""

    name: str
    operator: str
    parameters: Mapping[str, Any]
    mode: str | None
    coordinates: str | None
    sampling_ratio: int | None
    sampling_grid: str | None
    quantization: str | None
    partition: str | None
    oddity: str
    roi_scale: list[float]
    roi_offset_px: list[float]
    command: str | None


class ConventionFinding(ConventionFound):
    """A convention and how far its numbers are from the result's."""

    distance: float
    max_difference: float


class LibraryRow(TypedDict):
    """A library's function."""

    name: str
    version: str
    source: str


class PartialFinding(ConventionFinding):
    """A convention that explains some RoIs, and the groups of the others."""

    rows: list[int]
    others: Sequence[RoiGroup]
    libraries: list[LibraryRow]


class Need(TypedDict):
    """A rule of the match, the rows that need it, and what sets these apart."""

    rule: str
    rows: list[int]
    reason: str | None


class MatchedRows(TypedDict):
    """The result's rows and the RoIs that they are of, and those without the other."""

    result: list[int]
    rois: list[int]
    only_result: list[int]
    only_rois: list[int]


class DiagnoseDocument(TypedDict):
    """``diagnose``: the convention that explains every RoI, or what comes nearest."""

    match: ConventionFinding | None
    distance: float | None
    libraries: list[LibraryRow]
    needs: list[Need]
    synonyms: list[ConventionFound]
    partial: PartialFinding | None
    nearest: ConventionFinding | None
    runner_up: ConventionFinding | None
    told_apart: bool
    tolerance: float
    candidates: int
    left_out: Sequence[RoiGroup]
    rois: int
    rois_compared: int
    channels_compared: int
    axes: str | None
    rows: MatchedRows | None
    seconds: float


class ExplainedBin(TypedDict):
    """``explain``: one bin of RoI Align and RoI Pool, or of another operator."""

    explanation: Explanation | BinReading


class InspectedDataset(TypedDict):
    """A dataset as it is stored, what it can be used as and why; values with ``--stats``."""

    address: str
    shape: Sequence[int] | None
    dtype: str
    layout: str
    chunks: Sequence[int] | None
    compression: str | None
    stored_bytes: int | None
    attributes: Mapping[str, Any]
    columns: list[str] | None
    usable_as: str | None
    why: str
    values: ValueRange | None


class InspectedArrays(TypedDict):
    """``inspect`` of arrays: its datasets, what a command takes for maps and RoIs, and where a
    result of roicli's comes from.
    """

    file: str
    format: str
    attributes: Mapping[str, Any]
    datasets: list[InspectedDataset]
    features: Choice
    rois: Choice
    origin: Origin | None


class InspectedModel(TypedDict):
    """``inspect`` of a model: its opsets ("" is ONNX's own domain) and its RoI nodes."""

    file: str
    format: str
    producer: str
    ir_version: int
    opsets: Mapping[str, int]
    nodes: Sequence[NodeReport]
    traps: int


class ListedInput(TypedDict):
    """What a model takes; a side is null or a name where it may be anything."""

    name: str
    dtype: str | None
    shape: list[int | str | None] | None


class ListedNode(TypedDict):
    """A RoI node of a model: where it stands, its tensors, its attributes as stored."""

    name: str
    op_type: str
    opset: int
    inside: Sequence[str]
    level: str
    features: str
    rois: str
    output: str
    attributes: Mapping[str, Any]


class ListedHead(TypedDict):
    """RoI nodes that are one pyramid, or one node."""

    name: str
    operator: str
    nodes: list[ListedNode]


class ListedModel(TypedDict):
    """``capture --list``: what there is to capture; ``custom`` are nodes of custom operators, and
    ``maps`` the tensors that look like maps, of a model without RoI nodes.
    """

    model: str
    opset: int
    inputs: list[ListedInput]
    outputs: list[str]
    heads: list[ListedHead]
    custom: Sequence[str]
    maps: list[ListedMap]


class ListedMap(TypedDict):
    """A tensor (N, C, H, W) inside a model; ``channels`` are null where they are not fixed."""

    name: str
    channels: int | None
    made_by: str


class CapturedHead(TypedDict):
    """A head in the file; ``command`` computes it again, null where no operator has its rule."""

    name: str
    operator: str
    nodes: Sequence[str]
    levels: Sequence[str]
    rois: int
    shape: Sequence[int]
    images: Sequence[int]
    command: str | None


class CaptureDocument(TypedDict):
    """``capture``: the file, and what is in it; ``skipped`` says why nodes are not."""

    output: str
    images: int
    heads: list[CapturedHead]
    outputs: Sequence[str]
    skipped: Mapping[str, str]


class ModelCheckDocument(TypedDict):
    """``verify-model``: every node, and every other result of it."""

    source: str
    findings: int
    nodes: Sequence[NodeCheck]
    against: Sequence[DeploymentCheck]


class SweepDocument(TypedDict):
    """``sweep``: the smallest ratio that is enough (0 is adaptive), and all that were measured."""

    recommended_sampling_ratio: int | None
    recommended_by_size_class: dict[str, int | None]
    tolerance: float
    fine_grid: int
    fine_grid_error: float | None
    rois: int
    rois_measured: int
    left_out: int
    records: Sequence[SweepRecord]


class Groups(TypedDict):
    """With ``--group-by``: the column, and by its values ``n`` and the columns' statistics."""

    column: str
    groups: dict[str, dict[str, int | ColumnStatistics]]


class ErrorsDocument(TypedDict):
    """The error table of ``errors`` and of every operator: how it was made, summaries, the RoIs.

    ``summary`` is by size class: ``n``, and the statistics of each summary column; the columns of
    ``rois`` are those of ``roicli columns``, and other columns of the RoIs' source.
    """

    parameters: Mapping[str, Any]
    verdict: str
    summary: dict[str, dict[str, int | ColumnStatistics]]
    summary_by_level: NotRequired[dict[str, dict[str, int | ColumnStatistics]]]
    summary_by_group: NotRequired[Groups]
    rois: list[dict[str, Cell]]


class ProvidersDocument(TypedDict):
    """``providers``."""

    providers: list[ProviderStatus]


class PresetRow(TypedDict):
    """A library's function with its defaults; ``command`` is null where roicli cannot run it."""

    name: str
    library: str
    function: str
    version: str
    operator: str
    convention: str
    differs_from_torchvision: str
    runs: bool
    command: str | None
    source: str
    undefined: str


class PresetsDocument(TypedDict):
    """``presets``."""

    presets: list[PresetRow]


class RuleRow(TypedDict):
    """A rule of ``check``."""

    id: str
    name: str
    severity: str
    guess: bool
    ignorable: bool
    meaning: str


class RulesDocument(TypedDict):
    """``rules``."""

    rules: list[RuleRow]


class ColumnRow(TypedDict):
    """A column of the error table."""

    name: str
    heading: str
    unit: str
    meaning: str


class ColumnsDocument(TypedDict):
    """``columns``."""

    columns: list[ColumnRow]


class BenchDocument(TypedDict):
    """``bench``: a row a provider."""

    bench: list[BenchRow]


ConfigRow = TypedDict(
    "ConfigRow", {"option": str, "value": str, "from": str, "commands": NotRequired[str]}
)
ConfigRow.__doc__ = """An option, its value and where that comes from; for which commands."""


class ConfigDocument(TypedDict):
    """``config``: what is set for any command, or every option of one."""

    file: str | None
    config: list[ConfigRow]


# By command; every operator's is that of errors.
DOCUMENTS: Mapping[str, Any] = {
    "errors": ErrorsDocument,
    "check": CheckDocument,
    "compare": CompareDocument,
    "diagnose": DiagnoseDocument,
    "explain": ExplainedBin,
    "inspect": InspectedArrays | InspectedModel,
    "capture": CaptureDocument | ListedModel,
    "verify-model": ModelCheckDocument,
    "sweep": SweepDocument,
    "bench": BenchDocument,
    "providers": ProvidersDocument,
    "presets": PresetsDocument,
    "rules": RulesDocument,
    "columns": ColumnsDocument,
    "config": ConfigDocument,
}
