"""Where a Zarr result is written: a folder that is renamed at the end, or a URL.

A store's metadata is written last, the root's at the very end: until then nothing there opens as
an array or a group. A folder has its final name only then; a URL's store knows no rename.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from roicli.exceptions import OutputError, RoicliError
from roicli.storage.address import is_url
from roicli.storage.output import is_same_file
from roicli.storage.zarr.store import ROOT_NAMES, first_line, import_zarr, is_store, open_url

ENDING = ".zarr"


class Place(Protocol):
    """A store that is being written."""

    def open(self) -> Any:
        """The zarr store, for writing."""

    def put(self, key: str, data: bytes) -> None:
        """Write a key's bytes past the library."""

    def flush(self, keys: list[str]) -> None:
        """Bring what was written to ``keys`` to the disk, where there is one here."""


class Folder:
    """A store in a folder of this machine."""

    def __init__(self, path: str) -> None:
        self._path = path

    def open(self) -> Any:
        """The zarr store, for writing."""
        return import_zarr(self._path).storage.LocalStore(self._path)

    def put(self, key: str, data: bytes) -> None:
        """Write a key's bytes past the library."""
        path = os.path.join(self._path, key)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as stream:
            stream.write(data)
        self.flush([key])

    def flush(self, keys: list[str]) -> None:
        """Bring files to the disk and let go of their pages, as ``RowFile`` does."""
        for key in keys:
            _flush(os.path.join(self._path, key))

    def flush_folders(self) -> None:
        """Bring the names of the files to the disk."""
        for folder, _, _ in os.walk(self._path):
            _flush(folder)


class Remote:
    """A store at a URL."""

    def __init__(self, url: str) -> None:
        self._url = url

    def open(self) -> Any:
        """The zarr store, for writing."""
        return open_url(self._url, read_only=False)

    def put(self, key: str, data: bytes) -> None:
        """Write a key's bytes past the library."""
        system, path = _file_system(self._url)
        system.pipe_file(f"{path}/{key}", data)

    def flush(self, keys: list[str]) -> None:
        """A request that was answered is done."""


def _file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it."""
    import fsspec

    open_url(url, read_only=True)  # a missing driver is told in one way
    system, path = fsspec.core.url_to_fs(url)
    return system, path.rstrip("/")


def _flush(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        if hasattr(os, "posix_fadvise") and not os.path.isdir(path):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
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
        raise OutputError(f"{path}: cannot be written: {reason}") from error


def check_place(path: str, taken: Iterable[str], force: bool, endings: tuple[str, ...]) -> None:
    """Raise OutputError unless a Zarr result may be written to ``path``; as ``check_output``."""
    import_zarr(path)
    target = path.rstrip("/")
    if Path(target).suffix.lower() != ENDING:
        raise OutputError(
            f"{path}: unknown ending {Path(target).suffix!r}, expected one of: {' '.join(endings)}",
            f"a URL is written as a Zarr store, with a name that ends in {ENDING}",
        )
    for source in taken:
        if _lies_within(source, target):
            raise OutputError(
                f"{path}: would overwrite {source}, which this run uses", "name another store"
            )
    if is_url(path):
        with writing(path):
            found = _list_url(path)
    else:
        found = _look_at(target)
    if found == "other":
        raise OutputError(f"{path}: exists and is no Zarr store", "name another store")
    if found and not force:
        raise OutputError(f"{path}: exists already", "add --force to replace it, or name another")


def _lies_within(source: str, target: str) -> bool:
    """Whether an input is the place itself, or a store inside it."""
    if is_url(source) or is_url(target):
        return f"{source.rstrip('/')}/".startswith(f"{target}/")
    if is_same_file(source, target):
        return True
    return os.path.realpath(source).startswith(f"{os.path.realpath(target)}{os.sep}")


def _list_url(url: str) -> str:
    """What a URL holds: nothing (""), a "store", or something "other"."""
    system, path = _file_system(url)
    if any(system.exists(f"{path}/{name}") for name in ROOT_NAMES):
        return "store"
    held = system.find(path) if system.exists(path) else []
    # A run that was killed leaves chunks without metadata.
    leftover = all(key.removeprefix(f"{path}/").startswith(LEFTOVERS) for key in held)
    return "" if not held else "store" if leftover else "other"


LEFTOVERS = ("roi_features/", "rois/", "quantization_error/")


def _look_at(target: str) -> str:
    """What a local name holds, as ``_list_url``. Raises OutputError where it cannot be written."""
    parent = Path(target).parent
    if not parent.is_dir():
        raise OutputError(f"{target}: the folder {parent} does not exist")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{target}: the folder {parent} cannot be written to")
    if not os.path.lexists(target):
        return ""
    return "store" if is_store(target) else "other"


@contextlib.contextmanager
def open_folder(folder: str, target: str, force: bool) -> Iterator[Folder]:
    """A new store in ``folder``, which is renamed to ``target`` when the block ends well.

    On any error or interruption the folder is removed, as is what a killed run left in it.
    """
    shutil.rmtree(folder, ignore_errors=True)
    _bring_back(f"{folder}.old", target, force)
    os.mkdir(folder)
    try:
        place = Folder(folder)
        yield place
        place.flush_folders()
        _move(folder, target, force)
        _flush(os.path.dirname(target) or ".")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _bring_back(old: str, target: str, force: bool) -> None:
    """Give a store its name back that a killed run had moved away and not yet replaced."""
    if not os.path.lexists(old):
        return
    if os.path.lexists(target):
        shutil.rmtree(old)
        return
    os.rename(old, target)
    if not force:
        raise OutputError(
            f"{target}: a run that was to replace it was killed; the old store is back",
            "add --force to replace it",
        )


def _move(folder: str, target: str, force: bool) -> None:
    """Rename the folder; a store that has the name is moved away before and removed after."""
    if force and os.path.lexists(target):
        if not is_store(target):
            raise OutputError(f"{target}: exists and is no Zarr store", "name another store")
        old = f"{folder}.old"
        os.rename(target, old)
        try:
            os.rename(folder, target)
        except BaseException:
            os.rename(old, target)
            raise
        if os.path.islink(old):
            os.unlink(old)
        else:
            shutil.rmtree(old)
        return
    try:
        os.rename(folder, target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise OutputError(
                f"{target}: another run wrote it meanwhile", "add --force to replace it"
            ) from None
        raise


@contextlib.contextmanager
def open_remote(url: str, force: bool) -> Iterator[Remote]:
    """A new store at ``url``; on any error or interruption what was written is removed."""
    with writing(url):
        system, path = _file_system(url)
        if force and system.exists(path):
            # The root's metadata first: what is being removed must not look whole.
            for name in ROOT_NAMES:
                if system.exists(f"{path}/{name}"):
                    system.rm_file(f"{path}/{name}")
            system.rm(path, recursive=True)
    try:
        yield Remote(url)
    except BaseException:
        # What cannot be removed has no metadata, so it is no result; the error is told.
        with contextlib.suppress(Exception):
            system.rm(path, recursive=True)
        raise
