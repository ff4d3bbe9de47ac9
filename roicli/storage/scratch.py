"""Rows that wait on the disk without a name: nothing of them stays, however a run ends."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np

from roicli.storage.address import is_url
from roicli.storage.output import check_room
from roicli.storage.row_file import RowFile


@contextmanager
def open_scratch(beside: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[RowFile]:
    """Room for rows of ``shape`` in the folder of ``beside``; OutputError where it has none.

    Beside a URL there is no folder: then where the system keeps temporary files.
    """
    folder = tempfile.gettempdir() if is_url(beside) else os.path.dirname(beside) or "."
    needed = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    check_room(f"the scratch file in {folder}", folder, needed)
    with (
        tempfile.TemporaryFile(dir=folder) as stream,
        closing(RowFile(os.dup(stream.fileno()), 0, shape, dtype)) as rows,
    ):
        yield rows
