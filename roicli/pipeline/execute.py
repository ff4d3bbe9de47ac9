"""One opened run, from its RoIs to its result and everything that is written beside it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.foreign import stored_text
from roicli.core.record import frozen
from roicli.core.shown import Shown
from roicli.core.types import FloatArray
from roicli.error_table.carried_columns import CarriedColumn
from roicli.error_table.columns import record_dtype
from roicli.error_table.table import ErrorTable
from roicli.operators.interface import OperatorSpec
from roicli.pipeline import provenance
from roicli.pipeline.inputs import Inputs
from roicli.pipeline.memory import find_shard_bytes
from roicli.pipeline.order import visiting_order
from roicli.pipeline.request import RunRequest
from roicli.pipeline.run import (
    Run,
    build_value_measurers,
    build_verifier,
    check_sampling,
)
from roicli.pipeline.stream import run_operator
from roicli.storage.atomic import (
    FileDraft,
    as_output_errors,
    check_output,
    open_draft,
)
from roicli.storage.result import (
    ROIS_COLUMNS,
    STDOUT,
    MemoryWriter,
    ResultFile,
    ResultWriter,
    RowSource,
    check_place,
    open_result,
)
from roicli.storage.resume import Resumption

if TYPE_CHECKING:
    from roicli.pipeline.verify import Verification
    from roicli.storage.shard import Shard

logger = logging.getLogger("roicli")
# What a dataset's name cannot have, and what stands for it.
NO_NAME = {ord("/"): "_", 0: "_"}


@frozen
class Result(Shown):
    """What a run gives: the error table, the parameters, and the features or where they went.

    ``roi_features`` (K, C, P_h, P_w) is None where they were written to ``output``;
    ``verification`` is None unless ``verify`` was asked for, and in no file: what a run computes
    does not depend on whether it was checked.
    """

    operator: str
    errors: ErrorTable
    parameters: Mapping[str, Any]
    # Any, not None: who asked for no output has an array, and need not tell the type checker so.
    roi_features: FloatArray | Any = None
    output: str | None = None
    verification: Verification | None = None

    def __repr__(self) -> str:
        kept = self.roi_features
        parts = [f"{self.operator}: {len(self)} RoIs"]
        if kept is not None:
            parts.append(f"roi_features {kept.shape} {kept.dtype}")
        if self.output is not None:
            parts.append(f"output {self.output!r}")
        return f"Result({', '.join(parts)})"

    # A result stands for its error table, whose columns are what people ask for.

    def __len__(self) -> int:
        return len(self.errors)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.errors)

    def __getitem__(self, key: Any) -> Any:
        """As ``errors[key]``: a column, a row, or the table of some rows."""
        return self.errors[key]

    def to_pandas(self) -> Any:
        """The error table as a pandas.DataFrame."""
        return self.errors.to_pandas()

    def to_arrow(self) -> Any:
        """The error table as a pyarrow.Table."""
        return self.errors.to_arrow()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The error table for whatever reads Arrow's streams."""
        return self.errors.__arrow_c_stream__(requested_schema)


def check_outputs(inputs: Inputs, output: str | None, request: RunRequest) -> None:
    """Raise OutputError for places that a result must not go to, before anything is computed."""
    force, files = request.force, list(inputs.files)
    if output not in (None, STDOUT):
        check_place(str(output), files, force)
        files.append(str(output))
    if request.errors_out is not None:
        from roicli.error_table.arrow import ARROW_ENDINGS, check_arrow
        from roicli.error_table.writers import FORMAT_OF_ENDING

        check_output(request.errors_out, files, force, (*FORMAT_OF_ENDING, *ARROW_ENDINGS))
        if _ending(request.errors_out) in ARROW_ENDINGS:
            check_arrow(request.errors_out)


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()


class ErrorsFile:
    """The file of ``errors_out`` while it is written; without a draft none was asked for."""

    def __init__(self, path: str = "", draft: FileDraft | None = None) -> None:
        self._path, self._draft = path, draft

    def write(self, table: ErrorTable, parameters: Mapping[str, Any]) -> None:
        """Write the table, then ``check``."""
        if self._draft is None:
            return
        from roicli.error_table.arrow import ARROW_ENDINGS, write_arrow
        from roicli.error_table.writers import FORMAT_OF_ENDING, write_table

        ending, path = _ending(self._path), self._draft.path
        with as_output_errors(self._path), open(path, "wb") as file:
            if ending in ARROW_ENDINGS:
                write_arrow(table.columns, table.blocks(), ARROW_ENDINGS[ending], file)
            else:
                write_table(table, parameters, FORMAT_OF_ENDING[ending], file)
        self.check()

    def check(self) -> None:
        """Raise OutputError where the file cannot get its name, before a result gets its own."""
        if self._draft is not None:
            self._draft.check()


@contextmanager
def open_errors_file(request: RunRequest) -> Iterator[ErrorsFile]:
    """The file of ``errors_out``, which gets its name when the block ends well.

    A result that is written inside the block has its name before. So nothing appears of a run that
    is refused.
    """
    if request.errors_out is None:
        yield ErrorsFile()
        return
    with open_draft(request.errors_out, request.force) as draft:
        yield ErrorsFile(request.errors_out, draft)


def write_errors(table: ErrorTable, parameters: Mapping[str, Any], request: RunRequest) -> None:
    """Write the table to ``errors_out`` where there is no result beside it."""
    with open_errors_file(request) as errors_file:
        errors_file.write(table, parameters)


def run_and_write(
    run: Run,
    spec: OperatorSpec,
    output: str | None,
    request: RunRequest,
    shard: Shard | None = None,
) -> Result:
    """Run, write to ``output`` or to memory, and give the result; the files are closed whatever
    happens.

    With ``shard`` the run's RoIs are a block, and what is written is a part of the whole result.
    """

    @contextmanager
    def open_sink(parameters: Mapping[str, Any]) -> Iterator[ResultWriter]:
        checksums = {"row_crc32": np.zeros(len(run.inputs.rois))} if shard is not None else {}
        dtype = np.dtype(parameters["dtype"])
        with _open_writer(run, output, parameters, request, checksums) as opened:
            if shard is None:
                yield opened
            else:
                from roicli.storage.formats.hdf5.part import PartWriter

                yield PartWriter(opened, shard, dtype, checksums["row_crc32"])

    return run_into(open_sink, run, spec, output, request)


def run_into(
    open_sink: Callable[[Mapping[str, Any]], AbstractContextManager[ResultWriter]],
    run: Run,
    spec: OperatorSpec,
    output: str | None,
    request: RunRequest,
) -> Result:
    """As ``run_and_write``; ``open_sink`` is told the parameters and opens what takes the rows."""
    try:
        check_sampling(run, spec)
        check_outputs(run.inputs, output, request)
        measurers = build_value_measurers(run) if request.values else None
        verifier = build_verifier(run, spec, request.verified)
        shape = run.result_shape(spec)
        parameters = provenance.describe_run(run, spec, result_dtype(run, request), shape)
        table = run.error_table()
        with open_errors_file(request) as errors_file, open_sink(parameters) as writer:

            def settle() -> None:
                run.inputs.settle()
                if writer.takes_tables:
                    table.prepare()

            run_operator(
                run.pyramid, run.inputs.rois, run.inputs.map_of_roi, run.scaled(spec), run.engine,
                writer, measurers, request.progress, request.stage_times, verifier, settle,
                run.plan_block,
            )  # fmt: skip
            run.inputs.check_unchanged()
            parameters |= provenance.describe_maps(run.pyramid)
            writer.finish(tables_beside(run, table), provenance.flatten(parameters))
            errors_file.write(table, parameters)
        kept = writer.array if isinstance(writer, MemoryWriter) else None
        verification = verifier.summary() if verifier else None
        if verification:
            logger.info(str(verification))
        return Result(run.operator, table, parameters, kept, output, verification)
    finally:
        run.inputs.close()


def result_dtype(run: Run, request: RunRequest) -> np.dtype[Any]:
    """The dtype asked for, else the one that the maps are computed in."""
    return run.pyramid.compute_dtype if request.dtype is None else np.dtype(request.dtype)


def _open_writer(
    run: Run,
    output: str | None,
    parameters: Mapping[str, Any],
    request: RunRequest,
    checksums: Mapping[str, FloatArray],
) -> AbstractContextManager[ResultWriter]:
    """A writer to memory, a file or stdout."""
    shape, dtype = tuple(parameters["result_shape"]), np.dtype(parameters["dtype"])
    if output is None:
        return nullcontext(MemoryWriter(shape, dtype))
    records = record_dtype(run.error_table().measured)
    beside = records.itemsize + run.inputs.rois.row_width * stored_rois_dtype(run).itemsize
    beside += sum(column.row_bytes for column in run.inputs.carried)
    return open_result(
        ResultFile(
            output,
            shape,
            dtype,
            request.compression,
            request.force,
            beside,
            _plan_resumption(run, output, parameters, request, checksums),
            find_shard_bytes(request.max_memory),
        )
    )


def _plan_resumption(
    run: Run,
    output: str | None,
    parameters: Mapping[str, Any],
    request: RunRequest,
    checksums: Mapping[str, FloatArray],
) -> Resumption | None:
    """What a run that may be interrupted keeps and compares; None for one that keeps nothing."""
    if not request.resume:
        if request.verify_inputs:
            raise ParameterError("--verify-inputs goes with --resume")
        return None
    if output in (None, STDOUT):
        raise ParameterError("--resume keeps what is finished beside a file", "give -o a file")
    from roicli.pipeline.fingerprint import fingerprint

    chosen = {**parameters, "compression": request.compression, "values": request.values}
    return Resumption(
        fingerprint(run, chosen, request.verify_inputs),
        visiting_order(run.inputs.rois, run.inputs.map_of_roi),
        {**run.value_columns, **checksums},
    )


def tables_beside(run: Run, table: ErrorTable) -> dict[str, RowSource]:
    """The tables beside the features in an HDF5 file or a Zarr store, each by its name."""
    rois, dtype = run.inputs.rois, stored_rois_dtype(run)
    found: dict[str, RowSource] = {
        "rois": lambda start, stop: rois.take(slice(start, stop)).as_rows(dtype),
        "quantization_error": lambda start, stop: table.measured_records(slice(start, stop)),
    }
    return found | {name: column.read_rows for name, column in carried_datasets(run.inputs).items()}


def carried_datasets(inputs: Inputs) -> dict[str, CarriedColumn]:
    """The other columns of the RoIs' source, by the names of their datasets in a result."""
    found: dict[str, CarriedColumn] = {}
    for column in inputs.carried:
        name = plain = stored_text(column.name).translate(NO_NAME).strip(".") or "column"
        while f"{ROIS_COLUMNS}/{name}" in found:
            name = f"{name}_{plain}"
        found[f"{ROIS_COLUMNS}/{name}"] = column
    return found


def stored_rois_dtype(run: Run) -> np.dtype[Any]:
    """The dtype of the RoIs that stand beside the features."""
    return np.result_type(run.inputs.rois_dtype, np.float32)
