"""What a file of arrays holds, whatever its format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign
from roicli.core.types import Array
from roicli.storage.address import Address
from roicli.storage.contents import FileContents, StoredDataset, is_numeric
from roicli.storage.opening import DEFAULT_COORDINATES
from roicli.storage.stored_array import BFLOAT16_NAME


@contextmanager
def open_contents(address: Address) -> Iterator[FileContents]:
    """The contents of a .npy, .h5, .zarr, .csv or .tsv file, open while the block lasts.

    In HDF5 and Zarr an address may name a group or a dataset. Raises InputError.
    """
    file_format = address.file_format()
    if file_format == "hdf5":
        from roicli.storage.formats.hdf5.contents import open_hdf5_contents

        with open_hdf5_contents(address) as contents:
            yield contents
    elif file_format == "zarr":
        from roicli.storage.formats.zarr.contents import describe_zarr

        yield describe_zarr(address)
    elif address.dataset is not None:
        raise InputError(f"{address}: only HDF5 and Zarr hold datasets", f"write {address.path}")
    elif file_format == "npy":
        yield _describe_npy(address.path)
    else:
        yield _describe_text(address.path, file_format)


def _describe_npy(path: str) -> FileContents:
    from roicli.storage.formats.npy import OPAQUE_BFLOAT16, map_npy

    mapped = map_npy(path)
    opaque = mapped.dtype == OPAQUE_BFLOAT16
    layout = "C order" if mapped.flags.c_contiguous else "Fortran order"
    dataset = StoredDataset(
        foreign(path), mapped.shape, BFLOAT16_NAME if opaque else str(mapped.dtype),
        opaque or is_numeric(mapped.dtype), layout, stored_bytes=mapped.nbytes,
        source=_MappedAnew(path, mapped),
    )  # fmt: skip
    return FileContents(foreign(path), "npy", {}, (dataset,))


def _describe_text(path: str, file_format: str) -> FileContents:
    from roicli.storage.formats.text import open_text

    stored = open_text(path, "," if file_format == "csv" else "\t", DEFAULT_COORDINATES)
    values = stored.read_all()
    dataset = StoredDataset(
        foreign(path), values.shape, str(values.dtype), True, "text", source=values
    )
    return FileContents(foreign(path), file_format, {}, (dataset,))


class _MappedAnew:
    """A .npy file that is mapped for one block at a time: a mapping keeps all that was read."""

    def __init__(self, path: str, mapped: Array) -> None:
        self.shape, self.dtype, self._path = mapped.shape, mapped.dtype, path

    def __getitem__(self, place: Any) -> Array:
        from roicli.storage.formats.npy import load_checked

        return np.array(load_checked(self._path, self._path, mmap_mode="r")[place])
