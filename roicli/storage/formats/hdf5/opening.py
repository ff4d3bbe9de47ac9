"""HDF5 files are opened in a child process first, and only what came through there in this one."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

from roicli.storage.address import Address, check_regular_file
from roicli.storage.file_state import read_state
from roicli.storage.formats.hdf5.array import Hdf5Array, Shape, choose_dataset, open_file
from roicli.storage.formats.hdf5.containment import OpeningChild, Readable, is_contained

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
    state, status = read_state(address.path), os.stat(address.path)
    known = (*_identity(status), address, wanted, preferred)

    def choose() -> Hdf5Array:
        file = open_file(address.path, str(Address(address.path)))
        array = choose_dataset(file, address, fits, wanted, preferred)
        array.files = {address.path: state, **array.files}
        return array

    if not is_contained() or known in _OPENED:
        return choose()
    array = _choose_in_child_first(choose, address, status.st_size)
    if array.is_copied_from(address.path) and len(_OPENED) < MOST_OPENED:
        _OPENED.add(known)
    return array


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """What changes when a file is written or replaced, even where its time is set back."""
    times = status.st_mtime_ns, status.st_ctime_ns
    return (status.st_dev, status.st_ino, status.st_size, *times)


def parse_hdf5(
    data: bytes,
    address: Address,
    fits: Callable[[Shape], bool],
    wanted: str,
    preferred: str | None = None,
) -> Hdf5Array:
    """An HDF5 file that was read from a pipe; as ``open_hdf5``."""

    def choose() -> Hdf5Array:
        file = open_file(io.BytesIO(data), str(Address(address.path)))
        return choose_dataset(file, address, fits, wanted, preferred)

    return _choose_in_child_first(choose, address, len(data)) if is_contained() else choose()


def _choose_in_child_first(
    choose: Callable[[], Hdf5Array], address: Address, size: int
) -> Hdf5Array:
    """What ``choose`` gives here, once a child has come through it; ``size`` is the file's."""

    def open_dataset() -> Readable:
        array = choose()
        return Readable(array.dataset, array.row_bytes)

    child = OpeningChild(open_dataset, str(Address(address.path)), size)
    try:
        return choose().read_by(child)
    except BaseException:
        child.close()
        raise
