"""Tables as Apache Parquet (extra ``roicli[parquet]``: pyarrow)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from roicli.core.exceptions import InputError, MissingPackageError, first_line
from roicli.core.foreign import foreign
from roicli.storage.address import Address, check_regular_file
from roicli.storage.array import precision_of
from roicli.storage.file_state import FileState, read_state
from roicli.storage.limits import check_memory
from roicli.storage.roi_columns import hold_boxes
from roicli.storage.table import Column, Table, column_of, text_column

# What is unpacked, converted and held beside what it was unpacked from.
TIMES_IN_MEMORY = 3
# How pandas names an index that has no name.
INDEX_OF_PANDAS = "__index_level_"


def open_table(address: Address) -> Table:
    """The table of a Parquet file. Raises InputError."""
    return open_with(read_parquet, address)


def parse_table(data: bytes, name: str, files: Mapping[str, FileState] | None = None) -> Table:
    """The table in the bytes of a Parquet file. Raises InputError."""
    return parse_with(read_parquet, data, name, files or {})


def read_parquet(source: Any, name: str) -> Any:
    """The columns that can be carried, as an Arrow table."""
    from pyarrow import parquet

    file = parquet.ParquetFile(source)
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    unpacked = sum(group.total_byte_size for group in groups)
    check_memory(name, "its table", unpacked * TIMES_IN_MEMORY)
    schema = file.schema_arrow
    return file.read([one.name for one in schema if is_carried(one)], use_threads=False)


def open_with(read: Callable[[Any, str], Any], address: Address) -> Table:
    """The table of a file that ``read`` gives as Arrow's. Raises InputError."""
    path = address.path
    check_regular_file(path)
    state = read_state(path)
    with naming_arrow(path), open(path, "rb") as stream:
        return _make_table(read(stream, path), path, {path: state})


def parse_with(
    read: Callable[[Any, str], Any], data: bytes, name: str, files: Mapping[str, FileState]
) -> Table:
    """As ``open_with``, of a file's bytes."""
    with naming_arrow(name):
        import pyarrow as pa

        return _make_table(read(pa.BufferReader(data), name), name, files)


def convert_stream(value: Any, name: str) -> Table:
    """The table of an object that gives Arrow's streams (``__arrow_c_stream__``). Raises
    InputError.
    """
    with naming_arrow(name):
        import pyarrow as pa

        arrow = pa.table(value)
        return _make_table(
            arrow.select([one.name for one in arrow.schema if is_carried(one)]), name, {}
        )


@contextmanager
def naming_arrow(name: str) -> Iterator[None]:
    """What Arrow raises inside the block becomes one InputError."""
    try:
        yield
    except InputError:
        raise
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"{name}: Parquet, Feather and Arrow are read by pyarrow, which is not installed",
            "pip install 'roicli[parquet]'",
        ) from error
    except Exception as error:
        raise InputError(f"{name}: cannot be read: {first_line(error)}") from error


def is_carried(field: Any) -> bool:
    """Whether a column of Arrow's type is read: numbers, texts, lists and records of numbers."""
    from pyarrow import types

    kind = field.type
    if _is_list(kind):
        return _is_number(kind.value_type) or is_carried(kind.value_field)
    if types.is_struct(kind):
        return any(is_carried(kind.field(place)) for place in range(kind.num_fields))
    if types.is_dictionary(kind):
        kind = kind.value_type
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    is_other = types.is_boolean(kind) or types.is_temporal(kind) or types.is_decimal(kind)
    return _is_number(kind) or is_text or is_other


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    is_large = types.is_large_list(kind)
    return bool(types.is_list(kind) or is_large or types.is_fixed_size_list(kind))


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind))


def _make_table(arrow: Any, name: str, files: Mapping[str, FileState]) -> Table:
    from pyarrow import types

    while any(types.is_struct(one.type) for one in arrow.schema):
        arrow = arrow.flatten()
    columns = []
    for field, values in zip(arrow.schema, arrow.columns, strict=True):
        if not field.name.startswith(INDEX_OF_PANDAS):
            columns.append(_make_column(field.name, values))
    found = [one for one in columns if one is not None]
    names = [one.name.rpartition(".")[2] for one in arrow.schema]
    has_lists = any(_is_list(one.type) and _is_nested(one.type.value_type) for one in arrow.schema)
    if has_lists and len(set(names)) == len(names) and not _hold_boxes(found):
        from roicli.storage.formats import records  # an image's boxes in a row, as JSON has them

        return records.make_table(arrow.rename_columns(names).to_pylist(), name, files)
    numbers = [one.precision.name for one in found if one.precision]
    return Table(foreign(name), arrow.num_rows, tuple(found), (numbers or ["text"])[0], files)


def _hold_boxes(columns: Sequence[Column]) -> bool:
    table = Table("", 0, tuple(columns), "")
    return hold_boxes(table.headings)


def _is_nested(kind: Any) -> bool:
    from pyarrow import types

    return _is_list(kind) or bool(types.is_struct(kind))


def _make_column(name: str, values: Any) -> Column | None:
    """None of lists that are not all of one length."""
    from pyarrow import types

    kind = values.type
    if _is_list(kind):
        if not _is_number(kind.value_type):
            return None
        rows: Sequence[Any] = values.to_pylist()
        widths = {len(row) if row is not None else -1 for row in rows}
        if len(widths) != 1 or min(widths) < 2 or any(None in row for row in rows):
            return None
        dtype = _dtype_of(kind.value_type)
        return Column(name, np.array(rows, dtype), precision_of(dtype))
    if types.is_decimal(kind):
        values, kind = values.cast("float64"), values.cast("float64").type
    if _is_number(kind):
        dtype = _dtype_of(kind)
        found = values.to_numpy()
        # Where some are missing, Arrow gives whole numbers as float64.
        return Column(name, np.ascontiguousarray(found), precision_of(dtype))
    if types.is_boolean(kind) and not values.null_count:
        return column_of(name, np.asarray(values.to_numpy(zero_copy_only=False), bool))
    return text_column(name, values.to_pylist())


def _dtype_of(kind: Any) -> np.dtype[Any]:
    """NumPy's dtype of an Arrow type; ``to_pandas_dtype`` imports pandas in older releases."""
    import pyarrow as pa

    return pa.array([], kind).to_numpy(zero_copy_only=False).dtype  # type: ignore[no-any-return]
