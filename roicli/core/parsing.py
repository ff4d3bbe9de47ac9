"""Text from the command line to checked values: sizes, scales, thresholds, bytes."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from operator import index
from typing import Any

from roicli.core.exceptions import ParameterError

Size = tuple[int, int]


def parse_size(text: str, name: str = "output size") -> Size:
    """``7`` or ``7x5`` (height x width) to (height, width)."""
    match = re.fullmatch(r"\s*(\d{1,9})\s*(?:[xX]\s*(\d{1,9})\s*)?", text)
    if match is None:
        raise ParameterError(
            f"{name} is {text!r}, expected one number or HEIGHTxWIDTH, like 7 or 7x5"
        )
    height, width = match.group(1), match.group(2) or match.group(1)
    if int(height) == 0 or int(width) == 0:
        raise ParameterError(f"{name} is {text!r}, expected sides of at least 1")
    return int(height), int(width)


def as_size(value: Any, name: str) -> Size:
    """One number, ``HxW`` text, or (height, width) to (height, width), sides of at least 1."""
    if isinstance(value, str):
        return parse_size(value, name)
    try:
        sides = [index(side) for side in (value if isinstance(value, Sequence) else (value, value))]
    except TypeError:
        sides = []
    if len(sides) != 2 or min(sides) < 1:
        raise ParameterError(f"{name} is {value!r}, expected height x width of at least 1 each")
    return sides[0], sides[1]


def parse_scale(text: str) -> float:
    """``0.0625`` or ``1/16`` to cells per image pixel."""
    numerator, slash, denominator = text.partition("/")
    try:
        scale = float(numerator) / (float(denominator) if slash else 1.0)
    except (ValueError, ZeroDivisionError):
        raise ParameterError(
            f"spatial scale is {text!r}, expected a number or a fraction, like 0.0625 or 1/16"
        ) from None
    if not (math.isfinite(scale) and scale > 0):
        raise ParameterError(f"spatial scale is {text!r}, expected a positive, finite number")
    return scale


def parse_scales(text: str) -> tuple[float, ...]:
    """``1/4,1/8`` to one scale per level."""
    return tuple(parse_scale(part) for part in text.split(","))


def as_scales(value: Any, name: str) -> tuple[float, ...]:
    """Text, a number or several numbers to one scale per level."""
    if isinstance(value, str):
        return parse_scales(value)
    try:
        numbers = (
            value if hasattr(value, "__iter__") and getattr(value, "ndim", 1) != 0 else (value,)
        )
        return tuple(float(number) for number in numbers)
    except (TypeError, ValueError):
        raise ParameterError(f"{name} is {value!r}, expected numbers") from None


def as_rows(value: Any, name: str) -> int | None:
    """A number, its text, ``all`` or None (all) to how many."""
    return parse_rows(value, name) if isinstance(value, str) else value


def as_names(value: Any, name: str) -> tuple[str, ...]:
    """``p2,p3`` or several names to names, none of them empty."""
    return parse_names(value) if isinstance(value, str) else tuple(value)


def as_bytes(value: Any, name: str) -> int:
    """A number of bytes, or text like ``512M``."""
    return parse_bytes(str(value), f"--{name.replace(' ', '-')}")


def as_count(value: Any, name: str) -> int:
    """A whole number of at least 1."""
    if not isinstance(value, int) or value < 1:
        raise ParameterError(f"{name} is {value!r}, expected a whole number of at least 1")
    return value


def as_bin(value: Any, name: str) -> Size:
    """``0,3`` or (row, column) to a bin."""
    if isinstance(value, str):
        return parse_bin(value)
    row, column = value
    return row, column


def as_path(value: Any, name: str) -> str:
    """A path as text."""
    return str(os.fspath(value))


def parse_rows(text: str, name: str = "rows") -> int | None:
    """``20`` to 20, ``all`` to None."""
    if text != "all" and not (text.isdigit() and text.isascii()):
        raise ParameterError(f"{name} is {text!r}, expected a number or all")
    return None if text == "all" else int(text)


def parse_names(text: str) -> tuple[str, ...]:
    """``p2,p3`` to names, none of them empty."""
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise ParameterError(f"names are {text!r}, expected them separated by single commas")
    return names


_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_bytes(text: str, name: str = "memory") -> int:
    """``512M`` to bytes; units K, M, G, T are powers of 1024, with or without ``iB`` or ``B``."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    if match is None:
        raise ParameterError(f"{name} is {text!r}, expected a number of bytes, like 512M or 2G")
    return int(float(match.group(1)) * _UNITS[match.group(2).upper()])


def parse_bin(text: str) -> tuple[int, int]:
    """``0,3`` to a bin (row, column)."""
    match = re.fullmatch(r"\s*(\d{1,9})\s*,\s*(\d{1,9})\s*", text)
    if match is None:
        raise ParameterError(f"bin is {text!r}, expected its row and column, like 0,3")
    return int(match.group(1)), int(match.group(2))
