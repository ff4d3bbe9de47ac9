"""The Typer application: commands and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand
from typer.main import get_command

from roicli.cli.boundary import Boundary
from roicli.cli.command import with_parameters
from roicli.cli.commands import COMMANDS, PANEL_OF, find_function
from roicli.cli.fast_typer import FastCommand
from roicli.cli.help import HELP_FLAGS
from roicli.core.version import __version__


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"roicli {__version__}")
        raise typer.Exit


def _describe(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """RoI Align and RoI Pool over stored feature maps, and what rounding does to each RoI."""


def _begin_app() -> typer.Typer:
    begun = typer.Typer(
        name="roicli",
        cls=Boundary,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": list(HELP_FLAGS)},
    )
    begun.callback()(_describe)
    return begun


def build_app(commands: Iterable[str] = COMMANDS) -> typer.Typer:
    """The application with these commands."""
    built = _begin_app()
    for name in commands:
        parameters = with_parameters(find_function(name))
        built.command(name, cls=FastCommand, rich_help_panel=PANEL_OF[name])(parameters)
    return built


class ListedCommand(TyperCommand):
    """A command with a name and a help text, whose parameters are built when it is called."""

    def make_context(self, info_name: str | None, args: list[str], *given: Any, **more: Any) -> Any:
        """The context of the built command."""
        assert self.name is not None
        whole = cast("Boundary", get_command(build_app([self.name])))
        return whole.commands[self.name].make_context(info_name, args, *given, **more)


def build_listing() -> typer.Typer:
    """The application with all commands, as the help lists them."""
    built = _begin_app()
    for name in COMMANDS:
        described = find_function(name).__doc__
        panel = PANEL_OF[name]
        built.command(name, cls=ListedCommand, help=described, rich_help_panel=panel)(lambda: None)
    return built


def main() -> None:
    """The console script.

    Typer builds every parameter of every command it has, so a command that is named is the only one
    that is built.
    """
    named = sys.argv[1:2]
    app = build_app(named) if named and named[0] in COMMANDS else build_listing()
    app()
