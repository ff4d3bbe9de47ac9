"""What is given for an option, as text or as a Python value, to the checked value.

Every function takes the option's name, which its message says, and raises ParameterError.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from operator import index
from typing import Any, Literal, Protocol

from roicli.core.exceptions import ParameterError

Size = tuple[int, int]
Path = str | os.PathLike[str]
# Layouts of maps, beside a letter for each axis.
AUTO: Literal["auto"] = "auto"
TOKENS, REVERSED = "tokens:", "reversed"
LAYOUTS = ("nchw", "nhwc", "ncwh", "chw", "hwc", "cwh")
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class ArrayLike(Protocol):
    """An array, as NumPy knows one."""

    def __array__(self) -> Any:
        """The array's values."""


def as_size(value: Any, name: str) -> Size:
    """One number, text like ``7x5``, or (height, width) to (height, width), sides of at least 1."""
    if isinstance(value, str):
        return _parse_size(value, name)
    try:
        sides = [index(side) for side in (value if isinstance(value, Sequence) else (value, value))]
    except TypeError:
        sides = []
    if len(sides) != 2 or min(sides) < 1:
        raise ParameterError(f"{name} is {value!r}, expected height x width of at least 1 each")
    return sides[0], sides[1]


def _parse_size(text: str, name: str) -> Size:
    match = re.fullmatch(r"\s*(\d{1,9})\s*(?:[xX]\s*(\d{1,9})\s*)?", text)
    if match is None:
        raise ParameterError(
            f"{name} is {text!r}, expected one number or HEIGHTxWIDTH, like 7 or 7x5"
        )
    height, width = match.group(1), match.group(2) or match.group(1)
    if int(height) == 0 or int(width) == 0:
        raise ParameterError(f"{name} is {text!r}, expected sides of at least 1")
    return int(height), int(width)


def as_layout(value: Any, name: str) -> str:
    """A layout of maps: ``auto``, a letter for each axis, or ``tokens:HxW``.

    ``reversed`` is ``ncwh``.
    """
    text = str(value).strip().lower()
    if text == REVERSED:
        return "ncwh"
    if text.startswith(TOKENS):
        parse_grid(text)
        return text
    # What a letter stands for is plain, so every order is taken.
    if text != AUTO and sorted(text) not in (sorted("nchw"), sorted("chw")):
        raise ParameterError(
            f"{name} is {value!r}, expected {AUTO}, {', '.join(LAYOUTS)}, {REVERSED} or {TOKENS}HxW"
        )
    return text


def parse_grid(layout: str) -> Size:
    """The height and width of ``tokens:HxW``."""
    return _parse_size(layout.removeprefix(TOKENS), f"the grid of layout {layout!r}")


def as_scales(value: Any, name: str) -> tuple[float, ...] | Literal["auto"]:
    """Text like ``1/4,1/8``, a number or several numbers to one scale per level; ``auto``."""
    if isinstance(value, str) and value.strip() == AUTO:
        return AUTO
    if isinstance(value, str):
        return tuple(parse_scale(part, name) for part in value.split(","))
    # NumPy's arrays of no axis have __iter__ too.
    is_one = not hasattr(value, "__iter__") or getattr(value, "ndim", 1) == 0
    try:
        return tuple(float(number) for number in ((value,) if is_one else value))
    except (TypeError, ValueError):
        raise ParameterError(f"{name} is {value!r}, expected numbers") from None


def parse_scale(text: str, name: str = "spatial scale") -> float:
    """``0.0625`` or ``1/16`` to cells per image pixel."""
    numerator, slash, denominator = text.partition("/")
    try:
        scale = float(numerator) / (float(denominator) if slash else 1.0)
    except (ValueError, ZeroDivisionError):
        raise ParameterError(
            f"{name} is {text!r}, expected a number or a fraction, like 0.0625 or 1/16"
        ) from None
    if not (math.isfinite(scale) and scale > 0):
        raise ParameterError(f"{name} is {text!r}, expected a positive, finite number")
    return scale


def as_roi_scale(value: Any, name: str) -> Any:
    """A number, text like ``1.5625`` or ``2,1.5``, or two numbers to a pair (x, y).

    An address, or an array with a number or two an image, stays what it is.
    """
    if isinstance(value, str) and re.fullmatch(r"[-+0-9.eE/,\s]+|[+-]?(nan|inf)", value):
        numbers = [parse_scale(part, name) for part in value.split(",")]
    elif isinstance(value, int | float):
        numbers = [parse_scale(repr(float(value)), name)]
    elif isinstance(value, tuple | list) and len(value) == 2:
        numbers = [parse_scale(str(part), name) for part in value]
    else:
        return value
    if len(numbers) > 2:
        raise ParameterError(
            f"{name} is {value!r}, expected a number, two (x, y), or an address of one or two an "
            "image"
        )
    return numbers[0], numbers[-1]


def as_rows(value: Any, name: str) -> int | None:
    """A number or its text to how many; ``all`` and None to None, which is all."""
    if value is None or value == "all":
        return None
    if isinstance(value, str) and value.isdigit() and value.isascii():
        return int(value)
    if isinstance(value, str) or not hasattr(value, "__index__"):
        raise ParameterError(f"{name} is {value!r}, expected a number or all")
    return index(value)


def as_count(value: Any, name: str) -> int:
    """A whole number of at least 1."""
    if not hasattr(value, "__index__") or index(value) < 1:
        raise ParameterError(f"{name} is {value!r}, expected a whole number of at least 1")
    return index(value)


def as_names(value: Any, name: str) -> tuple[str, ...]:
    """Text like ``p2,p3`` or several names to names, none of them empty."""
    if not isinstance(value, str):
        return tuple(value)
    names = tuple(part.strip() for part in value.split(","))
    if not all(names):
        raise ParameterError(f"{name} is {value!r}, expected names separated by single commas")
    return names


def as_bytes(value: Any, name: str) -> int:
    """A number of bytes, or text like ``512M``; units K, M, G, T are powers of 1024."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", str(value), re.IGNORECASE)
    if match is None:
        # A message about memory names the option: the run has more than one budget.
        flag = f"--{name.replace(' ', '-')}"
        raise ParameterError(
            f"{flag} is {str(value)!r}, expected a number of bytes, like 512M or 2G"
        )
    return int(float(match.group(1)) * UNITS[match.group(2).upper()])


def as_bin(value: Any, name: str) -> Size:
    """Text like ``0,3`` or (row, column) to a bin."""
    numbers: Sequence[Any] = ()
    if not isinstance(value, str):
        numbers = value if isinstance(value, Sequence) else ()
    elif match := re.fullmatch(r"\s*(\d{1,9})\s*,\s*(\d{1,9})\s*", value):
        numbers = [int(part) for part in match.groups()]
    if len(numbers) != 2:
        raise ParameterError(f"{name} is {value!r}, expected its row and column, like 0,3")
    return numbers[0], numbers[1]


def as_path(value: Any, name: str) -> str:
    """A path as text."""
    try:
        return str(os.fspath(value))
    except TypeError:
        raise ParameterError(f"{name} is {value!r}, expected a path") from None


def as_several(value: Any, name: str) -> Any:
    """One path, or several, to a list of texts; a mapping stays what it is."""
    if isinstance(value, Mapping):
        return value
    return [as_path(one, name) for one in (value if isinstance(value, list | tuple) else [value])]


def did_you_mean(word: str, words: Sequence[str]) -> str:
    """The question after a word that is none of ``words`` but near one; else an empty text."""
    from difflib import get_close_matches  # seldom needed

    by_lower = {one.lower(): one for one in words}
    near = [by_lower[one] for one in get_close_matches(word.lower(), by_lower, 2)]
    return f"did you mean {' or '.join(near)}?" if near else ""
