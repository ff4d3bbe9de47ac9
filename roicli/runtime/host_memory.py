"""Host memory for results: pinned where a CUDA device copies into it, ordinary otherwise."""

from __future__ import annotations

import ctypes
import weakref
from functools import cache
from typing import Any

import numpy as np

from roicli.core.types import Array
from roicli.runtime.devices import Device

PORTABLE = 1  # cudaHostRegisterPortable: pinned for every device's context
SUCCESS = 0


def allocate_block(device: Device, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An uninitialized array that results on ``device`` are copied into.

    Copies into pinned memory run at the bus's speed. Where it cannot be pinned the array is an
    ordinary one, which is as right and only slower.
    """
    block = np.empty(shape, dtype)
    if device.kind == "cuda" and block.nbytes:
        _pin(block, device.index)
    return block


def _pin(block: Array, index: int) -> bool:
    """Pin an array's memory as long as the array lives; whether that worked."""
    runtime = _cuda_runtime()
    if runtime is None or runtime.cudaSetDevice(index) != SUCCESS:
        return False
    address = ctypes.c_void_p(block.ctypes.data)
    if runtime.cudaHostRegister(address, ctypes.c_size_t(block.nbytes), PORTABLE) != SUCCESS:
        return False
    # A weak reference's callback runs before the array's memory goes.
    weakref.finalize(block, runtime.cudaHostUnregister, address)
    return True


@cache
def _cuda_runtime() -> Any:
    """The CUDA runtime that ``cuda_libraries`` loaded, of this onnxruntime's version, or None."""
    from roicli.runtime.onnx_runtime import ort

    major = str(getattr(ort, "cuda_version", "")).partition(".")[0]
    try:
        return ctypes.CDLL(f"libcudart.so.{major}")
    except OSError:
        return None
