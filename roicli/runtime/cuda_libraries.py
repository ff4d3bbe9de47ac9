"""The CUDA libraries that pip installed, loaded where ONNX Runtime will look for them."""

from __future__ import annotations

import contextlib
import ctypes
import glob
import io
import os
import re
import sys
from functools import cache
from importlib.util import find_spec

from roicli.core.exceptions import ProviderError
from roicli.runtime.devices import CUDA
from roicli.runtime.onnx_runtime import SEVERITY_FATAL, ort

CUDNN, DRIVER = "libcudnn.so.9", "libcuda.so.1"
# What the loader says of a library that it does not find.
NOT_FOUND = r"(lib[\w+-]+\.so[.\d]*): cannot open shared object file"


def check_offered() -> None:
    """Raise ProviderError where this ONNX Runtime is not built for CUDA."""
    names = ort.get_available_providers()
    if CUDA not in names:
        raise ProviderError(f"this onnxruntime is not built for CUDA; there is: {', '.join(names)}")


@cache
def load_libraries() -> tuple[str, ...]:
    """Load the libraries, once; the names of those that are not found.

    ONNX Runtime prints the loader's complaints to stdout, where results go, and its default logger
    repeats them on stderr: both are kept from the terminal. It looks beside itself and on the
    loader's path; NVIDIA's packages may be in another folder of ``sys.path``.
    """
    ort.set_default_logger_severity(SEVERITY_FATAL)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        ort.preload_dlls()
    missing = dict.fromkeys(re.findall(NOT_FOUND, said.getvalue()))
    if sys.platform == "linux":
        # Of cuDNN ONNX Runtime says nothing, and the driver's library it does not preload.
        missing |= dict.fromkeys(name for name in (CUDNN, DRIVER) if not can_load(name))
    return tuple(name for name in missing if not _load_from_packages(name))


def _load_from_packages(library: str) -> bool:
    """Whether a folder of the package ``nvidia`` has the library, which is then loaded."""
    spec = find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in glob.glob(os.path.join(folder, "*", "lib", library)):
            if can_load(path):
                return True
    return False


def can_load(library: str) -> bool:
    """Whether the loader finds and loads a library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
