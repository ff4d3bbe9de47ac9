"""The Typer application: commands and nothing else."""

from __future__ import annotations

from typing import Annotated

import typer

from roicli.cli.bench import bench
from roicli.cli.boundary import Boundary, install_signal_handlers
from roicli.cli.check import check
from roicli.cli.compare import compare
from roicli.cli.diagnose import diagnose
from roicli.cli.draw import draw
from roicli.cli.errors import errors
from roicli.cli.explain import explain
from roicli.cli.export import export
from roicli.cli.inspect import inspect
from roicli.cli.listings import presets, providers
from roicli.cli.operators import align, pool
from roicli.cli.report import report
from roicli.cli.startup import FastCommand
from roicli.cli.sweep import sweep
from roicli.version import __version__

app = typer.Typer(
    name="roicli",
    cls=Boundary,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"roicli {__version__}")
        raise typer.Exit


@app.callback()
def _describe(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """RoI Align and RoI Pool over stored feature maps, and what rounding does to each RoI."""


for command in (
    align,
    pool,
    errors,
    export,
    providers,
    presets,
    bench,
    explain,
    draw,
    report,
    compare,
    diagnose,
    sweep,
    check,
    inspect,
):
    app.command(cls=FastCommand)(command)


def main() -> None:
    """The console script."""
    install_signal_handlers()
    app()
