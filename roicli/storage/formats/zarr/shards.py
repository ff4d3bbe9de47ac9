"""A Zarr store that many machines fill: each writes chunks of its own, and a record of them.

A part is a number of whole chunks, so no two machines ever write one. Its record says which rows
they are, and has the CRC-32 of every chunk as it is stored. Records and plan stand below
``.roicli/`` in the store until it is whole.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from roicli.core.exceptions import InputError, OutputError
from roicli.core.types import Array, FloatArray, IntArray
from roicli.storage.address import is_url
from roicli.storage.formats import STORE_NAMES
from roicli.storage.formats.zarr.chunks import WholeChunks
from roicli.storage.formats.zarr.publish import (
    PARTS_PREFIX,
    Remote,
    StoreFolder,
    bring_back,
    name_store,
)
from roicli.storage.formats.zarr.write import ROI_FEATURES, StoreDraft
from roicli.storage.parts_folder import growing_folder, locked_parts
from roicli.storage.plan import Plan, keep_parts
from roicli.storage.result import RowSource
from roicli.storage.shard import Shard
from roicli.storage.shared_place import SharedPlace

RECORD_ENDING = ".npz"
VALUE_PREFIX = "value_"


class StorePartWriter:
    """Takes the rows of a part, 0 its first, and puts each chunk when all of its rows are there."""

    finished = 0
    takes_tables = False

    def __init__(
        self,
        draft: StoreDraft,
        shard: Shard,
        values: Mapping[str, FloatArray],
        chunks: WholeChunks,
        check: Callable[[], None],
    ) -> None:
        self._draft, self._shard, self._values = draft, shard, values
        self._chunks, self._check = chunks, check

    def write_rows(self, rows: IntArray, block: Array) -> None:
        """Take ``block`` (k, C, P_h, P_w), the rows ``rows`` (k,) of the part."""
        self._chunks.write_rows(rows, block)

    def finish(self, tables: Mapping[str, RowSource], attributes: Mapping[str, Any]) -> None:
        """Every row is there: add the record. Tables and attributes are those of the whole store,
        which are written when all of it is there.
        """
        self._chunks.check_complete()
        self._draft.flush()
        record = _pack(self._shard, self._values, self._draft.take_checksums())
        self._check()
        self._draft.place.put(self._shard.key, record)


@contextlib.contextmanager
def open_store_part(
    draft: StoreDraft,
    shard: Shard,
    values: Mapping[str, FloatArray],
    check: Callable[[], None],
    is_waited_for: Callable[[], bool],
) -> Iterator[StorePartWriter]:
    """A writer of one shard; ``check`` is called before anything is put, and may raise.

    ``values`` are the columns (k,) that are measured meanwhile, by name. To look and to put are two
    steps, and at a URL the second can come too late: where at the end the part is not waited for
    any more, what was put is taken back.
    """

    def put(start: int, block: Array) -> None:
        check()
        draft.put(shard.first + start, block)

    shape = (len(shard), *draft.shape[1:])
    # On the machine's own disk: the store's may be far away.
    beside = os.path.join(tempfile.gettempdir(), "rows")
    with WholeChunks(shape, draft.dtype, draft.chunk_rows, put, beside) as chunks:
        try:
            yield StorePartWriter(draft, shard, values, chunks, check)
            check()
        except BaseException:
            with contextlib.suppress(OutputError, OSError):  # storage that is away
                if not is_waited_for():
                    _take_back(draft, shard)
            raise


def _take_back(draft: StoreDraft, shard: Shard) -> None:
    """Remove the record and the chunks of a part. A store that is whole keeps its chunks: another
    attempt put the same.
    """
    place = draft.place
    place.remove(shard.key)
    if not any(place.read(name) for name in STORE_NAMES):
        for key in draft.take_checksums():
            place.remove(key)
    if isinstance(place, Remote):
        place.remove_empty_folders((f"{ROI_FEATURES}/", PARTS_PREFIX, ""))


def _pack(shard: Shard, values: Mapping[str, FloatArray], checksums: Mapping[str, int]) -> bytes:
    head = {"rows": [shard.first, shard.stop], "fingerprint": dict(shard.fingerprint)}
    held: dict[str, Any] = {f"{VALUE_PREFIX}{name}": values[name] for name in values}
    held["head"] = np.array(json.dumps(head))
    held["chunks"] = np.array(list(checksums), str)
    held["chunk_crc32"] = np.array(list(checksums.values()), np.uint32)
    stream = io.BytesIO()
    np.savez(stream, **held)
    return stream.getvalue()


def check_store_part(place: SharedPlace, shard: Shard) -> dict[str, FloatArray]:
    """The value columns of a shard that is there and whole, by name.

    Raises InputError where it is not: no record, of other rows or inputs, or a chunk is damaged.
    """
    data = place.read(shard.key)
    if data is None:
        raise InputError(f"{shard.key}: is not there")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as record:
            held = {name: record[name] for name in record.files}
        head = json.loads(str(held["head"]))
        keys, checksums = held["chunks"].tolist(), held["chunk_crc32"].tolist()
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{shard.key}: is damaged: {error}") from None
    if head != {"rows": [shard.first, shard.stop], "fingerprint": dict(shard.fingerprint)}:
        raise InputError(f"{shard.key}: holds other rows, or was made from other inputs")
    for key, checksum in zip(keys, checksums, strict=True):
        chunk = place.read(key)
        if chunk is None or zlib.crc32(chunk) != checksum:
            raise InputError(f"{key}: is damaged or missing")
    names = [name for name in held if name.startswith(VALUE_PREFIX)]
    return {name.removeprefix(VALUE_PREFIX): held[name] for name in names}


@contextlib.contextmanager
def open_store_plan(target: str, keep: bool, force: bool) -> Iterator[Plan]:
    """The plan of the store ``target``, this run's alone; ``begin`` makes its place.

    Where the block is interrupted the parts go, or stay with ``keep``. Raises OutputError.
    """
    if is_url(target):
        with keep_parts(_plan_at(target, Remote(target)), keep) as plan:
            yield plan
        return
    target = target.rstrip("/")
    with locked_parts(target, force):
        folder = growing_folder(target)
        bring_back(f"{folder}.old", target, force)
        place = StoreFolder(folder, 0o700 if os.path.lexists(target) else 0o777)
        with keep_parts(_plan_at(target, place), keep) as plan:
            yield plan


def _plan_at(target: str, place: SharedPlace) -> Plan:
    return Plan(target, place, PARTS_PREFIX, RECORD_ENDING)


def publish_store(
    plan: Plan,
    draft: StoreDraft,
    tables: Mapping[str, RowSource],
    attributes: Mapping[str, Any],
    force: bool,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Every part is there: write what stands beside the features, and give the store its name.

    ``check`` is called before and may raise. Raises OutputError, also where a chunk is missing.
    """
    _check_chunks(draft)
    draft.finish(tables, attributes)
    place = plan.place
    check()
    if isinstance(place, StoreFolder):
        name_store(place, plan.target, force)
        place = StoreFolder(plan.target)
    place.remove(plan.key)
    place.remove_all(PARTS_PREFIX)


def _check_chunks(draft: StoreDraft) -> None:
    """Every chunk is there, and nothing else: what killed tasks left half written goes."""
    prefix = f"{ROI_FEATURES}/"
    there, expected = draft.place.list_keys(prefix), draft.chunk_keys()
    missing = sorted(expected - there)
    if missing:
        raise OutputError(
            f"{draft.path}: {len(missing):,} of {len(expected):,} chunks are gone, the first "
            f"{missing[0]}",
            "somebody else writes there; run it again",
        )
    for name in there - expected:
        draft.place.remove(f"{prefix}{name}")
