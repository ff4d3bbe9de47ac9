"""A list of texts in an HDF5 file, such as the keys of images."""

from __future__ import annotations

from typing import Any

import h5py

from roicli.core.exceptions import InputError
from roicli.storage.address import Address, check_regular_file
from roicli.storage.formats.hdf5.contained import in_child_first
from roicli.storage.formats.hdf5.file import close_file, look_up, naming_damage, open_file
from roicli.storage.formats.hdf5.links import trace_sources
from roicli.storage.limits import check_memory

TEXT_BYTES = 100


def read_texts(address: Address) -> list[Any] | None:
    """The texts (n,) of a dataset; None where it holds something else. Raises InputError."""
    check_regular_file(address.path)

    def read() -> list[Any] | None:
        file = open_file(address.path, address.path)
        try:
            with naming_damage(str(address)):
                node, path = look_up(file, address, {})
                if (
                    not isinstance(node, h5py.Dataset)
                    or h5py.check_string_dtype(node.dtype) is None
                ):
                    return None
                if len(node.shape or ()) != 1:
                    raise InputError(f"{address}: has shape {node.shape}, expected a list of texts")
                trace_sources(node, path, {})
                check_memory(str(address), "its texts", node.shape[0] * TEXT_BYTES)
                return list(node[()].tolist())
        finally:
            close_file(file)

    return in_child_first(read, address.path)
