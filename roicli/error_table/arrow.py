"""The error table as Parquet or Feather (extra ``roicli[parquet]``: pyarrow), block by block."""

from __future__ import annotations

from typing import IO, Any, Literal

import numpy as np

from roicli.core.exceptions import MissingPackageError
from roicli.core.foreign import foreign, raw_text
from roicli.error_table.columns import Column
from roicli.error_table.table import ErrorTable

ArrowFormat = Literal["parquet", "feather"]
ARROW_ENDINGS: dict[str, ArrowFormat] = {".parquet": "parquet", ".feather": "feather"}


def check_arrow(path: str) -> None:
    """Raise OutputError where pyarrow is missing, before anything is computed."""
    try:
        import pyarrow  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"{path}: Parquet and Feather are written by pyarrow, which is not installed",
            "pip install 'roicli[parquet]'",
        ) from error


def write_arrow(table: ErrorTable, file_format: ArrowFormat, stream: IO[bytes]) -> None:
    """Write every column; what is not defined is null."""
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {"number": pa.float64(), "integer": pa.int64(), "text": pa.string()}
    # A RoI without a pyramid has no level.
    schema = pa.schema([(column.name, kinds[column.kind]) for column in table.columns])
    writer: Any
    if file_format == "parquet":
        writer = parquet.ParquetWriter(stream, schema)
    else:
        writer = pa.ipc.new_file(stream, schema)
    with writer:
        for block in table.blocks():
            arrays = [
                pa.array(_values(block[column.name], column), kinds[column.kind])
                for column in table.columns
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def _values(values: Any, column: Column) -> list[Any]:
    """A column's cells as Python values, None where one is not defined."""
    if column.kind == "text":
        return [raw_text(foreign(value)) for value in values.tolist()]
    found = np.asarray(values)
    if found.dtype.kind != "f":
        return list(found.tolist())
    whole = column.kind == "integer"
    return [
        None if not known else int(value) if whole else value
        for value, known in zip(found.tolist(), np.isfinite(found).tolist(), strict=True)
    ]
