"""The JSON Schemas of every ``--format json``, made by ``make docs`` of ``render.documents``."""

from __future__ import annotations

from pathlib import Path

from roicli.core.operator_table import OPERATORS


def read_schema(command: str) -> str:
    """The schema of a command's document; every operator prints the error table's."""
    name = "errors" if command in OPERATORS else command
    return Path(__file__).with_name(f"{name}.json").read_text(encoding="utf-8")
