"""Reading Zarr stores, versions 2 and 3: a folder, or any URL that fsspec knows.

The library is imported when the first store is opened: it takes longer than a small run.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import stat
import warnings
from collections.abc import Iterator
from functools import cache, partial
from itertools import accumulate
from typing import Any, ClassVar

import numpy as np

from roicli.core.exceptions import InputError, MissingPackageError, first_line
from roicli.core.foreign import foreign
from roicli.core.system import open_to_read, open_unless_link
from roicli.core.types import Array, as_bytes
from roicli.storage.address import Address, check_regular_file, is_url
from roicli.storage.array import (
    FileContents,
    Place,
    StoredArray,
    StoredDataset,
    as_read,
    as_stored,
    check_readable,
    is_narrow_float,
    is_numeric,
    name_of_dtype,
    narrow_float,
    plain_attributes,
    precision_of,
    read_whole,
)
from roicli.storage.choice import Candidate, Wanted, choose_only
from roicli.storage.file_state import FileState, read_state, read_state_and_links
from roicli.storage.formats import REFERENCE, STORE_NAMES, WayOf, names_below
from roicli.storage.limits import ALLOW_HINT, external_is_allowed

METADATA_NAMES = (*STORE_NAMES, ".zattrs", ".zmetadata")
# A chunk is decoded whole, whatever is read of it, and metadata may promise any size.
MAX_CHUNK_BYTES = 2 << 30
# Its last four bytes are the length of all, little-endian. Source: c-blosc, README_CHUNK_FORMAT.
BLOSC_HEADER_BYTES = 16
# Floats of Zarr 3 that zarr-python has not and others write. Source: zarr-extensions, data-types.
NARROW_FLOATS = (
    "bfloat16", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fnuz",
    "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
)  # fmt: skip

# --- stores ---------------------------------------------------------------------------------------


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
        raise InputError(
            f"{path}: is a set of references to other files, which are not followed",
            "give the file that they lead to, which holds the same arrays",
        )
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
            raise InputError(
                f"{address}: is no Zarr store, it has none of {', '.join(STORE_NAMES)}"
            )
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
    return _read_attributes_at(node, "")


def read_group_attributes(node: Any) -> dict[str, Any]:
    """The attributes of the group that an array stands in, below the root; none without one."""
    group = node.path.rpartition("/")[0]
    return _read_attributes_at(node, group) if group else {}


def _read_attributes_at(node: Any, path: str) -> dict[str, Any]:
    zarr = import_zarr(str(node))
    with opening(node.name):
        if node.path == path:
            return dict(node.attrs)
        with contextlib.suppress(FileNotFoundError):
            return dict(zarr.open(store=node.store, path=path, mode="r").attrs)
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


# --- arrays ---------------------------------------------------------------------------------------


@cache
def register_narrow_floats() -> None:
    """Let zarr open arrays of floats that NumPy has not, as their bits, where it knows them not."""
    from zarr.dtype import data_type_registry

    for name in NARROW_FLOATS:
        if name not in data_type_registry.contents:
            data_type_registry.register(name, _bits_of(name))


def _bits_of(name: str) -> Any:
    from zarr import dtype as zarr_dtype
    from zarr import errors

    # Newer releases, 3.4 for one, warn where it is asked for at its old place.
    at_home = hasattr(errors, "DataTypeValidationError")
    not_this_type: type[Exception] = (errors if at_home else zarr_dtype).DataTypeValidationError
    wide = narrow_float(name).itemsize == 2
    base: Any = zarr_dtype.UInt16 if wide else zarr_dtype.UInt8

    class Bits(base):  # type: ignore[misc]
        """The bits of such floats; no NumPy dtype is written as this."""

        _zarr_v3_name: ClassVar[Any] = name
        _zarr_v2_names: ClassVar[Any] = ()

        @classmethod
        def from_native_dtype(cls, dtype: Any) -> Any:
            raise not_this_type(f"{dtype} is not stored as {name}")

        @classmethod
        def _from_json_v2(cls, data: Any) -> Any:
            raise not_this_type(f"Zarr 2 has no {name}: {data}")

        @classmethod
        def _from_json_v3(cls, data: Any) -> Any:
            if data == name:
                return cls()
            raise not_this_type(f"{data} is not {name}")

        def from_json_scalar(self, data: Any, *, zarr_format: Any) -> Any:
            # The fill value is never read: a chunk that is not stored is an error.
            return self.default_scalar()

    return Bits


def stored_dtype(array: Any) -> np.dtype[Any]:
    """The dtype that a zarr.Array means: by name, or as opaque bytes, as ml_dtypes saves."""
    named = getattr(getattr(array.metadata, "data_type", None), "_zarr_v3_name", None)
    return narrow_float(named) if named in NARROW_FLOATS else as_stored(array.dtype)


# The attribute in which xarray names the axes of Zarr 2.
XARRAY_DIMENSIONS = "_ARRAY_DIMENSIONS"


class ZarrArray(StoredArray):
    """One array of a Zarr store, in any dtype, chunking and compression."""

    def __init__(self, array: Any, path: str) -> None:
        self.name = address_of(array, path)
        self.files = states_of(path, array.path)
        stored = stored_dtype(array)
        check_readable(stored, self.name)
        _check_chunks(array, self.name)
        self.shape = tuple(array.shape)
        self.dtype = as_read(stored)
        self.precision = precision_of(stored)
        self.attributes = _read_attributes(array)
        self.dimension_names = _read_dimension_names(array)
        self.group_attributes = read_group_attributes(array)
        self.file_attributes = read_root_attributes(array)
        self.chunk_rows = array.chunks[0] if self.shape else 1
        files = (array.shards or array.chunks)[1:]
        self.image_files = math.prod(-(-a // b) for a, b in zip(self.shape[1:], files, strict=True))
        if array.compressors and name_codec(array.compressors[-1])[0].endswith("blosc"):
            array.store.blosc_arrays.add(array.path)
        self._array = array
        self._bits_of = stored if is_narrow_float(stored) else None

    def read(self, place: Place, out: Array) -> None:
        """The values at ``place`` into ``out``."""
        if out.size == 0:
            return
        with reading(self.name, "its values "):
            if self._bits_of is not None:
                out[...] = np.ascontiguousarray(self._array[place]).view(self._bits_of)
                return
            from zarr.buffer.cpu import NDBuffer

            self._array.get_basic_selection(place, out=NDBuffer.from_numpy_array(out))


def _read_attributes(array: Any) -> dict[str, Any]:
    """An array's attributes, and in Zarr 2 what xarray keeps beside them: the value of no number.

    0 is Zarr's own default, and of numbers that are not packed an ordinary one.
    """
    found = dict(array.attrs)
    fill = array.fill_value if array.metadata.zarr_format == 2 else None
    if fill is not None and XARRAY_DIMENSIONS in found and (fill or "scale_factor" in found):
        found.setdefault("_FillValue", fill)
    return found


def _read_dimension_names(array: Any) -> tuple[str, ...]:
    """What the axes are called: in Zarr 3's metadata, or in an attribute of xarray's."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get(XARRAY_DIMENSIONS)
    if not isinstance(names, list | tuple):
        return ()
    return tuple(foreign("" if name is None else str(name)) for name in names)


def address_of(array: Any, path: str) -> str:
    """The address of an array in the store at ``path``: the store alone where it is the array."""
    return str(Address(path, array.name if array.path else None))


def _check_chunks(array: Any, name: str) -> None:
    size = math.prod(array.chunks) * array.dtype.itemsize
    if size > MAX_CHUNK_BYTES:
        raise InputError(
            f"{name}: a chunk of shape {tuple(array.chunks)} takes {size:,} bytes, "
            f"expected at most {MAX_CHUNK_BYTES:,}"
        )


def open_array(address: Address, wanted: Wanted) -> ZarrArray:
    """The named array, or the store's (or group's) only one that is wanted. Raises InputError."""
    zarr = import_zarr(address.path)
    node = open_node(address)
    if isinstance(node, zarr.Group) and wanted.preferred is not None:
        with opening(str(address)):
            found = node.get(wanted.preferred)
        node = found if isinstance(found, zarr.Array) else node
    if isinstance(node, zarr.Group):
        arrays = list_arrays(node, address)
        candidates = [Candidate(foreign(a.name), tuple(a.shape), stored_dtype(a)) for a in arrays]
        node = arrays[choose_only(address, candidates, wanted)]
    return ZarrArray(node, address.path)


def find_names(path: str, group: str, way_of: WayOf) -> list[str]:
    """The names in a group of a store whose way is there; at a URL each array is a request."""
    if is_url(path) or is_archive(path):
        node, zarr = open_node(Address(path)), import_zarr(path)
        arrays = list_arrays(node, Address(path)) if isinstance(node, zarr.Group) else []
        return names_below([array.path for array in arrays], group, way_of)
    check_folder(path)
    ways = Ways(path)
    folder = os.path.join(path, group)
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise InputError(f"{Address(path, group)}: cannot be listed: {error.strerror}") from error
    found = []
    for name in names:
        way = way_of(name)
        if way is not None:
            ways.check(way)
            if is_store(os.path.join(path, way)):
                found.append(name)
    return found


def read_texts(address: Address) -> list[Any] | None:
    """The texts (n,) of an array; None of numbers. Raises InputError."""
    node = None if address.dataset is None else open_node(address)
    is_text = getattr(getattr(node, "dtype", None), "kind", "") in "TUSO"
    return node[:].tolist() if node is not None and is_text else None


def contents(address: Address) -> FileContents:
    """The arrays below the store's root or the group that the address names, or the one array."""
    path = address.path
    zarr = import_zarr(path)
    node = open_node(address)
    if isinstance(node, zarr.Array):
        return FileContents(foreign(path), "zarr", {}, (_describe_array(node, path),))
    datasets = tuple(_describe_array(a, path) for a in list_arrays(node, address))
    return FileContents(foreign(path), "zarr", plain_attributes(dict(node.attrs)), datasets)


def _describe_array(array: Any, path: str) -> StoredDataset:
    stored = stored_dtype(array)
    return StoredDataset(
        address_of(array, path),
        tuple(array.shape),
        name_of_dtype(stored),
        is_numeric(stored),
        "chunked" if array.shards is None else "sharded",
        tuple(array.chunks),
        ", ".join(map(_describe_codec, (*array.filters, *array.compressors))) or None,
        # Over a network the size of every chunk would be a request of its own.
        None
        if is_url(path) or is_archive(path)
        else _measure_chunks(os.path.join(path, array.path)),
        plain_attributes(dict(array.attrs)),
        # What is odd about its chunks matters only to who reads them.
        partial(ZarrArray, array, path),
    )


def _measure_chunks(folder: str) -> int:
    """Bytes of all that is stored of an array, without its metadata."""
    return sum(
        os.lstat(os.path.join(place, name)).st_size
        for place, _, names in os.walk(folder)
        for name in names
        if name not in METADATA_NAMES
    )


def _describe_codec(codec: Any) -> str:
    """A codec and what it is set to, like ``gzip 5`` or ``blosc zstd 5 shuffle``."""
    name, settings = name_codec(codec)
    shown = [settings.get(key) for key in ("cname", "level", "clevel", "shuffle")]
    return " ".join([name, *(str(setting) for setting in shown if setting is not None)])
