"""The error table as Parquet or Feather (extra ``roicli[parquet]``: pyarrow), block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any, Literal

import numpy as np

from roicli.core.exceptions import MissingPackageError
from roicli.core.foreign import foreign, raw_text
from roicli.core.types import Array
from roicli.error_table.cells import make_each, whole_numbers
from roicli.error_table.columns import Column

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


def import_arrow() -> Any:
    """Import pyarrow, or raise MissingPackageError with the line that installs it."""
    try:
        import pyarrow
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "Arrow's tables need pyarrow, which is not installed", "pip install 'roicli[parquet]'"
        ) from error
    return pyarrow


def read_batches(columns: Sequence[Column], blocks: Iterable[Array]) -> Any:
    """An Arrow RecordBatchReader of every column, a block of rows at a time; what is not defined is
    null.
    """
    pa = import_arrow()
    kinds = {"number": pa.float64(), "integer": pa.int64(), "text": pa.string()}
    # A RoI without a pyramid has no level.
    schema = pa.schema([(column.name, kinds[column.kind]) for column in columns])

    def batches() -> Iterator[Any]:
        for block in blocks:
            arrays = [_array(block[c.name], c, kinds[c.kind]) for c in columns]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def write_arrow(
    columns: Sequence[Column],
    blocks: Iterable[Array],
    file_format: ArrowFormat,
    stream: IO[bytes],
) -> None:
    """Write every column of a table's blocks."""
    from pyarrow import ipc, parquet

    reader = read_batches(columns, blocks)
    writer: Any
    if file_format == "parquet":
        writer = parquet.ParquetWriter(stream, reader.schema)
    else:
        writer = ipc.new_file(stream, reader.schema)
    with writer:
        for batch in reader:
            writer.write_batch(batch)


def _array(values: Array, column: Column, kind: Any) -> Any:
    """A column's cells, null where one is not defined."""
    pa = import_arrow()
    if column.kind == "text":
        return pa.array(make_each(lambda text: raw_text(foreign(text)), values), kind)
    known = np.isfinite(values)
    if column.kind == "integer":
        return pa.array(whole_numbers(values, known), kind, mask=~known)
    return pa.array(values.astype(np.float64), kind, mask=~known)
