"""The plain C kernel as a contender: compiled here with whatever ``cc`` there is."""

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from loads import Load

from roicli.operators.interface import OperatorSpec
from roicli.operators.roi_align import AlignSpec

SOURCE = Path(__file__).parent / "plain_kernel.c"
FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")


def has_compiler() -> bool:
    """Whether the kernel can be compiled."""
    return shutil.which("cc") is not None


@cache
def _compile() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "plain_kernel.so"
        compiler = shutil.which("cc") or "cc"
        subprocess.run([compiler, *FLAGS, SOURCE, "-o", library, "-lm"], check=True)
        return ctypes.CDLL(str(library))


def plain_c(load: Load, spec: OperatorSpec, threads: int) -> Callable[[], np.ndarray]:
    """The kernel, from a map (C, H, W) to its result (K, C, P, P), packing included."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    library = _compile()
    channels, height, width = load.feature_map.shape
    side, _ = spec.output_size
    corners = np.ascontiguousarray(load.rois[:, 1:])
    packed = np.empty((height, width, channels), np.float32)
    out = np.empty((len(corners), channels, side, side), np.float32)
    scratch = np.empty_like(out)
    is_align = isinstance(spec, AlignSpec)
    kernel = library.align if is_align else library.pool
    ratio = spec.sampling_ratio if isinstance(spec, AlignSpec) else 0
    scale = vars(spec)["spatial_scale"]

    def address(array: np.ndarray) -> ctypes.c_void_p:
        return ctypes.c_void_p(array.ctypes.data)

    def compute() -> np.ndarray:
        library.pack(address(load.feature_map), address(packed), channels, height * width)
        kernel(
            address(packed), address(corners), address(out), address(scratch), len(corners),
            channels, height, width, side, ctypes.c_float(scale), ratio,
        )  # fmt: skip
        return out

    return compute
