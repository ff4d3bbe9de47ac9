"""Frozen dataclasses that are cheap to define: all have the same methods.

``dataclass(frozen=True)`` compiles six methods for every class, which takes half a millisecond. A
small run defines fifty classes.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from functools import cache
from typing import Any, TypeVar, dataclass_transform

Record = TypeVar("Record")

# What a record says of itself, and of one of its values.
LONGEST_TEXT, LONGEST_VALUE = 240, 80


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[Record]) -> type[Record]:
    """Make a class what ``dataclass(frozen=True)`` makes of it."""
    return make_record(cls, kw_only=False)


def make_record(cls: type[Record], *, kw_only: bool) -> type[Record]:
    """As ``frozen``; with ``kw_only`` every field must be given by its name."""
    for name, method in _METHODS.items():
        if name not in cls.__dict__:
            setattr(cls, name, method)
    return dataclass(init=False, repr=False, eq=False, kw_only=kw_only)(cls)


@cache
def _fields_of(cls: Hashable) -> dict[str, Field[Any]]:
    return {one.name: one for one in fields(cls)}  # type: ignore[arg-type]


@cache
def _compared(cls: Hashable) -> tuple[str, ...]:
    return tuple(name for name, one in _fields_of(cls).items() if one.compare)


def _values(record: Any) -> tuple[Any, ...]:
    held = record.__dict__
    return tuple([held[name] for name in _compared(record.__class__)])


def _fill(self: Any, *values: Any, **named: Any) -> None:
    cls = self.__class__
    given = {**dict(zip(cls.__match_args__, values, strict=False)), **named}
    fields_ = _fields_of(cls)
    missing = [one for name, one in fields_.items() if name not in given]
    if len(values) + len(named) + len(missing) != len(fields_):
        unknown = ", ".join(given.keys() - fields_.keys()) or "more than there are"
        raise TypeError(f"{cls.__name__}: unknown or repeated fields: {unknown}")
    for one in missing:
        given[one.name] = _default_of(one, cls)
    self.__dict__.update(given)
    check = getattr(cls, "__post_init__", None)
    if check is not None:
        check(self)


def _default_of(one: Field[Any], cls: type) -> Any:
    if one.default is not MISSING:
        return one.default
    if one.default_factory is not MISSING:
        return one.default_factory()
    raise TypeError(f"{cls.__name__}: the field {one.name!r} is missing")


def _refuse_to_set(self: Any, name: str, value: Any) -> None:
    raise FrozenInstanceError(f"{type(self).__name__}.{name} cannot be assigned to")


def _refuse_to_delete(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"{type(self).__name__}.{name} cannot be deleted")


def _is_equal(self: Any, other: object) -> Any:
    if type(self) is not type(other):
        return NotImplemented
    return _values(self) == _values(other)


def _hash(self: Any) -> int:
    return hash(_values(self))


def _describe(self: Any) -> str:
    text = ""
    for name, one in _fields_of(self.__class__).items():
        if one.repr and len(text) < LONGEST_TEXT:
            text += f", {name}={_shorten(getattr(self, name))}"
        elif one.repr:
            text += ", ..."
            break
    return f"{type(self).__name__}({text[2:]})"


def _shorten(value: Any) -> str:
    """A value in a few words: an array by its dtype and shape, what is long by how much it is."""
    if hasattr(value, "dtype") and getattr(value, "shape", None):
        return f"{value.dtype} {tuple(value.shape)}"
    text = repr(value)
    if len(text) <= LONGEST_VALUE:
        return text
    if isinstance(value, tuple | list | dict):
        return f"<{len(value)} items>"
    return f"{text[:LONGEST_VALUE]}..." if isinstance(value, str) else f"<{type(value).__name__}>"


_METHODS = {
    "__init__": _fill,
    "__setattr__": _refuse_to_set,
    "__delattr__": _refuse_to_delete,
    "__eq__": _is_equal,
    "__hash__": _hash,
    "__repr__": _describe,
}
