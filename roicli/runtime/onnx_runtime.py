"""ONNX Runtime, imported in one place, which first turns its telemetry off.

From 1.31 on the published packages write a device identifier and a queue of events below the home
directory and upload them, unless this variable is set before the library loads
(microsoft/onnxruntime#27379). A tool that runs unattended on other people's data does neither.
``ORT_DISABLE_TELEMETRY=0`` in the environment keeps what the library does by itself.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

__all__ = ["SEVERITY_FATAL", "ort"]

# Of its log: errors come as exceptions, and need no second line on stderr.
SEVERITY_FATAL = 4
