"""A command that starts faster: values that need no coercion do not get an adapter built for them.

Typer builds a Pydantic adapter for every parameter of a command, given or not, and imports Pydantic
for it: a third of the time of a small run. Commands take text and read it themselves.

The names are Typer's private ones. Where a release has others, commands start as Typer starts them.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, get_args

import typer
from typer.core import TyperCommand

from roicli.cli import settings
from roicli.cli.commands import options_of
from roicli.cli.help import HELP_FLAGS, describe_command
from roicli.cli.words import LEVEL, gather_levels

try:
    from typer._coercion import RuntimeParam, build_runtime_param
except ImportError:  # not 0.29
    RuntimeParam = object  # type: ignore[assignment, misc]
    build_runtime_param = None  # type: ignore[assignment]

# Typer shows no other name of it.
UsageError: Any = typer.BadParameter.__base__
EVERYTHING = "--help-all"


class PlainRuntimeParam(RuntimeParam):
    """Passes text and lists of texts, which commands read themselves; Typer has the rest."""

    def _coerce_value(self, value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, list | tuple):
            if all(isinstance(item, str) for item in value) and str in get_args(self.annotation):
                return list(value)
        elif isinstance(value, str) and self.annotation is str:
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
        try:
            parsed: list[str] = command.parse_args(ctx, args)
        except UsageError as error:
            error.ctx = error.ctx or ctx
            raise
        return parsed


class FastCommand(StartsFast, TyperCommand):
    """One command, whose ``--help`` shows what is given most often and ``--help-all`` the rest."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments over the settings that stay, and keep which help is asked for."""
        ctx.meta[EVERYTHING] = EVERYTHING in args
        settings.forget()
        if any(arg.partition("=")[0] == LEVEL for arg in args):
            args = gather_levels(args) if "levels" in options_of(ctx.info_name) else args
        asks_help = ctx.resilient_parsing or not set(HELP_FLAGS).isdisjoint(args)
        if asks_help or not settings.has_settings():
            return super().parse_args(ctx, args)
        found = settings.find_settings(ctx.info_name, options_of(ctx.info_name))
        ctx.default_map = {name: setting.value for name, setting in found.items()}
        parsed = super().parse_args(ctx, args)
        settings.put_in_force(found, ctx)
        return parsed

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        formatter.write(describe_command(self, ctx, shows_all=ctx.meta.get(EVERYTHING, False)))
