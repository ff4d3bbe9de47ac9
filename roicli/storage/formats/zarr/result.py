"""A Zarr result of one run: /roi_features in chunks of whole RoIs, the tables, provenance."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from roicli.core.exceptions import OutputError
from roicli.core.types import FloatType
from roicli.core.vocabulary import Compression
from roicli.storage.address import is_url
from roicli.storage.atomic import PartFile, RowSource, as_output_errors, check_disk
from roicli.storage.formats.zarr.draft import StoreDraft, begin
from roicli.storage.formats.zarr.publishing import check_name, open_folder, open_remote
from roicli.storage.formats.zarr.whole_chunks import WholeChunks
from roicli.storage.resume import ResumableRows, Resumption, Segment, find_kept, keep_rows
from roicli.storage.row_file import Layout, allocated_bytes


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
            open_remote(path, force) as place,
            _stream(begin(place, path, shape, dtype, compression), path, no_check) as made,
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
            store = begin(here, path, shape, dtype, compression)
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
