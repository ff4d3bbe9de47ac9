"""The compiled functions by name and dtype: from the disk, or else compiled once by Numba."""

from __future__ import annotations

import ctypes
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from roicli.core.exceptions import ProviderError, first_line
from roicli.runtime.native.machine_code import find_code, keep_code, load_code
from roicli.runtime.native.signatures import SIGNATURES, slots_of


class Kernel:
    """A compiled function for maps of one dtype; several threads may call it at once."""

    def __init__(self, name: str, dtype: str, code: bytes) -> None:
        self._kinds, self._real = SIGNATURES[name], np.dtype(dtype)
        self._function, self._engine = load_code(code, name)

    def __call__(self, *arguments: Any) -> None:
        """Run it on arguments of the kinds in SIGNATURES. Raises TypeError for others."""
        slots = list(slots_of(arguments, self._kinds, self._real))
        table = (ctypes.c_int64 * len(slots))(*slots)
        self._function(ctypes.addressof(table))


@cache
def kernel(name: str, dtype: str) -> Kernel:
    """The compiled function ``name`` for maps of ``dtype``; Numba is imported to compile it."""
    code = find_code(f"{name}_{dtype}")
    if code is None:
        code, is_complete = _compile(name, dtype)
        if is_complete:
            keep_code(f"{name}_{dtype}", code)
    return Kernel(name, dtype, code)


def _compile(name: str, dtype: str) -> tuple[bytes, bool]:
    """The code, and whether it needs nothing else. Raises ProviderError where Numba does not."""
    try:
        compiling = import_module("roicli.runtime.native.compile")
        found: tuple[bytes, bool] = compiling.compile_function(name, dtype)
    except MemoryError:
        raise
    except Exception as error:  # Numba refuses a NumPy that is too new, or has other insides
        raise ProviderError(
            f"the native provider needs Numba, and what is installed fails: {first_line(error)}",
            "pip install --upgrade 'roicli[native]', or run with --provider cpu",
        ) from error
    return found


def is_kept(name: str, dtype: str) -> bool:
    """Whether ``kernel`` finds the function on disk, and so need not compile it."""
    return find_code(f"{name}_{dtype}") is not None
