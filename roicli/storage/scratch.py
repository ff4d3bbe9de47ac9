"""Rows that wait on the disk without a name: nothing of them stays, however a run ends."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np

from roicli.storage.row_file import RowFile


@contextmanager
def open_scratch(beside: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[RowFile]:
    """Room for rows of ``shape`` in the folder of the file ``beside``, which has room for them."""
    with (
        tempfile.TemporaryFile(dir=os.path.dirname(beside) or ".") as stream,
        closing(RowFile(os.dup(stream.fileno()), 0, shape, dtype)) as rows,
    ):
        yield rows
