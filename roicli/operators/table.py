"""From an operator's word to its class (``core.operator_table`` has the words)."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from roicli.core.operator_table import OPERATORS, Operator
from roicli.core.types import check_word
from roicli.operators.interface import OperatorSpec


def operator_type(name: str) -> type[OperatorSpec]:
    """The class of an operator, imported now. Raises ParameterError for a name that is none."""
    check_word("operator", name, Operator)
    entry = OPERATORS[cast("Operator", name)]
    module = import_module(f"roicli.operators.{entry.module}")
    return cast("type[OperatorSpec]", getattr(module, entry.spec))
