"""Whether CUDA runs here and, where it does not, what is missing and which line installs it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from roicli.core.exceptions import ProviderError
from roicli.operators import roi_align
from roicli.operators.roi_align import AlignSpec
from roicli.runtime.cuda_libraries import CUDNN, DRIVER, check_offered, load_libraries
from roicli.runtime.devices import Device
from roicli.runtime.session import Session

# onnxruntime and onnxruntime-gpu are one module: with both installed, either may be what is loaded.
PACKAGE = 'pip install "onnxruntime-gpu[cuda,cudnn]"'
REPLACE_PACKAGE = f"pip uninstall -y onnxruntime onnxruntime-gpu && {PACKAGE}"
DRIVER_HINT = "install the NVIDIA driver; nvidia-smi then lists the device"


class CudaStatus(NamedTuple):
    """What there is of CUDA: ``offered`` by this onnxruntime, ``loads`` on the device asked for.

    ``missing`` are libraries that the loader does not find; ``reason`` says what is wrong and
    ``install`` what to do, both empty where nothing is.
    """

    offered: bool
    loads: bool
    missing: tuple[str, ...] = ()
    reason: str = ""
    install: str = ""


def probe_cuda(index: int = 0) -> CudaStatus:
    """Load CUDA and run nothing; ``index`` is the device."""
    try:
        check_offered()
    except ProviderError as error:
        return CudaStatus(False, False, (), error.message, REPLACE_PACKAGE)
    missing = load_libraries()
    problem = _try_session(index)
    if not problem:
        return _without_cudnn(missing)
    # A library that is not found is not in ONNX Runtime's error; what the driver says is.
    needed = [name for name in missing if name != CUDNN]
    reason = f"{', '.join(missing)} cannot be loaded" if needed else problem
    return CudaStatus(True, False, missing, reason, _remedy(problem, needed))


def _remedy(problem: str, missing: list[str]) -> str:
    """What to do about a session that does not open, and libraries that are not found."""
    if missing:
        by_pip = [name for name in missing if name != DRIVER]
        lines = [PACKAGE] if by_pip else []
        return ", and ".join([*lines, DRIVER_HINT] if DRIVER in missing else lines)
    if "Invalid device ID" in problem or "invalid device ordinal" in problem:
        return "nvidia-smi -L lists the devices"
    # CUDA's own failures, before anything is computed, are the driver's or the device's.
    return DRIVER_HINT if "CUDA failure" in problem else PACKAGE


def _try_session(index: int) -> str:
    """Why no session opens on the device; empty where one does."""
    graph = roi_align.build_align_graph(AlignSpec(output_size=(1, 1)), np.dtype(np.float32))
    try:
        Session(graph, Device("cuda", index), 1)
    except ProviderError as error:
        return error.message
    return ""


def _without_cudnn(missing: tuple[str, ...]) -> CudaStatus:
    """CUDA loads; RoI Pool's and true max's maxima need cuDNN besides."""
    if CUDNN not in missing:
        return CudaStatus(True, True)
    reason = f"{CUDNN} cannot be loaded, which pool, --mode max and --values need"
    return CudaStatus(True, True, (CUDNN,), reason, PACKAGE)
