"""Stored arrays seen in another way, without a copy: other axes, other numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from roicli.core.types import Array
from roicli.storage.array import (
    Place,
    Shape,
    StoredArray,
    precision_of,
)


class View(StoredArray):
    """A stored array that is read through another: what it says of itself is the other's."""

    def __init__(self, stored: StoredArray, shape: Shape) -> None:
        self.stored, self.shape = stored, shape
        self.name, self.files = stored.name, stored.files
        self.dtype, self.precision = stored.dtype, stored.precision
        self.attributes = stored.attributes
        self.group_attributes = stored.group_attributes
        self.file_attributes = stored.file_attributes
        self.chunk_rows, self.image_files = stored.chunk_rows, stored.image_files
        # One item is read as it is stored, and put in its place from there.
        item = math.prod(stored.shape[1:]) * stored.dtype.itemsize
        self.reading_bytes = stored.reading_bytes + item

    def beside(self, name: str) -> str | None:
        """The address of the array ``name`` in the same group of the same file, if there is one."""
        return self.stored.beside(name)

    def close(self) -> None:
        """Let go of the file."""
        self.stored.close()


class PermutedArray(View):
    """A stored array with its axes in another order; ``axes`` as for ``numpy.transpose``."""

    def __init__(self, stored: StoredArray, axes: Sequence[int]) -> None:
        super().__init__(stored, tuple(stored.shape[axis] for axis in axes))
        self.axes = tuple(axes)
        if self.axes[0] != 0:
            self.chunk_rows = 1

    def read(self, place: Place, out: Array) -> None:
        """The values at ``place`` into ``out``."""
        there = [place[self.axes.index(axis)] for axis in range(len(self.axes))]
        held = np.empty([part.stop - part.start for part in there], self.dtype)
        self.stored.read(tuple(there), held)
        out[...] = held.transpose(self.axes)


class GridArray(View):
    """Tokens (..., L, D) on a grid of ``height`` rows: (..., H, W, D)."""

    def __init__(self, stored: StoredArray, height: int) -> None:
        *before, tokens, depth = stored.shape
        super().__init__(stored, (*before, height, tokens // height, depth))
        self.grid = height, tokens // height
        self._width = tokens // height

    def read(self, place: Place, out: Array) -> None:
        """The values at ``place`` into ``out``: all tokens of its rows are read."""
        *before, rows, columns, depth = place
        tokens = slice(rows.start * self._width, rows.stop * self._width)
        there = (*before, tokens, depth)
        held = np.empty([part.stop - part.start for part in there], self.dtype)
        self.stored.read(there, held)
        shape = (*held.shape[:-2], rows.stop - rows.start, self._width, held.shape[-1])
        out[...] = held.reshape(shape)[..., columns, :]


class BitsArray(View):
    """Floats that are kept as integers of as many bits: bfloat16 and float16 as uint16."""

    def __init__(self, stored: StoredArray, dtype: np.dtype[Any]) -> None:
        super().__init__(stored, stored.shape)
        self._bits_of = dtype
        self.dtype, self.precision = np.dtype(np.float32), precision_of(dtype)

    def read(self, place: Place, out: Array) -> None:
        """The values at ``place`` into ``out``."""
        held = np.empty(out.shape, self.stored.dtype)
        self.stored.read(place, held)
        out[...] = held.view(self._bits_of)


class DecodedArray(View):
    """Numbers that a file keeps packed; ``described`` says in words how they are unpacked.

    ``decode`` gives the values at a place of what is stored there, in float64.
    """

    def __init__(
        self,
        stored: StoredArray,
        dtype: np.dtype[Any],
        decode: Callable[[Array, Place], Array],
        described: str,
    ) -> None:
        super().__init__(stored, stored.shape)
        self.dtype, self.described, self._decode = dtype, described, decode

    def read(self, place: Place, out: Array) -> None:
        """The values at ``place`` into ``out``."""
        held = np.empty(out.shape, self.stored.dtype)
        self.stored.read(place, held)
        with np.errstate(over="ignore"):
            out[...] = self._decode(held, place)
