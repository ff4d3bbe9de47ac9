"""What there is, and what it means: providers, presets, rules of ``check``, columns of errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from roicli.core.exceptions import ParameterError
from roicli.core.parse import did_you_mean
from roicli.core.shown import Shown


class Listing(list[dict[str, Any]], Shown):
    """Rows, each a dictionary with the same keys."""


def providers() -> Listing:
    """The execution providers: which there are, why not, and which one ``auto`` would use.

    A row has ``name``, ``offered`` by what is installed, ``available``, ``reason``, ``install``,
    ``auto`` and the ``missing`` libraries.
    """
    from roicli.runtime.providers import describe_providers

    return Listing(status._asdict() for status in describe_providers())


def presets(match: str = "") -> Listing:
    """Other libraries' functions, with what differs from torchvision's; those that have ``match``
    somewhere in their row. Raises ParameterError where none has.
    """
    from roicli.operators.presets import all_rows, describe_row

    rows = [describe_row(row) for row in all_rows()]
    kept = [row for row in rows if any(match.lower() in str(cell).lower() for cell in row.values())]
    if not kept:
        raise ParameterError(f"no preset has {match!r} in its row", "see roicli presets")
    return Listing(kept)


def rules(name: str | None = None) -> Listing:
    """The rules of ``check``, or the one that is called so: what each looks for, and whether it
    refuses or warns. Raises ParameterError for an unknown name.
    """
    from roicli.analysis.check.rules import RULES, describe_rule

    return _choose("rule", name, [describe_rule(rule) for rule in RULES])


def columns(name: str | None = None) -> Listing:
    """The columns of the error table, or the one that is called so, with units and meanings.

    Raises ParameterError for an unknown name.
    """
    from roicli.error_table.columns import COLUMNS, describe_column

    return _choose("column", name, [describe_column(column) for column in COLUMNS])


def _choose(kind: str, name: str | None, rows: Sequence[dict[str, Any]]) -> Listing:
    """All rows, or those that a name, in any case, is the first cell of."""
    if name is None:
        return Listing(rows)
    names = [str(next(iter(row.values()))) for row in rows]
    found = [row for row, own in zip(rows, names, strict=True) if own.lower() == name.lower()]
    if not found:
        raise ParameterError(
            f"there is no {kind} {name!r}", did_you_mean(name, names) or f"see roicli {kind}s"
        )
    return Listing(found)
