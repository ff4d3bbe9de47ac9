"""Compiling in processes of their own, side by side."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress


def compile_apart(functions: Iterable[tuple[str, str]], processes: int) -> None:
    """Compile functions, each (name, dtype), in so many processes at a time, to the disk.

    Numba compiles one function at a time in a process. What fails there, and where nothing can be
    kept, is left to ``kernels.kernel``, which says why.
    """
    # Where the program is its own interpreter, to start that would be to start the program again.
    waiting = [] if getattr(sys, "frozen", False) else list(functions)
    running: list[subprocess.Popen[bytes]] = []
    try:
        with suppress(OSError):
            while waiting or running:
                while waiting and len(running) < processes:
                    running.append(_start_compiling(*waiting.pop(0)))
                running[0].wait()
                del running[0]
    finally:
        for process in running:
            process.kill()
            process.wait()


def _start_compiling(name: str, dtype: str) -> subprocess.Popen[bytes]:
    nothing = subprocess.DEVNULL
    # -P: what lies in the working folder is nothing to import.
    command = [sys.executable, "-P", "-m", __package__, name, dtype]
    return subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing)  # noqa: S603
