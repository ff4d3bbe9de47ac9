"""HDF5's C code in child processes: a file that makes it crash ends a child, not the run.

``try_first`` runs an opening once in a child; what it survived there, this process repeats.
``ContainedReader`` leaves a child behind that reads: filters and chunk indices are decoded there,
and the values come back through shared memory. Both fork, which takes milliseconds; the children
have a limit of processor time and of memory, and never return into the program.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
from collections.abc import Callable, Sequence

import h5py
import numpy as np

from roicli.datatypes import Array
from roicli.exceptions import DamagedFileError, InputError, RoicliError
from roicli.storage.contents import BLOCK_BYTES, split_into_blocks
from roicli.storage.hdf5.child import describe_death, end_child, limit_time, start_child

# Off for programs that must not fork, like some under MPI.
SWITCH = "ROICLI_CONTAIN_HDF5"
# What a child may take beyond what this process has, and how long it may compute: a second or two,
# and more for a large file, whose datasets may be many, or a large chunk.
ROOM_BYTES = 1 << 30
SECONDS = 1
OPENED_BYTES_PER_SECOND = 512 << 10
READ_BYTES_PER_SECOND = 8 << 20
DONE = b"+"


def is_contained() -> bool:
    """Whether HDF5 runs in children: yes, unless the environment says 0."""
    return os.environ.get(SWITCH, "1") != "0"


def try_first(action: Callable[[], object], name: str, size: int) -> None:
    """Run ``action`` in a child. Raises InputError where it dies there, or what it refused.

    ``size`` is the file's in bytes; the time that a child may compute grows with it.
    """
    if not is_contained():
        return
    here, there = os.pipe()
    seconds = SECONDS + size // OPENED_BYTES_PER_SECOND
    pid = start_child(
        lambda: _attempt(action, there, name), name, seconds, ROOM_BYTES, (here, there)
    )
    os.close(there)
    status = None
    try:
        with open(here, "rb") as stream:
            answer = stream.read()
    finally:
        status = end_child(pid)
    if answer != DONE:
        raise _as_error(answer, status, name)


def _attempt(action: Callable[[], object], there: int, name: str) -> None:
    """The child's side of ``try_first``: what came out, as bytes."""
    try:
        action()
        answer = DONE
    except RoicliError as error:
        answer = json.dumps([error.message, error.hint]).encode()
    except MemoryError:
        answer = json.dumps([f"{name}: describes more than memory can hold", None]).encode()
    except Exception:
        answer = DONE  # not a crash: the parent meets the same, and says what it is
    os.write(there, answer)


def _as_error(answer: bytes, status: int | None, name: str) -> InputError:
    """The child's refusal, or its death in words."""
    if answer:
        message, hint = json.loads(answer)
        return InputError(message, hint)
    return DamagedFileError(f"{name}: is damaged: {describe_death(status)}", "make the file anew")


def chunk_bytes(dataset: h5py.Dataset) -> int:
    """Bytes of one chunk as it comes out of the filters; 0 where there are none."""
    return math.prod(dataset.chunks) * dataset.dtype.itemsize if dataset.chunks else 0


class ContainedReader:
    """A child that reads one open dataset, in pieces of at most 16 MiB or one chunk."""

    def __init__(self, dataset: h5py.Dataset, name: str) -> None:
        self._name, self._chunks = name, dataset.chunks
        self._dtype = dataset.dtype.newbyteorder("=")
        size = max(BLOCK_BYTES, chunk_bytes(dataset))
        self._shared = mmap.mmap(-1, size)
        asked, self._ask = os.pipe()
        self._hear, answer = os.pipe()
        self._pid: int | None = start_child(
            lambda: self._serve(dataset, asked, answer), name, SECONDS, ROOM_BYTES + 4 * size,
            (asked, self._ask, self._hear, answer),
        )  # fmt: skip
        os.close(asked)
        os.close(answer)

    def _serve(self, dataset: h5py.Dataset, asked: int, answer: int) -> None:
        """The child's side: a place comes, its values go into shared memory, then a word back."""
        os.close(self._ask)  # else it would not see that the parent is gone
        os.close(self._hear)
        request = struct.Struct(f"{2 * len(dataset.shape)}q")
        while len(data := os.read(asked, request.size)) == request.size:
            numbers = request.unpack(data)
            place = tuple(map(slice, numbers[0::2], numbers[1::2]))
            out = self._view(place)
            limit_time(SECONDS + max(out.nbytes, chunk_bytes(dataset)) // READ_BYTES_PER_SECOND)
            try:
                dataset.read_direct(out, place)
                os.write(answer, DONE)
            except Exception as error:
                os.write(answer, f"-{error}"[:1000].encode(errors="replace"))

    def _view(self, place: Sequence[slice]) -> Array:
        shape = tuple(part.stop - part.start for part in place)
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(self._shared, self._dtype, count).reshape(shape)

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
        if self._pid is None:
            raise DamagedFileError(f"{self._name}: is damaged: it could not be read before")
        numbers = [number for part in place for number in (part.start, part.stop)]
        try:
            os.write(self._ask, struct.pack(f"{len(numbers)}q", *numbers))
            answer = os.read(self._hear, 4096)
        except BrokenPipeError:
            answer = b""
        if not answer:
            raise DamagedFileError(f"{self._name}: is damaged: {describe_death(self.close())}")
        if answer != DONE:
            raise OSError(answer[1:].decode(errors="replace"))
        return self._view(place)

    def close(self) -> int | None:
        """End the child, and give what it ended with; None where it was gone."""
        if self._pid is None:
            return None
        status, self._pid = end_child(self._pid), None
        os.close(self._ask)
        os.close(self._hear)
        return status
