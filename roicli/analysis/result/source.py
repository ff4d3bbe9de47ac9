"""A stored result, opened: the features that some runtime gave for RoIs."""

from __future__ import annotations

import os

import numpy as np

from roicli.core.types import Array
from roicli.storage.address import parse_address
from roicli.storage.array import MemoryArray, StoredArray
from roicli.storage.choice import Wanted
from roicli.storage.formats import trtexec
from roicli.storage.open import open_array, watch

ResultArgument = str | os.PathLike[str] | Array


def open_stored_result(argument: ResultArgument, name: str) -> StoredArray:
    """A result in a file or in memory, of at least one axis. Raises InputError."""
    if not isinstance(argument, str | os.PathLike):
        return MemoryArray(np.asarray(argument), name)
    address = parse_address(argument)
    if os.path.splitext(address.path)[1].lower() == trtexec.ENDING:
        stored = trtexec.open_array(address, Wanted("result"))
        watch(stored.files)
        return stored
    return open_array(address, "result")
