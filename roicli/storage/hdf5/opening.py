"""HDF5 files are opened in a child process first, and only what came through there in this one."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

from roicli.storage.address import Address, check_regular_file
from roicli.storage.hdf5.array import Hdf5Array, Shape, choose_dataset, open_file
from roicli.storage.hdf5.containment import OpeningChild, is_contained

MAGIC = b"\x89HDF\r\n\x1a\n"
# What a child has opened and then this process, so that a program that opens a file again and again
# forks once. What is decoded is read by a child every time.
_OPENED: set[tuple[Any, ...]] = set()
MOST_OPENED = 1 << 12


def open_hdf5(
    address: Address, fits: Callable[[Shape], bool], wanted: str, preferred: str | None = None
) -> Hdf5Array:
    """The named dataset, or the file's (or group's) only one that ``fits``.

    ``wanted`` says in words what fits; of several, ``preferred`` is taken. Raises InputError.
    """
    check_regular_file(address.path)
    return _choose_contained(address.path, address, fits, wanted, preferred)


def parse_hdf5(
    data: bytes,
    address: Address,
    fits: Callable[[Shape], bool],
    wanted: str,
    preferred: str | None = None,
) -> Hdf5Array:
    """An HDF5 file that was read from a pipe."""
    return _choose_contained(data, address, fits, wanted, preferred)


def _choose_contained(source: str | bytes, address: Address, *rule: Any) -> Hdf5Array:
    """Choose the dataset in a child process first, then here."""
    size = os.stat(source).st_size if isinstance(source, str) else len(source)

    def choose() -> Hdf5Array:
        opened = source if isinstance(source, str) else io.BytesIO(source)
        return choose_dataset(open_file(opened, str(Address(address.path))), address, *rule)

    known = (*_identity(source), address, *rule[1:])
    if not is_contained() or known in _OPENED:
        return choose()
    child = OpeningChild(lambda: choose().dataset, str(Address(address.path)), size)
    try:
        array = choose().read_by(child)
    except BaseException:
        child.close()
        raise
    if isinstance(source, str) and array.is_copied_from(source) and len(_OPENED) < MOST_OPENED:
        _OPENED.add(known)
    return array


def _identity(source: str | bytes) -> tuple[int, ...]:
    """What changes when a file is written or replaced, even where its time is set back."""
    if isinstance(source, bytes):
        return ()
    status = os.stat(source)
    times = status.st_mtime_ns, status.st_ctime_ns
    return (status.st_dev, status.st_ino, status.st_size, *times)
