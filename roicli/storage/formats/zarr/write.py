"""Writing a Zarr store, by one machine or by many: chunks at once, metadata at the end.

Of the result /roi_features is in chunks of whole RoIs, each with its CRC-32C, which any reader of
Zarr checks; where they are very many they lie together in shards. The group's attributes are the
provenance. The error table is one array (K, columns) of float64 with its columns' names as an
attribute, since Zarr 3 has no standard compound dtype.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from roicli.core.exceptions import OutputError
from roicli.core.types import Array, FloatType
from roicli.core.vocabulary import SIZE_CLASSES, Compression
from roicli.storage.address import is_url
from roicli.storage.atomic import PartFile, as_output_errors, check_disk
from roicli.storage.formats.zarr.chunks import WholeChunks
from roicli.storage.formats.zarr.publish import (
    StorePlace,
    check_name,
    open_folder,
    open_remote,
    writing,
)
from roicli.storage.formats.zarr.store import METADATA_NAMES, import_zarr
from roicli.storage.result import SHARD_BYTES, ResultFile, ResultWriter, RowSource
from roicli.storage.resume import ResumableRows, Resumption, Segment, find_kept, keep_rows
from roicli.storage.row_file import FLUSH_BYTES, Layout, allocated_bytes

# --- stores whose metadata is in memory -----------------------------------------------------------


def hold_back_metadata(store: Any) -> Any:
    """The store with a dictionary ``metadata`` of what is not in it yet; chunks go in at once.

    ``unflushed_bytes`` counts them, and ``take_unflushed()`` gives their keys and forgets them.
    """
    return _metadata_last()(store)


def catch_chunks(metadata: Mapping[str, bytes], put: Callable[[str, memoryview], None]) -> Any:
    """As ``hold_back_metadata``, with another machine's ``metadata``; chunks go to ``put``.

    Zarr's own store would make a folder again that somebody has removed. ``checksums`` has the
    CRC-32 of each chunk, as it is stored, by key.
    """
    base = _metadata_last()

    class ChunksElsewhere(base):  # type: ignore[misc, valid-type]
        """Keeps nothing but metadata and checksums."""

        def __init__(self) -> None:
            super().__init__(import_zarr("store").storage.MemoryStore())
            self.metadata.update(metadata)
            self.checksums: dict[str, int] = {}

        async def set_chunk(self, key: str, value: Any) -> None:
            data = memoryview(value.as_numpy_array())
            self.checksums[key] = zlib.crc32(data)
            # In a thread, so that several go out at once.
            await asyncio.to_thread(put, key, data)

    return ChunksElsewhere()


@cache
def _metadata_last() -> Any:
    zarr = import_zarr("store")

    class MetadataLast(zarr.storage.WrapperStore):  # type: ignore[misc, name-defined]
        """Serves its own metadata from memory."""

        def __init__(self, store: Any) -> None:
            super().__init__(store)
            self.metadata: dict[str, bytes] = {}
            self.unflushed_bytes = 0
            self._unflushed: list[str] = []

        def take_unflushed(self) -> list[str]:
            keys, self._unflushed, self.unflushed_bytes = self._unflushed, [], 0
            return keys

        async def set(self, key: str, value: Any) -> None:
            if key.rpartition("/")[2] in METADATA_NAMES:
                self.metadata[key] = value.to_bytes()
                return
            await self.set_chunk(key, value)
            self._unflushed.append(key)
            self.unflushed_bytes += len(value)

        async def set_chunk(self, key: str, value: Any) -> None:
            await self._store.set(key, value)

        async def set_if_not_exists(self, key: str, value: Any) -> None:
            await self.set(key, value)

        async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
            if key in self.metadata:
                return prototype.buffer.from_bytes(self.metadata[key])
            return await self._store.get(key, prototype, byte_range)

    return MetadataLast


# --- a store in the making ------------------------------------------------------------------------

ROI_FEATURES = "roi_features"
# Small enough to read a few RoIs, large enough for a request over a network.
CHUNK_BYTES = 4 << 20
# More chunks than these lie together in shards.
MOST_FILES = 1000
# What a text is taken to have, where chunks are cut.
TEXT_BYTES = 32
AXES = {
    ROI_FEATURES: ("roi", "channel", "bin_row", "bin_column"),
    "rois": ("roi", "coordinate"),
    "quantization_error": ("roi", "column"),
}


class StoreDraft:
    """A store whose arrays are laid out and whose metadata nobody sees yet.

    ``shape`` (K, C, P_h, P_w) is that of the features; ``chunk_rows`` of them are a file: a chunk,
    or a shard of several.
    """

    def __init__(self, place: StorePlace, path: str, held: Any, root: Any, features: Any) -> None:
        self.place, self.path = place, path
        self._held, self._root, self._features = held, root, features
        self.shape: tuple[int, ...] = tuple(features.shape)
        self.dtype: FloatType = features.dtype
        self.chunk_rows: int = (features.shards or features.chunks)[0]

    @property
    def metadata(self) -> dict[str, bytes]:
        """What another machine needs to ``join``."""
        return dict(self._held.metadata)

    def chunk_keys(self) -> set[str]:
        """The keys below the features that hold their chunks or shards."""
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
            metadata = _consolidate(self._held.metadata)
            for key in sorted(metadata, key=lambda key: -key.count("/")):
                self.place.put(key, metadata[key])

    def _write_table(self, name: str, source: RowSource) -> None:
        count = self.shape[0]
        head = _as_stored(source(0, min(count, 1)))
        with writing(self.path):
            array = _create(self._root, name, (count, *head.shape[1:]), head.dtype)
            columns = source(0, 0).dtype.names
            if columns:
                array.attrs.update({"columns": list(columns), "size_classes": list(SIZE_CLASSES)})
            for start in range(0, count, array.chunks[0]):
                stop = min(start + array.chunks[0], count)
                array[start:stop] = _as_stored(source(start, stop))


def begin(
    place: StorePlace,
    path: str,
    shape: tuple[int, ...],
    dtype: FloatType,
    compression: Compression,
    shard_bytes: int = SHARD_BYTES,
) -> StoreDraft:
    """Lay out a store at ``place``, which errors call ``path``. Raises OutputError."""
    codecs = _choose_codecs(path, compression)
    with writing(path):
        held = hold_back_metadata(place.open())
        root = import_zarr(path).create_group(held)
        features = _create(root, ROI_FEATURES, shape, dtype, codecs, shard_bytes)
    return StoreDraft(place, path, held, root, features)


def join(place: StorePlace, metadata: Mapping[str, bytes]) -> StoreDraft:
    """The store that another machine laid out, to put chunks into it. Raises OutputError."""
    with writing(place.path):
        held = catch_chunks(metadata, place.put_chunk)
        root = import_zarr(place.path).open_group(held, mode="r+")
        return StoreDraft(place, place.path, held, root, root[ROI_FEATURES])


def _consolidate(metadata: Mapping[str, bytes]) -> dict[str, bytes]:
    """The metadata with that of the arrays in the root's too, so that one request opens all.

    As zarr's ``consolidate_metadata`` writes it, which warns that not every reader knows of it.
    """
    root, *_ = sorted(metadata, key=len)
    nodes = {
        key.rpartition("/")[0]: json.loads(metadata[key]) for key in sorted(metadata) if key != root
    }
    whole = json.loads(metadata[root])
    whole["consolidated_metadata"] = {
        "kind": "inline", "must_understand": False, "metadata": nodes,
    }  # fmt: skip
    return {**metadata, root: json.dumps(whole, indent=2).encode()}


def _create(
    root: Any,
    name: str,
    shape: tuple[int, ...],
    dtype: Any,
    codecs: Sequence[Any] = (),
    shard_bytes: int = 0,
) -> Any:
    """An array in chunks of whole rows, every one of which is stored, with its checksum."""
    is_text = dtype.kind == "O"
    row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * (
        TEXT_BYTES if is_text else dtype.itemsize
    )
    most = max(1, min(shape[0], CHUNK_BYTES // max(row_bytes, 1)))
    # The last chunk is stored as long as the others, so they share the rows evenly.
    rows = -(-shape[0] // -(-shape[0] // most)) if shape[0] else 1
    count = -(-shape[0] // rows)
    together = min(shard_bytes // max(rows * row_bytes, 1), count)
    is_sharded = together > 1 and count > MOST_FILES
    return root.create_array(
        name,
        shape=shape,
        dtype=str if is_text else dtype,
        chunks=(rows, *shape[1:]),
        shards=(rows * together, *shape[1:]) if is_sharded else None,
        compressors=[*codecs, import_zarr(name).codecs.Crc32cCodec()],
        filters=None,
        fill_value="" if is_text else 0,
        # One flat folder; with slashes each chunk would have four of its own.
        chunk_key_encoding={"name": "default", "separator": "."},
        dimension_names=AXES.get(name),
        config={"write_empty_chunks": True},
    )


def _choose_codecs(path: str, compression: Compression) -> Any:
    """The codecs that go with ``compression``. Raises OutputError for one that is HDF5's own."""
    codecs = import_zarr(path).codecs
    if compression == "none":
        return ()
    if compression == "gzip":
        return [codecs.GzipCodec(level=4)]
    if compression == "zstd":
        return [codecs.BloscCodec(cname="zstd", clevel=3, shuffle="shuffle")]
    raise OutputError(
        f"{path}: compression {compression} is HDF5's, expected none, gzip or zstd in Zarr"
    )


def _as_stored(rows: Array) -> Array:
    """Rows as they are, texts as Python's; or of a compound dtype as float64 (k, columns), where a
    text is its number.
    """
    if rows.dtype.kind == "S":
        return np.array([text.decode() for text in rows.tolist()], object)
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


# --- the result of one run ------------------------------------------------------------------------


class ZarrWriter:
    """Rows on their way to a store: in chunks as they come, or kept for a run that may be resumed.

    ``complete`` brings what still waits to the store; ``check`` raises where it cannot be named.
    """

    def __init__(
        self,
        store: StoreDraft,
        rows: WholeChunks | ResumableRows,
        complete: Callable[[], None],
        check: Callable[[], None],
    ) -> None:
        self.finished = rows.finished if isinstance(rows, ResumableRows) else 0
        self.takes_tables = True
        self.write_rows = rows.write_rows
        self._store, self._complete, self._check = store, complete, check

    def finish(self, tables: Mapping[str, RowSource], attributes: Mapping[str, Any]) -> None:
        """Everything is written; add what stands beside it. Raises OutputError."""
        self._complete()
        self._store.finish(tables, attributes)
        self._check()


@contextlib.contextmanager
def create(result: ResultFile) -> Iterator[ResultWriter]:
    """A writer of a Zarr result; the store is whole when the block ends well.

    Raises OutputError.
    """
    path, shape, dtype, compression, force, _, resumption, shard_bytes = result
    needed = result.needed_bytes
    if is_url(path):
        if resumption is not None:
            raise OutputError(
                f"{path}: --resume keeps rows beside a file, and a URL has no such place",
                "name a folder that ends in .zarr",
            )
        with (
            open_remote(path, force) as place,
            _stream(
                begin(place, path, shape, dtype, compression, shard_bytes), path, no_check
            ) as made,
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
            store = begin(here, path, shape, dtype, compression, shard_bytes)
            check = partial(check_name, target, force)
            rows = (
                _stream(store, target, check)
                if resumption is None
                else _keep(store, part, layout or Layout(beside=True), segments, resumption, check)
            )
            with rows as writer:
                yield writer
        part.forget()


def no_check() -> None:
    """Nothing else can take the name of a store at a URL: its metadata is there."""


def _check_disk(target: str, part: PartFile, needed: int, resumption: Resumption | None) -> None:
    """Rows that are kept stand beside the store until it is whole."""
    held = allocated_bytes(part.companion("rows"))
    copies = 1 if resumption is None else 2
    check_disk(target, os.path.dirname(target), copies * needed, held)


@contextlib.contextmanager
def _stream(store: StoreDraft, beside: str, check: Callable[[], None]) -> Iterator[ZarrWriter]:
    """Chunks go to the store as soon as they are whole."""
    with WholeChunks(store.shape, store.dtype, store.chunk_rows, store.put, beside) as chunks:
        yield ZarrWriter(store, chunks, chunks.check_complete, check)


@contextlib.contextmanager
def _keep(
    store: StoreDraft,
    part: PartFile,
    layout: Layout,
    segments: list[Segment],
    resumption: Resumption,
    check: Callable[[], None],
) -> Iterator[ZarrWriter]:
    """Rows go to a file that outlives an interruption, and from there to the store at the end."""
    if segments:
        layout.restore(part, store.shape, store.dtype)
    with contextlib.closing(layout.open_rows(part, store.shape, store.dtype)) as rows:

        def complete() -> None:
            for start in range(0, store.shape[0], store.chunk_rows):
                stop = min(start + store.chunk_rows, store.shape[0])
                store.put(start, rows.read_rows(start, stop))

        with keep_rows(rows, part, layout, segments, resumption) as kept:
            yield ZarrWriter(store, kept, complete, check)
