"""A command that starts faster: values that need no coercion do not get an adapter built for them.

Typer builds a Pydantic adapter for every parameter of a command, given or not, and imports Pydantic
for it: a third of the time of a small run. Words and whole numbers need none. Everything else, and
every value that is not what it should be, goes Typer's own way, with Typer's own message.

The names are Typer's private ones. Where a release has others, commands start as Typer starts them.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, get_args

from typer.core import TyperCommand

try:
    from typer._coercion import RuntimeParam, build_runtime_param
except ImportError:  # not 0.29
    RuntimeParam = object  # type: ignore[assignment, misc]
    build_runtime_param = None  # type: ignore[assignment]


class PlainRuntimeParam(RuntimeParam):
    """Passes what is right already, and hands the rest to Typer."""

    def _coerce_value(self, value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, list | tuple):
            if all(isinstance(item, str) for item in value) and str in get_args(self.annotation):
                return list(value)
        elif self.annotation in (str, int, float) and type(value) is self.annotation:
            return value  # a word, or a default
        elif self.annotation is int and isinstance(value, str) and value.isascii():
            if value.isdecimal() and len(value) < 10:
                return int(value)
        elif isinstance(value, str) and value in get_args(self.annotation):
            return value
        return build_runtime_param(param.type_descriptor).coerce(value, param=param, ctx=ctx)


def skip_adapters(params: Iterable[Any]) -> None:
    """Start every parameter plain, where Typer has what that needs."""
    if not hasattr(RuntimeParam, "_coerce_value"):
        return
    for param in params:
        descriptor = getattr(param, "type_descriptor", None)
        if descriptor is None or not hasattr(param, "_runtime_param"):
            continue
        with suppress(AttributeError, TypeError):
            param._runtime_param = PlainRuntimeParam(
                descriptor.parameter_info, descriptor.annotation
            )


class StartsFast:
    """What makes a command, or a group of them, start its parameters plain."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments that are its own."""
        command: Any = super()
        skip_adapters(command.get_params(ctx))
        parsed: list[str] = command.parse_args(ctx, args)
        return parsed


class FastCommand(StartsFast, TyperCommand):
    """One command."""
