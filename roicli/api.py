"""What ``import roicli`` offers: every command as one call. Arrays or addresses in, records out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np

from roicli import provenance
from roicli.datatypes import AlignSpec, Array, FloatArray, OperatorSpec, Size, check_word
from roicli.error_table import ErrorTable
from roicli.exceptions import ParameterError
from roicli.features import FeatureArgument, resolve_addresses
from roicli.inputs import Inputs, open_inputs
from roicli.opened_run import (
    Run,
    build_error_table,
    build_value_measurers,
    check_align_memory,
    open_run,
    resolve_operator,
    silent,
)
from roicli.pipeline import run_operator
from roicli.report.records import FORMAT_OF_ENDING, write_table
from roicli.settings import (
    AlignOptions,
    ErrorsOptions,
    ExportOptions,
    RunOptions,
    check_known,
    resolve_setting,
)
from roicli.storage.output import OUTPUT_FORMATS, RowSource, check_output, replace_atomically
from roicli.storage.result_file import (
    STDOUT,
    MemoryWriter,
    NoWriter,
    ResultWriter,
    open_result,
)
from roicli.vocabulary import Compression, Operator, ResultDtype


@dataclass(frozen=True)
class Result:
    """What a run gives: the error table, the parameters, and the features or where they went.

    ``roi_features`` (K, C, P_h, P_w) is None where they were written to ``output``.
    """

    operator: str
    errors: ErrorTable
    parameters: Mapping[str, Any]
    roi_features: FloatArray | None = None
    output: str | None = None


def _check_outputs(inputs: Inputs, output: str | None, options: ErrorsOptions) -> None:
    """Refuse places that a result must not go to, before anything is computed."""
    force, files = options.get("force", False), list(inputs.files)
    if output not in (None, STDOUT):
        check_output(str(output), files, force, tuple(OUTPUT_FORMATS))
        files.append(str(output))
    errors_out = options.get("errors_out")
    if errors_out is not None:
        check_output(os.fspath(errors_out), files, force, tuple(FORMAT_OF_ENDING))


def write_errors(
    table: ErrorTable, parameters: Mapping[str, Any], options: Mapping[str, Any]
) -> None:
    """Write the table to ``errors_out``, where that is given, in one piece or not at all."""
    if options.get("errors_out") is None:
        return
    path = os.fspath(options["errors_out"])
    table_format = FORMAT_OF_ENDING[os.path.splitext(path)[1].lower()]
    with (
        replace_atomically(path, options.get("force", False)) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as stream,
    ):
        write_table(table, parameters, table_format, stream)


def _run(run: Run, spec: OperatorSpec, output: str | None, options: RunOptions) -> Result:
    """Run, write, and give the result; the files are closed whatever happens."""
    try:
        if isinstance(spec, AlignSpec):
            check_align_memory(run, spec)
        _check_outputs(run.inputs, output, options)
        measurers = build_value_measurers(run) if options.get("values") else None
        dtype = _result_dtype(run, options)
        shape = (len(run.inputs.rois), run.pyramid.channels, *spec.output_size)
        parameters = provenance.describe_run(run, spec, dtype, shape)
        with _open_writer(output, shape, dtype, options) as writer:
            run_operator(
                run.pyramid, run.inputs.rois, run.inputs.map_of_roi, run.scaled(spec), run.engine,
                writer, measurers, options.get("progress", _no_progress),
                options.get("stage_times"),
            )  # fmt: skip
            table = run.error_table()
            writer.finish(_tables_beside(run, table), provenance.flatten(parameters))
            write_errors(table, parameters, options)
        kept = writer.array if isinstance(writer, MemoryWriter) else None
        return Result(run.operator, table, parameters, kept, output)
    finally:
        run.inputs.close()


def _result_dtype(run: Run, options: RunOptions) -> np.dtype[Any]:
    """The dtype asked for, else the one that the maps are computed in."""
    name, compression = options.get("dtype"), options.get("compression", "none")
    check_word("compression", compression, Compression)
    if name is None:
        return run.pyramid.compute_dtype
    check_word("dtype", name, ResultDtype)
    return np.dtype(name)


def _open_writer(
    output: str | None, shape: tuple[int, ...], dtype: np.dtype[Any], options: RunOptions
) -> AbstractContextManager[ResultWriter]:
    """A writer to memory, a file or stdout."""
    if output is None:
        return nullcontext(MemoryWriter(shape, dtype))
    compression, force = options.get("compression", "none"), options.get("force", False)
    return open_result(output, shape, dtype, compression, force)


def _tables_beside(run: Run, table: ErrorTable) -> dict[str, RowSource]:
    """What stands beside the features in an HDF5 result."""
    rois, dtype = run.inputs.rois, np.result_type(run.inputs.rois_dtype, np.float32)
    return {
        "rois": lambda start, stop: rois.take(slice(start, stop)).as_rows(dtype),
        "quantization_error": lambda start, stop: table.records(slice(start, stop)),
    }


def _no_progress(done: int, total: int, size: int) -> None:
    """Nobody watches."""


def default_output(features: FeatureArgument, operator: Operator) -> str:
    """``<features>.<operator>.h5``, after the first file's name."""
    return f"{resolve_addresses(str(features), ())[0].stem}.{operator}.h5"


def align(
    features: FeatureArgument | Sequence[Array],
    rois: FeatureArgument,
    output: str | os.PathLike[str] | None = None,
    **options: Unpack[AlignOptions],
) -> Result:
    """RoI Align of stored or in-memory maps (N, C, H, W) at RoIs (K, 5), and its error table.

    ``features`` and ``rois`` are addresses (``file.npy``, ``file.h5::/dataset``) or arrays; RoIs
    are ``batch_index, x1, y1, x2, y2`` in image pixels. ``output`` is a ``.h5`` or ``.npy`` file;
    None keeps the features (K, C, P_h, P_w) in ``Result.roi_features``, float32 (float64 for
    float64 maps). Raises RoicliError. Source: He et al. 2017, section 3; ONNX RoiAlign-16.
    """
    check_known("align", options, AlignOptions)
    run = open_run("align", features, rois, options)
    return _run(run, run.setting.align, _as_text(output), options)


def pool(
    features: FeatureArgument | Sequence[Array],
    rois: FeatureArgument,
    output: str | os.PathLike[str] | None = None,
    **options: Unpack[RunOptions],
) -> Result:
    """RoI Pool of stored or in-memory maps (N, C, H, W) at RoIs (K, 5), and its error table.

    Arguments and result as ``align``; ``quantization`` and ``partition`` choose the rounding.
    Raises RoicliError. Source: Girshick 2015, section 2.1; ONNX MaxRoiPool-1.
    """
    check_known("pool", options, RunOptions)
    run = open_run("pool", features, rois, options)
    return _run(run, run.setting.pool, _as_text(output), options)


def errors(
    features: FeatureArgument | Sequence[Array] | None,
    rois: FeatureArgument,
    *,
    map_size: Size | None = None,
    **options: Unpack[ErrorsOptions],
) -> Result:
    """The quantization error of RoIs (K, 5), and with ``features`` the value errors and shares.

    Without features (None) the geometry alone, at ``spatial_scale``; ``map_size`` (height, width)
    in cells then gives ``clipped_fraction``. Raises RoicliError. Source: SEMANTICS, quantization
    error.
    """
    check_known("errors", options, ErrorsOptions)
    if features is None:
        return _geometric_errors(rois, map_size, options)
    if map_size is not None:
        raise ParameterError("map size is the features' own where there are features")
    run = open_run("errors", features, rois, options)
    try:
        _check_outputs(run.inputs, None, options)
        measurers = build_value_measurers(run)
        # Nobody wants the features, so the operators run for their values only.
        run_operator(
            run.pyramid, run.inputs.rois, run.inputs.map_of_roi, None, run.engine, NoWriter(),
            measurers, options.get("progress", _no_progress),
        )  # fmt: skip
        parameters = provenance.describe_run(run, None, run.pyramid.compute_dtype)
        table = run.error_table()
        write_errors(table, parameters, options)
        return Result("errors", table, parameters)
    finally:
        run.inputs.close()


def _geometric_errors(
    rois: FeatureArgument, map_size: Size | None, options: ErrorsOptions
) -> Result:
    """The error table of boxes alone."""
    setting = resolve_setting(options, "pool")
    inputs = open_inputs(None, rois, options, options.get("note", silent), map_size)
    _check_outputs(inputs, None, options)
    table = build_error_table(inputs, setting)
    parameters = provenance.describe_geometry(inputs, setting)
    write_errors(table, parameters, options)
    return Result("errors", table, parameters)


def export(
    operator: Operator, output: str | os.PathLike[str], **options: Unpack[ExportOptions]
) -> dict[str, Any]:
    """Write the graph of an operator: ``features`` (N, C, H, W), ``rois`` (K, 5) in image pixels.

    The graph runs with ONNX Runtime alone and gives ``roi_features`` (K, C, P_h, P_w), the same
    bits as ``align`` and ``pool``; parameters are its metadata. Returns them. Raises RoicliError,
    also for a rule whose index arithmetic does not fit in a graph.
    """
    check_known("export", options, ExportOptions)
    import onnx

    from roicli.export_graphs import build_export_graph

    path, note = os.fspath(output), options.get("note", silent)
    graph_file = str(options.get("graph") or "").partition("::")[0]
    check_output(path, [graph_file] if graph_file else [], options.get("force", False), (".onnx",))
    spec = resolve_operator(operator, options, note)
    dtype = np.dtype(options.get("dtype", "float32"))
    parameters = provenance.describe_export(spec, dtype)
    metadata = {key: str(value) for key, value in parameters.items()}
    graph = build_export_graph(spec, dtype, metadata)
    onnx.checker.check_model(onnx.load_from_string(graph.model), full_check=True)
    with (
        replace_atomically(path, options.get("force", False)) as temporary,
        open(temporary, "wb") as stream,
    ):
        stream.write(graph.model)
    return parameters


def _as_text(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else os.fspath(path)
