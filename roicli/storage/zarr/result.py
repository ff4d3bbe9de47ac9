"""The Zarr result: /roi_features in chunks of whole RoIs, the tables beside it, provenance.

The group's attributes are the provenance. The error table is one array (K, columns) of float64
with its columns' names as an attribute, since Zarr 3 has no standard compound dtype.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from roicli.datatypes import Array, FloatType
from roicli.exceptions import OutputError
from roicli.storage.address import is_url
from roicli.storage.journal import Segment
from roicli.storage.layout import Layout, allocated_bytes
from roicli.storage.opening import PREFERRED
from roicli.storage.output import RowSource, as_output_errors, check_disk
from roicli.storage.part_file import PartFile
from roicli.storage.resumable import ResumableRows, Resumption, find_kept, keep_rows
from roicli.storage.row_file import FLUSH_BYTES
from roicli.storage.zarr.metadata import hold_back_metadata
from roicli.storage.zarr.place import Place, open_folder, open_remote, writing
from roicli.storage.zarr.store import import_zarr
from roicli.storage.zarr.whole_chunks import WholeChunks
from roicli.vocabulary import SIZE_CLASSES, Compression

ROI_FEATURES = PREFERRED["result"]
# Small enough to read a few RoIs, large enough for a request over a network.
CHUNK_BYTES = 4 << 20
AXES = {
    ROI_FEATURES: ("roi", "channel", "bin_row", "bin_column"),
    "rois": ("roi", "coordinate"),
    "quantization_error": ("roi", "column"),
}


class Store:
    """One Zarr 3 store in the making: chunks at once, metadata at the end."""

    def __init__(
        self,
        place: Place,
        path: str,
        shape: tuple[int, ...],
        dtype: FloatType,
        compression: Compression,
    ) -> None:
        self._place, self.path, self.shape = place, path, shape
        codecs = _choose_codecs(path, compression)
        self._held = hold_back_metadata(place.open())
        with writing(path):
            self._root = import_zarr(path).create_group(self._held)
        self._features = self._create(ROI_FEATURES, shape, dtype, codecs)
        self.chunk_rows: int = self._features.chunks[0]

    def _create(self, name: str, shape: tuple[int, ...], dtype: Any, codecs: Any) -> Any:
        """An array in chunks of whole rows, every one of which is stored."""
        row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        most = max(1, min(shape[0], CHUNK_BYTES // max(row_bytes, 1)))
        # The last chunk is stored as long as the others, so they share the rows evenly.
        rows = -(-shape[0] // -(-shape[0] // most)) if shape[0] else 1
        with writing(self.path):
            return self._root.create_array(
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

    def put(self, first: int, values: Array) -> None:
        """Store rows ``first`` onwards of the features, which are whole chunks."""
        with writing(self.path):
            self._features[first : first + len(values)] = values
            if self._held.unflushed_bytes >= FLUSH_BYTES:
                self._place.flush(self._held.take_unflushed())

    def finish(self, tables: Mapping[str, RowSource], attributes: Mapping[str, Any]) -> None:
        """Add the tables and attributes, and then the metadata, the root's at the end."""
        for name, source in tables.items():
            self._write_table(name, source)
        with writing(self.path):
            self._root.attrs.update({key: _plain(value) for key, value in attributes.items()})
            self._place.flush(self._held.take_unflushed())
            metadata = self._held.metadata
            for key in sorted(metadata, key=lambda key: -key.count("/")):
                self._place.put(key, metadata[key])

    def _write_table(self, name: str, source: RowSource) -> None:
        count = self.shape[0]
        head = _as_numbers(source(0, min(count, 1)))
        array = self._create(name, (count, *head.shape[1:]), head.dtype, None)
        columns = source(0, 0).dtype.names
        with writing(self.path):
            if columns:
                array.attrs.update({"columns": list(columns), "size_classes": list(SIZE_CLASSES)})
            for start in range(0, count, array.chunks[0]):
                stop = min(start + array.chunks[0], count)
                array[start:stop] = _as_numbers(source(start, stop))


class ZarrWriter:
    """Rows on their way to a store: in chunks as they come, or kept for a run that may be resumed.

    ``complete`` brings what still waits to the store.
    """

    def __init__(
        self, store: Store, rows: WholeChunks | ResumableRows, complete: Callable[[], None]
    ) -> None:
        self.finished = rows.finished if isinstance(rows, ResumableRows) else 0
        self.write_rows = rows.write_rows
        self._store, self._complete = store, complete

    def finish(self, tables: Mapping[str, RowSource], attributes: Mapping[str, Any]) -> None:
        """Everything is written; add what stands beside it."""
        self._complete()
        self._store.finish(tables, attributes)


@contextlib.contextmanager
def open_zarr_result(
    path: str,
    shape: tuple[int, ...],
    dtype: FloatType,
    compression: Compression,
    force: bool,
    needed: int,
    resumption: Resumption | None,
) -> Iterator[ZarrWriter]:
    """A writer for ``shape`` (K, C, P_h, P_w); the store is whole when the block ends well.

    ``needed`` bytes must fit on the disk. Raises OutputError.
    """
    if is_url(path):
        if resumption is not None:
            raise OutputError(
                f"{path}: --resume keeps rows beside a file, and a URL has no such place",
                "name a folder that ends in .zarr",
            )
        with (
            tempfile.TemporaryDirectory(prefix="roicli-") as folder,
            open_remote(path, force) as place,
            _stream(Store(place, path, shape, dtype, compression), dtype, f"{folder}/rows") as made,
        ):
            yield made
        return
    target = path.rstrip("/")
    with as_output_errors(path), PartFile(target) as part:
        layout, segments = find_kept(part, resumption, force)
        _check_disk(target, part, needed, resumption)
        if layout is None:
            part.clear()
        with open_folder(f"{part.path}.store", target, force) as here:
            store = Store(here, path, shape, dtype, compression)
            rows = (
                _stream(store, dtype, part.companion("rows"))
                if resumption is None
                else _keep(store, dtype, part, layout or Layout(beside=True), segments, resumption)
            )
            with rows as writer:
                yield writer
        part.forget()


def _check_disk(target: str, part: PartFile, needed: int, resumption: Resumption | None) -> None:
    """Rows that are kept stand beside the store until it is whole."""
    held = allocated_bytes(part.companion("rows"))
    copies = 1 if resumption is None else 2
    check_disk(target, os.path.dirname(target), copies * needed, held)


@contextlib.contextmanager
def _stream(store: Store, dtype: FloatType, scratch: str) -> Iterator[ZarrWriter]:
    """Chunks go to the store as soon as they are whole."""
    with WholeChunks(store.shape, dtype, store.chunk_rows, store.put, scratch) as chunks:
        yield ZarrWriter(store, chunks, chunks.check_complete)


@contextlib.contextmanager
def _keep(
    store: Store,
    dtype: FloatType,
    part: PartFile,
    layout: Layout,
    segments: list[Segment],
    resumption: Resumption,
) -> Iterator[ZarrWriter]:
    """Rows go to a file that outlives an interruption, and from there to the store at the end."""
    if segments:
        layout.restore(part, store.shape, dtype)
    with contextlib.closing(layout.open_rows(part, store.shape, dtype)) as rows:

        def complete() -> None:
            for start in range(0, store.shape[0], store.chunk_rows):
                stop = min(start + store.chunk_rows, store.shape[0])
                store.put(start, rows.read_rows(start, stop))

        with keep_rows(rows, part, layout, segments, resumption) as kept:
            yield ZarrWriter(store, kept, complete)


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
