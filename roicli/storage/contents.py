"""Every dataset of a file as it is stored, and its values in bounded blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.types import Array
from roicli.storage.stored_array import BFLOAT16_NAME

BLOCK_BYTES = 16 << 20


@dataclass(frozen=True)
class StoredDataset:
    """One dataset as it is stored.

    ``address`` is what a command takes; ``shape`` is None for a null dataspace; ``layout`` is one
    of contiguous, chunked, compact, virtual, C order, Fortran order, text; ``compression`` lists
    the filters in order, and ``stored_bytes`` is what they leave on disk, None where that is not
    known. ``is_numeric``: integers or floats of at most 64 bits, which roicli reads.
    """

    address: str
    shape: tuple[int, ...] | None
    dtype: str
    is_numeric: bool
    layout: str
    chunks: tuple[int, ...] | None = None
    compression: str | None = None
    stored_bytes: int | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    source: Any = field(default=None, repr=False, compare=False)

    def blocks(self) -> Iterator[Array]:
        """The values (N, ...), a block of at most 16 MiB, or one chunk, at a time."""
        for place in split_into_blocks(self.source.shape, self.source.dtype.itemsize, self.chunks):
            try:
                block = np.asarray(self.source[place])
            except OSError as error:
                raise InputError(f"{self.address}: cannot be read: {error}") from error
            if self.dtype == BFLOAT16_NAME and block.dtype.kind == "V":
                from roicli.storage.formats.npy import widen_bfloat16

                block = widen_bfloat16(block)
            yield block


@dataclass(frozen=True)
class FileContents:
    """An open file: its format, its own attributes and its datasets."""

    path: str
    file_format: str
    attributes: Mapping[str, Any]
    datasets: tuple[StoredDataset, ...]


def split_into_blocks(
    shape: Sequence[int], itemsize: int, chunks: Sequence[int] | None = None
) -> Iterator[tuple[slice, ...]]:
    """Slices that cover an array, each at most 16 MiB where whole chunks allow."""
    chunk = tuple(chunks) if chunks is not None else (1,) * len(shape)
    size = list(shape)
    # Axis by axis from the first, as few items as fit, but whole chunks.
    for axis in range(len(shape)):
        rest = int(np.prod([float(side) for side in size[axis + 1 :]])) * itemsize
        leading = int(np.prod([float(side) for side in size[:axis]]))
        fitting = BLOCK_BYTES // max(rest * leading, 1) // chunk[axis] * chunk[axis]
        size[axis] = min(size[axis], max(fitting, chunk[axis]))
    yield from _grid(shape, size)


def _grid(shape: Sequence[int], size: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    if not shape:
        yield ()
        return
    for start in range(0, shape[0], max(size[0], 1)):
        for rest in _grid(shape[1:], size[1:]):
            yield (slice(start, min(start + size[0], shape[0])), *rest)


def is_numeric(dtype: np.dtype[Any]) -> bool:
    """Whether roicli reads the dtype: an integer, or a float of at most 64 bits."""
    return dtype.kind in "iuf" and dtype.itemsize <= 8
