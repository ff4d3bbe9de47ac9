"""A user's model, run by ONNX Runtime in a child process that has limits of memory and time.

A model is code: what it asks for, and what of ONNX Runtime it makes crash, ends a child and not the
run. Arrays come back through a pipe as bytes with their dtypes and shapes, and nothing that comes
from the child is executed here. On CUDA, whose driver does not survive a fork, and where processes
do not fork, the model runs in this process, without limits.
"""

from __future__ import annotations

import json
import math
import os
import signal
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from roicli.core.exceptions import InputError, ParameterError, ProviderError, RoicliError
from roicli.core.system import (
    CAN_FORK,
    OUT_OF_TIME,
    end_child,
    ending_signal,
    renew_time,
    start_child,
)
from roicli.core.types import Array, as_bytes
from roicli.runtime.devices import Device

# Off for programs that must not fork.
SWITCH = "ROICLI_CONTAIN_MODEL"
# What stands before the JSON of a message: its length.
LENGTH = struct.Struct("<Q")
LONGEST_JSON = 1 << 24
# The limit is on address space, of which a thread's stack and heap, and the library itself, reserve
# more than they take.
THREAD_BYTES, BESIDE_BYTES = 144 << 20, 256 << 20
ERRORS: dict[str, type[RoicliError]] = {
    one.__name__: one for one in (InputError, ParameterError, ProviderError)
}

# A tensor, or the tensors of a sequence.
Value = Array | list[Array]
Facts = Mapping[str, Any]
# What goes in, and what is to be known of it where its results go.
Feeds = Iterable[tuple[Mapping[str, Array], Facts]]


class Model(NamedTuple):
    """Bytes of a model, what it is called in messages, its outputs, where its weights are."""

    name: str
    data: bytes
    outputs: Sequence[str]
    folder: str


class Limits(NamedTuple):
    """What a model may take: bytes beside what this process has, seconds of processor time."""

    memory: int
    seconds: float


def run_model(
    model: Model, feeds: Feeds, device: Device, threads: int, limits: Limits
) -> Iterator[tuple[list[Value], Facts]]:
    """Run the model once for each of ``feeds``: the values of its outputs, and the facts.

    ``feeds`` are made where the model runs. Raises RoicliError.
    """
    contained = device.kind == "cpu" and CAN_FORK and os.environ.get(SWITCH, "1") != "0"
    if not contained:
        yield from _run_here(model, feeds, device, threads)
        return
    yield from _Child(model, feeds, device, threads, limits).answers()


def _run_here(
    model: Model, feeds: Feeds, device: Device, threads: int
) -> Iterator[tuple[list[Value], Facts]]:
    from roicli.runtime.onnx_runtime import ort, session_options

    options = session_options(threads)
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", model.folder
    )
    if device.kind == "cuda":
        from roicli.runtime.cuda_libraries import load_libraries

        load_libraries()
    try:
        session = ort.InferenceSession(
            model.data, options, providers=device.providers, enable_fallback=0
        )
    except Exception as error:
        raise _refused(model, "ONNX Runtime does not load it", error) from error
    for given, facts in feeds:
        renew_time()
        try:
            values = session.run(list(model.outputs), dict(given))
        except Exception as error:
            raise _refused(model, "ONNX Runtime failed running it", error) from error
        for name, value in zip(model.outputs, values, strict=True):
            _check_value(model, name, value)
        yield values, facts


def _refused(model: Model, what: str, error: Exception) -> RoicliError:
    """ONNX Runtime's message as one line."""
    text = " ".join(str(error).split()) or repr(error)
    if isinstance(error, MemoryError) or "bad_alloc" in text or "Failed to allocate" in text:
        return _out_of_memory(model.name)
    text = text.partition("] : ")[2] or text
    kind = ProviderError if "failed running" in what else InputError
    return kind(f"{model.name}: {what}: {text}")


def _out_of_memory(name: str) -> ProviderError:
    return ProviderError(
        f"{name}: takes more memory than it may",
        "raise --max-memory, or give a smaller image",
    )


def _check_value(model: Model, name: str, value: Any) -> None:
    arrays = value if isinstance(value, list) else [value]
    if not all(isinstance(one, np.ndarray) and one.dtype.kind in "biuf" for one in arrays):
        raise InputError(f"{model.name}: tensor {name} does not hold numbers that NumPy has")


class _Child:
    """The child that runs the model, and this process's end of its pipe."""

    def __init__(
        self, model: Model, feeds: Feeds, device: Device, threads: int, limits: Limits
    ) -> None:
        self._name, self._limits = model.name, limits
        self._hear, answer = os.pipe()

        def work() -> None:
            os.close(self._hear)
            _send(answer, lambda: _run_here(model, feeds, device, threads))

        try:
            room = limits.memory + BESIDE_BYTES + threads * THREAD_BYTES
            self._pid: int | None = start_child(work, limits.seconds, room)
        except BaseException as error:
            os.close(self._hear)
            os.close(answer)
            if isinstance(error, OSError):
                raise ProviderError(
                    f"{model.name}: no process to run it in: {error.strerror}"
                ) from error
            raise
        os.close(answer)

    def answers(self) -> Iterator[tuple[list[Value], Facts]]:
        """What the child sends, until it says that it is done."""
        try:
            while True:
                message = self._read_json()
                match message.get("kind"):
                    case "done":
                        return
                    case "error":
                        known = ERRORS.get(str(message["type"]), ProviderError)
                        raise known(str(message["message"]), message["hint"])
                    case "values":
                        values = [self._read_value(one) for one in message["values"]]
                        yield values, message["facts"]
                    case other:
                        raise ProviderError(f"{self._name}: an answer of unknown kind {other!r}")
        finally:
            self._close()

    def _read_value(self, described: Any) -> Value:
        if described["sequence"]:
            return [self._read_array(*one) for one in described["arrays"]]
        return self._read_array(*described["arrays"][0])

    def _read_array(self, dtype: str, shape: list[int]) -> Array:
        kind = np.dtype(dtype)
        assert kind.kind in "biuf"
        array = np.empty(tuple(map(int, shape)), kind)
        self._read_into(as_bytes(array))
        return array

    def _read_json(self) -> dict[str, Any]:
        head = bytearray(LENGTH.size)
        self._read_into(memoryview(head))
        (size,) = LENGTH.unpack(head)
        if size > LONGEST_JSON:
            raise ProviderError(f"{self._name}: an answer of {size:,} bytes")
        text = bytearray(size)
        self._read_into(memoryview(text))
        found: dict[str, Any] = json.loads(text)
        return found

    def _read_into(self, view: memoryview) -> None:
        done = 0
        while done < len(view):
            count = os.readv(self._hear, [view[done:]])
            if not count:
                raise self._describe_death(self._close())
            done += count

    def _describe_death(self, status: int | None) -> RoicliError:
        number = ending_signal(status)
        if number == OUT_OF_TIME:
            return ProviderError(
                f"{self._name}: did not come to an end in {self._limits.seconds:g} seconds of "
                "processor time",
                "raise --max-seconds",
            )
        if number == getattr(signal, "SIGABRT", None):
            # What C++ does about memory that it does not get on a thread of its own.
            return ProviderError(
                f"{self._name}: ONNX Runtime gave up running it (SIGABRT), as it does where memory "
                "is short",
                "raise --max-memory, or give a smaller image",
            )
        ended = "without a word" if number is None else f"({signal.Signals(number).name})"
        return ProviderError(f"{self._name}: the process that ran it ended {ended}")

    def _close(self) -> int | None:
        if self._pid is None:
            return None
        status, self._pid = end_child(self._pid), None
        os.close(self._hear)
        return status


def _send(answer: int, run: Callable[[], Iterator[tuple[list[Value], Facts]]]) -> None:
    """In the child: what the model gives, and at the end a word of how it went."""
    try:
        for values, facts in run():
            arrays = [one if isinstance(one, list) else [one] for one in values]
            described = [
                {
                    "sequence": isinstance(value, list),
                    "arrays": [[one.dtype.str, list(one.shape)] for one in own],
                }
                for value, own in zip(values, arrays, strict=True)
            ]
            _send_json(answer, {"kind": "values", "values": described, "facts": facts})
            for own in arrays:
                for one in own:
                    _write(answer, as_bytes(np.ascontiguousarray(one)))
            renew_time()
        _send_json(answer, {"kind": "done"})
    except RoicliError as error:
        kind = next((name for name, one in ERRORS.items() if isinstance(error, one)), "")
        said = {"type": kind, "message": error.message, "hint": error.hint}
        _send_json(answer, {"kind": "error", **said})
    except MemoryError:
        said = {"type": "ProviderError", "message": "out of memory", "hint": "raise --max-memory"}
        _send_json(answer, {"kind": "error", **said})
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        _send_json(answer, {"kind": "error", "type": "", "message": text, "hint": None})


def _send_json(answer: int, message: Mapping[str, Any]) -> None:
    text = json.dumps(message).encode()
    _write(answer, memoryview(LENGTH.pack(len(text)) + text))


def _write(answer: int, view: memoryview) -> None:
    while len(view):
        view = view[os.write(answer, view) :]


def value_bytes(values: Sequence[Value]) -> int:
    """What values take in memory."""
    arrays = [one for value in values for one in (value if isinstance(value, list) else [value])]
    return sum(math.prod(one.shape) * one.dtype.itemsize for one in arrays)
