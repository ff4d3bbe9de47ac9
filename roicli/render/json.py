"""Records to one strict JSON object: what is not a number is null, and nothing is infinite."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any, TextIO

from roicli.core.version import __version__

SCHEMA_VERSION = 1


def plain_object(value: Any) -> Any:
    """Records, tuples and numbers as JSON has them."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain_object(asdict(value))
    if isinstance(value, Mapping):
        return {key: plain_object(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain_object(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_object(payload: Mapping[str, Any], stream: TextIO) -> None:
    """One object with ``schema_version`` and ``version`` before the payload."""
    whole = {"schema_version": SCHEMA_VERSION, "version": __version__, **plain_object(payload)}
    stream.write(json.dumps(whole, indent=2, allow_nan=False) + "\n")


def format_short(value: float | None) -> str:
    """Four significant digits of a number of any size; a dash where there is none."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.4g}"
