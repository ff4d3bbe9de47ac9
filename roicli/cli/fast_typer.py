"""A command that starts faster: values that need no coercion do not get an adapter built for them.

Typer builds a Pydantic adapter for every parameter of a command, given or not, and imports Pydantic
for it: a third of the time of a small run. Words and whole numbers need none. Everything else, and
every value that is not what it should be, goes Typer's own way, with Typer's own message.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

from typer._click.core import Command
from typer._coercion import RuntimeParam, build_runtime_param
from typer.core import TyperCommand

from roicli.cli.garbage import importing


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
    """Start every parameter plain."""
    for param in params:
        descriptor = getattr(param, "type_descriptor", None)
        if descriptor is not None:
            param._runtime_param = PlainRuntimeParam(
                descriptor.parameter_info, descriptor.annotation
            )


class StartsFast(Command):
    """A command, or a group of them, whose parameters start plain."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments that are its own."""
        skip_adapters(self.get_params(ctx))
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, for which Typer imports rich."""
        with importing():
            super().format_help(ctx, formatter)


class FastCommand(StartsFast, TyperCommand):
    """One command."""
