"""The Typer application: commands and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated

import typer

from roicli.cli.boundary import Boundary
from roicli.cli.startup import FastCommand
from roicli.version import __version__

# Command to the module that has it, in the order of the help.
COMMANDS = {
    "align": "operators",
    "pool": "operators",
    "errors": "errors",
    "merge": "merge",
    "check": "check",
    "explain": "explain",
    "draw": "draw",
    "report": "report",
    "compare": "compare",
    "diagnose": "diagnose",
    "sweep": "sweep",
    "inspect": "inspect",
    "export": "export",
    "bench": "bench",
    "presets": "listings",
    "providers": "listings",
}


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"roicli {__version__}")
        raise typer.Exit


def _describe(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """RoI Align and RoI Pool over stored feature maps, and what rounding does to each RoI."""


def build_app(commands: Iterable[str] = COMMANDS) -> typer.Typer:
    """The application with these commands."""
    built = typer.Typer(
        name="roicli",
        cls=Boundary,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    built.callback()(_describe)
    for name in commands:
        module = import_module(f"roicli.cli.{COMMANDS[name]}")
        built.command(name, cls=FastCommand)(getattr(module, name))
    return built


def main() -> None:
    """The console script.

    Typer builds every parameter of every command it has, so a command that is named is the only one
    that is built.
    """
    named = sys.argv[1:2]
    build_app(named if named and named[0] in COMMANDS else COMMANDS)()
