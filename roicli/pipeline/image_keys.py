"""Which map a RoI is on, where images have keys: ids, file names, whatever a data set calls them.

Keys are compared as texts: 397133 is ``000000397133.jpg`` is ``train/397133.npy``. What is dropped
of them, folders, endings and leading zeros, must not make two of them equal.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign
from roicli.core.record import frozen
from roicli.core.types import Array, IntArray
from roicli.storage.key_list import as_key

logger = logging.getLogger("roicli")

SHOWN = 3
_PACKED = ("gz", "bz2", "xz", "zst", "zip")
LONGEST_ENDING = 8


@frozen
class ImageKeys:
    """What the maps' images are called, in the maps' order: one or several keys each.

    ``source`` says in words where they come from. ``advice`` says what to do
    about a RoI's key that is none of them.
    """

    keys: Sequence[tuple[str, ...]]
    source: str
    advice: str = "name the maps' images in their order with --images; --where leaves others out"

    def __len__(self) -> int:
        return len(self.keys)

    def listed(self) -> str:
        """Some of them, for a message."""
        more = ", ..." if len(self) > SHOWN else ""
        return ", ".join(foreign("|".join(names)) for names in self.keys[:SHOWN]) + more

    @property
    def first_names(self) -> list[str]:
        """One key of each map."""
        return [names[0] for names in self.keys]


def plain_key(text: str) -> str:
    """A key without folders, ending and leading zeros."""
    if text.isalnum():  # a data set has many such keys, and they have neither
        return text.lstrip("0") or text[:1]
    name = text.strip().replace("\\", "/").rpartition("/")[2]
    before, dot, ending = name.rpartition(".")
    if dot and ending.lower() in _PACKED:
        name = before
        before, _, ending = name.rpartition(".")
    is_ending = ending.isascii() and ending.isalnum() and ending[0].isalpha()
    if before and is_ending and len(ending) <= LONGEST_ENDING:
        name = before
    return name.lstrip("0") or name[:1]


def number_by_keys(
    values: Array, keys: ImageKeys, rois: str, column: str, rows: IntArray | None = None
) -> IntArray:
    """(K,) the number of each RoI's map by the key that its image has.

    ``values`` (K,) are numbers or texts; ``rois`` and ``column`` name them, ``rows`` (K,) are their
    rows in the file. Raises InputError for a key that no map has, or that several have.
    """
    distinct, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    texts = [as_key(value) for value in distinct.tolist()]
    found = _match(texts, keys, rois, column)
    missing = [place for place, number in enumerate(found) if number is None]
    if missing:
        place = min(missing, key=lambda one: first[one])
        row = int(first[place]) if rows is None else int(rows[first[place]])
        is_none = texts[place] in ("", "-1")
        more = f" ({len(missing):,} such images)" if len(missing) > 1 else ""
        raise InputError(
            f"{rois}: row {row}, column {column}: image {foreign(texts[place])!s} is none of "
            f"{keys.source} ({len(keys):,}: {keys.listed()}){more}",
            "--drop-invalid leaves out rows of no image" if is_none else keys.advice,
        )
    return np.array(found, np.int64)[inverse]


def _match(texts: Sequence[str], keys: ImageKeys, rois: str, column: str) -> list[int | None]:
    """The map that each key is of, None without one: the same text, else the same but for what
    does not matter.
    """
    exact, loose = _index(keys, str), _index(keys, plain_key)
    found: list[int | None] = []
    taken: dict[int, str] = {}
    for text in texts:
        maps = exact.get(text) or loose.get(plain_key(text)) or ()
        if len(maps) > 1:
            one, other = (foreign("|".join(keys.keys[number])) for number in sorted(maps)[:2])
            raise InputError(
                f"{rois}: column {column}: image {foreign(text)} may be {one} or {other} of "
                f"{keys.source}: folders, endings and leading zeros do not count",
                "name the images so that they differ in more than that",
            )
        number = next(iter(maps), None)
        if (
            number is not None
            and number in taken
            and not _are_names_of((text, taken[number]), keys.keys[number])
        ):
            raise InputError(
                f"{rois}: column {column}: {foreign(taken[number])} and {foreign(text)} are both "
                f"{foreign(keys.keys[number][0])} of {keys.source}, where folders, endings and "
                "leading zeros do not count",
                "name every image in one way",
            )
        if number is not None:
            taken[number] = text
        found.append(number)
    return found


def _are_names_of(texts: Iterable[str], names: Sequence[str]) -> bool:
    return all(text in names for text in texts)


def _index(keys: ImageKeys, spell: Callable[[str], str]) -> Mapping[str, set[int]]:
    """The maps by what their keys are spelled like."""
    found: dict[str, set[int]] = {}
    for number, names in enumerate(keys.keys):
        for name in names:
            found.setdefault(spell(name), set()).add(number)
    return found


def count_keys(values: Array, keys: ImageKeys) -> tuple[int, int]:
    """How many of the RoIs' images are among the keys, and how many images there are."""
    known = {plain_key(name) for names in keys.keys for name in names}
    distinct = np.unique(values).tolist()
    return sum(plain_key(as_key(value)) in known for value in distinct), len(distinct)


def number_by_appearance(values: Array) -> tuple[IntArray, list[str]]:
    """(K,) numbers for keys without maps, in the order in which they first appear, and the keys."""
    distinct, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[inverse], [as_key(value) for value in distinct[order].tolist()]
