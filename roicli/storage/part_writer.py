"""A part of a result: a block of its rows, with what joining it to the others needs.

Beside what every HDF5 result holds stand ``/rows`` (k,), the rows' numbers in the whole, and
``/row_crc32`` (k,), the CRC-32 of each row of the features. The attributes are those of the whole,
and three more: which part it is, what the parts must agree in, and the CRC-32 of each table.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from roicli.core.types import Array, FloatArray, IntArray
from roicli.storage.atomic import RowSource
from roicli.storage.result import ResultWriter
from roicli.storage.row_file import as_bytes, narrow
from roicli.storage.shard import Shard

ROWS, ROW_CRC32 = "rows", "row_crc32"
SHARD, FINGERPRINT, TABLES_CRC32 = "shard", "part_fingerprint", "part_tables_crc32"
PART_TABLES = (ROWS, ROW_CRC32)
PART_ATTRIBUTES = (SHARD, FINGERPRINT, TABLES_CRC32)
BLOCK_ROWS = 1 << 16


class PartWriter:
    """Hands rows on to ``writer``, and keeps the checksum of each.

    ``checksums`` (k,) float64, which holds 32 bits exactly, so that a resumed run keeps them as it
    keeps value columns.
    """

    def __init__(
        self,
        writer: ResultWriter,
        shard: Shard,
        dtype: np.dtype[np.floating],
        checksums: FloatArray,
    ) -> None:
        self._writer, self._shard, self._dtype = writer, shard, dtype
        self._checksums = checksums
        self.finished, self.takes_tables = writer.finished, writer.takes_tables

    def write_rows(self, rows: IntArray, block: Array) -> None:
        """Write ``block`` (k, C, P_h, P_w) to ``rows`` (k,) of the part."""
        data = narrow(block, self._dtype)
        self._checksums[rows] = [zlib.crc32(as_bytes(row)) for row in data]
        self._writer.write_rows(rows, data)

    def finish(self, tables: Mapping[str, RowSource], attributes: Mapping[str, Any]) -> None:
        """Add the tables, and the attributes of the whole in place of the part's."""
        checksums, rows = self._checksums.astype(np.uint32), self._shard.rows
        beside: dict[str, RowSource] = {
            **tables,
            ROWS: lambda start, stop: rows[start:stop],
            ROW_CRC32: lambda start, stop: checksums[start:stop],
        }
        count = len(checksums)
        found = {name: crc32_of_table(source, count) for name, source in beside.items()}
        self._writer.finish(
            beside,
            {
                **self._shard.attributes,
                SHARD: str(self._shard),
                FINGERPRINT: json.dumps(dict(self._shard.fingerprint)),
                TABLES_CRC32: json.dumps(found),
            },
        )


def crc32_of_table(source: RowSource, count: int) -> int:
    """The CRC-32 of a table's bytes, read in bounded blocks."""
    crc = 0
    for start in range(0, count, BLOCK_ROWS):
        rows = np.ascontiguousarray(source(start, min(start + BLOCK_ROWS, count)))
        crc = zlib.crc32(as_bytes(rows), crc)
    return crc
