"""Zarr stores as they are opened: by what ways, and that a chunk that is gone is not read as zeros.

The library is imported when the first store is opened: it takes longer than a small run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import warnings
from collections.abc import Iterator
from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np

from roicli.core.exceptions import InputError, MissingPackageError, first_line
from roicli.core.foreign import foreign
from roicli.core.system import open_to_read, open_unless_link
from roicli.core.types import as_bytes
from roicli.storage.address import check_regular_file, is_url
from roicli.storage.array import (
    read_whole,
)
from roicli.storage.file_state import FileState, read_state, read_state_and_links
from roicli.storage.formats import REFERENCE, STORE_NAMES, refuse_references
from roicli.storage.formats.zarr.floats import register_narrow_floats
from roicli.storage.limits import ALLOW_HINT, external_is_allowed

METADATA_NAMES = (*STORE_NAMES, ".zattrs", ".zmetadata")
# A chunk is decoded whole, whatever is read of it, and metadata may promise any size.
MAX_CHUNK_BYTES = 2 << 30
# Its last four bytes are the length of all, little-endian. Source: c-blosc, README_CHUNK_FORMAT.
BLOSC_HEADER_BYTES = 16


class LostChunkError(Exception):
    """The store has no chunk where the array has values. Holds the chunk's key."""


def import_zarr(name: str) -> Any:
    """Import zarr, which ``name`` needs. Raises MissingPackageError."""
    try:
        import zarr
    except ImportError as error:
        raise MissingPackageError(
            f"{name}: Zarr stores need the module zarr, which does not load: {first_line(error)}",
            "pip install 'roicli[zarr]'",
        ) from error
    return zarr


@contextlib.contextmanager
def reading(name: str, what: str = "") -> Iterator[None]:
    """Turn whatever zarr, a codec or a network raises into one InputError that says where."""
    try:
        yield
    except (InputError, MissingPackageError):
        raise
    except LostChunkError as error:
        raise InputError(
            f"{name}: chunk {error} is not in the store, where zarr would read its fill value",
            "restore it, or store it if it holds nothing else (docs/zarr.md)",
        ) from error
    except Exception as error:
        raise InputError(f"{name}: {what}cannot be read: {first_line(error)}") from error


@contextlib.contextmanager
def opening(name: str, what: str = "") -> Iterator[None]:
    """As ``reading``, without zarr's warnings of files that are none of Zarr's and of odd dtypes.

    Filters of warnings are the whole process's, so this is for one thread: not for values.
    """
    with reading(name, what), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def open_url(url: str, read_only: bool) -> Any:
    """An fsspec store. Raises MissingPackageError naming the driver, or InputError."""
    zarr = import_zarr(url)
    try:
        return zarr.storage.FsspecStore.from_url(url, read_only=read_only)
    except ImportError as error:
        raise MissingPackageError(
            f"{url}: {first_line(error)}", "install it beside roicli, as pip install NAME"
        ) from error
    except Exception as error:  # each driver has errors of its own
        raise InputError(
            f"{url}: cannot be opened: {first_line(error)}",
            "give the URL of a folder that holds a Zarr store",
        ) from error


def check_folder(path: str) -> None:
    """Raise InputError unless ``path`` is a folder that holds a Zarr store."""
    if not os.path.lexists(path):
        raise InputError(f"{path}: no such folder")
    if not os.path.isdir(path):
        raise InputError(f"{path}: is a file, expected the folder of a Zarr store")
    if not is_store(path):
        raise InputError(f"{path}: is no Zarr store, it has none of {', '.join(STORE_NAMES)}")


def is_store(path: str) -> bool:
    """Whether the folder holds the metadata of a Zarr group or array."""
    return any(os.path.exists(os.path.join(path, name)) for name in STORE_NAMES)


def _open_archive(path: str) -> Any:
    """The store in a ZIP archive. Raises InputError, also where a member is too large a chunk."""
    import zipfile

    from zarr.storage import ZipStore

    check_regular_file(path)
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: is a file, expected the folder of a Zarr store, or one ZIP file")
    with opening(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.file_size > MAX_CHUNK_BYTES:
                    raise InputError(
                        f"{path}: {foreign(member.filename)} unpacks to {member.file_size:,} bytes,"
                        f" expected at most {MAX_CHUNK_BYTES:,}"
                    )
        return ZipStore(path, mode="r", read_only=True)


def is_archive(path: str) -> bool:
    """Whether the store is one ZIP file."""
    return not is_url(path) and os.path.isfile(path)


class Ways:
    """The ways to the keys of a store in a folder: none leads out of it unnoticed.

    A chunk may be a symbolic link to any file that the user may read, or a pipe, which would be
    waited for.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        # Asked here: zarr reads in threads, which do not inherit the permission.
        self._may_lead_out = external_is_allowed()
        self._folders: set[str] = set()

    def check(self, key: str) -> None:
        """Raise InputError for a key that must not be read; one that is not there passes."""
        if key in self._folders:
            return
        for way in accumulate(key.split("/"), "{}/{}".format):
            if way in self._folders:
                continue
            place = os.path.join(self._root, way)
            try:
                mode = os.lstat(place).st_mode
                if stat.S_ISLNK(mode):
                    self._refuse_link(place)
                    mode = os.stat(place).st_mode
            except (FileNotFoundError, NotADirectoryError):
                return
            if stat.S_ISDIR(mode):
                self._folders.add(way)
            else:
                _check_regular(mode, place)

    def read(self, key: str) -> memoryview | None:
        """The bytes of a key; None where it is not there. Raises InputError, as ``check``.

        What is a link is asked of the call that opens it, so that a chunk costs no other.
        """
        self.check(key.rpartition("/")[0])
        place = os.path.join(self._root, key)
        try:
            descriptor = open_unless_link(place)
            if descriptor is None:
                self.check(key)
                descriptor = open_to_read(place)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        try:
            status = os.stat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                return None
            _check_regular(status.st_mode, place)
            found = as_bytes(np.empty(status.st_size, np.uint8))
            read_whole(descriptor, found, 0)
            return found
        finally:
            os.close(descriptor)

    def _refuse_link(self, place: str) -> None:
        if not self._may_lead_out:
            raise InputError(
                f"{place}: is a symbolic link to {os.readlink(place)}, outside the store",
                ALLOW_HINT,
            )


def _check_regular(mode: int, place: str) -> None:
    if not stat.S_ISREG(mode):
        raise InputError(f"{place}: is not a regular file, expected a part of a Zarr store")


def states_of(path: str, inside: str) -> dict[str, FileState]:
    """What reading the array ``inside`` the store at ``path`` opens, as it is now.

    This is the array's folder, the metadata of the groups above it, and what symbolic links among
    them lead to.
    """
    if is_url(path):
        return {}
    if is_archive(path):
        return {path: read_state(path)}
    *groups, folder = accumulate((path, *filter(None, inside.split("/"))), os.path.join)
    above = (os.path.join(group, name) for group in groups for name in METADATA_NAMES)
    waiting = [folder, *filter(os.path.lexists, above)]
    found: dict[str, FileState] = {}
    root = f"{os.path.realpath(path)}{os.sep}"
    while waiting:
        place = waiting.pop()
        if place in found:
            continue
        found[place], links = read_state_and_links(place)
        targets = map(os.path.realpath, (place, *links))
        waiting += [name for name in targets if not f"{name}{os.sep}".startswith(root)]
    return found


def open_store(path: str) -> Any:
    """The store at a folder or URL, read-only; a chunk that is not there is a LostChunkError.

    Zarr's rule is that a missing chunk reads as the fill value, so a lost one would read as zeros.
    """
    import_zarr(path)
    register_narrow_floats()
    strict = _strict_store()
    if path.startswith(REFERENCE):
        refuse_references(path)
    if is_url(path):
        return strict(open_url(path, read_only=True))
    if is_archive(path):
        return strict(_open_archive(path))
    check_folder(path)
    return strict(_checked_folder()(path))


@cache
def _strict_store() -> Any:
    from zarr.storage import WrapperStore

    class StrictStore(WrapperStore):  # type: ignore[type-arg]
        """Knows which keys are chunks, and of ``blosc_arrays`` how long a chunk must be."""

        def __init__(self, store: Any) -> None:
            super().__init__(store)
            self.blosc_arrays: set[str] = set()

        async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
            found = await self._store.get(key, prototype, byte_range)
            if found is None and key.rpartition("/")[2] not in METADATA_NAMES:
                raise LostChunkError(key)
            if found is not None and byte_range is None:
                self._check_length(key, found)
            return found

        def _check_length(self, key: str, found: Any) -> None:
            # Blosc reads past the end of a chunk that was cut short, whatever lies there.
            if not any(key.startswith(f"{path}/".lstrip("/")) for path in self.blosc_arrays):
                return
            if key.rpartition("/")[2] not in METADATA_NAMES:
                header = found[:BLOSC_HEADER_BYTES].to_bytes()
                promised = int.from_bytes(header[12:16], "little")
                if len(header) < BLOSC_HEADER_BYTES or promised != len(found):
                    raise ValueError(
                        f"chunk {key} has {len(found):,} bytes, its header promises {promised:,}"
                    )

    return StrictStore


@cache
def _checked_folder() -> Any:
    from zarr.buffer import default_buffer_prototype
    from zarr.storage import LocalStore

    class CheckedFolder(LocalStore):
        """Looks at the way to a file before it is opened."""

        def __init__(self, path: str) -> None:
            super().__init__(path, read_only=True)
            self._ways = Ways(path)

        async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
            if byte_range is None:
                return await asyncio.to_thread(self._read, key, prototype)
            self._ways.check(key)
            return await super().get(key, prototype, byte_range)

        def get_sync(self, key: str, *, prototype: Any = None, byte_range: Any = None) -> Any:
            if byte_range is None:
                return self._read(key, prototype)
            self._ways.check(key)
            return super().get_sync(key, prototype=prototype, byte_range=byte_range)

        async def get_partial_values(self, prototype: Any, key_ranges: Any) -> Any:
            asked = list(key_ranges)
            for key, _ in asked:
                self._ways.check(key)
            return await super().get_partial_values(prototype, asked)

        def _read(self, key: str, prototype: Any) -> Any:
            found = self._ways.read(key)
            buffer = (prototype or default_buffer_prototype()).buffer
            return None if found is None else buffer.from_bytes(found)

    return CheckedFolder
