"""The operators there are. A new one is its file and a line here."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from roicli.core.types import check_word
from roicli.core.vocabulary import Operator
from roicli.operators.interface import OperatorSpec

# Where each is, imported when it is asked for.
OPERATORS: dict[Operator, tuple[str, str]] = {
    "align": ("roi_align", "AlignSpec"),
    "pool": ("roi_pool", "PoolSpec"),
    "precise-pool": ("precise_roi_pool", "PrecisePoolSpec"),
}


def operator_type(name: str) -> type[OperatorSpec]:
    """The class of an operator. Raises ParameterError for a name that is none."""
    check_word("operator", name, Operator)
    module, spec = OPERATORS[cast("Operator", name)]
    return cast("type[OperatorSpec]", getattr(import_module(f"roicli.operators.{module}"), spec))
