"""The compiled functions by name and dtype: from the disk, or else built once.

They are built from the assembly that the package brings, or where that does not fit, by Numba.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from roicli.core.exceptions import ProviderError, first_line
from roicli.runtime.native.assembly import find_assembly, function_key
from roicli.runtime.native.machine_code import build_code, find_code, keep_code, load_code
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
    """The compiled function ``name`` for maps of ``dtype``, built where it is not on disk."""
    key = function_key(name, dtype)
    code = find_code(key)
    if code is None:
        code, is_complete = _build(name, dtype)
        if is_complete:
            keep_code(key, code)
    return Kernel(name, dtype, code)


def _build(name: str, dtype: str) -> tuple[bytes, bool]:
    """The code, and whether it needs nothing else. Raises ProviderError where nothing builds it."""
    assembly = find_assembly(name, dtype)
    if assembly is not None:
        with suppress(RuntimeError):  # an LLVM that is older than the one that wrote it
            return build_code(assembly)
    try:
        compiling = import_module("roicli.runtime.native.compile")
        return build_code(compiling.assemble(name, dtype))
    except MemoryError:
        raise
    except Exception as error:  # Numba refuses a NumPy that is too new, or has other insides
        raise ProviderError(
            f"the native provider needs Numba, and what is installed fails: {first_line(error)}",
            "pip install --upgrade 'roicli[native]', or run with --provider cpu",
        ) from error


def is_kept(name: str, dtype: str) -> bool:
    """Whether ``kernel`` finds the function on disk, and so need not compile it."""
    return find_code(function_key(name, dtype)) is not None
