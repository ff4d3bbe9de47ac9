"""Rows that arrive in any order, handed on as whole chunks, each once.

RoIs are computed image by image, and a chunk's rows need not come together. What comes as a whole
chunk is handed on as it is. The rest waits in memory while there is room, else in a scratch file,
so that no chunk is ever read back, changed and stored again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import numpy as np

from roicli.core.exceptions import OutputError
from roicli.core.types import Array, FloatType, IntArray
from roicli.storage.row_file import RowFile, narrow, open_scratch

# What may wait in memory; RoIs in the images' order need one chunk at a time.
WAITING_BYTES = 32 << 20

# Told the first row and the rows of one or more whole chunks.
Emit = Callable[[int, Array], None]


class WholeChunks:
    """Takes rows of ``shape`` (K, ...) and emits ``chunk_rows`` of them, or multiples, at a time.

    Rows that must wait on the disk do so in a scratch file in the folder of ``beside``.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: FloatType, chunk_rows: int, emit: Emit, beside: str
    ) -> None:
        self._shape, self._dtype, self._chunk_rows, self._emit = shape, dtype, chunk_rows, emit
        self._beside, self._scratch_files = beside, ExitStack()
        self._scratch: RowFile | None = None
        self._missing = [
            min(chunk_rows, shape[0] - start) for start in range(0, shape[0], chunk_rows)
        ]
        self._waiting: dict[int, Array] = {}
        chunk_bytes = chunk_rows * int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        self._most_waiting = max(1, WAITING_BYTES // max(chunk_bytes, 1))

    def __enter__(self) -> WholeChunks:
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch_files.close()

    def check_complete(self) -> None:
        """Raise OutputError unless every row has come."""
        missing = sum(self._missing)
        if missing:
            raise OutputError(f"{missing:,} of {self._shape[0]:,} rows were not written")

    def write_rows(self, rows: IntArray, block: Array) -> None:
        """Take ``block`` (k, ...), the rows ``rows`` (k,) of the result, each given once."""
        values = narrow(block, self._dtype)
        cuts = np.flatnonzero(np.diff(rows) != 1) + 1
        for run in np.split(np.arange(len(rows)), cuts):
            if len(run):
                self._take_run(int(rows[run[0]]), values[run[0] : run[-1] + 1])

    def _take_run(self, first: int, values: Array) -> None:
        """Take neighbouring rows: the chunks that they fill, and the parts of two others."""
        stop, size = first + len(values), self._chunk_rows
        start = min(-(-first // size) * size, stop)
        # The last chunk of all may be shorter.
        end = stop if stop == self._shape[0] else max(stop // size * size, start)
        if start > first:
            self._take_part(first, values[: start - first])
        if end > start:
            for number in range(start // size, -(-end // size)):
                self._missing[number] = 0
            self._emit(start, values[start - first : end - first])
        if stop > end:
            self._take_part(end, values[end - first :])

    def _take_part(self, first: int, values: Array) -> None:
        """Take rows of one chunk; the last of them complete it."""
        number = first // self._chunk_rows
        start = number * self._chunk_rows
        waiting = self._find_room(number)
        if waiting is None:
            rows = self._open_scratch()
            rows.write_rows(np.arange(first, first + len(values)), values)
        else:
            waiting[first - start : first - start + len(values)] = values
        self._missing[number] -= len(values)
        if self._missing[number] == 0:
            if waiting is None:
                waiting = rows.read_rows(start, min(start + self._chunk_rows, self._shape[0]))
            self._waiting.pop(number, None)
            self._emit(start, waiting)

    def _find_room(self, number: int) -> Array | None:
        """Where a chunk waits in memory; None where it waits in the scratch file."""
        if number in self._waiting:
            return self._waiting[number]
        start = number * self._chunk_rows
        count = min(self._chunk_rows, self._shape[0] - start)
        untouched = self._missing[number] == count
        if not untouched or len(self._waiting) >= self._most_waiting:
            return None
        self._waiting[number] = np.empty((count, *self._shape[1:]), self._dtype)
        return self._waiting[number]

    def _open_scratch(self) -> RowFile:
        if self._scratch is None:
            scratch = open_scratch(self._beside, self._shape, self._dtype)
            self._scratch = self._scratch_files.enter_context(scratch)
        return self._scratch
