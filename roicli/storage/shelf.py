"""Many arrays under keys, opened one at a time: of a folder, or of one file that stays open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from roicli.core.types import Array
from roicli.storage.array import StoredArray
from roicli.storage.file_state import FileState

# From a key to the way, inside a file, to its array.
WayOfKey = Callable[[str], str]
# Puts the numbers of some keys into the rows of an array.
Fill = Callable[[Sequence[str], Array], None]


class Plain(NamedTuple):
    """An array that lies in one piece at ``offset`` of the file, and of which nothing is told."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int


class Shelf(ABC):
    """Arrays under keys. ``files`` are those that it opened itself; others are their arrays'."""

    files: Mapping[str, FileState] = {}

    @abstractmethod
    def open(self, key: str) -> StoredArray:
        """The array of a key, which the caller closes. Raises InputError."""

    def peek(self, key: str, telling: Collection[str]) -> Plain | None:
        """What ``open`` would give, in a part of the time; None where it has to be opened, as where
        it or its group has an attribute that is ``telling``.

        It is asked where ``look_at`` calls ``fill``.
        """
        return None

    def look_at(self, keys: Sequence[str], fill: Fill, width: int) -> Array:
        """Open the arrays of all ``keys`` and note what ``fill`` finds: (n, width) numbers.

        HDF5 does so in a child process, for its parser may crash. Raises InputError.
        """
        found = np.zeros((len(keys), width))
        fill(keys, found)
        return found

    def read_piece(self, offset: int, out: Array) -> None:
        """The values of an array that said that it has them at ``offset``. Raises InputError."""
        raise NotImplementedError

    def close(self) -> None:  # noqa: B027 - not every shelf keeps something open
        """Let go of what stays open."""
