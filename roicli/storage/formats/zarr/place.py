"""Places that a Zarr result is written to: a folder, or a URL."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, Protocol

from roicli.core.exceptions import OutputError, RoicliError, first_line
from roicli.core.system import drop_pages, flush_path
from roicli.storage.address import is_url
from roicli.storage.formats import STORE_NAMES
from roicli.storage.formats.zarr.read import import_zarr, open_url
from roicli.storage.shared_place import Folder, SharedPlace

# Below it stand the plan and the records of a store that many machines fill, until it is whole.
PARTS_PREFIX = ".roicli/"


class StorePlace(SharedPlace, Protocol):
    """A place that a store is written to."""

    def open(self) -> Any:
        """The zarr store, for writing."""

    def put_chunk(self, key: str, data: memoryview) -> None:
        """Write a key, whole or not at all; it lasts once it is flushed."""

    def flush(self, keys: list[str]) -> None:
        """Bring what was written to ``keys`` to the disk, where there is one here."""


class StoreFolder(Folder):
    """A store in a folder."""

    def open(self) -> Any:
        """The zarr store, for writing."""
        return import_zarr(self.path).storage.LocalStore(self.path)

    def put_chunk(self, key: str, data: memoryview) -> None:
        """Write a key, whole or not at all; it lasts once it is flushed."""
        self._write(key, data, lasting=False)

    def flush(self, keys: list[str]) -> None:
        """Bring files to the disk and let go of their pages, as ``RowFile`` does."""
        for key in keys:
            flush(self._at(key))

    def flush_folders(self) -> None:
        """Bring the names of the files to the disk."""
        for folder, _, _ in os.walk(self.path):
            flush(folder)


class Remote:
    """A store at a URL, where nothing can be locked."""

    is_locked = False

    def __init__(self, url: str) -> None:
        self.path = url
        self._system, self._root = file_system(url)

    def open(self) -> Any:
        """The zarr store, for writing."""
        return open_url(self.path, read_only=False)

    def flush(self, keys: list[str]) -> None:
        """A request that was answered is done."""

    def read(self, key: str) -> bytes | None:
        """What the key holds; None where there is none."""
        with writing(self.path), contextlib.suppress(FileNotFoundError):
            return bytes(self._system.cat_file(f"{self._root}/{key}"))
        return None

    def put(self, key: str, data: bytes) -> None:
        """Write a key past the library."""
        with writing(self.path):
            self._system.pipe_file(f"{self._root}/{key}", data)

    def put_chunk(self, key: str, data: memoryview) -> None:
        """Write a key, whole or not at all."""
        self.put(key, bytes(data))

    def list_keys(self, prefix: str) -> set[str]:
        """The keys directly below ``prefix``, without it."""
        with writing(self.path), contextlib.suppress(FileNotFoundError):
            # Other machines write there too, so what was listed before is no answer.
            self._system.invalidate_cache()
            folder = f"{self._root}/{prefix}".rstrip("/")
            found = {name.rstrip("/") for name in self._system.ls(folder, detail=False)}
            # Some stores keep an empty object for the folder itself.
            return {name.rpartition("/")[2] for name in found - {folder}}
        return set()

    def remove(self, key: str) -> None:
        """Remove a key, where it is there."""
        with writing(self.path), contextlib.suppress(FileNotFoundError):
            self._system.rm_file(f"{self._root}/{key}")

    def make(self) -> None:
        """Make room: a URL has no empty place."""
        self.remove_all()

    def remove_all(self, prefix: str = "") -> None:
        """Remove what is there, or below a prefix. The root's metadata goes first: what is left for
        a moment must not look whole.
        """
        for name in () if prefix else STORE_NAMES:
            self.remove(name)
        with writing(self.path), contextlib.suppress(FileNotFoundError):
            self._system.invalidate_cache()
            self._system.rm(f"{self._root}/{prefix}".rstrip("/"), recursive=True)


def open_place(path: str) -> StorePlace:
    """The place that a folder's path or a URL names."""
    return Remote(path) if is_url(path) else StoreFolder(path)


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it."""
    import fsspec

    open_url(url, read_only=True)  # a missing driver is told in one way
    system, path = fsspec.core.url_to_fs(url)
    return system, path.rstrip("/")


def flush(path: str) -> None:
    """Bring a file or a folder's names to the disk; a file's pages go."""
    flush_path(path)
    if not os.path.isdir(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            drop_pages(descriptor, 0, 0)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def writing(path: str) -> Iterator[None]:
    """Turn whatever zarr, a codec or a network raises into one OutputError."""
    try:
        yield
    except RoicliError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        # Whatever a network raises may pass, as what a disk does; drivers have errors of their own.
        is_remote = is_url(path) and not isinstance(error, OSError)
        cause = ConnectionError(reason) if is_remote else error
        raise OutputError(f"{path}: cannot be written: {reason}") from cause
