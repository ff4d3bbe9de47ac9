"""Strict JSON: what is no number is null, nothing is infinite, names are as they were read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TextIO

from roicli.core.foreign import stored_text
from roicli.core.version import __version__

# Rises when a key of any object changes its meaning or goes (docs/json.md).
SCHEMA_VERSION = 1
# Characters that could end a script element or a line of script.
UNSAFE_IN_SCRIPT = {ord(mark): f"\\u{ord(mark):04x}" for mark in "<>&\u2028\u2029"}
HEAD = {"schema_version": SCHEMA_VERSION, "version": __version__}


def plain_object(value: Any) -> Any:
    """Records, tuples and numbers as JSON has them; names as they were read, JSON escapes them.

    A record is its fields, and the properties that follow from them.
    """
    if is_dataclass(value) and not isinstance(value, type):
        names = (*(field.name for field in fields(value)), *property_names(type(value)))
        return {name: plain_object(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {stored_text(key): plain_object(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain_object(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return stored_text(value) if isinstance(value, str) else value


def property_names(record: type) -> list[str]:
    """The properties that a record adds to its fields."""
    return [name for name, part in vars(record).items() if isinstance(part, property)]


def encode(document: Any, indent: int | None = None) -> str:
    """A strict JSON document. It may go to a CI system's log, which obeys ``##[`` in a string."""
    text = json.dumps(plain_object(document), indent=indent, allow_nan=False)
    return text.replace("##", "#\\u0023")


def encode_for_script(document: Mapping[str, Any]) -> str:
    """Plain values as compact JSON that can end neither a script element nor a line of script."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False).translate(UNSAFE_IN_SCRIPT)


def write_object(payload: Mapping[str, object], stream: TextIO) -> None:
    """One object on lines that people can read, ``schema_version`` and ``version`` first."""
    stream.write(encode({**HEAD, **payload}, indent=2) + "\n")
