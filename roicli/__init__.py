"""RoI Align and RoI Pool over stored feature maps, and what rounding does to each RoI.

Every command of the ``roicli`` tool is one call here. Names are imported when they are first used,
so that ``import roicli`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from roicli.version import __version__

if TYPE_CHECKING:
    from roicli.api import align, errors, export, pool
    from roicli.benchmark import bench
    from roicli.checking.records import CheckReport
    from roicli.checking.run import check
    from roicli.comparison import Comparison, compare
    from roicli.datatypes import AlignSpec, PoolSpec
    from roicli.diagnosis import Diagnosis, diagnose
    from roicli.drawing import Picture
    from roicli.error_table import ErrorTable, summarize
    from roicli.exceptions import (
        InputError,
        OutputError,
        ParameterError,
        ProviderError,
        RoicliError,
        VerificationError,
    )
    from roicli.explanation import Explanation
    from roicli.inspect_file import inspect
    from roicli.looking import draw, explain, write_report
    from roicli.merging import Merged, merge
    from roicli.presets import PRESETS
    from roicli.providers import describe_providers
    from roicli.running import Result
    from roicli.sampling_sweep import Sweep, sweep
    from roicli.verification import Verification

_HOME = {
    "align": "api",
    "pool": "api",
    "errors": "api",
    "export": "api",
    "bench": "benchmark",
    "check": "checking.run",
    "CheckReport": "checking.records",
    "compare": "comparison",
    "Comparison": "comparison",
    "diagnose": "diagnosis",
    "Diagnosis": "diagnosis",
    "sweep": "sampling_sweep",
    "Sweep": "sampling_sweep",
    "inspect": "inspect_file",
    "merge": "merging",
    "Merged": "merging",
    "explain": "looking",
    "Explanation": "explanation",
    "draw": "looking",
    "Picture": "drawing",
    "write_report": "looking",
    "Result": "running",
    "AlignSpec": "datatypes",
    "PoolSpec": "datatypes",
    "ErrorTable": "error_table",
    "summarize": "error_table",
    "describe_providers": "providers",
    "PRESETS": "presets",
    "RoicliError": "exceptions",
    "ParameterError": "exceptions",
    "InputError": "exceptions",
    "OutputError": "exceptions",
    "ProviderError": "exceptions",
    "VerificationError": "exceptions",
    "Verification": "verification",
}

__all__ = [
    "PRESETS",
    "AlignSpec",
    "CheckReport",
    "Comparison",
    "Diagnosis",
    "ErrorTable",
    "Explanation",
    "InputError",
    "Merged",
    "OutputError",
    "ParameterError",
    "Picture",
    "PoolSpec",
    "ProviderError",
    "Result",
    "RoicliError",
    "Sweep",
    "Verification",
    "VerificationError",
    "__version__",
    "align",
    "bench",
    "check",
    "compare",
    "describe_providers",
    "diagnose",
    "draw",
    "errors",
    "explain",
    "export",
    "inspect",
    "merge",
    "pool",
    "summarize",
    "sweep",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'roicli' has no attribute {name!r}")
    return getattr(import_module(f"roicli.{_HOME[name]}"), name)
