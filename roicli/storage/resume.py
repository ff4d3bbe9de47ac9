"""Rows of a run that may be interrupted: a journal beside them says which are on the disk.

It has one line of JSON for what the run computes from what, then one for every segment of RoIs that
is finished, in the order in which the run visits them. A line is added only after the rows are on
the disk, and a line that an interruption cut short is not read.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from roicli.core.exceptions import InputError, OutputError, ParameterError, VerificationError
from roicli.core.system import flush_data
from roicli.core.types import Array, FloatArray, IntArray, as_bytes
from roicli.storage.atomic import PartFile
from roicli.storage.row_file import FLUSH_BYTES, Layout, RowFile, narrow

logger = logging.getLogger("roicli")

SECONDS_A_SEGMENT = 1.0
ROWS_A_CHECK_BYTES = 16 << 20
JOURNAL_VERSION = 1


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
            {"journal": JOURNAL_VERSION, "fingerprint": dict(self.fingerprint), "layout": layout}
        )

    @staticmethod
    def from_json(line: str) -> JournalHeader:
        """Raises ValueError, TypeError or KeyError for what is not a header."""
        found = json.loads(line)
        if found["journal"] != JOURNAL_VERSION:
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
        os.truncate(descriptor, 0)
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
        flush_data(self._stream.fileno())

    def close(self) -> None:
        """Let go of the file."""
        self._stream.close()


class Resumption(NamedTuple):
    """How a run can go on where an earlier one stopped.

    ``fingerprint`` is flat text by name; ``order`` (K,) the rows in the order in which the run
    visits them; ``values`` the value columns (K,) by name, filled from what is kept.
    """

    fingerprint: Mapping[str, str]
    order: IntArray
    values: Mapping[str, FloatArray]


def find_kept(
    part: PartFile, resumption: Resumption | None, force: bool
) -> tuple[Layout | None, list[Segment]]:
    """What an interrupted run left that this run goes on with; None and nothing where it does not.

    Raises OutputError where that run was another one, naming the first difference, and where
    neither ``resumption`` nor ``force`` says what to do with its rows.
    """
    found = read_journal(part.companion("journal"))
    header, segments = found or (None, [])
    if resumption is None:
        if segments and not force:
            raise OutputError(
                f"{part.target}: an interrupted run has kept {segments[-1].stop:,} RoIs",
                "add --resume to go on with them, or --force to start anew",
            )
        return None, []
    if header is None:
        return None, []
    check_same_run(part.target, header.fingerprint, resumption.fingerprint)
    return header.layout, segments


def check_same_run(target: str, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise OutputError where what was kept for ``target`` is of a run with another fingerprint."""
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            raise OutputError(
                f"{target}: the interrupted run differs: {name} was {before.get(name)}, is "
                f"{now.get(name)}",
                "run it as before, or start anew with --force and without --resume",
            )


@contextlib.contextmanager
def keep_rows(
    rows: RowFile,
    part: PartFile,
    layout: Layout,
    segments: list[Segment],
    resumption: Resumption,
) -> Iterator[ResumableRows]:
    """Rows whose finished part stays where the block is interrupted.

    What a wrong input, parameter or result ends is not worth keeping.
    """
    saved = segments[-1].stop if segments else 0
    try:
        with contextlib.closing(ResumableRows(rows, part, layout, segments, resumption)) as kept:
            try:
                yield kept
                kept.save()
            except BaseException:
                with contextlib.suppress(OSError):
                    kept.save()
                raise
            finally:
                saved = kept.saved
    # A signal may also come while what an earlier run kept is taken up again.
    except BaseException as error:
        wrong = isinstance(error, InputError | ParameterError | VerificationError)
        if saved and not wrong:
            logger.info(
                f"{part.path} keeps {saved:,} of {len(resumption.order):,} RoIs; "
                "the same command goes on from there"
            )
        else:
            part.forget()
        raise


class Checksum:
    """CRC-32 of the rows and values of a segment, the same however they are cut into blocks."""

    def __init__(self) -> None:
        self._rows = self._values = 0

    def add(self, rows: Array, values: Array) -> None:
        """Take in the next rows (k, ...) and their values (k, n)."""
        self._rows = zlib.crc32(as_bytes(rows), self._rows)
        self._values = zlib.crc32(as_bytes(values), self._values)

    @property
    def crc32(self) -> int:
        """One number for both."""
        return zlib.crc32(self._values.to_bytes(4, "little"), self._rows)


class ResumableRows:
    """Takes rows in the run's order, and notes in the journal those that are on the disk."""

    def __init__(
        self,
        rows: RowFile,
        part: PartFile,
        layout: Layout,
        segments: list[Segment],
        resumption: Resumption,
    ) -> None:
        self._rows, self._order = rows, resumption.order
        self._columns = list(resumption.values.values())
        shape = (len(self._order), len(self._columns))
        self._values = RowFile(part.open_companion("values"), 0, shape, np.dtype(np.float64))
        good = self._check(segments)
        self.finished = good[-1].stop if good else 0
        self._tell(part, segments)
        self._journal = Journal(part, JournalHeader(resumption.fingerprint, layout), good)
        self._start, self._reached, self._checksum = self.finished, self.finished, Checksum()
        self._pending_bytes, self._last = 0, time.monotonic()

    def _check(self, segments: list[Segment]) -> list[Segment]:
        """The segments before the first one whose rows are not what was written."""
        for number, segment in enumerate(segments):
            found, step = Checksum(), max(1, ROWS_A_CHECK_BYTES // max(self._rows.row_bytes, 1))
            for start in range(segment.start, segment.stop, step):
                rows = self._order[start : min(start + step, segment.stop)]
                values = self._values.read_scattered(rows)
                found.add(self._rows.read_scattered(rows), values)
                for column, kept in zip(self._columns, values.T, strict=True):
                    column[rows] = kept
            if found.crc32 != segment.crc32 or segment.stop > len(self._order):
                return segments[:number]
        return segments

    def _tell(self, part: PartFile, segments: list[Segment]) -> None:
        kept = segments[-1].stop if segments else 0
        if kept > self.finished:
            logger.info(f"{part.path}: RoIs from {self.finished:,} on are damaged and run again")
        if self.finished:
            logger.info(
                f"{part.target}: going on from {self.finished:,} of {len(self._order):,} RoIs"
            )

    def write_rows(self, rows: IntArray, block: Array) -> None:
        """Write ``block`` (k, C, P_h, P_w) to ``rows`` (k,), the next ones of the order."""
        if not np.array_equal(rows, self._order[self._reached : self._reached + len(rows)]):
            return  # a block before this one failed, which ends the run; none after it counts
        data = narrow(block, self._rows.dtype)
        self._rows.write_rows(rows, data)
        values = self._values_of(rows)
        self._values.write_rows(rows, values)
        self._checksum.add(data, values)
        self._reached += len(rows)
        self._pending_bytes += data.nbytes
        if self._pending_bytes >= FLUSH_BYTES or time.monotonic() - self._last >= SECONDS_A_SEGMENT:
            self.save()

    def _values_of(self, rows: IntArray) -> Array:
        out = np.empty((len(rows), len(self._columns)))
        for index, column in enumerate(self._columns):
            out[:, index] = column[rows]
        return out

    def save(self) -> None:
        """Bring what was written to the disk, then say so in the journal."""
        if self._reached == self._start:
            return
        self._rows.flush()
        self._values.flush()
        self._journal.add(Segment(self._start, self._reached, self._checksum.crc32))
        self._start, self._checksum = self._reached, Checksum()
        self._pending_bytes, self._last = 0, time.monotonic()

    @property
    def saved(self) -> int:
        """RoIs that a later run need not compute."""
        return self._start

    def close(self) -> None:
        """Let go of what is kept beside the rows."""
        self._values.close()
        self._journal.close()
