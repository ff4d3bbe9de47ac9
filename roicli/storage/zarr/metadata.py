"""A Zarr store whose metadata is held back, so that nothing in it opens before it is whole."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from roicli.storage.zarr.store import METADATA_NAMES, import_zarr


def hold_back_metadata(store: Any, metadata: Mapping[str, bytes] | None = None) -> Any:
    """The store with a dictionary ``metadata`` of what is not in it yet; chunks go in at once.

    ``unflushed_bytes`` counts them, and ``take_unflushed()`` gives their keys and forgets them.
    ``checksums`` are kept where ``metadata`` is another machine's: the CRC-32 of each chunk by key.
    """
    zarr = import_zarr(str(store))

    class MetadataLast(zarr.storage.WrapperStore):  # type: ignore[misc, name-defined]
        """Serves its own metadata from memory."""

        def __init__(self, store: Any) -> None:
            super().__init__(store)
            self.metadata: dict[str, bytes] = dict(metadata or {})
            self.checksums: dict[str, int] = {}
            self.unflushed_bytes = 0
            self._unflushed: list[str] = []

        def take_unflushed(self) -> list[str]:
            keys, self._unflushed, self.unflushed_bytes = self._unflushed, [], 0
            return keys

        async def set(self, key: str, value: Any) -> None:
            if key.rpartition("/")[2] in METADATA_NAMES:
                self.metadata[key] = value.to_bytes()
                return
            await self._store.set(key, value)
            if metadata is not None:
                self.checksums[key] = zlib.crc32(value.as_numpy_array())
            self._unflushed.append(key)
            self.unflushed_bytes += len(value)

        async def set_if_not_exists(self, key: str, value: Any) -> None:
            await self.set(key, value)

        async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
            if key in self.metadata:
                return prototype.buffer.from_bytes(self.metadata[key])
            return await self._store.get(key, prototype, byte_range)

    return MetadataLast(store)
