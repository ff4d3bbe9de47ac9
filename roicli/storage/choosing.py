"""Of a file's arrays the only one that fits, where an address names none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from roicli.core.exceptions import InputError
from roicli.storage.address import Address


class Candidate(NamedTuple):
    """An array of a file: its name from the root, its shape (None: without values), its dtype."""

    name: str
    shape: tuple[int, ...] | None
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return f"{self.name} {self.shape} {self.dtype}"


def choose_only(
    address: Address,
    found: Sequence[Candidate],
    fits: Callable[[tuple[int, ...]], bool],
    wanted: str,
) -> int:
    """The index of the only array that holds numbers and ``fits``; ``wanted`` says so in words.

    Raises InputError where there is none, or more than one.
    """
    fitting = [
        index
        for index, candidate in enumerate(found)
        if candidate.shape is not None and candidate.dtype.kind in "iuf" and fits(candidate.shape)
    ]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        shown = ", ".join(str(found[index]) for index in fitting)
        raise InputError(
            f"{address}: {len(fitting)} datasets fit ({wanted}): {shown}",
            f"name one: {Address(address.path)}::{found[fitting[0]].name}",
        )
    shown = ", ".join(map(str, found)) or "none"
    raise InputError(f"{address}: no dataset is {wanted}; found: {shown}")
