"""Tables as Feather, which is Arrow's file of record batches (extra ``roicli[parquet]``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roicli.storage.address import Address
from roicli.storage.file_state import FileState
from roicli.storage.formats.parquet import TIMES_IN_MEMORY, is_carried, open_with, parse_with
from roicli.storage.limits import check_memory
from roicli.storage.table import Table


def open_table(address: Address) -> Table:
    """The table of a Feather file. Raises InputError."""
    return open_with(read_feather, address)


def parse_table(data: bytes, name: str, files: Mapping[str, FileState] | None = None) -> Table:
    """The table in the bytes of a Feather file. Raises InputError."""
    return parse_with(read_feather, data, name, files or {})


def read_feather(source: Any, name: str) -> Any:
    """The columns that can be carried, as an Arrow table, batch by batch."""
    import pyarrow as pa

    with pa.ipc.open_file(source) as file:
        picked = [place for place, one in enumerate(file.schema) if is_carried(one)]
        schema = pa.schema([file.schema.field(place) for place in picked])
        batches, held = [], 0
        for number in range(file.num_record_batches):
            batch = file.get_batch(number)
            batches.append(batch.select(picked))
            held += batch.nbytes
            check_memory(name, "its table", held * TIMES_IN_MEMORY)
    return pa.Table.from_batches(batches, schema)
