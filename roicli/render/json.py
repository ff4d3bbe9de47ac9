"""Records to one strict JSON object: what is not a number is null, and nothing is infinite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TextIO

from roicli.core.strict_json import encode
from roicli.core.version import __version__

SCHEMA_VERSION = 1


def write_document(document: Any, stream: TextIO) -> None:
    """The document on lines that people can read."""
    stream.write(encode(document, indent=2) + "\n")


def write_object(payload: Mapping[str, Any], stream: TextIO) -> None:
    """One object with ``schema_version`` and ``version`` before the payload."""
    write_document({"schema_version": SCHEMA_VERSION, "version": __version__, **payload}, stream)


def format_short(value: float | None) -> str:
    """Four significant digits of a number of any size; a dash where there is none."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.4g}"
