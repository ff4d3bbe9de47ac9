"""HDF5's C code in child processes: a file that makes it crash ends a child, not the run.

What opens a file is run in a child first; what it survived there, this process repeats. The child
then reads what passes through filters and chunk indices, and the values come back through shared
memory. A fork takes milliseconds; children have a limit of processor time and of memory, and never
return into the program.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import signal
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import h5py
import numpy as np

from roicli.core.exceptions import DamagedFileError, InputError, MissingPackageError, RoicliError
from roicli.core.system import (
    CAN_FORK,
    OUT_OF_TIME,
    end_child,
    ending_signal,
    limit_time,
    start_child,
    usable_cores,
)
from roicli.core.types import Array
from roicli.storage.array import BLOCK_BYTES, split_into_blocks, without_objects

# Off for programs that must not fork, like some under MPI.
SWITCH = "ROICLI_CONTAIN_HDF5"
# What a processor or the C library raises over a program's own fault; others come from outside.
CRASHES = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL", "SIGTRAP")
# What a child may take beyond what this process has, and how long it may compute from one finished
# thing to the next: two seconds, and more for a large file or for many chunks to decode at once.
ROOM_BYTES = 1 << 30
SECONDS = 2
OPENED_BYTES_PER_SECOND = 512 << 10
READ_BYTES_PER_SECOND = 8 << 20
DONE = b"+"
# Children that go side by side through many datasets, and how many it takes for one more.
MOST_PARTS, FEWEST_A_PART = 8, 1000

Answer = TypeVar("Answer")


# --- a child and its end --------------------------------------------------------------------------


def begin_child(
    work: Callable[[], None], name: str, seconds: float, room: int, pipes: tuple[int, ...]
) -> int:
    """Run ``work`` in a child, and give its number.

    It may compute for ``seconds`` without progress and take ``room`` bytes beyond what this process
    has. Raises InputError, with ``pipes`` closed, where the system has no process left.
    """
    try:
        return start_child(work, seconds, room)
    except BaseException as error:
        for end in pipes:
            os.close(end)
        if isinstance(error, OSError):
            reason = f"{name}: no process to open it in: {error.strerror}"
            raise InputError(reason) from error
        raise


def describe_death(status: int | None, name: str) -> InputError:
    """What ended a child, after its wait status; only a crash shows that the file is damaged."""
    number = ending_signal(status)
    if number is None:
        return DamagedFileError(
            f"{name}: cannot be read: the process that read it ended without a word", "try again"
        )
    if number == OUT_OF_TIME:
        return DamagedFileError(
            f"{name}: HDF5 did not come to an end reading it in the time that it has for that",
            f"if the file is sound, {SWITCH}=0 reads it without a limit",
        )
    if signal.Signals(number).name in CRASHES:
        return DamagedFileError(
            f"{name}: is damaged: HDF5 crashed reading it ({signal.Signals(number).name})",
            "make the file anew",
        )
    return DamagedFileError(
        f"{name}: cannot be read: the process that read it was ended "
        f"({signal.Signals(number).name}), as a system does that is short of memory"
    )


# --- reading in a child ---------------------------------------------------------------------------


def is_contained() -> bool:
    """Whether HDF5 runs in children: where processes fork, unless the environment says 0."""
    return CAN_FORK and os.environ.get(SWITCH, "1") != "0"


class Readable(NamedTuple):
    """A dataset to read, and the bytes that pass through its sources' filters for one row."""

    dataset: h5py.Dataset
    row_bytes: int


class Datasets(NamedTuple):
    """Many datasets by their numbers: ``readable`` opens one, ``look_at`` notes what is to be said
    of those from one number to another.
    """

    readable: Callable[[int], Readable]
    look_at: Callable[[int, int], object]


# What a child stays for.
Reads = Readable | Datasets


class OpeningChild:
    """A child that runs ``open_dataset`` and, where that gives something to read, stays for it.

    ``size`` is the file's in bytes; the time that a child may compute grows with it. ``room`` bytes
    can be read at once. Raises InputError where it died over the opening, or what it refused; with
    ``waits`` False ``hear_done`` does.
    """

    def __init__(
        self,
        open_dataset: Callable[[], Reads | None],
        name: str,
        size: int,
        room: int = BLOCK_BYTES,
        waits: bool = True,
    ) -> None:
        self.shared = mmap.mmap(-1, room)
        self._name = name
        self._death: RoicliError | None = None
        asked, self._ask = os.pipe()
        self._hear, answer = os.pipe()
        self._seconds = SECONDS + size // OPENED_BYTES_PER_SECOND
        self._pid: int | None = begin_child(
            lambda: self._live(open_dataset, asked, answer), name, self._seconds,
            ROOM_BYTES + 4 * room, (asked, self._ask, self._hear, answer),
        )  # fmt: skip
        os.close(asked)
        os.close(answer)
        if waits:
            self.hear_done()

    def _live(self, open_dataset: Callable[[], Reads | None], asked: int, answer: int) -> None:
        """The child's side."""
        os.close(self._ask)  # else it would not see that the parent is gone
        os.close(self._hear)
        opened, word = _attempt(open_dataset, self._name)
        os.write(answer, word)
        if opened is None:
            return

        def look_at(start: int, stop: int) -> bytes:
            assert isinstance(opened, Datasets)
            limit_time(self._seconds)
            return _attempt(lambda: opened.look_at(start, stop), self._name)[1]

        readable = opened.readable if isinstance(opened, Datasets) else lambda number: opened
        serve(readable, look_at, self.shared, asked, answer)

    def look_at(self, start: int, stop: int) -> None:
        """Have the child look at some of its datasets. Raises InputError, and the child is gone."""
        if self._death is not None:
            raise self._death
        with suppress(BrokenPipeError):
            os.write(self._ask, REQUEST.pack(0, LOOK) + LOOKED_AT.pack(start, stop))
        self.hear_done()

    def hear_done(self) -> None:
        """Wait until the child has come through. Raises InputError, and the child is gone."""
        try:
            word = os.read(self._hear, 4096)
            if word == DONE:
                return
            while more := os.read(self._hear, 4096):
                word += more
            self._death = _as_error(word, self.close(), self._name)
            raise self._death
        except BaseException:
            self.close()
            raise

    def ask(self, request: bytes) -> bytes:
        """The answer to a request. Raises InputError where the child died or had died."""
        if self._death is not None:
            raise self._death
        try:
            os.write(self._ask, request)
            answer = os.read(self._hear, 4096)
        except BrokenPipeError:
            answer = b""
        if not answer:
            self._death = describe_death(self.close(), self._name)
            raise self._death
        return answer

    def close(self) -> int | None:
        """End the child, and give what it ended with; None where it was gone."""
        if self._pid is None:
            return None
        status, self._pid = end_child(self._pid), None
        os.close(self._ask)
        os.close(self._hear)
        return status


def try_first(action: Callable[[], object], name: str, size: int) -> None:
    """Run ``action`` in a child. Raises InputError where it dies there, or what it refused.

    ``size`` is the file's in bytes; the time that a child may compute grows with it.
    """

    def act() -> None:
        action()

    if is_contained():
        OpeningChild(act, name, size).close()


def try_parts_first(
    action: Callable[[slice], object], start: int, stop: int, name: str, size: int
) -> None:
    """As ``try_first``, of an action that is done for parts of so many items, side by side."""
    count = stop - start
    parts = max(1, min(usable_cores(), MOST_PARTS, count // FEWEST_A_PART))
    cuts = [start + count * part // parts for part in range(parts + 1)]
    children: list[OpeningChild] = []
    try:
        for first, end in pairwise(cuts):
            children.append(OpeningChild(_of_part(action, first, end), name, size, waits=False))
        for child in children:
            child.hear_done()
    finally:
        for child in children:
            child.close()


def shared_array(rows: int, width: int) -> Array:
    """Zeros (rows, width) that a child's numbers come back in."""
    shared = mmap.mmap(-1, max(rows * width * 8, 1))
    return np.frombuffer(shared, np.float64, rows * width).reshape(rows, width)


def _of_part(action: Callable[[slice], object], start: int, stop: int) -> Callable[[], None]:
    def act() -> None:
        action(slice(start, stop))

    return act


def in_child_first(read: Callable[[], Answer], path: str) -> Answer:
    """What ``read`` gives here, once a child has come through it. Raises as ``try_first``."""
    try_first(read, path, os.path.getsize(path))
    return read()


def _attempt(open_dataset: Callable[[], Answer], name: str) -> tuple[Answer | None, bytes]:
    """In the child: what was opened, and what came out in bytes."""
    try:
        return open_dataset(), DONE
    except RoicliError as error:
        is_missing = isinstance(error, MissingPackageError)
        return None, json.dumps([error.message, error.hint, is_missing]).encode()
    except MemoryError:
        return None, json.dumps(
            [f"{name}: describes more than memory can hold", None, False]
        ).encode()
    except Exception:
        return None, DONE  # not a crash: the parent meets the same, and says what it is


def _as_error(answer: bytes, status: int | None, name: str) -> RoicliError:
    """The child's refusal, or its death in words."""
    if answer:
        message, hint, is_missing = json.loads(answer)
        return (MissingPackageError if is_missing else InputError)(message, hint)
    return describe_death(status, name)


def chunk_bytes(dataset: h5py.Dataset) -> int:
    """Bytes of one chunk as it comes out of the filters; 0 where there are none."""
    return math.prod(dataset.chunks) * dataset.dtype.itemsize if dataset.chunks else 0


def decoded_bytes(opened: Readable, place: Sequence[slice]) -> int:
    """Bytes that pass through filters to give the values at ``place``: every chunk that it touches.

    Of a virtual dataset the rows of its sources count.
    """
    dataset = opened.dataset
    sides = [part.stop - part.start for part in place]
    values = math.prod(sides) * dataset.dtype.itemsize
    if not dataset.chunks:
        return int(values + sides[0] * opened.row_bytes)
    touched = (
        -(-part.stop // side) - part.start // side
        for part, side in zip(place, dataset.chunks, strict=True)
    )
    return int(max(values, math.prod(touched) * chunk_bytes(dataset)))


def is_decoded(dataset: h5py.Dataset) -> bool:
    """Whether reading decodes anything; contiguous values are copied from their place."""
    return bool(dataset.shape) and bool(dataset.chunks or dataset.is_virtual)


def reads_whole_chunks(dataset: h5py.Dataset) -> bool:
    """Whether to read one item is to read all of the chunks that it lies in.

    It is not where the bytes of an item lie together in its chunk, and past no filter.
    """
    if not dataset.chunks or dataset.chunks[1:] != dataset.shape[1:]:
        return bool(dataset.chunks)
    return int(dataset.id.get_create_plist().get_nfilters()) > 0


# The number of a dataset, and of its axes; a start and a stop for each of them follow. Where LOOK
# stands for the axes, the numbers of the first dataset to look at and the one behind the last do.
REQUEST, LOOKED_AT = struct.Struct("2q"), struct.Struct("2q")
LOOK = -1


def serve(
    readable: Callable[[int], Readable],
    look_at: Callable[[int, int], bytes],
    shared: mmap.mmap,
    asked: int,
    answer: int,
) -> None:
    """In the child: a place comes, its values go into ``shared`` memory, then a word back.

    Or it looks at datasets, until one is refused: then it ends.
    """
    while len(data := os.read(asked, REQUEST.size)) == REQUEST.size:
        number, axes = REQUEST.unpack(data)
        if axes == LOOK:
            word = look_at(*LOOKED_AT.unpack(os.read(asked, LOOKED_AT.size)))
            os.write(answer, word)
            if word != DONE:
                return
            continue
        numbers = struct.unpack(f"{2 * axes}q", os.read(asked, 16 * axes)) if axes else ()
        place = tuple(map(slice, numbers[0::2], numbers[1::2]))
        try:
            opened = readable(number)
            dtype = without_objects(opened.dataset.dtype).newbyteorder("=")
            out = _view(shared, dtype, place)
            limit_time(SECONDS + decoded_bytes(opened, place) / READ_BYTES_PER_SECOND)
            opened.dataset.read_direct(out, place)
            os.write(answer, DONE)
        except Exception as error:
            os.write(answer, f"-{error}"[:1000].encode(errors="replace"))


def _view(shared: mmap.mmap, dtype: np.dtype[Any], place: Sequence[slice]) -> Array:
    """The start of the shared memory as an array of the shape of ``place``."""
    shape = tuple(part.stop - part.start for part in place)
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(shared, dtype, count).reshape(shape)


class ContainedReader:
    """One open dataset, read by a child in pieces of at most 16 MiB or one chunk.

    ``child`` has opened the same dataset; without one, or where its memory is too small for a
    chunk, a child is started, which inherits the open file. With ``number`` the child reads that
    one of many datasets, and whoever started it ends it.
    """

    def __init__(
        self,
        dataset: h5py.Dataset,
        name: str,
        row_bytes: int = 0,
        child: OpeningChild | None = None,
        number: int | None = None,
    ) -> None:
        self._chunks, self._dtype = dataset.chunks, without_objects(dataset.dtype).newbyteorder("=")
        room = max(BLOCK_BYTES, chunk_bytes(dataset))
        if child is not None and len(child.shared) < room:
            if number is None:
                child.close()
            child = number = None
        self._number = number
        self._child = child or OpeningChild(lambda: Readable(dataset, row_bytes), name, 0, room)

    def read(self, place: Sequence[slice], out: Array) -> None:
        """The values at ``place``, one slice per axis, into ``out``. Raises OSError, InputError."""
        starts = [part.start for part in place]
        for part in split_into_blocks(out.shape, self._dtype.itemsize, self._chunks):
            there = [
                slice(start + s.start, start + s.stop)
                for start, s in zip(starts, part, strict=True)
            ]
            out[part] = self._read_piece(there)

    def _read_piece(self, place: Sequence[slice]) -> Array:
        numbers = [number for part in place for number in (part.start, part.stop)]
        request = REQUEST.pack(self._number or 0, len(place))
        answer = self._child.ask(request + struct.pack(f"{len(numbers)}q", *numbers))
        if answer != DONE:
            raise OSError(answer[1:].decode(errors="replace"))
        return _view(self._child.shared, self._dtype, place)

    def close(self) -> None:
        """End the child, unless it reads others too."""
        if self._number is None:
            self._child.close()
