"""Addresses with ``{image}`` in them: one array an image, in a folder or in one file.

``maps/{image}.npy``, ``feats.h5::{image}/p3`` and ``{image}.npz::x`` stand for as many addresses as
there are names that fit. What ``{image}`` stands for in one of them is the image's key. Keys are in
natural order: ``img2`` before ``img10``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import cast

from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign
from roicli.core.types import Array
from roicli.storage.address import IMAGE, Address, is_url
from roicli.storage.array import StoredArray
from roicli.storage.choice import Role, Wanted, list_names
from roicli.storage.file_state import FileState, read_state
from roicli.storage.formats import Lister, WayOf, recognize
from roicli.storage.limits import external_files, external_is_allowed
from roicli.storage.open import holds_no_datasets, open_array, watch
from roicli.storage.shelf import Fill, Look, Shelf

_DIGITS = "([0-9]+)"


def is_pattern(address: Address) -> bool:
    """Whether ``{image}`` stands in the address."""
    return IMAGE in address.path or IMAGE in (address.dataset or "")


def address_of(pattern: Address, key: str) -> Address:
    """The address of one image."""
    dataset = pattern.dataset
    return Address(
        pattern.path.replace(IMAGE, key), None if dataset is None else dataset.replace(IMAGE, key)
    )


def find_keys(pattern: Address) -> tuple[str, ...]:
    """The keys of a pattern in natural order: nothing is opened but the folder or the file.

    Raises InputError where nothing fits, with what is there.
    """
    if IMAGE in pattern.path:
        if is_url(pattern.path):
            raise InputError(
                f"{pattern}: URLs cannot be listed",
                f"put {IMAGE} behind the store's URL: s3://bucket/x.zarr::{IMAGE}",
            )
        keys, there = _match(pattern.path, _list_folder)
    else:
        found = recognize(pattern)
        if found.holds != "several":
            raise holds_no_datasets(pattern)
        lister = cast("Lister", found.reader)
        keys, there = _match(
            str(pattern.dataset).strip("/"),
            lambda group, way_of: lister.find_names(pattern.path, group, way_of),
        )
    if not keys:
        raise InputError(f"{pattern}: nothing matches {IMAGE}; {there}")
    return tuple(sorted(keys, key=natural_order))


class AddressShelf(Shelf):
    """Arrays at addresses of their own, as the files of a folder."""

    def __init__(self, pattern: Address, role: Role) -> None:
        self._pattern, self._role = pattern, role
        self._may_lead_out = external_is_allowed()
        self.files: dict[str, FileState] = {}

    def open(self, key: str) -> StoredArray:
        """The array at the key's address."""
        with external_files(self._may_lead_out):
            return open_array(address_of(self._pattern, key), self._role)

    def path_of(self, key: str) -> str:
        """The key's own file."""
        return address_of(self._pattern, key).path

    def begin_look(self, keys: Sequence[str], fill: Fill, width: int) -> Look:
        """As every shelf's; one child process opens the files of a format that needs one.

        The files are what they are now, whenever they are opened.
        """
        addresses = [address_of(self._pattern, key) for key in keys]
        paths = dict.fromkeys(address.path for address in addresses)
        states = {path: read_state(path) for path in paths}
        self.files |= states
        watch(states)
        found = recognize(addresses[0]) if addresses else None
        if found is None or not found.is_contained:
            return super().begin_look(keys, fill, width)
        wanted, shelves = Wanted(self._role), found.shelves

        def look(start: int, stop: int) -> Array:
            return shelves.look_at_files(
                addresses[start:stop], wanted, lambda rows: fill(keys[start:stop], rows), width
            )

        return look


def open_shelf(pattern: Address, role: Role) -> Shelf:
    """The arrays that a pattern stands for, to play a ``role``. Raises InputError."""
    if IMAGE in pattern.path:
        return AddressShelf(pattern, role)
    found = recognize(pattern)
    if not found.keeps_open:
        return AddressShelf(pattern, role)
    dataset, wanted = str(pattern.dataset), Wanted(role)
    shelf = found.shelves.open_shelf(pattern.path, lambda key: dataset.replace(IMAGE, key), wanted)
    watch(shelf.files)
    return shelf


def natural_order(key: str) -> tuple[tuple[str | int, ...], str]:
    """What sorts keys as people do: runs of digits by their number."""
    parts: list[str | int] = []
    for place, part in enumerate(re.split(_DIGITS, key)):
        if place % 2:
            number = part.lstrip("0")  # by its length first: no number is too long for that
            parts += [len(number), number]
        else:
            parts.append(part)
    return tuple(parts), key


def _match(way: str, find_names: Callable[[str, WayOf], Iterable[str]]) -> tuple[list[str], str]:
    """The keys, and where there are none what is there instead, in words.

    The first part of the way with ``{image}`` is looked for among the names in its folder or group;
    where ``{image}`` comes again it must be the same.
    """
    parts = way.split("/")
    place = next(place for place, part in enumerate(parts) if IMAGE in part)
    before, rest = "/".join(parts[:place]), parts[place + 1 :]
    if place and not before:
        before = "/"
    first, *others = map(re.escape, parts[place].split(IMAGE))
    same = "(?P=image)".join(others)
    fits = re.compile(f"{first}(?P<image>.+){same}", re.DOTALL).fullmatch

    def way_of(name: str) -> str | None:
        found = fits(name)
        if found is None:
            return None
        below = [part.replace(IMAGE, found["image"]) for part in rest]
        return "/".join([*parts[:place], name, *below])

    names = list(find_names(before, way_of))
    if names:
        return [str(fits(name)["image"]) for name in names], ""  # type: ignore[index]
    every = list(find_names(before, lambda name: "/".join([*parts[:place], name])))
    fitting = [name for name in every if fits(name)]
    shown = sorted(fitting or every, key=natural_order)
    if fitting:
        lacking = "/".join(rest)
        again = f", {IMAGE} being the same in both places" if IMAGE in lacking else ""
        return [], f"these have no {foreign(lacking)}{again}: {list_names(shown)}"
    twice = f" ({IMAGE} must be the same each time)" if parts[place].count(IMAGE) > 1 else ""
    inside = f"{foreign(before)} holds" if before else "there is"
    return [], f"{inside}: {list_names(shown)}{twice}"


def _list_folder(folder: str, way_of: WayOf) -> list[str]:
    """The names in a folder whose way is there."""
    try:
        names = os.listdir(folder or os.curdir)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{folder or os.curdir}: cannot be listed: {reason}") from error
    return [name for name in names if (way := way_of(name)) is not None and os.path.exists(way)]
