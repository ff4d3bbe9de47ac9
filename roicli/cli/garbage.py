"""Python's search for garbage, spared where there is none.

Modules, functions and classes are full of cycles and stay until the process ends. Searching them
while they are imported, and taking them apart one by one at the end, is a quarter of a small run.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """What the block imports stays: no search goes through it, now or later."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


def leave_memory_to_system() -> None:
    """The process ends: what only cycles hold is not taken apart, its memory goes with the rest.

    Handlers at exit, threads and streams are ended as ever; so is what a variable holds.
    """
    gc.freeze()
