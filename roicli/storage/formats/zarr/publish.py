"""Where a Zarr result goes, a folder or a URL, and how a store that is whole gets its name.

A store's metadata is written last, the root's at the very end: until then nothing there opens as
an array or a group. A folder has its final name only then; a URL's store knows no rename.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from roicli.core.exceptions import OutputError, RoicliError, first_line
from roicli.core.system import drop_pages, exchange_names, flush_path, rename_to_new
from roicli.storage.address import is_url
from roicli.storage.atomic import check_inputs_stay
from roicli.storage.formats import STORE_NAMES
from roicli.storage.formats.zarr.store import import_zarr, is_store, open_url
from roicli.storage.plan import PLAN
from roicli.storage.shared_place import Folder, SharedPlace

# --- places ---------------------------------------------------------------------------------------

# Below it stand the plan and the records of a store that many machines fill, until it is whole.
PARTS_PREFIX = ".roicli/"
# A folder that a task still writes to while it is removed is not empty in the end.
REMOVALS = 5


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
        """Remove what is there, or below a prefix.

        The root's metadata goes first: what is left for a moment must not look whole. Then the
        plan, so that a task which puts something all the same takes it back itself.
        """
        for name in () if prefix else (*STORE_NAMES, f"{PARTS_PREFIX}{PLAN}"):
            self.remove(name)
        path = f"{self._root}/{prefix}".rstrip("/")
        with writing(self.path):
            for left in reversed(range(REMOVALS)):
                if self._is_removed(path, can_wait=left > 0):
                    return

    def _is_removed(self, path: str, can_wait: bool) -> bool:
        """Remove what is there; False where somebody put or removed something meanwhile."""
        self._system.invalidate_cache()
        try:
            self._system.rm(path, recursive=True)
        except OSError as error:
            is_missing = isinstance(error, FileNotFoundError)
            if is_missing and not self._system.exists(path):
                return True
            if can_wait and (is_missing or error.errno == errno.ENOTEMPTY):
                return False
            raise
        return True

    def remove_empty_folders(self, prefixes: Iterable[str]) -> None:
        """Remove the folders of ``prefixes`` that are empty, where there are folders: a bucket has
        none.
        """
        for prefix in prefixes:
            with contextlib.suppress(Exception):  # an error of its own kind
                self._system.rmdir(f"{self._root}/{prefix}".rstrip("/"))


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


# --- names ----------------------------------------------------------------------------------------

ENDING = ".zarr"
# What a result that is not finished holds.
NODES = {"roi_features", "rois", "quantization_error", PARTS_PREFIX.rstrip("/")}


def check_place(path: str, taken: Iterable[str], force: bool, endings: tuple[str, ...]) -> None:
    """Raise OutputError unless a Zarr result may be written to ``path``; as ``check_output``."""
    import_zarr(path)
    target = path.rstrip("/")
    if Path(target).suffix.lower() != ENDING:
        raise OutputError(
            f"{path}: unknown ending {Path(target).suffix!r}, expected one of: {' '.join(endings)}",
            f"a URL is written as a Zarr store, with a name that ends in {ENDING}",
        )
    check_inputs_stay(target, taken)
    found = _list_url(path) if is_url(path) else _look_at(target)
    if found == "other":
        raise OutputError(f"{path}: exists and is no Zarr store", "name another store")
    if found and not force:
        raise OutputError(f"{path}: exists already", "add --force to replace it, or name another")


def _list_url(url: str) -> str:
    """What a URL holds: nothing that is in the way (""), a "store", or something "other".

    Chunks without metadata are another run's, which still writes them or was killed. Whether they
    may go is decided where the store is opened.
    """
    held = Remote(url).list_keys("")
    if held & set(STORE_NAMES):
        return "store"
    return "" if held <= NODES else "other"


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
def open_folder(folder: str, target: str, force: bool) -> Iterator[StoreFolder]:
    """A new store in ``folder``, which is renamed to ``target`` when the block ends well.

    On any error or interruption the folder is removed, as is what a killed run left in it.
    """
    shutil.rmtree(folder, ignore_errors=True)
    bring_back(f"{folder}.old", target, force)
    try:
        # What replaces a store is nobody else's to read before it has that store's mode.
        place = StoreFolder(folder, 0o700 if os.path.lexists(target) else 0o777)
        place.make()
        yield place
        name_store(place, target, force)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def bring_back(old: str, target: str, force: bool) -> None:
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


def name_store(place: StoreFolder, target: str, force: bool) -> None:
    """Give a whole store its final name, which lasts when this returns. Raises OutputError."""
    place.flush_folders()
    check_name(target, force)
    if force and os.path.lexists(target):
        _replace(place.path, target)
    else:
        try:
            rename_to_new(place.path, target)
        except FileExistsError:
            check_name(target, force)
            raise
    flush(os.path.dirname(target) or ".")


def check_name(target: str, force: bool) -> None:
    """Raise OutputError where a store cannot have its final name any more."""
    if not os.path.lexists(target):
        return
    if not force:
        raise OutputError(f"{target}: another run wrote it meanwhile", "add --force to replace it")
    if not is_store(target):
        raise OutputError(f"{target}: exists and is no Zarr store", "name another store")


def _replace(folder: str, target: str) -> None:
    """Give the folder the name and the mode of a store, and remove that store.

    Where names cannot be exchanged at once, nothing has the name for a moment.
    """
    os.chmod(folder, stat.S_IMODE(os.stat(target).st_mode) & 0o777)
    old = folder
    if not exchange_names(folder, target):
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


@contextlib.contextmanager
def open_remote(url: str, force: bool) -> Iterator[Remote]:
    """A new store at ``url``; on any error or interruption what was written is removed."""
    place = Remote(url)
    if place.list_keys("") and not force:
        raise OutputError(
            f"{url}: another run is writing it, or was killed",
            "add --force to replace what is there",
        )
    place.make()
    try:
        yield place
    except BaseException:
        # What cannot be removed has no metadata, so it is no result; the error is told.
        with contextlib.suppress(Exception):
            place.remove_all()
        raise
