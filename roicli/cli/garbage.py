"""Python's search for garbage, spared where there is none.

Modules, functions and classes are full of cycles and stay until the process ends. Searching them
while they are imported, and taking them apart one by one at the end, is a quarter of a small run.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """What the block imports stays: no search goes through it, now or later."""
    was_on, known = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        # Where a process runs many commands, what the last one left is garbage, and no module.
        if len(sys.modules) > known:
            gc.freeze()
        if was_on:
            gc.enable()


def leave_memory_to_system() -> None:
    """The process ends: modules and cycles are not taken apart, their memory goes with the rest.

    Handlers at exit run, threads are waited for and streams flushed as ever; only finalizers of
    what a module still holds may not run. Files and sessions are closed by those who use them.
    """
    gc.freeze()
