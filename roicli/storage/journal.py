"""The journal of a resumable run: what it computes from what, and which RoIs are on the disk.

One line of JSON for the run, then one for every segment of RoIs that is finished, in the order in
which the run visits them. A line is added only after the rows are on the disk, and a line that an
interruption cut short is not read.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from roicli.storage.layout import Layout
from roicli.storage.part_file import PartFile

VERSION = 1


class Segment(NamedTuple):
    """RoIs ``start`` to ``stop`` of the visiting order, and the CRC-32 of their rows and values."""

    start: int
    stop: int
    crc32: int


class JournalHeader(NamedTuple):
    """``fingerprint`` is what a run must share to go on, as flat text; ``layout`` of the rows."""

    fingerprint: Mapping[str, str]
    layout: Layout

    def to_json(self) -> str:
        """One line."""
        layout = {
            "beside": self.layout.beside,
            "head": base64.b64encode(self.layout.head).decode(),
            "tail": base64.b64encode(self.layout.tail).decode(),
        }
        return json.dumps(
            {"journal": VERSION, "fingerprint": dict(self.fingerprint), "layout": layout}
        )

    @staticmethod
    def from_json(line: str) -> JournalHeader:
        """Raises ValueError, TypeError or KeyError for what is not a header."""
        found = json.loads(line)
        if found["journal"] != VERSION:
            raise ValueError("another version")
        layout = found["layout"]
        head, tail = (base64.b64decode(layout[name]) for name in ("head", "tail"))
        return JournalHeader(dict(found["fingerprint"]), Layout(layout["beside"], head, tail))


def read_journal(path: str) -> tuple[JournalHeader, list[Segment]] | None:
    """The header and the finished segments, each going on where the last one stopped.

    None where there is no journal, or none that can be read.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            lines = stream.read().split("\n")
        return JournalHeader.from_json(lines[0]), list(_read_segments(lines[1:]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _read_segments(lines: list[str]) -> Iterator[Segment]:
    reached = 0
    for line in lines:
        try:
            segment = Segment(**json.loads(line))
        except (ValueError, TypeError):
            return
        if segment.start != reached or segment.stop <= reached:
            return
        reached = segment.stop
        yield segment


class Journal:
    """The journal of a part, open for writing."""

    def __init__(self, part: PartFile, header: JournalHeader, segments: list[Segment]) -> None:
        descriptor = part.open_companion("new-journal")
        os.ftruncate(descriptor, 0)
        self._stream = open(descriptor, "w", encoding="utf-8")  # noqa: SIM115 - closed by close()
        self._stream.write(header.to_json() + "\n")
        for segment in segments:
            self._write(segment)
        self._to_disk()
        # The journal of the run before is good until this one is whole.
        os.replace(part.companion("new-journal"), part.companion("journal"))

    def add(self, segment: Segment) -> None:
        """Note a segment whose rows are on the disk."""
        self._write(segment)
        self._to_disk()

    def _write(self, segment: Segment) -> None:
        self._stream.write(json.dumps(segment._asdict()) + "\n")

    def _to_disk(self) -> None:
        self._stream.flush()
        os.fdatasync(self._stream.fileno())

    def close(self) -> None:
        """Let go of the file."""
        self._stream.close()
