"""Opening an address, whatever its format. The formats' libraries are imported where needed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import BinaryIO, Literal

from roicli.core.exceptions import InputError
from roicli.core.system import available_bytes
from roicli.storage.address import Address
from roicli.storage.file_state import FileState, check_unchanged
from roicli.storage.stored_array import StoredArray

# What an .npy and an HDF5 file on standard input begin with.
STREAMED = (b"\x93NUMPY", b"\x89HDF\r\n\x1a\n")
PIECE_BYTES = 1 << 20

# The files that are read inside the innermost ``inputs_unchanged`` block.
_watched: ContextVar[dict[str, FileState] | None] = ContextVar("watched", default=None)

Role = Literal["features", "rois", "vector", "result", "any"]
DEFAULT_COORDINATES = ("x1", "y1", "x2", "y2")

WANTED: dict[Role, str] = {
    "features": "numeric and 4-D (N, C, H, W)",
    "rois": "numeric and 2-D with 5 columns",
    "vector": "numeric and 1-D",
    "result": "numeric",
    "any": "numeric",
}
# Of several datasets that fit; the writer's own name for it is in hdf5_result.
PREFERRED: dict[Role, str] = {"result": "roi_features"}


def fits(role: Role, shape: tuple[int, ...]) -> bool:
    """Whether a dataset of this shape is taken for ``role`` where none is named."""
    if role == "features":
        return len(shape) == 4
    if role == "rois":
        return len(shape) == 2 and shape[1] == 5
    if role == "vector":
        return len(shape) == 1
    return role == "any" or len(shape) > 0


@contextmanager
def inputs_unchanged() -> Iterator[None]:
    """A block that ends well ends so only if no file that was read in it has changed meanwhile.

    All files that ``open_array`` gave count, and those that they led to. Raises InputError.
    """
    files: dict[str, FileState] = {}
    token = _watched.set(files)
    try:
        yield
    finally:
        _watched.reset(token)
    check_unchanged(files)


def open_array(
    address: Address, role: Role, coordinate_names: Sequence[str] = DEFAULT_COORDINATES
) -> StoredArray:
    """Open the array at ``address`` that plays ``role``. Raises InputError."""
    stored = _open(address, role, coordinate_names)
    watched = _watched.get()
    if watched is not None:
        for path, state in stored.files.items():
            watched.setdefault(path, state)
    return stored


def _open(address: Address, role: Role, coordinate_names: Sequence[str]) -> StoredArray:
    if address.is_stdin:
        return _open_stdin(address, role, coordinate_names)
    file_format = address.file_format()
    if file_format == "hdf5":
        from roicli.storage.formats.hdf5.opening import open_hdf5

        return open_hdf5(
            address, lambda shape: fits(role, shape), WANTED[role], PREFERRED.get(role)
        )
    if file_format == "zarr":
        from roicli.storage.formats.zarr.array import open_zarr

        return open_zarr(
            address, lambda shape: fits(role, shape), WANTED[role], PREFERRED.get(role)
        )
    if address.dataset is not None:
        raise InputError(f"{address}: only HDF5 and Zarr hold datasets", f"write {address.path}")
    if file_format == "npy":
        from roicli.storage.formats.npy import open_npy

        return open_npy(address.path)
    if role in ("features", "result"):
        raise InputError(f"{address}: features are read from .npy, .h5 and .zarr, not from text")
    from roicli.storage.formats.text import open_text

    return open_text(address.path, "," if file_format == "csv" else "\t", coordinate_names)


def _read_bounded(stream: BinaryIO) -> bytes:
    """All of a pipe, as far as half of the free memory goes; of anything else the first piece."""
    parts = [stream.read(PIECE_BYTES)]
    if not parts[0].startswith(STREAMED):
        return parts[0]
    room = available_bytes() // 2
    while parts[-1]:
        parts.append(stream.read(PIECE_BYTES))
        room -= PIECE_BYTES
        if room < 0:
            raise InputError("stdin: does not end before memory does", "save it to a file")
    return b"".join(parts)


def _open_stdin(address: Address, role: Role, coordinate_names: Sequence[str]) -> StoredArray:
    """NPY, HDF5 or (RoIs) CSV on standard input, told apart by the first bytes."""
    data = _read_bounded(sys.stdin.buffer) if sys.stdin else b""  # None where a shell closed it
    if not data:
        raise InputError("stdin: is empty, expected an .npy or HDF5 file")
    from roicli.storage.formats import npy

    if data.startswith(npy.MAGIC):
        return npy.parse_npy(data, str(address))
    from roicli.storage.formats.hdf5 import opening as hdf5

    if data.startswith(hdf5.MAGIC):
        return hdf5.parse_hdf5(
            data, address, lambda shape: fits(role, shape), WANTED[role], PREFERRED.get(role)
        )
    raise InputError(f"stdin: is neither .npy nor HDF5, its first bytes are {data[:8]!r}")
