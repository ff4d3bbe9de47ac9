"""A Zarr store in the making, by one machine or by many: chunks at once, metadata at the end.

The group's attributes are the provenance. The error table is one array (K, columns) of float64
with its columns' names as an attribute, since Zarr 3 has no standard compound dtype.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from roicli.core.exceptions import OutputError
from roicli.core.types import Array, FloatType
from roicli.core.vocabulary import SIZE_CLASSES, Compression
from roicli.storage.atomic import RowSource
from roicli.storage.formats.zarr.metadata import catch_chunks, hold_back_metadata
from roicli.storage.formats.zarr.place import StorePlace, writing
from roicli.storage.formats.zarr.read import import_zarr
from roicli.storage.row_file import FLUSH_BYTES

ROI_FEATURES = "roi_features"
# Small enough to read a few RoIs, large enough for a request over a network.
CHUNK_BYTES = 4 << 20
AXES = {
    ROI_FEATURES: ("roi", "channel", "bin_row", "bin_column"),
    "rois": ("roi", "coordinate"),
    "quantization_error": ("roi", "column"),
}


class StoreDraft:
    """A store whose arrays are laid out and whose metadata nobody sees yet.

    ``shape`` (K, C, P_h, P_w) is that of the features; ``chunk_rows`` of them are a chunk.
    """

    def __init__(self, place: StorePlace, path: str, held: Any, root: Any, features: Any) -> None:
        self.place, self.path = place, path
        self._held, self._root, self._features = held, root, features
        self.shape: tuple[int, ...] = tuple(features.shape)
        self.dtype: FloatType = features.dtype
        self.chunk_rows: int = features.chunks[0]

    @property
    def metadata(self) -> dict[str, bytes]:
        """What another machine needs to ``join``."""
        return dict(self._held.metadata)

    def chunk_keys(self) -> set[str]:
        """The keys below the features that hold their chunks."""
        count = -(-self.shape[0] // self.chunk_rows)
        return {f"c.{number}.0.0.0" for number in range(count)}

    def put(self, first: int, values: Array) -> None:
        """Store rows ``first`` onwards of the features, which are whole chunks."""
        with writing(self.path):
            self._features[first : first + len(values)] = values
            if self._held.unflushed_bytes >= FLUSH_BYTES:
                self.flush()

    def flush(self) -> None:
        """Bring what was put to the disk, where there is one here."""
        self.place.flush(self._held.take_unflushed())

    def take_checksums(self) -> dict[str, int]:
        """The CRC-32 of every chunk that was put, by key, as it is stored."""
        return dict(self._held.checksums)

    def finish(self, tables: Mapping[str, RowSource], attributes: Mapping[str, Any]) -> None:
        """Add the tables and attributes, and then the metadata, the root's at the end."""
        for name, source in tables.items():
            self._write_table(name, source)
        with writing(self.path):
            self._root.attrs.update({key: _plain(value) for key, value in attributes.items()})
            self.flush()
            metadata = self._held.metadata
            for key in sorted(metadata, key=lambda key: -key.count("/")):
                self.place.put(key, metadata[key])

    def _write_table(self, name: str, source: RowSource) -> None:
        count = self.shape[0]
        head = _as_numbers(source(0, min(count, 1)))
        with writing(self.path):
            array = _create(self._root, name, (count, *head.shape[1:]), head.dtype, None)
            columns = source(0, 0).dtype.names
            if columns:
                array.attrs.update({"columns": list(columns), "size_classes": list(SIZE_CLASSES)})
            for start in range(0, count, array.chunks[0]):
                stop = min(start + array.chunks[0], count)
                array[start:stop] = _as_numbers(source(start, stop))


def begin(
    place: StorePlace,
    path: str,
    shape: tuple[int, ...],
    dtype: FloatType,
    compression: Compression,
) -> StoreDraft:
    """Lay out a store at ``place``, which errors call ``path``. Raises OutputError."""
    codecs = _choose_codecs(path, compression)
    with writing(path):
        held = hold_back_metadata(place.open())
        root = import_zarr(path).create_group(held)
        features = _create(root, ROI_FEATURES, shape, dtype, codecs)
    return StoreDraft(place, path, held, root, features)


def join(place: StorePlace, metadata: Mapping[str, bytes]) -> StoreDraft:
    """The store that another machine laid out, to put chunks into it. Raises OutputError."""
    with writing(place.path):
        held = catch_chunks(metadata, place.put_chunk)
        root = import_zarr(place.path).open_group(held, mode="r+")
        return StoreDraft(place, place.path, held, root, root[ROI_FEATURES])


def _create(root: Any, name: str, shape: tuple[int, ...], dtype: Any, codecs: Any) -> Any:
    """An array in chunks of whole rows, every one of which is stored."""
    row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
    most = max(1, min(shape[0], CHUNK_BYTES // max(row_bytes, 1)))
    # The last chunk is stored as long as the others, so they share the rows evenly.
    rows = -(-shape[0] // -(-shape[0] // most)) if shape[0] else 1
    return root.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(rows, *shape[1:]),
        compressors=codecs,
        filters=None,
        fill_value=0,
        # One flat folder; with slashes each chunk would have four of its own.
        chunk_key_encoding={"name": "default", "separator": "."},
        dimension_names=AXES.get(name),
        config={"write_empty_chunks": True},
    )


def _choose_codecs(path: str, compression: Compression) -> Any:
    """The codecs that go with ``compression``. Raises OutputError for one that is HDF5's own."""
    codecs = import_zarr(path).codecs
    if compression == "none":
        return None
    if compression == "gzip":
        return [codecs.GzipCodec(level=4)]
    if compression == "zstd":
        return [codecs.BloscCodec(cname="zstd", clevel=3, shuffle="shuffle")]
    raise OutputError(
        f"{path}: compression {compression} is HDF5's, expected none, gzip or zstd in Zarr"
    )


def _as_numbers(rows: Array) -> Array:
    """Rows as they are, or of a compound dtype as float64 (k, columns); a text by its number."""
    if rows.dtype.names is None:
        return rows
    table = np.empty((len(rows), len(rows.dtype.names)))
    for place, name in enumerate(rows.dtype.names):
        column = rows[name]
        if column.dtype.kind == "S":
            numbers = [
                np.where(column == word.encode(), n, 0) for n, word in enumerate(SIZE_CLASSES)
            ]
            column = np.sum(numbers, axis=0)
        table[:, place] = column
    return table


def _plain(value: Any) -> Any:
    """An attribute as JSON holds it."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
