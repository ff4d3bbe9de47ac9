"""Arrays and tables that a Python program hands over, whatever library made them.

No library is imported for it: an object is known by its protocol (DLPack, ``__array__``, Arrow's
streams), or by its class where its library is loaded already. What lies on a disk is read there.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from roicli.core.exceptions import ParameterError, RoicliError, first_line
from roicli.core.types import Array
from roicli.storage.address import Address, parse_address
from roicli.storage.array import (
    MemoryArray,
    Place,
    StoredArray,
    as_read,
    as_stored,
    check_numeric,
    is_narrow_float,
    is_numeric,
    narrow_float,
    precision_of,
)
from roicli.storage.choice import Role
from roicli.storage.open import open_array
from roicli.storage.table import Column, Table, column_of

logger = logging.getLogger("roicli")

TAKEN = (
    "give the address of a file; an array of NumPy, PyTorch, JAX, CuPy or whatever has __dlpack__ "
    "or __array__; an h5py.Dataset or a zarr.Array; levels as a list or by their names; RoIs also "
    "as a table (pandas, polars, Arrow, columns by their names) or as a list of (L, 4) an image"
)
# Where DLPack says that values lie in the host's memory: kDLCPU and kDLCUDAHost.
# Source: dlpack.h, DLDeviceType.
HOST_DEVICES = (1, 3)
# What is none of an array, though NumPy makes one of it.
PLAIN = (list, tuple, set, dict, str, bytes, int, float, complex, bool, type(None))
# What supervision.Detections have beside their boxes and what is in their ``data``.
DETECTIONS = ("confidence", "class_id", "tracker_id")

# --- arrays ---------------------------------------------------------------------------------------


def open_object(value: Any, name: str, role: Role, may_be_list: bool = True) -> StoredArray:
    """The array that an object or an address is; ``name`` is what messages call it.

    ``may_be_list``: nested lists of numbers are arrays too. Raises InputError, ParameterError.
    """
    address = value if isinstance(value, str | os.PathLike) else find_address(value)
    if address is not None:
        return open_array(parse_address(address), role)
    if _is_sliced(value):
        return SlicedArray(value, name)
    if isinstance(value, PLAIN) and not (may_be_list and isinstance(value, list | tuple | int)):
        raise _refuse(value, name)
    return MemoryArray(read_object(value, name), name, may_be_table=role == "rois")


def find_address(value: Any) -> str | None:
    """Where an array of h5py's or zarr's lies on a disk, and only there; None of anything else.

    A file that is open for writing may hold what is not on the disk yet.
    """
    if _is_a(value, "h5py", "Dataset"):
        file = value.file
        if file.mode == "r" and value.name and os.path.isfile(file.filename):
            return str(Address(file.filename, value.name))
    if _is_a(value, "zarr", "Array"):
        root = getattr(value.store, "root", None)
        if root is not None and os.path.isdir(root):
            return str(Address(os.fspath(root), value.name if value.path else None))
    return None


def read_object(value: Any, name: str) -> Array:
    """The values of an object that is an array, on the host, without a copy where that can be.

    Floats that NumPy has not are those of ml_dtypes. Raises ParameterError.
    """
    try:
        found = value if isinstance(value, np.ndarray) else _to_host(value, name)
    except RoicliError:
        raise
    except Exception as error:  # each library has errors of its own
        raise ParameterError(
            f"{name}: {_kind(value)} cannot be read: {first_line(error)}", TAKEN
        ) from error
    if found.dtype == object:
        raise _refuse(value, name)
    masked = np.count_nonzero(value.mask) if _is_a(value, "numpy.ma", "MaskedArray") else 0
    if masked:
        raise ParameterError(f"{name}: {masked:,} values are masked", "fill them: .filled(0)")
    return found


def _to_host(value: Any, name: str) -> Array:
    device = getattr(value, "__dlpack_device__", None)
    kind, number = (HOST_DEVICES[0], 0) if device is None else device()
    if kind not in HOST_DEVICES:
        logger.info(
            f"{name}: is on device {int(number)} (DLPack's kind {int(kind)}) and is copied to the "
            "host, from where an execution provider takes maps one by one"
        )
    if _is_a(value, "torch", "Tensor"):
        return _read_tensor(value)
    if kind in HOST_DEVICES or device is None:
        return np.from_dlpack(value) if _has_only_dlpack(value) else np.asarray(value)
    if hasattr(value, "__cuda_array_interface__") and hasattr(value, "get"):
        return np.asarray(value.get())  # CuPy copies nothing unasked
    return np.from_dlpack(value, device="cpu")


def _has_only_dlpack(value: Any) -> bool:
    others = ("__array__", "__array_interface__", "__array_struct__")
    return hasattr(value, "__dlpack__") and not any(hasattr(value, name) for name in others)


def _read_tensor(tensor: Any) -> Array:
    """A tensor's values: of its own, whatever it is part of, on whatever device."""
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    dtype = str(tensor.dtype).removeprefix("torch.")
    if not dtype.startswith(("bfloat", "float8")):
        return np.asarray(tensor.numpy())
    bits = sys.modules["torch"].int16 if tensor.element_size() == 2 else sys.modules["torch"].uint8
    return np.asarray(tensor.view(bits).numpy().view(narrow_float(dtype)))


def _is_sliced(value: Any) -> bool:
    """Whether an object is an array that is read part by part, as those of h5py, zarr and dask."""
    return all(hasattr(value, name) for name in ("shape", "dtype", "chunks", "__getitem__"))


class SlicedArray(StoredArray):
    """An array of another library that is read part by part, as a run needs it."""

    def __init__(self, values: Any, name: str) -> None:
        stored = as_stored(np.dtype(values.dtype))
        check_numeric(stored, name)
        self.name = name
        self.shape = tuple(values.shape)
        self.dtype, self.precision = as_read(stored), precision_of(stored)
        self.attributes = dict(getattr(values, "attrs", {}))
        dimensions = getattr(values, "dims", ())  # xarray's are names
        self.dimension_names = dimensions if isinstance(dimensions, tuple) else ()
        self._values, self._stored = values, stored
        rows = values.chunks[0] if values.chunks and self.shape else 1
        self.chunk_rows = rows if isinstance(rows, int) else max(rows)

    def read(self, place: Place, out: Array) -> None:
        """The values at ``place`` into ``out``."""
        held = read_object(self._values[place], self.name)
        narrow = is_narrow_float(self._stored) and held.dtype != self._stored
        out[...] = np.ascontiguousarray(held).view(self._stored) if narrow else held


# --- levels ---------------------------------------------------------------------------------------


def check_features(features: Any) -> None:
    """Raise ParameterError where there are none."""
    if features is None:
        raise ParameterError("features are None, expected maps", TAKEN)


def name_levels(features: Any, names: Sequence[str]) -> dict[str, Any]:
    """The levels of a map or a pyramid that is no address, by what messages call them.

    A list has a level an item; a mapping one a key, of which ``names`` picks some, in its order.
    Raises ParameterError.
    """
    if _is_a(features, "zarr", "Group"):
        features = dict(features.arrays())
    if isinstance(features, Mapping):
        for name in names:
            if name not in features:
                known = ", ".join(map(str, features)) or "none"
                raise ParameterError(f"features have no level {name!r}", f"their levels: {known}")
        if not features:
            raise ParameterError("features are an empty mapping, expected a level a key", TAKEN)
        return {f"features[{name!r}]": features[name] for name in names or features}
    if names:
        raise ParameterError(
            "levels name datasets of a file or keys of a mapping, and features are arrays"
        )
    several = isinstance(features, list | tuple)
    levels = dict(enumerate(features if several else (features,)))
    if not levels:
        raise ParameterError("features are an empty list, expected an array a level", TAKEN)
    return {f"features[{number}]": level for number, level in levels.items()}


# --- tables ---------------------------------------------------------------------------------------


def open_table(value: Any, name: str) -> Table | None:
    """The table that an object is: a mapping of columns, a frame of pandas, polars, Arrow or
    whatever gives Arrow's streams, or supervision's Detections; None of anything else. Raises
    InputError, ParameterError.
    """
    columns: Mapping[str, Any]
    value = columns_of_detections(value)
    if isinstance(value, Mapping):
        columns = {key: read_object(one, f"{name}[{key!r}]") for key, one in value.items()}
    elif _is_a(value, "pandas", "DataFrame"):
        named = [name for name in value.index.names if name is not None and name not in value]
        value = value.reset_index(named) if named else value
        columns = {str(key): _read_series(series) for key, series in value.items()}
        if list(value.columns) == list(range(len(columns))):  # those of an array, which counts them
            return replace(make_table(columns, name), is_named=False)
    elif _is_a(value, "polars", "DataFrame"):
        columns = {series.name: series.to_numpy() for series in value.iter_columns()}
    elif hasattr(value, "__arrow_c_stream__") and not hasattr(value, "dtype"):  # an array's
        from roicli.storage.formats.parquet import convert_stream

        return convert_stream(value, name)
    else:
        return None
    return make_table(columns, name)


def columns_of_detections(value: Any) -> Any:
    """The columns of a ``supervision.Detections`` that are there; anything else as it is."""
    if not _is_a(value, "supervision", "Detections"):
        return value
    found = {name: getattr(value, name) for name in ("xyxy", *DETECTIONS)} | dict(value.data)
    return {name: one for name, one in found.items() if one is not None}


def make_table(columns: Mapping[str, Array], name: str) -> Table:
    """A table of named columns of one length, (K,) or (K, n). Raises ParameterError."""
    counts = {key: len(values) if values.ndim else 0 for key, values in columns.items()}
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"{key} {count:,}" for key, count in counts.items())
        raise ParameterError(f"{name}: columns have rows: {shown}", "give as many of each")
    found = {key: _make_column(str(key), values) for key, values in columns.items()}
    lost = [str(key) for key, column in found.items() if column is None]
    if lost:
        logger.info(f"{name}: neither numbers nor texts, left out: {', '.join(lost)}")
    kept = tuple(column for column in found.values() if column is not None)
    stored = [column.precision.name for column in kept if column.precision]
    return Table(name, max(counts.values(), default=0), kept, (stored or ["text"])[0])


def _read_series(series: Any) -> Array:
    """A column of pandas; what is missing among whole numbers is NaN, among texts None."""
    values = series.to_numpy()
    if values.dtype == object:
        if getattr(series.dtype, "kind", "O") in "iuf":
            return np.asarray(series.to_numpy("float64", na_value=np.nan))
        values = np.where(series.isna(), None, values)
    return np.asarray(values)


def _make_column(name: str, values: Array) -> Column | None:
    """A column of numbers, of lists of as many numbers each, or of texts; None of anything else."""
    if values.dtype == object:
        rows = values.tolist()
        if rows and all(isinstance(row, list | tuple | np.ndarray) for row in rows):
            if len({len(row) for row in rows}) > 1:
                return None
            values = np.array(rows)
        elif not all(isinstance(row, str | bytes | bool | int | float | None) for row in rows):
            return None
    if values.dtype.kind in "Mm":
        values = values.astype(str)
    is_column = values.ndim in (1, 2) and not values.dtype.names
    is_text = values.dtype.kind in "SUO" and values.ndim == 1
    readable = is_text or values.dtype.kind == "b" or is_numeric(as_stored(values.dtype))
    return column_of(name, values) if is_column and readable else None


# --- words ----------------------------------------------------------------------------------------


def _is_a(value: Any, library: str, kind: str) -> bool:
    """Whether an object is of a class of a library, which is loaded then."""
    found = getattr(sys.modules.get(library), kind, None)
    return found is not None and isinstance(value, found)


def _kind(value: Any) -> str:
    cls = type(value)
    library = cls.__module__.partition(".")[0]
    return cls.__name__ if library == "builtins" else f"{library}.{cls.__name__}"


def _refuse(value: Any, name: str) -> ParameterError:
    return ParameterError(f"{name}: {_kind(value)} is no array of numbers", TAKEN)
