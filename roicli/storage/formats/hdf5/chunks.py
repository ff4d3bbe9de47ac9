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
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
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
# Of smaller ones threads would wait for the interpreter longer than they unpack.
LEAST_A_THREAD = 64 << 10
# Chunks that neighbour in the file are read at once, up to this size, which a processor caches.
TOGETHER_BYTES = 256 << 10


# Of one axis: the numbers of the chunks that hold something of what is read, where that is in each
# of them, and where each of these is in what is read.
_Share = tuple[slice, list[slice], list[slice]]


class _Piece(NamedTuple):
    """A chunk, or the rows of it that are needed: where they lie in the file, and what ``inside``
    them goes to ``target`` of what is read.
    """

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
        self._file, self._dtype, self._sides = h5py.h5i.get_file_id(dataset), dtype, sides
        self._is_shuffled, self._is_packed = SHUFFLE in filters, DEFLATE in filters
        self._is_decoded = bool(filters)
        self._offsets, self._sizes = offsets, sizes
        self._chunk_bytes = math.prod(sides) * dtype.itemsize
        # A chunk is rows along the first axis that it has more than one place of.
        self._axis = next((n for n, side in enumerate(sides) if side > 1), len(sides) - 1)
        self._row_shape = sides[self._axis + 1 :]
        self._row_bytes = math.prod(self._row_shape) * dtype.itemsize

    def read(self, place: Place, out: Array) -> None:
        """The values at ``place`` into ``out``, of the dataset's dtype. Raises OSError."""
        descriptor = descriptor_of(self._file)
        shares = [_split(part, side) for part, side in zip(place, self._sides, strict=True)]
        if self._lies_as(place, out):
            self._read_straight(descriptor, shares, out)
            return
        runs = list(_join(self._pieces_of(shares)))
        threads = 1
        if self._is_decoded and self._chunk_bytes >= LEAST_A_THREAD:
            together = max(1, DECODED_BYTES // (2 * self._chunk_bytes))
            threads = min(usable_cores(), together, len(runs))

        def read_some(first: int) -> None:
            for run in runs[first::threads]:
                self._read_run(descriptor, run, out)

        if threads == 1:
            read_some(0)
            return
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(read_some, range(threads)))

    def close(self) -> None:
        """Nothing is kept open."""

    def _lies_as(self, place: Place, out: Array) -> bool:
        """Whether the bytes that are needed, one chunk after the other, are those of ``out``."""
        rest = zip(place[self._axis + 1 :], self._row_shape, strict=True)
        are_whole = all(part.start % side == 0 and part.stop - part.start == side
                        for part, side in rest)  # fmt: skip
        is_same = out.dtype == self._dtype and out.flags.c_contiguous
        return are_whole and is_same and not self._is_decoded

    def _read_straight(self, descriptor: int, shares: list[_Share], out: Array) -> None:
        """Values that lie so; what neighbours in the file at once."""
        offsets = self._offsets[tuple(numbers for numbers, _, _ in shares)].ravel().tolist()
        insides = shares[self._axis][1]
        view, start, size = as_bytes(out), 0, 0
        for offset, rows in zip(offsets, itertools.cycle(insides), strict=False):
            begin = offset + rows.start * self._row_bytes
            if begin != start + size:
                read_whole(descriptor, view[:size], start)
                view, start, size = view[size:], begin, 0
            size += (rows.stop - rows.start) * self._row_bytes
        read_whole(descriptor, view, start)

    def _pieces_of(self, shares: list[_Share]) -> Iterator[_Piece]:
        """The pieces that hold something of what is read, in the chunks' order."""
        grid, insides, targets = map(list, zip(*shares, strict=True))
        offsets, sizes = self._offsets[tuple(grid)], self._sizes[tuple(grid)]
        if not self._is_decoded:  # then some of its rows are all there is
            rows = [(one.start, one.stop - one.start) for one in insides[self._axis]]
            skipped, taken = np.array(rows).T[..., *[np.newaxis] * len(self._row_shape)]
            offsets = offsets + skipped * self._row_bytes
            sizes = np.broadcast_to(taken * self._row_bytes, offsets.shape)
            insides[self._axis] = [slice(0, count) for _, count in rows]
        places = zip(itertools.product(*insides), itertools.product(*targets), strict=True)
        found = zip(offsets.ravel().tolist(), sizes.ravel().tolist(), places, strict=True)
        return (_Piece(offset, size, *both) for offset, size, both in found)

    def _read_run(self, descriptor: int, run: list[_Piece], out: Array) -> None:
        start, shape = run[0].offset, (*self._sides[: self._axis], -1, *self._row_shape)
        held = np.empty(sum(piece.size for piece in run), np.uint8)
        read_whole(descriptor, as_bytes(held), start)
        for offset, size, inside, target in run:
            data = held[offset - start :][:size]
            if self._is_packed:
                data = _unpack(data, self._chunk_bytes)
            if self._is_shuffled:
                self._unshuffle(data, inside, out[target])
            else:
                _copy(data.view(self._dtype).reshape(shape)[inside], out[target])

    def _unshuffle(self, data: Array, inside: Place, target: Array) -> None:
        """Values of a chunk that is the first bytes of all values, then the second ones."""
        planes = data.reshape(self._dtype.itemsize, *self._sides)[(slice(None), *inside)]
        values = target if target.dtype == self._dtype else np.empty(target.shape, self._dtype)
        bytes_of = values.view([(f"{n}", np.uint8) for n in range(len(planes))])
        for number, plane in enumerate(planes):
            bytes_of[f"{number}"] = plane
        if values is not target:
            target[...] = values


def _split(part: slice, side: int) -> _Share:
    """What chunks of ``side`` hold of ``part``."""
    first, last = part.start // side, -(-part.stop // side)
    cuts = [part.start, *range((first + 1) * side, last * side, side), part.stop]
    inside = [slice(a % side, (b - 1) % side + 1) for a, b in pairwise(cuts)]
    target = [slice(a - part.start, b - part.start) for a, b in pairwise(cuts)]
    return slice(first, last), inside, target


def _join(pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    """Pieces that neighbour in the file together."""
    run: list[_Piece] = []
    stop = 0
    for piece in pieces:
        after = piece.offset + piece.size
        if run and (piece.offset != stop or after - run[0].offset > TOGETHER_BYTES):
            yield run
            run = []
        run.append(piece)
        stop = after
    yield run


def _copy(values: Array, target: Array) -> None:
    """``target[...] = values``, row by row, and not value by value, where both have one dtype."""
    if values.dtype == target.dtype and _is_in_rows(values) and _is_in_rows(target):
        row = np.dtype((np.void, values.shape[-1] * values.itemsize))
        values, target = values.view(row), target.view(row)
    target[...] = values


def _is_in_rows(values: Array) -> bool:
    """Whether what neighbours along the last axis does so in memory."""
    return values.strides[-1] == values.itemsize


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
