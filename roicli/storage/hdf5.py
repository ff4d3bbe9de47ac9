"""HDF5 files: finding the dataset that fits, and reading it image by image."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import h5py
import numpy as np

from roicli.datatypes import Array
from roicli.exceptions import InputError
from roicli.storage.address import Address, check_regular_file
from roicli.storage.stored_array import Precision, check_numeric, precision_of
from roicli.storage.virtual_sources import check_readable

MAGIC = b"\x89HDF\r\n\x1a\n"
Shape = tuple[int, ...]


class Hdf5Array:
    """One dataset of an open HDF5 file, in any dtype, layout and compression."""

    def __init__(self, dataset: h5py.Dataset, address: Address) -> None:
        self.name = f"{Address(address.path)}::{dataset.name}"
        check_numeric(dataset.dtype, self.name)
        self.shape: Shape = dataset.shape
        self.dtype = dataset.dtype.newbyteorder("=")
        self.precision = stored_precision(dataset)
        self.attributes: Mapping[str, Any] = dict(dataset.attrs)
        self.file_attributes: Mapping[str, Any] = dict(dataset.file.attrs)
        self._dataset = dataset

    def read_item_into(self, index: int, out: Array) -> None:
        """Item ``index`` along the first axis into ``out``."""
        try:
            self._dataset.read_direct(out, np.s_[index])
        except OSError as error:
            raise InputError(f"{self.name}: item {index} cannot be read: {error}") from error

    def read_rows_into(self, first: int, out: Array) -> None:
        """As many items as ``out`` has, from ``first`` on."""
        try:
            if out.size:
                self._dataset.read_direct(out, np.s_[first : first + len(out)])
        except OSError as error:
            raise InputError(f"{self.name}: item {first} cannot be read: {error}") from error

    def read_all(self) -> Array:
        """The whole array, C-contiguous, in native byte order."""
        out = np.empty(self.shape, self.dtype)
        try:
            if out.size:
                self._dataset.read_direct(out)
        except OSError as error:
            raise InputError(f"{self.name}: cannot be read: {error}") from error
        return out

    def close(self) -> None:
        """Let go of the file."""
        self._dataset.file.close()


def open_hdf5(
    address: Address, fits: Callable[[Shape], bool], wanted: str, preferred: str | None = None
) -> Hdf5Array:
    """The named dataset, or the file's (or group's) only one that ``fits``.

    ``wanted`` says in words what fits; of several, ``preferred`` is taken. Raises InputError.
    """
    check_regular_file(address.path)
    return _choose(open_file(address.path, address.path), address, fits, wanted, preferred)


def parse_hdf5(
    data: bytes,
    address: Address,
    fits: Callable[[Shape], bool],
    wanted: str,
    preferred: str | None = None,
) -> Hdf5Array:
    """An HDF5 file that was read from a pipe."""
    file = open_file(io.BytesIO(data), str(address))
    return _choose(file, address, fits, wanted, preferred)


def open_file(source: Any, name: str) -> h5py.File:
    """An HDF5 file or the bytes of one, open for reading. Raises InputError."""
    try:
        return h5py.File(source, "r")
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else repr(error)
        raise InputError(f"{name}: cannot be opened as HDF5: {first}") from error


def _choose(
    file: h5py.File,
    address: Address,
    fits: Callable[[Shape], bool],
    wanted: str,
    preferred: str | None,
) -> Hdf5Array:
    try:
        node = file if address.dataset is None else look_up(file, address)
        if isinstance(node, h5py.Group) and isinstance(node.get(preferred or ""), h5py.Dataset):
            node = node[preferred]
        if isinstance(node, h5py.Group):
            node = _only_fitting(node, address, fits, wanted)
        if node.is_virtual:
            check_readable(node, address.path)
        if node.shape is None:
            raise InputError(f"{address}: the dataset is empty (a null dataspace)")
        return Hdf5Array(node, address)
    except BaseException:
        file.close()
        raise


def look_up(file: h5py.File, address: Address) -> h5py.Group | h5py.Dataset:
    """The group or dataset that the address names. Raises InputError."""
    name = address.dataset or "/"
    try:
        node = file[name]
    except (KeyError, OSError, ValueError):
        found = ", ".join(path for path, _ in list_datasets(file)) or "none"
        raise InputError(
            f"{Address(address.path)}: has no dataset {name!r}; its datasets are: {found}"
        ) from None
    if not isinstance(node, h5py.Group | h5py.Dataset):
        raise InputError(f"{address}: is a named datatype, expected a dataset")
    return node


def list_datasets(group: h5py.Group) -> list[tuple[str, h5py.Dataset]]:
    """Every dataset below a group, links outside the file not followed."""
    found: list[tuple[str, h5py.Dataset]] = []

    def visit(_: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            found.append((str(node.name), node))

    group.visititems(visit)
    return found


def _only_fitting(
    group: h5py.Group, address: Address, fits: Callable[[Shape], bool], wanted: str
) -> h5py.Dataset:
    datasets = list_datasets(group)
    fitting = [
        (name, node)
        for name, node in datasets
        if node.shape is not None and node.dtype.kind in "iuf" and fits(node.shape)
    ]
    if len(fitting) == 1:
        return fitting[0][1]
    shown = ", ".join(f"{name} {node.shape} {node.dtype}" for name, node in fitting or datasets)
    if fitting:
        raise InputError(
            f"{address}: {len(fitting)} datasets fit ({wanted}): {shown}",
            f"name one: {Address(address.path)}::{fitting[0][0]}",
        )
    raise InputError(f"{address}: no dataset is {wanted}; found: {shown or 'none'}")


def stored_precision(dataset: h5py.Dataset) -> Precision:
    """From the stored type itself: h5py shows bfloat16 as float32, which would hide the loss."""
    stored = dataset.id.get_type()
    if not isinstance(stored, h5py.h5t.TypeFloatID):
        return precision_of(dataset.dtype)
    *_, mantissa_bits = stored.get_fields()
    exponent_bits = stored.get_fields()[2]
    is_bfloat16 = (mantissa_bits, exponent_bits) == (7, 8)
    name = "bfloat16" if is_bfloat16 else dataset.dtype.newbyteorder("=").name
    return Precision(name, mantissa_bits, 1 - stored.get_ebias())
