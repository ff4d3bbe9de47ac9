"""Execution providers: which there are, which one a run gets, and why not another."""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

from roicli.core.exceptions import ProviderError, first_line
from roicli.core.types import check_word
from roicli.core.vocabulary import Provider
from roicli.runtime.devices import Device

logger = logging.getLogger("roicli")

NATIVE_INSTALL = "pip install 'roicli[native]'"


class ProviderStatus(NamedTuple):
    """One row of ``roicli providers``.

    ``offered`` says whether what is installed has it, ``available`` whether it loads; ``missing``
    names libraries, ``reason`` says what is wrong and ``install`` how to get it.
    """

    name: str
    offered: bool
    available: bool
    reason: str = ""
    install: str = ""
    auto: bool = False
    missing: tuple[str, ...] = ()


def describe_providers() -> list[ProviderStatus]:
    """One row per provider that roicli can use, with ``auto`` marking what ``auto`` would use."""
    from roicli.runtime.cuda_probe import probe_cuda

    cuda = probe_cuda()
    problem = _why_no_numba()
    return [
        ProviderStatus("cpu", True, True, auto=not cuda.loads),
        ProviderStatus(
            "cuda", cuda.offered, cuda.loads, cuda.reason, cuda.install, cuda.loads, cuda.missing
        ),
        ProviderStatus(
            "native",
            find_spec("numba") is not None,
            not problem,
            problem,
            NATIVE_INSTALL if problem else "",
        ),
    ]


def _why_no_numba() -> str:
    """Why Numba cannot compile; "" where it can be imported."""
    if find_spec("numba") is None:
        return "Numba is not installed"
    try:
        import_module("numba")
    except Exception as error:
        return f"Numba does not load: {first_line(error)}"
    return ""


def choose_provider(requested: Provider, device_id: int = 0) -> Provider:
    """The provider that runs: ``cpu``, ``cuda`` or ``native``; as ``resolve_provider``, logged."""
    provider, reason = resolve_provider(requested, device_id)
    if reason:
        logger.info(reason)
    return provider


def resolve_provider(requested: Provider, device_id: int = 0) -> tuple[Provider, str]:
    """The provider that runs, and what a person should know of how it was chosen, or "".

    ``auto`` is CUDA where ONNX Runtime offers it and it loads, else the CPU; where it is offered
    and does not load, the reason says so. Raises ProviderError where the one asked for cannot run;
    nothing is replaced silently. Raises ParameterError where ``device_id`` is none.
    """
    check_word("provider", requested, Provider)
    Device(index=device_id)
    if requested == "cpu":
        return "cpu", ""
    if requested == "native":
        if find_spec("numba") is None:
            raise ProviderError(
                "provider native needs Numba, which is not installed", NATIVE_INSTALL
            )
        return "native", ""
    from roicli.runtime.cuda_probe import probe_cuda

    cuda = probe_cuda(device_id)
    if cuda.loads:
        return "cuda", ""
    if requested == "cuda":
        raise ProviderError(f"provider cuda: {cuda.reason}", cuda.install)
    if cuda.offered:
        return "cpu", f"CUDA is installed but does not load: {cuda.reason}; running on the CPU"
    return "cpu", ""
