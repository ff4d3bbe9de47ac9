"""Execution providers: which there are, which one a run gets, and why not another."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from roicli.datatypes import check_word
from roicli.exceptions import ProviderError
from roicli.vocabulary import Operator, Provider

CUDA_INSTALL = "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
NATIVE_INSTALL = "pip install 'roicli[native]'"
NO_MAX_ROI_POOL = "ONNX Runtime has no MaxRoiPool on CUDA"


@dataclass(frozen=True)
class ProviderStatus:
    """One row of ``roicli providers``: ``reason`` says why not, ``install`` how to get it."""

    name: str
    available: bool
    reason: str = ""
    install: str = ""
    auto: bool = False


def usable_cores() -> int:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cuda_problem() -> str:
    """Why CUDA cannot be used; empty where it can. Tries to load it where it is offered."""
    from roicli.onnx_runtime import ort
    from roicli.sessions import CUDA, loads_cuda

    if CUDA not in ort.get_available_providers():
        return "this onnxruntime is not built for CUDA"
    return "" if loads_cuda() else "CUDA or cuDNN libraries, or the device, cannot be loaded"


def describe_providers() -> list[ProviderStatus]:
    """One row per provider that roicli can use, with ``auto`` marking what ``auto`` would use."""
    cuda_problem = _cuda_problem()
    native = find_spec("numba") is not None
    return [
        ProviderStatus("cpu", True, auto=bool(cuda_problem)),
        ProviderStatus(
            "cuda",
            not cuda_problem,
            cuda_problem,
            CUDA_INSTALL if cuda_problem else "",
            auto=not cuda_problem,
        ),
        ProviderStatus(
            "native",
            native,
            "" if native else "Numba is not installed",
            "" if native else NATIVE_INSTALL,
        ),
    ]


def choose_provider(
    requested: Provider, operator: Operator, note: Callable[[str], None] = lambda line: None
) -> Provider:
    """The provider that runs: ``cpu``, ``cuda`` or ``native``.

    ``auto`` is CUDA where ONNX Runtime offers it and it loads, else the CPU. Raises ProviderError
    where the one asked for cannot run; nothing is replaced silently.
    """
    check_word("provider", requested, Provider)
    if requested == "cpu":
        return "cpu"
    if requested == "native":
        if find_spec("numba") is None:
            raise ProviderError(
                "provider native needs Numba, which is not installed", NATIVE_INSTALL
            )
        return "native"
    if requested == "cuda" and operator == "pool":
        raise ProviderError(f"{NO_MAX_ROI_POOL}, so pool runs on: cpu, native", "--provider cpu")
    problem = _cuda_problem()
    if requested == "cuda" and problem:
        raise ProviderError(f"provider cuda: {problem}; there is: {offered_names()}", CUDA_INSTALL)
    if problem:
        return "cpu"
    if operator == "pool":
        note(f"{NO_MAX_ROI_POOL}; pool runs on the CPU")
        return "cpu"
    return "cuda"


def offered_names() -> str:
    """What this ONNX Runtime offers, as its own names."""
    from roicli.onnx_runtime import ort

    return ", ".join(ort.get_available_providers())
