"""An HDF5 file that is open, and what is found in it by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import h5py

from roicli.core.exceptions import InputError, first_line
from roicli.core.foreign import foreign
from roicli.core.system import renew_time
from roicli.storage.address import Address
from roicli.storage.formats.hdf5.frames import is_frame
from roicli.storage.formats.hdf5.links import OtherFiles, find_object, name_of

# What h5py raises for a damaged file, wherever in it; its own words are kept.
DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError)
NO_MEMORY = "memory allocation failed"
LOCKED, WRITING = "unable to lock file", "already open for write"
# Groups whose names begin so are indices of PyTables' tables.
INDEX_OF_PYTABLES = b"_i_"


def open_file(source: Any, name: str) -> h5py.File:
    """An HDF5 file or the bytes of one, open for reading. Raises InputError."""
    try:
        return h5py.File(source, "r")
    except Exception as error:
        text = str(error)
        hint = None
        if LOCKED in text:
            text, hint = (
                "another process has it open for writing, or its file system has no locks",
                ("wait until the writer is done, or set HDF5_USE_FILE_LOCKING=FALSE"),
            )
        elif WRITING in text:
            text, hint = (
                "it is open for writing, or its writer ended without closing it",
                (f"wait for the writer; if there is none: h5clear -s {name}"),
            )
        raise InputError(
            f"{name}: cannot be opened as HDF5: {text if hint else first_line(error)}", hint
        ) from error


def close_file(file: h5py.File) -> None:
    """Close a file that was only read; what a damaged one says to that changes nothing."""
    with suppress(*DAMAGE):
        file.close()


def pass_over(error: Exception) -> None:
    """Go on without what is damaged, unless HDF5 found no memory for it: MemoryError.

    A child has a limit, and the run, which repeats what came through there, has none.
    """
    if isinstance(error, MemoryError) or NO_MEMORY in str(error):
        raise MemoryError("it describes more than memory can hold") from error


@contextmanager
def naming_damage(name: str) -> Iterator[None]:
    """What h5py raises inside the block becomes one InputError.

    A refusal does not show that the file is damaged: it may be a type that NumPy has not.
    """
    try:
        yield
    except DAMAGE as error:
        raise InputError(
            f"{name}: cannot be read as HDF5: {first_line(error)}",
            "if the file is damaged, make it anew",
        ) from error


def look_up(
    file: h5py.File, address: Address, others: OtherFiles
) -> tuple[h5py.Group | h5py.Dataset, str]:
    """The group or dataset that the address names, and its file's path; as ``find_object``.

    Raises InputError.
    """
    name = address.dataset or "/"
    try:
        node, path = find_object(file, name, address.path, others)
    except DAMAGE as error:
        pass_over(error)
        found = ", ".join(foreign(path) for path, _ in list_datasets(file)) or "none"
        raise InputError(
            f"{Address(address.path)}: has no dataset {name!r}; its datasets are: {found}"
        ) from None
    if not isinstance(node, h5py.Group | h5py.Dataset):
        raise InputError(f"{address}: is a named datatype, expected a dataset")
    return node, path


def list_datasets(
    group: h5py.Group, frames: list[h5py.Group] | None = None
) -> list[tuple[str, h5py.Dataset]]:
    """Every dataset below a group; neither soft links nor links outside the file are followed.

    With ``frames`` the tables of pandas are put there, and their datasets are no others'; the
    indices of PyTables are nobody's.

    Groups are gone through one by one, because HDF5's own visit finds each object by its whole
    path: that takes time with the square of the depth.
    """
    found: list[tuple[str, h5py.Dataset]] = []
    if frames is not None and is_frame(group):
        frames.append(group)
        return found
    seen = {_place_of(group)}
    waiting = [(group, name) for name in reversed(_hard_links(group))]
    while waiting:
        parent, name = waiting.pop()
        node = parent[name]
        place = _place_of(node)
        if place in seen:
            continue
        seen.add(place)
        renew_time()
        if isinstance(node, h5py.Dataset):
            found.append((name_of(node), node))
        elif isinstance(node, h5py.Group) and name.startswith(INDEX_OF_PYTABLES):
            continue
        elif isinstance(node, h5py.Group) and frames is not None and is_frame(node):
            frames.append(node)
        elif isinstance(node, h5py.Group):
            waiting += [(node, inner) for inner in reversed(_hard_links(node))]
    return found


def _hard_links(group: h5py.Group) -> list[bytes]:
    """The names in a group that are objects of the same file, sorted."""
    links = group.id.links
    return [name for name in group.id if links.get_info(name).type == h5py.h5l.TYPE_HARD]


def _place_of(node: h5py.Group | h5py.Dataset | h5py.Datatype) -> tuple[int, int]:
    """Where an object stands: one that has several names is met once."""
    information = h5py.h5o.get_info(node.id)
    return information.fileno, information.addr
