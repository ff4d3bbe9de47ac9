"""Arrays of Zarr stores, versions 2 and 3: a folder, an archive, or any URL that fsspec knows."""

from __future__ import annotations

import contextlib
import math
import os
from functools import partial
from typing import Any

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign
from roicli.core.types import Array
from roicli.storage.address import Address, is_url
from roicli.storage.array import (
    FileContents,
    Place,
    StoredArray,
    StoredDataset,
    as_read,
    check_readable,
    is_narrow_float,
    is_numeric,
    name_of_dtype,
    plain_attributes,
    precision_of,
)
from roicli.storage.choice import Candidate, Wanted, choose_only
from roicli.storage.formats import STORE_NAMES, WayOf, names_below
from roicli.storage.formats.zarr.floats import stored_dtype
from roicli.storage.formats.zarr.store import (
    MAX_CHUNK_BYTES,
    METADATA_NAMES,
    Ways,
    check_folder,
    import_zarr,
    is_archive,
    is_store,
    open_store,
    opening,
    reading,
    states_of,
)


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
