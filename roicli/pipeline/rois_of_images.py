"""RoIs that stand image by image under keys: one table, whose image column is the key."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.system import renew_time
from roicli.core.types import Array
from roicli.pipeline.layout import straighten_rois
from roicli.pipeline.roi_images import IMAGE_COLUMN
from roicli.storage.address import IMAGE, Address
from roicli.storage.array import MATLAB_CLASS, MemoryArray, Precision, StoredArray
from roicli.storage.file_state import FileState, read_state
from roicli.storage.formats import is_empty_text
from roicli.storage.limits import check_memory
from roicli.storage.open import open_rois
from roicli.storage.pattern import address_of, find_keys, open_shelf
from roicli.storage.shelf import Shelf
from roicli.storage.table import RoiSource, Table, as_table, text_column

COORDINATES = 4


def read_rois_of_images(pattern: Address) -> Table:
    """The rows of every image's RoIs, in the keys' order, with a first column of keys.

    An image's are (k, 4), or whatever columns all have; an empty array is no RoI, nor is a text of
    no bytes, as label files of images without an object are. Raises
    InputError.
    """
    keys = find_keys(pattern)
    filled: list[tuple[str, Table]] = []
    files: dict[str, FileState] = {}
    with contextlib.closing(_Sources(pattern, keys)) as sources:
        if (table := sources.read_plain()) is not None:
            return table
        for key in keys:
            with contextlib.closing(sources.open(key)) as source:
                table = as_table(source if isinstance(source, Table) else _as_rows(source))
            files.update(table.files)
            if len(table):
                filled.append((key, table))
    if not filled:
        empty = as_table(MemoryArray(np.empty((0, COORDINATES + 1), np.float32), str(pattern)))
        return Table(str(pattern), 0, empty.columns, empty.stored_as, files, is_named=False)
    first = filled[0][1]
    for key, table in filled:
        _check_alike(address_of(pattern, filled[0][0]), first, address_of(pattern, key), table)
    counts = [len(table) for _, table in filled]
    images = text_column(
        IMAGE_COLUMN if first.is_named else "", np.repeat([k for k, _ in filled], counts).tolist()
    )
    columns = [
        one._replace(
            values=np.concatenate([table.columns[place].values for _, table in filled]),
            precision=_coarsest([table.columns[place].precision for _, table in filled]),
        )
        for place, one in enumerate(first.columns)
    ]
    return Table(
        str(pattern), sum(counts), (images, *columns), first.stored_as, files,
        is_named=first.is_named, roi_format=first.roi_format, normalized=first.normalized,
    )  # fmt: skip


class _Sources:
    """The RoIs of every image, in files of their own or in one, which a child has looked at."""

    def __init__(self, pattern: Address, keys: Sequence[str]) -> None:
        self._pattern, self._keys = pattern, keys
        self._shelf = None if IMAGE in pattern.path else open_shelf(pattern, "rois")
        # Rows, columns, a dtype's letter and the place in the file; 0 of what has to be opened.
        self._facts = None if self._shelf is None else self._look(self._shelf)

    def _look(self, shelf: Shelf) -> Array:
        return shelf.begin_look(self._keys, self._fill, 4)(0, len(self._keys))

    def _fill(self, chosen: Sequence[str], facts: Array) -> None:
        assert self._shelf is not None
        for row, key in zip(facts, chosen, strict=True):
            renew_time()
            plain = self._shelf.peek(key, {MATLAB_CLASS})
            if plain is not None and len(plain.shape) == 2:
                row[:] = (*plain.shape, ord(plain.dtype.char), plain.offset)
                continue
            self._shelf.open(key).close()

    def open(self, key: str) -> RoiSource:
        """The RoIs of one image."""
        if self._shelf is None:
            address = address_of(self._pattern, key)
            if is_empty_text(address):
                state = {address.path: read_state(address.path)}
                return Table(str(address), 0, (), "text", state)
            return open_rois(address)
        return self._shelf.open(key)

    def read_plain(self) -> Table | None:
        """All RoIs, where they are arrays of one kind that lie in the file as they are; else None.

        Nothing is opened for it.
        """
        if self._shelf is None or self._facts is None or not self._facts[:, 2].all():
            return None
        filled = np.flatnonzero(self._facts[:, 0] * self._facts[:, 1])
        kinds = np.unique(self._facts[filled, 1:3], axis=0)
        if len(kinds) != 1:
            return None
        (columns, letter), counts = kinds[0].astype(int), self._facts[filled, 0].astype(int)
        dtype, name = np.dtype(chr(letter)), str(self._pattern)
        check_memory(name, "the RoIs", counts.sum() * columns * dtype.itemsize)
        values = np.empty((counts.sum(), columns), dtype)
        ends = np.cumsum(counts)
        for place, start, end in zip(filled.tolist(), ends - counts, ends, strict=True):
            key = self._keys[place]
            self._shelf.read_piece(key, int(self._facts[place, 3]), values[start:end])
        table = as_table(MemoryArray(values, name, self._shelf.files))
        images = np.repeat([self._keys[place] for place in filled.tolist()], counts).tolist()
        return replace(table, columns=(text_column("", images), *table.columns))

    def close(self) -> None:
        """Let go of the file."""
        if self._shelf is not None:
            self._shelf.close()


def _as_rows(source: StoredArray) -> StoredArray:
    """An array of an image's RoIs as (k, n): one box may be a vector, and no box anything empty."""
    source = straighten_rois(source)
    if source.dtype.names is not None:
        return source
    values = source.read_all()
    if values.size == 0:
        values = np.empty((0, COORDINATES), values.dtype)
    elif values.ndim == 1:
        values = values[np.newaxis]
    elif values.ndim == COORDINATES - 1 and values.shape[0] == 1:
        values = values[0]
    if values.ndim != 2:
        raise InputError(
            f"{source.name}: RoIs of an image have shape {source.shape}, expected (k, 4)"
        )
    found = MemoryArray(values, source.name, source.files)
    found.precision = source.precision
    return found


def _check_alike(where: Address, first: Table, other_where: Address, other: Table) -> None:
    """Raise InputError where two images' RoIs have other columns."""
    names = [[one.name for one in table.columns] for table in (first, other)]
    if names[0] != names[1]:
        found = [", ".join(own) if any(own) else f"{len(own)} columns" for own in names]
        raise InputError(f"{other_where}: has {found[1]}, expected {found[0]} as {where} has")


def _coarsest(precisions: Sequence[Precision | None]) -> Precision | None:
    """The precision of the numbers that are stored least finely; None of texts."""
    known = [one for one in precisions if one is not None and one.mantissa_bits is not None]
    if not known:
        return precisions[0]
    return min(known, key=lambda one: one.mantissa_bits or 0)
