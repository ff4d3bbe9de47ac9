"""What workers are asked before they are given work, and what a task asks of its own worker."""

from __future__ import annotations

import os
import sys
import threading
from importlib.metadata import version

import numpy as np

from roicli.core.exceptions import RoicliError
from roicli.core.version import __version__
from roicli.core.vocabulary import Provider
from roicli.runtime.providers import resolve_provider

_importing = threading.Lock()


def read_versions() -> dict[str, str]:
    """Versions by name of what runs here and decides the numbers; Python's without its patch."""
    # Tasks of one worker ask at the same time, and a module that is half imported has no version.
    with _importing:
        from roicli.runtime.onnx_runtime import ort
    return {
        "roicli": __version__,
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "numpy": np.__version__,
        "onnxruntime": str(ort.__version__),
        "distributed": version("distributed"),
    }


def describe_difference(ours: dict[str, str], theirs: dict[str, str]) -> str | None:
    """The versions that differ, in words, or None."""
    different = [
        f"{name} {theirs.get(name, 'missing')} (here {version})"
        for name, version in ours.items()
        if theirs.get(name) != version
    ]
    return ", ".join(different) or None


def probe_provider(asked: Provider, device_id: int) -> tuple[str | None, str]:
    """(provider, reason): what ``asked`` comes to on this worker; None with a problem."""
    try:
        return resolve_provider(asked, device_id)
    except RoicliError as error:
        return None, str(error)


def name_of_worker() -> str:
    """The address of the worker that runs this task; the process number outside of one."""
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:
        return f"process {os.getpid()}"
