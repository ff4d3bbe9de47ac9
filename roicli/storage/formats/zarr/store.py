"""Zarr stores, versions 2 and 3, open for reading: a folder, or any URL that fsspec knows.

The library is imported when the first store is opened: it takes longer than a small run.
"""

from __future__ import annotations

import contextlib
import os
import stat
import warnings
from collections.abc import Iterator
from functools import cache
from itertools import accumulate
from typing import Any

from roicli.core.exceptions import InputError, ProviderError, first_line
from roicli.core.foreign import foreign
from roicli.storage.address import Address, is_url
from roicli.storage.file_state import FileState, list_links, read_state
from roicli.storage.permission import ALLOW_HINT, external_is_allowed

METADATA_NAMES = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
# One of these makes a folder a store.
ROOT_NAMES = ("zarr.json", ".zgroup", ".zarray")

# Its last four bytes are the length of all, little-endian. Source: c-blosc, README_CHUNK_FORMAT.
BLOSC_HEADER_BYTES = 16


class LostChunkError(Exception):
    """The store has no chunk where the array has values. Holds the chunk's key."""


def import_zarr(name: str) -> Any:
    """Import zarr, or raise ProviderError with the line that installs it; ``name`` needs it."""
    try:
        import zarr
    except ImportError as error:
        raise ProviderError(
            f"{name}: Zarr stores need the module zarr, which does not load: {first_line(error)}",
            "pip install 'roicli[zarr]'",
        ) from error
    return zarr


@contextlib.contextmanager
def reading(name: str, what: str = "") -> Iterator[None]:
    """Turn whatever zarr, a codec or a network raises into one InputError that says where."""
    try:
        yield
    except (InputError, ProviderError):
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
    """An fsspec store. Raises ProviderError naming the driver that is missing, or InputError."""
    zarr = import_zarr(url)
    try:
        return zarr.storage.FsspecStore.from_url(url, read_only=read_only)
    except ImportError as error:
        raise ProviderError(
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
        raise InputError(f"{path}: is no Zarr store, it has none of {', '.join(ROOT_NAMES)}")


def is_store(path: str) -> bool:
    """Whether the folder holds the metadata of a Zarr group or array."""
    return any(os.path.exists(os.path.join(path, name)) for name in ROOT_NAMES)


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
        place = self._root
        for part in key.split("/"):
            place = os.path.join(place, part)
            if place in self._folders:
                continue
            try:
                mode = os.lstat(place).st_mode
                if stat.S_ISLNK(mode):
                    self._refuse_link(place)
                    mode = os.stat(place).st_mode
            except (FileNotFoundError, NotADirectoryError):
                return
            if stat.S_ISDIR(mode):
                self._folders.add(place)
            elif not stat.S_ISREG(mode):
                raise InputError(f"{place}: is not a regular file, expected a part of a Zarr store")

    def _refuse_link(self, place: str) -> None:
        if not self._may_lead_out:
            raise InputError(
                f"{place}: is a symbolic link to {os.readlink(place)}, outside the store",
                ALLOW_HINT,
            )


def states_of(path: str, inside: str) -> dict[str, FileState]:
    """What reading the array ``inside`` the store at ``path`` opens, as it is now.

    This is the array's folder, the metadata of the groups above it, and what symbolic links among
    them lead to.
    """
    if is_url(path):
        return {}
    *groups, folder = accumulate((path, *filter(None, inside.split("/"))), os.path.join)
    above = (os.path.join(group, name) for group in groups for name in METADATA_NAMES)
    waiting = [folder, *filter(os.path.lexists, above)]
    found: dict[str, FileState] = {}
    root = f"{os.path.realpath(path)}{os.sep}"
    while waiting:
        place = waiting.pop()
        if place in found:
            continue
        found[place] = read_state(place)
        targets = map(os.path.realpath, (place, *list_links(place)))
        waiting += [name for name in targets if not f"{name}{os.sep}".startswith(root)]
    return found


def open_store(path: str) -> Any:
    """The store at a folder or URL, read-only; a chunk that is not there is a LostChunkError.

    Zarr's rule is that a missing chunk reads as the fill value, so a lost one would read as zeros.
    """
    import_zarr(path)
    from roicli.storage.formats.zarr.bfloat16 import register_bfloat16

    register_bfloat16()
    strict = _strict_store()
    if is_url(path):
        return strict(open_url(path, read_only=True))
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
    from zarr.storage import LocalStore

    class CheckedFolder(LocalStore):
        """Looks at the way to a file before it is opened."""

        def __init__(self, path: str) -> None:
            super().__init__(path, read_only=True)
            self._ways = Ways(path)

        async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
            self._ways.check(key)
            return await super().get(key, prototype, byte_range)

        def get_sync(self, key: str, **given: Any) -> Any:
            self._ways.check(key)
            return super().get_sync(key, **given)

        async def get_partial_values(self, prototype: Any, key_ranges: Any) -> Any:
            asked = list(key_ranges)
            for key, _ in asked:
                self._ways.check(key)
            return await super().get_partial_values(prototype, asked)

    return CheckedFolder


def open_node(address: Address) -> Any:
    """The zarr.Array or zarr.Group that the address names. Raises InputError."""
    zarr = import_zarr(address.path)
    store = open_store(address.path)
    inside = (address.dataset or "").strip("/")
    with opening(str(address)):
        try:
            return zarr.open(store=store, path=inside, mode="r")
        except FileNotFoundError:
            pass
        if not inside:
            raise InputError(f"{address}: is no Zarr store, it has none of {', '.join(ROOT_NAMES)}")
        root = zarr.open(store=store, mode="r")
        arrays = list_arrays(root, address) if isinstance(root, zarr.Group) else [root]
        found = ", ".join(foreign(array.name) for array in arrays) or "none"
        raise InputError(
            f"{address.path}: has no dataset {address.dataset!r}; its datasets are: {found}"
        )


def name_codec(codec: Any) -> tuple[str, dict[str, Any]]:
    """The name of a codec of Zarr 2 or 3, and how it is set."""
    if hasattr(codec, "codec_id"):
        return codec.codec_id, codec.get_config()
    described = codec.to_dict()
    return described["name"], described.get("configuration", {})


def read_root_attributes(node: Any) -> dict[str, Any]:
    """The attributes of the store that an array or group lies in; none where it has no root."""
    zarr = import_zarr(str(node))
    with opening(node.name):
        if node.path == "":
            return dict(node.attrs)
        with contextlib.suppress(FileNotFoundError):
            return dict(zarr.open(store=node.store, mode="r").attrs)
    return {}


def list_arrays(group: Any, address: Address) -> list[Any]:
    """Every zarr.Array below a group, by name. Raises InputError."""
    zarr = import_zarr(address.path)
    with opening(str(address), "the list of its arrays "):
        members = [node for _, node in group.members(max_depth=None)]
    arrays = [node for node in members if isinstance(node, zarr.Array)]
    if not arrays and is_url(address.path):
        raise InputError(
            f"{address}: no array is listed there", f"name one, as {address.path}::/name"
        )
    return sorted(arrays, key=lambda array: str(array.name))
