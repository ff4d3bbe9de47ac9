"""What ``inspect`` found: text for people, JSON for programs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO

from roicli.analysis.inspect_file import ArrayReport, Choice, DatasetReport, ValueRange
from roicli.analysis.inspect_model import ModelReport, NodeReport, ProviderSupport
from roicli.analysis.result.origin import Origin
from roicli.core.strict_json import write_object
from roicli.core.vocabulary import Severity
from roicli.render.tables import Cell, print_folded

if TYPE_CHECKING:
    from roicli.render.documents import InspectedArrays, InspectedDataset, InspectedModel

STYLES = {"trap": "bold red", "note": "dim"}
ANSWERS = {True: "yes", False: "no", None: "unknown"}
Row = tuple[Cell, Cell]
# A table of more columns is shown by their number.
SHOWN_COLUMNS = 12
# The attributes of a result that its origin tells.
TOLD = (
    "operator", "created_utc", "roicli_version", "features_name", "features_dataset", "rois_name",
    "rois_dataset",
)  # fmt: skip


def fails(report: ArrayReport | ModelReport, fail_on: Severity) -> bool:
    """Whether a model holds something of this severity: a trap is a warning, other remarks notes.

    A file of arrays holds nothing of the kind.
    """
    if isinstance(report, ArrayReport) or fail_on == "error":
        return False
    return report.traps > 0 or (fail_on == "note" and any(node.remarks for node in report.nodes))


def inspection_object(report: ArrayReport | ModelReport) -> InspectedArrays | InspectedModel:
    """The report as plain values."""
    if isinstance(report, ModelReport):
        model: InspectedModel = {
            "file": report.path,
            "format": report.file_format,
            "producer": report.producer,
            "ir_version": report.ir_version,
            "opsets": report.opsets,
            "nodes": [replace(one, attributes=_strict(one.attributes)) for one in report.nodes],
            "traps": report.traps,
        }
        return model
    arrays: InspectedArrays = {
        "file": report.path,
        "format": report.file_format,
        "attributes": _strict(report.attributes),
        "datasets": [_dataset_object(dataset) for dataset in report.datasets],
        "features": report.features,
        "rois": report.rois,
        "origin": report.origin,
    }
    return arrays


def _dataset_object(dataset: DatasetReport) -> InspectedDataset:
    stored = dataset.stored
    return {
        "address": stored.address,
        "shape": stored.shape,
        "dtype": stored.dtype,
        "layout": stored.layout,
        "chunks": stored.chunks,
        "compression": stored.compression,
        "stored_bytes": stored.stored_bytes,
        "attributes": _strict(stored.attributes),
        "columns": None if stored.columns is None else [one.name for one in stored.columns],
        "usable_as": dataset.usable_as,
        "why": dataset.why,
        "values": dataset.values,
    }


def write_inspection_json(report: ArrayReport | ModelReport, stream: TextIO) -> None:
    """One strict JSON object."""
    write_object(inspection_object(report), stream)


def _strict(value: Any) -> Any:
    """JSON has no NaN and no infinity; an attribute may. They become texts."""
    if isinstance(value, Mapping):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def print_inspection(report: ArrayReport | ModelReport, stream: TextIO) -> None:
    """The file, then a block a dataset or node, folded at the terminal's width."""
    if isinstance(report, ModelReport):
        _print_model(report, stream)
    else:
        _print_arrays(report, stream)


def _print_arrays(report: ArrayReport, stream: TextIO) -> None:
    count = len(report.datasets)
    stream.write(f"{report.path}: {report.file_format}, {count} dataset{'s' * (count != 1)}\n\n")
    if report.origin is not None:
        print_folded(("made by", report.origin.operator), list(_origin_rows(report.origin)), stream)
        stream.write("\n")
    rows: list[Row] = []
    for dataset in report.datasets:
        _, inside, name = dataset.stored.address.partition("::")
        rows.append(((name if inside else "array", "bold"), "\n".join(_dataset_lines(dataset))))
    told = () if report.origin is None else (*TOLD, *report.origin.parameters)
    others = {key: value for key, value in report.attributes.items() if key not in told}
    if others:
        lines = [f"{key} = {_short(value)}" for key, value in others.items()]
        rows.append((("attributes", "bold"), "\n".join(lines)))
    print_folded(("dataset", "what it is"), rows, stream)
    stream.write("\n")
    choices = [("as FEATURES", _choice(report.features)), ("as ROIS", _choice(report.rois))]
    print_folded(("given alone", "roicli takes"), choices, stream)


def _origin_rows(origin: Origin) -> Iterator[Row]:
    said = [f"{key} {_short(value)}" for key, value in origin.parameters.items()]
    yield "with", ", ".join(said)
    yield "features", origin.features
    yield "RoIs", origin.rois
    yield "when", f"{origin.created_utc}, roicli {origin.roicli_version}"
    if origin.command is not None:
        yield "again", f"{origin.command} (the boxes as they are kept here)"


def _dataset_lines(dataset: DatasetReport) -> Iterator[str]:
    stored = dataset.stored
    columns = stored.columns or ()
    what = f"{len(columns)} columns" if len(columns) > SHOWN_COLUMNS else stored.dtype
    yield f"{stored.shape or ''} {what}".strip()
    parts = [stored.layout if stored.chunks is None else f"chunks {stored.chunks}"]
    if stored.compression:
        parts.append(stored.compression)
    if stored.stored_bytes is not None:
        parts.append(f"{stored.stored_bytes:,} bytes stored")
    yield ", ".join(parts)
    for key, value in stored.attributes.items():
        yield f"{key} = {_short(value)}"
    if dataset.values is not None:
        yield _describe_values(dataset.values)
    if dataset.is_result:
        yield dataset.why
    else:
        yield f"{dataset.usable_as or 'neither features nor RoIs'}: {dataset.why}"


def _describe_values(values: ValueRange) -> str:
    parts = []
    if values.min is not None:
        numbers = (values.min, values.max, values.mean, values.std)
        low, high, mean, std = (_short(n, 6) for n in numbers)
        parts.append(f"from {low} to {high}, mean {mean}, std {std}")
    parts.append(f"{values.zeros:,} zeros")
    parts += [f"{values.nan:,} NaN"] if values.nan else []
    parts += [f"{values.infinite:,} infinite"] if values.infinite else []
    return ", ".join(parts)


def _choice(choice: Choice) -> str:
    return f"{choice.address or 'nothing'}: {choice.why}"


def _short(value: Any, digits: int = 9) -> str:
    """An attribute in a line; a stride says more than a scale of many digits."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_short, value))}]"
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def _print_model(report: ModelReport, stream: TextIO) -> None:
    opsets = ", ".join(f"{domain or 'onnx'} {number}" for domain, number in report.opsets.items())
    by = f" by {report.producer}" if report.producer else ""
    if report.file_format == "onnx":
        stream.write(f"{report.path}: ONNX model{by}, IR {report.ir_version}, opset {opsets}\n")
    else:
        stream.write(f"{report.path}: OpenVINO IR {report.ir_version}\n")
    if not report.nodes:
        stream.write("no RoI node\n")
        return
    for node in report.nodes:
        stream.write("\n")
        domain = f"{node.domain}::" if node.domain else ""
        version = "" if node.opset is None else f", opset {node.opset}"
        stream.write(f"{node.name}: {domain}{node.op_type}{version}\n")
        print_folded(("", ""), list(_node_rows(node)), stream)
    traps = report.traps
    count = len(report.nodes)
    stream.write(f"\n{count} RoI node{'s' * (count != 1)}, {traps} trap{'s' * (traps != 1)}\n")


def _node_rows(node: NodeReport) -> Iterator[Row]:
    if node.inside:
        yield "inside", " > ".join(node.inside)
    if node.parameters is not None:
        yield "computes", _describe_parameters(node.parameters)
    elif node.attributes:
        yield "attributes", ", ".join(f"{k} = {_short(v)}" for k, v in node.attributes.items())
    yield "reads", ", ".join(node.inputs)
    for provider in node.providers:
        yield f"on {provider.name}", _describe_provider(provider)
    for remark in node.remarks:
        yield (remark.weight, STYLES[remark.weight]), remark.message


def _describe_parameters(parameters: Mapping[str, Any]) -> str:
    height, width = parameters["output_size"]
    scale = parameters["spatial_scale"]
    stride = f" (stride {1 / scale:g})" if scale > 0 else ""
    text = f"{height} x {width} bins, spatial_scale {_short(scale)}{stride}"
    if "sampling_ratio" not in parameters:
        return f"{text}, quantization {parameters['quantization']}"
    transformation = "half-pixel" if parameters["aligned"] else "legacy"
    ratio = parameters["sampling_ratio"] or "adaptive"
    return f"{text}, sampling_ratio {ratio}, {transformation}, mode {parameters['mode']}"


def _describe_provider(provider: ProviderSupport) -> str:
    return f"{ANSWERS[provider.runs]}: {provider.detail}"
