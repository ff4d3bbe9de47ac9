"""Many arrays under keys, opened one at a time: of a folder, or of one file that stays open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.types import Array, as_bytes
from roicli.storage.array import StoredArray, read_whole
from roicli.storage.file_state import FileState

# From a key to the way, inside a file, to its array.
WayOfKey = Callable[[str], str]
# Puts the numbers of some keys into the rows of an array.
Fill = Callable[[Sequence[str], Array], None]
# From one place in a list of keys to another: the rows of numbers of the arrays there.
Look = Callable[[int, int], Array]


class Plain(NamedTuple):
    """An array that lies in one piece at ``offset`` of the file, and what is told of it."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    attributes: Mapping[str, Any]
    group_attributes: Mapping[str, Any]
    file_attributes: Mapping[str, Any]


class Shelf(ABC):
    """Arrays under keys. ``files`` are those that it opened itself; others are their arrays'.

    Whether arrays may lead to other files is as it was when the shelf was made: they are opened by
    threads that nobody told.
    """

    files: Mapping[str, FileState] = {}

    @abstractmethod
    def open(self, key: str) -> StoredArray:
        """The array of a key, which the caller closes. Raises InputError."""

    @abstractmethod
    def path_of(self, key: str) -> str:
        """The file that the array of a key is in."""

    def peek(self, key: str, telling: AbstractSet[str]) -> Plain | None:
        """What ``open`` would give, in a part of the time; None where it has to be opened, as where
        it or its group has an attribute that is ``telling``.

        It is asked where ``begin_look`` calls ``fill``.
        """
        return None

    def begin_look(self, keys: Sequence[str], fill: Fill, width: int) -> Look:
        """What looks at the arrays of ``keys``, from one place to another, when it is called, and
        gives the numbers (n, width) that ``fill`` finds.

        HDF5 is looked at in a child process, for its parser may crash. Both raise InputError.
        """

        def look(start: int, stop: int) -> Array:
            found = np.zeros((stop - start, width))
            fill(keys[start:stop], found)
            return found

        return look

    def read_piece(self, key: str, offset: int, out: Array) -> None:
        """The values of an array that said that it has them at ``offset``. Raises InputError."""
        path = self.path_of(key)
        try:
            with open(path, "rb", buffering=0) as file:
                read_whole(file.fileno(), as_bytes(out), offset)
        except (OSError, EOFError) as error:
            raise InputError(f"{path}: cannot be read: {error}") from error

    def close(self) -> None:  # noqa: B027 - not every shelf keeps something open
        """Let go of what stays open."""
