"""Chunks that are read here, from their places in the file, and decoded side by side.

HDF5 has one lock, behind which it decodes chunk after chunk. Where its own table of a dataset's
chunks is all that is needed of it, the bytes are read and unpacked here: zlib and NumPy let go of
the interpreter lock, so as many cores work as there are.
"""

from __future__ import annotations

import itertools
import math
import zlib
from array import array
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import h5py
import numpy as np

from roicli.core.system import READS_APART, usable_cores
from roicli.core.types import Array, IntArray, as_bytes
from roicli.storage.array import Place, read_whole

# HDF5 tells one chunk after the other, at a microsecond each.
MOST_CHUNKS = 1 << 18
# What is undone here; HDF5 undoes the others.
SHUFFLE, DEFLATE = h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE
UNDONE_HERE = ((), (SHUFFLE,), (DEFLATE,), (SHUFFLE, DEFLATE))
# Chunks that are decoded at the same time take as much as one may, or this.
DECODED_BYTES = 64 << 20


class _Chunk(NamedTuple):
    """Where a chunk lies in the file, and of it and of what is read the part they share."""

    offset: int
    size: int
    inside: Place
    target: Place


class ChunkReader:
    """All chunks of a dataset, each with its place in the file.

    ``offsets`` and ``sizes`` are of the shape of the grid of chunks, whose sides are ``sides``.
    """

    def __init__(
        self,
        dataset: h5py.h5d.DatasetID,
        dtype: np.dtype[Any],
        sides: tuple[int, ...],
        filters: tuple[int, ...],
        offsets: IntArray,
        sizes: IntArray,
    ) -> None:
        self._dataset, self._dtype, self._sides = dataset, dtype, sides
        self._is_shuffled, self._is_packed = SHUFFLE in filters, DEFLATE in filters
        self._is_decoded = bool(filters)
        self._offsets, self._sizes = offsets, sizes
        self._chunk_bytes = math.prod(sides) * dtype.itemsize

    def read(self, place: Place, out: Array) -> None:
        """The values at ``place`` into ``out``, of the dataset's dtype. Raises OSError."""
        descriptor = descriptor_of(h5py.h5i.get_file_id(self._dataset))
        chunks = self._chunks_of(place)
        together = max(1, DECODED_BYTES // (2 * self._chunk_bytes))
        threads = min(usable_cores(), together, len(chunks)) if self._is_decoded else 1

        def read_some(first: int) -> None:
            for chunk in chunks[first::threads]:
                self._read_chunk(descriptor, chunk, out)

        if threads == 1:
            read_some(0)
            return
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(read_some, range(threads)))

    def close(self) -> None:
        """Nothing is kept open."""

    def _chunks_of(self, place: Place) -> list[_Chunk]:
        """The chunks that hold something of ``place``, in their order."""
        axes = []
        for part, side in zip(place, self._sides, strict=True):
            shared = []
            for number in range(part.start // side, -(-part.stop // side)):
                start = number * side
                low, high = max(part.start, start), min(part.stop, start + side)
                inside = slice(low - start, high - start)
                shared.append((number, inside, slice(low - part.start, high - part.start)))
            axes.append(shared)
        found = []
        for steps in itertools.product(*axes):
            numbers, inside, target = zip(*steps, strict=True)
            offset, size = int(self._offsets[numbers]), int(self._sizes[numbers])
            found.append(_Chunk(offset, size, inside, target))
        return found

    def _read_chunk(self, descriptor: int, chunk: _Chunk, out: Array) -> None:
        target = out[chunk.target]
        if not self._is_decoded:  # then some of its rows are all there is
            row_bytes = self._chunk_bytes // self._sides[0]
            first, *rest = chunk.inside
            shape = (first.stop - first.start, *self._sides[1:])
            is_copied = target.shape == shape and target.dtype == self._dtype
            is_copied = is_copied and target.flags.c_contiguous
            rows = target if is_copied else np.empty(shape, self._dtype)
            read_whole(descriptor, as_bytes(rows), chunk.offset + first.start * row_bytes)
            if rows is not target:
                target[...] = rows[(slice(None), *rest)]
            return
        raw = np.empty(chunk.size, np.uint8)
        read_whole(descriptor, as_bytes(raw), chunk.offset)
        data = _unpack(raw, self._chunk_bytes) if self._is_packed else raw
        if not self._is_shuffled:
            target[...] = data.view(self._dtype).reshape(self._sides)[chunk.inside]
            return
        # The first bytes of all values, then the second ones.
        planes = data.reshape(self._dtype.itemsize, *self._sides)[(slice(None), *chunk.inside)]
        values = target if target.dtype == self._dtype else np.empty(target.shape, self._dtype)
        bytes_of = values.view([(f"{n}", np.uint8) for n in range(len(planes))])
        for number, plane in enumerate(planes):
            bytes_of[f"{number}"] = plane
        if values is not target:
            target[...] = values


def _unpack(raw: Array, size: int) -> Array:
    """What zlib packed, which must be as long as a chunk; no more is unpacked of it."""
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(memoryview(raw), size)  # type: ignore[arg-type]
        whole = len(data) == size and (stream.eof or not stream.decompress(b"", 1))
    except zlib.error as error:
        raise OSError(f"a chunk cannot be unpacked: {error}") from error
    if not whole:
        raise OSError(f"a chunk does not unpack to {size:,} bytes")
    return np.frombuffer(data, np.uint8)


def find_chunks(dataset: h5py.h5d.DatasetID, dtype: np.dtype[Any]) -> ChunkReader | None:
    """The chunks of a dataset of ``dtype``; None where HDF5 has to read it.

    So it has where a filter is another's, chunks are not stored, there are very many of them, or
    the bytes in the file are not those of a NumPy array.
    """
    layout, file = dataset.get_create_plist(), h5py.h5i.get_file_id(dataset)
    if layout.get_layout() != h5py.h5d.CHUNKED or 0 in dataset.shape:
        return None
    sides = tuple(layout.get_chunk())
    filters = tuple(layout.get_filter(index)[0] for index in range(layout.get_nfilters()))
    grid = tuple(-(-length // side) for length, side in zip(dataset.shape, sides, strict=True))
    if filters not in UNDONE_HERE or math.prod(grid) > MOST_CHUNKS:
        return None
    if not dataset.get_type().equal(h5py.h5t.py_create(dtype)) or not is_plain_file(file):
        return None
    facts = array("Q")  # a million numbers, where HDF5 tells of so many chunks
    dataset.chunk_iter(
        lambda one: facts.extend((*one.chunk_offset, one.byte_offset, one.size, one.filter_mask))
    )
    *starts, found, lengths, skipped = (
        np.array(facts, np.uint64).astype(np.int64).reshape(-1, len(grid) + 3).T
    )
    places = tuple(start // side for start, side in zip(starts, sides, strict=True))
    are_outside = [place >= count for place, count in zip(places, grid, strict=True)]
    if skipped.any() or np.any(are_outside):  # the latter in a damaged file
        return None
    offsets, sizes = np.full(grid, -1, np.int64), np.zeros(grid, np.int64)
    offsets[places], sizes[places] = found, lengths
    packed = DEFLATE in filters
    unpacked = math.prod(sides) * dtype.itemsize
    ends_outside = (offsets + sizes).max() > file.get_filesize()
    if offsets.min() < 0 or ends_outside or not (packed or np.all(sizes == unpacked)):
        return None
    return ChunkReader(dataset, dtype, sides, filters, offsets, sizes)


def descriptor_of(file: h5py.h5f.FileID) -> int:
    """The descriptor of an open file, which stays HDF5's."""
    return int(file.get_vfd_handle())


def is_plain_file(file: h5py.h5f.FileID) -> bool:
    """Whether offsets count from the start of one file with a descriptor that can be read beside
    HDF5.
    """
    is_one_file = file.get_access_plist().get_driver() == h5py.h5fd.SEC2
    return bool(READS_APART and is_one_file and file.get_create_plist().get_userblock() == 0)
