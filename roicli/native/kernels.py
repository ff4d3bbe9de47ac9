"""The compiled functions by name and dtype: one signature each, kept on disk by Numba.

A function is compiled when it is first asked for, not by the arrays that it meets, so that a caller
can say beforehand that it will take seconds. Numba knows a kept function by its own source file
alone and would not see a change in a module which that file imports: see ``_discard_outdated``.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
from numba import from_dtype, njit, types

from roicli.native.align import AxisBoxes, AxisPoints, align_blocks, plan_align
from roicli.native.packing import COMPILE
from roicli.native.pool import AxisWindows, pool_blocks

WHOLE = types.int64
WHOLES = types.Array(WHOLE, 1, "C")
TABLE = types.Array(WHOLE, 2, "C")


def _plan_align_signature(real: Any) -> Any:
    reals = types.Array(real, 1, "C")
    boxes = types.NamedTuple([reals, reals, WHOLES, WHOLES, WHOLE, WHOLE, WHOLE], AxisBoxes)
    points = _points(real)
    spans = types.Array(WHOLE, 3, "C")
    return types.void(boxes, points, boxes, points, WHOLES, WHOLES, spans)


def _align_blocks_signature(real: Any) -> Any:
    reals, points, shape = types.Array(real, 1, "C"), _points(real), types.UniTuple(WHOLE, 3)
    plan = [WHOLES, TABLE, WHOLES, WHOLE, shape, points, points]
    return types.void(_feature_map(real), WHOLE, WHOLE, *plan, reals, reals, reals)


def _pool_blocks_signature(real: Any) -> Any:
    reals = types.Array(real, 1, "C")
    windows = types.NamedTuple([WHOLES, WHOLES, WHOLE], AxisWindows)
    plan = [WHOLES, TABLE, WHOLE, windows, windows]
    return types.void(_feature_map(real), WHOLE, WHOLE, *plan, reals, reals, reals, reals)


def _points(real: Any) -> Any:
    return types.NamedTuple([WHOLES, WHOLES, types.Array(real, 1, "C")], AxisPoints)


def _feature_map(real: Any) -> Any:
    """Read-only, which takes arrays of either kind: a memory-mapped map cannot be written to."""
    return types.Array(real, 2, "C", readonly=True)


FUNCTIONS = {
    "plan_align": (plan_align, _plan_align_signature),
    "align_blocks": (align_blocks, _align_blocks_signature),
    "pool_blocks": (pool_blocks, _pool_blocks_signature),
}


@cache
def kernel(name: str, dtype: str) -> Any:
    """The compiled function ``name`` for maps of ``dtype``, from Numba's cache if it is there."""
    function, signature = FUNCTIONS[name]
    dispatcher = njit(**COMPILE)(_renamed(function.py_func, f"{name}_{dtype}"))
    # Numba raises RuntimeError where it finds no directory to write to: compile for this run only.
    with suppress(RuntimeError):
        dispatcher.enable_caching()
        _discard_outdated(Path(dispatcher.stats.cache_path))
    dispatcher.compile(signature(from_dtype(np.dtype(dtype))))
    dispatcher.disable_compile()
    return dispatcher


def is_kept(name: str, dtype: str) -> bool:
    """Whether ``kernel`` will find the function on disk, and so need not compile it."""
    function, _ = FUNCTIONS[name]
    dispatcher = njit(**COMPILE)(_renamed(function.py_func, f"{name}_{dtype}"))
    try:
        dispatcher.enable_caching()
    except RuntimeError:
        return False
    indexes = Path(dispatcher.stats.cache_path).glob(f"*.{name}_{dtype}-*.nbi")
    return any(index.stat().st_mtime >= _last_change() for index in indexes)


def _renamed(function: Any, name: str) -> Any:
    """A copy of a function under its own name, so that Numba keeps each dtype in a file apart."""
    copy = FunctionType(function.__code__, function.__globals__, name)
    copy.__module__, copy.__qualname__ = function.__module__, name
    return copy


def _last_change() -> float:
    """When a source of this package last changed, in seconds since the epoch."""
    return max(source.stat().st_mtime for source in Path(__file__).parent.glob("*.py"))


def _discard_outdated(directory: Path) -> None:
    """Remove what was compiled before the last change of a source of this package."""
    for index in directory.glob("*.nbi"):
        if index.stat().st_mtime < _last_change():
            index.unlink(missing_ok=True)
