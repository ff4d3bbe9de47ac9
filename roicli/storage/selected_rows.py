"""Some rows of a stored array, read without the others where the format allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from roicli.core.types import Array, IntArray
from roicli.storage.stored_array import StoredArray

# Rows that lie no further apart are read together with what lies between them.
SPAN_BYTES = 4 << 20


class SelectedRows:
    """The ``rows`` (k,), ascending, of a stored array (K, ...), as an array (k, ...)."""

    def __init__(self, stored: StoredArray, rows: IntArray) -> None:
        self._stored, self._rows = stored, rows
        self.name = stored.name
        self.shape = (len(rows), *stored.shape[1:])
        self.dtype = stored.dtype
        self.precision = stored.precision
        self.files = stored.files
        self.attributes: Mapping[str, Any] = stored.attributes
        self.file_attributes: Mapping[str, Any] = stored.file_attributes

    def read_item_into(self, index: int, out: Array) -> None:
        """Item ``index`` of the selection into ``out``."""
        self._stored.read_item_into(int(self._rows[index]), out)

    def read_rows_into(self, first: int, out: Array) -> None:
        """As many items of the selection as ``out`` has, from ``first`` on."""
        rows = self._rows[first : first + len(out)]
        row_bytes = max(1, out[:1].nbytes)
        span = max(1, SPAN_BYTES // row_bytes)
        start = 0
        while start < len(rows):
            stop = int(np.searchsorted(rows, rows[start] + span))
            held = np.empty((int(rows[stop - 1] - rows[start]) + 1, *out.shape[1:]), out.dtype)
            self._stored.read_rows_into(int(rows[start]), held)
            out[start:stop] = held[rows[start:stop] - rows[start]]
            start = stop

    def read_all(self) -> Array:
        """The whole selection, C-contiguous, in native byte order."""
        out = np.empty(self.shape, self.dtype)
        self.read_rows_into(0, out)
        return out

    def close(self) -> None:
        """Let go of the file."""
        self._stored.close()
