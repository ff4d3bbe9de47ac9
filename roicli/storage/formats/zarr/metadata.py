"""Zarr stores whose metadata is in memory: nothing on the storage opens before it is whole."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from roicli.storage.formats.zarr.read import METADATA_NAMES, import_zarr


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
