"""RoI Align and RoI Pool over stored feature maps, and what rounding does to each RoI.

Every command of the ``roicli`` tool is one call here, under the same name; ``ops`` has the names of
torchvision. Names are imported when they are first used, so that ``import roicli`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from roicli.core.notices import warn_in_programs
from roicli.core.version import __version__

if TYPE_CHECKING:
    from roicli import api, ops
    from roicli.analysis.bench import bench
    from roicli.analysis.check.records import CheckReport
    from roicli.analysis.check.run import check
    from roicli.analysis.compare.run import Comparison, compare
    from roicli.analysis.diagnose.run import Diagnosis, diagnose
    from roicli.analysis.explain import explain
    from roicli.analysis.explanation import Explanation
    from roicli.analysis.inspect_file import inspect
    from roicli.analysis.listings import columns, presets, providers, rules
    from roicli.analysis.picture import Picture
    from roicli.analysis.sweep import Sweep, sweep
    from roicli.analysis.verify_model import ModelCheck, verify_model
    from roicli.api import *  # noqa: F403 (its __all__: what runs an operator stands there alone)
    from roicli.core.exceptions import (
        InputError,
        MissingPackageError,
        OutputError,
        ParameterError,
        ProviderError,
        RoicliError,
        RoicliWarning,
        VerificationError,
    )
    from roicli.error_table.table import ErrorTable, summarize
    from roicli.operators.precise_roi_pool import PrecisePoolSpec
    from roicli.operators.roi_align import AlignSpec
    from roicli.operators.roi_pool import PoolSpec
    from roicli.pipeline.capture.run import Capture, capture
    from roicli.pipeline.execute import Result
    from roicli.pipeline.shards import Merged, merge
    from roicli.pipeline.verify import Verification
    from roicli.render.draw import draw
    from roicli.render.html.page import report

    __all__ = [
        "AlignSpec",
        "Capture",
        "CheckReport",
        "Comparison",
        "Diagnosis",
        "ErrorTable",
        "Explanation",
        "InputError",
        "Merged",
        "MissingPackageError",
        "ModelCheck",
        "OutputError",
        "ParameterError",
        "Picture",
        "PoolSpec",
        "PrecisePoolSpec",
        "ProviderError",
        "Result",
        "RoicliError",
        "RoicliWarning",
        "Sweep",
        "Verification",
        "VerificationError",
        "__version__",
        "bench",
        "capture",
        "check",
        "columns",
        "compare",
        "diagnose",
        "draw",
        "explain",
        "inspect",
        "merge",
        "ops",
        "presets",
        "providers",
        "report",
        "rules",
        "summarize",
        "sweep",
        "verify_model",
    ]
    __all__ += api.__all__

_HOME = {
    "errors": "api",
    "export": "api",
    "bench": "analysis.bench",
    "capture": "pipeline.capture.run",
    "Capture": "pipeline.capture.run",
    "check": "analysis.check.run",
    "CheckReport": "analysis.check.records",
    "compare": "analysis.compare.run",
    "Comparison": "analysis.compare.run",
    "diagnose": "analysis.diagnose.run",
    "Diagnosis": "analysis.diagnose.run",
    "sweep": "analysis.sweep",
    "Sweep": "analysis.sweep",
    "verify_model": "analysis.verify_model",
    "ModelCheck": "analysis.verify_model",
    "inspect": "analysis.inspect_file",
    "merge": "pipeline.shards",
    "Merged": "pipeline.shards",
    "explain": "analysis.explain",
    "Explanation": "analysis.explanation",
    "draw": "render.draw",
    "Picture": "analysis.picture",
    "report": "render.html.page",
    "presets": "analysis.listings",
    "providers": "analysis.listings",
    "rules": "analysis.listings",
    "columns": "analysis.listings",
    "Result": "pipeline.execute",
    "AlignSpec": "operators.roi_align",
    "PoolSpec": "operators.roi_pool",
    "PrecisePoolSpec": "operators.precise_roi_pool",
    "ErrorTable": "error_table.table",
    "summarize": "error_table.table",
    "RoicliError": "core.exceptions",
    "RoicliWarning": "core.exceptions",
    "ParameterError": "core.exceptions",
    "InputError": "core.exceptions",
    "MissingPackageError": "core.exceptions",
    "OutputError": "core.exceptions",
    "ProviderError": "core.exceptions",
    "VerificationError": "core.exceptions",
    "Verification": "pipeline.verify",
}


# Modules that are part of what is offered.
_MODULES = ("ops",)

warn_in_programs()


def _find(name: str) -> Any:
    if name == "__all__":
        return ["__version__", *_HOME, *_MODULES, *_operators_calls()]
    if name in _MODULES:
        return import_module(f"roicli.{name}")
    if name not in _HOME and name not in _operators_calls():
        raise AttributeError(f"module 'roicli' has no attribute {name!r}")
    found = getattr(import_module(f"roicli.{_HOME.get(name, 'api')}"), name)
    if name.islower():  # a call
        from roicli.core.call_help import document

        document(found)
    globals()[name] = found
    return found


if not TYPE_CHECKING:  # a checker would take every name for one that is there
    __getattr__ = _find


def __dir__() -> list[str]:
    """What is offered, and nothing that is only needed for it."""
    return sorted(_find("__all__"))


def _operators_calls() -> list[str]:
    from roicli.core.operator_table import OPERATORS, call_name

    return [call_name(operator) for operator in OPERATORS]
