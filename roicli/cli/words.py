"""What a terminal gives for an option, a word, as what the option takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from roicli.core.declaration import arms
from roicli.core.exceptions import ParameterError
from roicli.core.parse import did_you_mean

# The first of these that an option's type has is what a terminal gives.
TYPED_AS = (bool, str, int, float)
TRUTH = {"true": True, "yes": True, "on": True, "1": True}
TRUTH |= {"false": False, "no": False, "off": False, "0": False}
EXPECTED = {int: "a whole number", float: "a number", bool: "true or false"}
NUMBER = r"(?i)[+-]?(nan|inf|([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?)"
LEVEL = "--level"
# A range or a list where one number belongs.
SEVERAL = r"([0-9]+)(-|,|:|\.\.)"


def terminal_type(declared: Any) -> Any:
    """What a terminal gives for an option that takes this type: text where there is a choice."""
    members = [arm for arm in arms(declared) if arm is not NoneType]
    lists = [arm for arm in members if get_origin(arm) is list]
    words = [arm for arm in members if get_origin(arm) is Literal]
    plain = [kind for kind in TYPED_AS if kind in members]
    return (lists or words or plain or members)[0]


def read_word(value: Any, typed: Any, name: str) -> Any:
    """What was given under ``name``, as ``typed`` (one of ``terminal_type``) says.

    Raises ParameterError.
    """
    if typed is str or value is None or get_origin(typed) is list:
        return value
    text = str(value).strip()
    if words := get_args(typed):
        if text in words:
            return text
        hint = did_you_mean(text, words) or None
        raise ParameterError(f"{name} is {text!r}, expected one of: {', '.join(words)}", hint)
    if typed is bool and text.lower() in TRUTH:
        return TRUTH[text.lower()]
    if typed is int and re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        return int(text)
    if typed is float and re.fullmatch(NUMBER, text):
        return float(text)
    several = re.match(SEVERAL, text) if typed is int else None
    hint = f"one at a time, like {several[1]}" if several else None
    raise ParameterError(f"{name} is {text!r}, expected {EXPECTED[typed]}", hint)


def gather_levels(args: Sequence[str]) -> list[str]:
    """Arguments with ``--level NAME=ADDRESS``, repeated, as their FEATURES: one list, in front.

    Raises ParameterError.
    """
    rest, levels = list[str](), list[str]()
    words = iter(args)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag != LEVEL:
            rest.append(word)
            continue
        name, is_named, address = (value if equals else next(words, "")).partition("=")
        if not (name and is_named and address):
            raise ParameterError(
                f"{LEVEL} is {(name + is_named + address)!r}, expected NAME=FILE[::DATASET]",
                "give one for each level, finest first, in place of FEATURES",
            )
        levels.append(address)
    if levels and any(word.partition("=")[0] == "--levels" for word in rest):
        raise ParameterError(f"{LEVEL} and --levels both name the levels", "give one of them")
    return [",".join(levels), *rest] if levels else rest
