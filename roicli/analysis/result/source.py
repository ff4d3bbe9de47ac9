"""A stored result, opened: the features that some runtime gave for RoIs."""

from __future__ import annotations

import os

import numpy as np

from roicli.core.types import Array
from roicli.storage.address import parse_address
from roicli.storage.array import MemoryArray, StoredArray
from roicli.storage.opening import open_array

ResultArgument = str | os.PathLike[str] | Array


def open_stored_result(argument: ResultArgument, name: str) -> StoredArray:
    """A result in a file or in memory, of at least one axis. Raises InputError."""
    if not isinstance(argument, str | os.PathLike):
        return MemoryArray(np.asarray(argument), name)
    return open_array(parse_address(argument), "result")
