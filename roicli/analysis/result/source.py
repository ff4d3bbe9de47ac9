"""A stored result, opened: the features that some runtime gave for RoIs."""

from __future__ import annotations

import os

from roicli.core.parse import ArrayLike
from roicli.storage.address import parse_address
from roicli.storage.array import StoredArray
from roicli.storage.exchange import open_object
from roicli.storage.open import open_array

ResultArgument = str | os.PathLike[str] | ArrayLike


def open_stored_result(argument: ResultArgument, name: str) -> StoredArray:
    """A result in a file or in memory, of at least one axis. Raises InputError."""
    if not isinstance(argument, str | os.PathLike):
        return open_object(argument, name, "result")
    return open_array(parse_address(argument), "result")
