"""A stored result, opened: the features that some runtime gave for RoIs."""

from __future__ import annotations

import os

from roicli.core.parse import ArrayLike
from roicli.storage.address import parse_address
from roicli.storage.array import StoredArray
from roicli.storage.choice import Wanted
from roicli.storage.exchange import open_object
from roicli.storage.formats import trtexec
from roicli.storage.open import open_array, watch

ResultArgument = str | os.PathLike[str] | ArrayLike


def open_stored_result(argument: ResultArgument, name: str) -> StoredArray:
    """A result in a file or in memory, of at least one axis. Raises InputError."""
    if not isinstance(argument, str | os.PathLike):
        return open_object(argument, name, "result")
    address = parse_address(argument)
    if os.path.splitext(address.path)[1].lower() == trtexec.ENDING:
        stored = trtexec.open_array(address, Wanted("result"))
        watch(stored.files)
        return stored
    return open_array(address, "result")
