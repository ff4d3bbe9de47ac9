"""SIGTERM, SIGHUP and Ctrl-C: every way out goes through every ``finally``."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

INTERRUPTED, HUNG_UP = 130, 129
# Signals that end the run without a word, with their exit codes: 128 and the number.
ENDING = {
    getattr(signal, name): 128 + getattr(signal, name)
    for name in ("SIGTERM", "SIGHUP")
    if hasattr(signal, name)  # Windows has no terminal that hangs up
}
CODES = {**ENDING, signal.SIGINT: INTERRUPTED}
TOGETHER_SECONDS = 0.2

_received: list[int] = []
_received_at: list[float] = []


def _leave(number: int, frame: FrameType | None) -> None:
    """Leave through every ``finally``, so that temporary files go; at once when asked again.

    What is on its way out may wait for a disk or a network that does not answer. Signals that come
    together, as a shell and the terminal send them, count as one, and hanging up asks for nothing.
    """
    is_asked = CODES[number] != HUNG_UP
    if _received and is_asked and time.monotonic() - _received_at[0] > TOGETHER_SECONDS:
        os._exit(CODES.get(_received[0], INTERRUPTED))
    _received_at.append(time.monotonic())
    _received.append(number)
    check_signals()


def check_signals() -> None:
    """Leave now if a signal came while an extension could not pass the exception on."""
    for number, code in ENDING.items():
        if number in _received:
            raise SystemExit(code)
    if _received:
        raise KeyboardInterrupt


@contextlib.contextmanager
def heeding_signals() -> Iterator[None]:
    """A signal ends the block, also where an extension made another error of it, or none."""
    try:
        yield
    except Exception:
        check_signals()
        raise
    check_signals()


def install_signal_handlers() -> None:
    """They end the run as an exception would; one that is ignored, as under nohup, stays so."""
    for number in CODES:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _leave)
    sys.unraisablehook = _skip_signals


def end_at_signals(code: int) -> None:
    """All is done: a signal from now on changes nothing but how soon the process ends.

    Threads are waited for at its end, and one may wait for a disk that does not answer.
    """
    for number in CODES:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, frame: os._exit(code))


def _skip_signals(unraisable: UnraisableHookArgs) -> None:
    """A signal that came inside a finalizer is heeded at the next check, and needs no traceback."""
    if not (_received and isinstance(unraisable.exc_value, KeyboardInterrupt | SystemExit)):
        sys.__unraisablehook__(unraisable)
