"""Arrays that come one set after another, kept beside a file in the making until it is written.

The values are appended to the part's companion ``rows``. With ``resume`` a journal of one JSON line
a set says what is on the disk, with its checksum: a set counts once its line is there, and a line
that an interruption cut short is not read.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from roicli.core.exceptions import OutputError
from roicli.core.record import frozen
from roicli.core.system import flush_data, read_at, write_at
from roicli.core.types import Array, as_bytes
from roicli.storage.atomic import PartFile, check_disk
from roicli.storage.resume import check_same_run

logger = logging.getLogger("roicli")

KIND = "tensors"
CHECKED_BYTES = 16 << 20


@frozen
class Place:
    """Where an array stands among the values, and what it is."""

    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


@frozen
class Entry:
    """One set: facts about it, and its arrays by name."""

    facts: Mapping[str, Any]
    arrays: Mapping[str, Place]


class TensorLog:
    """The sets that were appended, of an earlier run first. Raises OutputError.

    ``fingerprint`` is what a run must share to go on, as flat text; None keeps nothing.
    """

    def __init__(
        self, part: PartFile, fingerprint: Mapping[str, str] | None, force: bool = False
    ) -> None:
        self._part, self._end = part, 0
        self.entries: list[Entry] = []
        path = part.companion("journal")
        kept = _read_lines(path)
        if fingerprint is None:
            if len(kept) > 1 and not force:
                raise OutputError(
                    f"{part.target}: an interrupted run has kept {len(kept) - 1:,} images",
                    "add --resume to go on with them, or --force to start anew",
                )
            kept = []
        elif kept:
            check_same_run(part.target, kept[0]["fingerprint"], fingerprint)
        if not kept:
            part.clear()
        self._rows = part.open_companion("rows")
        self._journal: int | None = None
        good = self._take_up(kept[1:])
        if fingerprint is not None:
            self._begin_journal({"journal": KIND, "fingerprint": dict(fingerprint)}, good)

    def _take_up(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The sets before the first one whose values are not what was written."""
        for number, line in enumerate(lines):
            entry = _as_entry(line)
            if entry is None or self._checksum(self._end, line["end"]) != line["crc32"]:
                logger.info(f"{self._part.target}: images from {number:,} on are run again")
                return lines[:number]
            self._end = line["end"]
            self.entries.append(entry)
        if lines:
            logger.info(f"{self._part.target}: going on after {len(lines):,} images")
        return lines

    def _begin_journal(self, header: dict[str, Any], lines: list[dict[str, Any]]) -> None:
        descriptor = self._part.open_companion("new-journal")
        os.truncate(descriptor, 0)
        text = "".join(json.dumps(line) + "\n" for line in (header, *lines)).encode()
        self._written = write_at(descriptor, memoryview(text), 0)
        flush_data(descriptor)
        # The journal of the run before is good until this one is whole.
        os.replace(self._part.companion("new-journal"), self._part.companion("journal"))
        self._journal = descriptor

    def append(self, facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Add a set."""
        start, places = self._end, {}
        needed = sum(values.nbytes for values in arrays.values())
        check_disk(self._part.target, os.path.dirname(self._part.target), needed)
        crc32 = 0
        for name, values in arrays.items():
            data = np.ascontiguousarray(values)
            places[name] = Place(self._end, data.dtype, data.shape)
            view = as_bytes(data)
            if self._journal is not None:
                crc32 = zlib.crc32(view, crc32)
            done = 0
            while done < len(view):
                done += write_at(self._rows, view[done:], self._end + done)
            self._end += len(view)
        self.entries.append(Entry(facts, places))
        if self._journal is not None:
            flush_data(self._rows)
            described = {
                name: [place.offset, place.dtype.str, list(place.shape)]
                for name, place in places.items()
            }
            line = {"facts": facts, "arrays": described, "start": start, "end": self._end}
            text = (json.dumps({**line, "crc32": crc32}) + "\n").encode()
            self._written += write_at(self._journal, memoryview(text), self._written)
            flush_data(self._journal)

    def read(self, place: Place) -> Array:
        """An array of a set."""
        out = np.empty(place.shape, place.dtype)
        view = as_bytes(out)
        done = 0
        while done < len(view):
            count = read_at(self._rows, view[done:], place.offset + done)
            if not count:
                raise OutputError(f"{self._part.target}: what was kept beside it is cut short")
            done += count
        return out

    def _checksum(self, start: int, stop: int) -> int | None:
        crc32, buffer = 0, memoryview(bytearray(CHECKED_BYTES))
        while start < stop:
            count = read_at(self._rows, buffer[: stop - start], start)
            if not count:
                return None
            crc32, start = zlib.crc32(buffer[:count], crc32), start + count
        return crc32

    def close(self) -> None:
        """Let go of the files."""
        os.close(self._rows)
        if self._journal is not None:
            os.close(self._journal)


def _read_lines(path: str) -> list[dict[str, Any]]:
    """The header and the lines of a journal of this kind; empty where there is none."""
    return list(_parse_lines(path))


def _parse_lines(path: str) -> Iterator[dict[str, Any]]:
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
    except (OSError, ValueError):
        return
    # What stands after the last end of a line was cut short.
    for number, line in enumerate(text.split("\n")[:-1]):
        try:
            found = json.loads(line)
        except ValueError:
            return
        if not isinstance(found, dict) or (number == 0 and found.get("journal") != KIND):
            return
        yield found


def _as_entry(line: Mapping[str, Any]) -> Entry | None:
    try:
        places = {
            name: Place(int(offset), np.dtype(dtype), tuple(map(int, shape)))
            for name, (offset, dtype, shape) in line["arrays"].items()
        }
        return Entry(dict(line["facts"]), places)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
