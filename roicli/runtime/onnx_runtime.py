"""ONNX Runtime, imported in one place, which first turns its telemetry off.

From 1.31 on the published packages write a device identifier and a queue of events below the home
directory and upload them, unless this variable is set before the library loads
(microsoft/onnxruntime#27379). A tool that runs unattended on other people's data does neither.
``ORT_DISABLE_TELEMETRY=0`` in the environment keeps what the library does by itself.
"""

from __future__ import annotations

import os
from typing import Any

from roicli.core.exceptions import ProviderError

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

__all__ = ["SEVERITY_FATAL", "ort", "session_options"]

# Packages that hold the same module; onnxruntime-genai, onnxruntime-extensions hold others.
PACKAGES = frozenset(
    f"onnxruntime{build}"
    for build in (
        *("", "-azure", "-cann", "-directml", "-gpu", "-migraphx", "-openvino", "-qnn", "-rocm"),
        *("-silicon", "-training", "-training-cpu", "-vitisai", "-webgpu"),
    )
)

# Of its log: errors come as exceptions, and need no second line on stderr.
SEVERITY_FATAL = 4


def session_options(threads: int) -> Any:
    """Options of a session that logs nothing and lets go of its cores while it waits.

    Threads that spin take those that the next map is read and the last result is written on.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = SEVERITY_FATAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def check_single(folder: str) -> None:
    """Raise ProviderError where ``folder`` of packages has two that are ONNX Runtime.

    They hold the same module, and each has overwritten files of the other: what runs is neither.
    """
    named = [
        name.removesuffix(".dist-info").replace("_", "-").rpartition("-")
        for name in os.listdir(folder or ".")
        if name.startswith("onnxruntime") and name.endswith(".dist-info")
    ]
    found = sorted(f"{name} {version}" for name, _, version in named if name in PACKAGES)
    if len(found) > 1:
        names = " ".join(one.partition(" ")[0] for one in found)
        raise ProviderError(
            f"{' and '.join(found)} are installed together, and are one module",
            f"pip uninstall -y {names}, then install the one that you want",
        )


check_single(os.path.dirname(os.path.dirname(ort.__file__)))
