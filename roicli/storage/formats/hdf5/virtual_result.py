"""A result that is a small HDF5 file of virtual datasets over its parts.

The parts of ``OUT.h5`` stand in the folder ``OUT.h5.parts`` beside it and are named relative to it,
so that the two can be moved together. A part that is missing reads as NaN, in tables as 0.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from roicli.core.types import IntArray
from roicli.storage.address import check_regular_file, parts_folder
from roicli.storage.formats.hdf5.contained import try_first
from roicli.storage.formats.hdf5.links import find_parts
from roicli.storage.formats.hdf5.read import naming_damage, open_file
from roicli.storage.formats.hdf5.result import ROI_FEATURES, open_growing
from roicli.storage.shard import Shard

# HDF5 takes time with the square of the runs in one mapping to read it, and each mapping has some.
RUNS_A_MAPPING = 256


def write_virtual(
    path: str,
    target: str,
    datasets: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]],
    shards: Sequence[Shard],
    attributes: Mapping[str, Any],
) -> None:
    """Write the virtual result ``target`` to ``path``, a name in the same folder.

    ``datasets`` are the shapes (K, ...) and dtypes by name; a shard's key is a file's name in the
    folder of parts.
    """
    folder = os.path.basename(parts_folder(target))
    with open_growing(path) as file:
        for name, (shape, dtype) in datasets.items():
            layout = h5py.VirtualLayout(shape, dtype)
            for shard in shards:
                _map_part(layout, f"{folder}/{shard.key}", name, shard.rows)
            fill = np.nan if dtype.kind == "f" else None
            file.create_virtual_dataset(name, layout, fillvalue=fill)
        for key, value in attributes.items():
            file.attrs[key] = value


def _map_part(layout: h5py.VirtualLayout, source: str, name: str, rows: IntArray) -> None:
    """The rows of one part: one mapping where they stand together, else as few as read fast."""
    shape = (len(rows), *layout.shape[1:])
    for start, stop in _split_runs(rows):
        virtual = h5py.VirtualSource(source, name, shape, layout.dtype)[start:stop]
        first, last = int(rows[start]), int(rows[stop - 1]) + 1
        together = last - first == stop - start
        layout[slice(first, last) if together else rows[start:stop]] = virtual


def _split_runs(rows: IntArray) -> Iterator[tuple[int, int]]:
    """(start, stop) of what goes into one mapping: a bounded number of runs of neighbours."""
    ends = np.append(np.flatnonzero(np.diff(rows) != 1) + 1, len(rows))
    start = 0
    for stop in [*ends[RUNS_A_MAPPING - 1 :: RUNS_A_MAPPING].tolist(), len(rows)]:
        if start < stop:
            yield start, stop
        start = stop


def find_sources(path: str) -> list[str] | None:
    """The parts that a virtual result stands on, or None where the file is no such result.

    Raises InputError for one that names a file outside its own folder of parts.
    """
    check_regular_file(path)

    def find() -> list[str] | None:
        with naming_damage(path), open_file(path, path) as file:
            features = file.get(ROI_FEATURES)
            if not isinstance(features, h5py.Dataset) or not features.is_virtual:
                return None
            return find_parts(features, path)

    try_first(find, path, os.path.getsize(path))
    return find()
