"""Options of runs that are shared among machines."""

from __future__ import annotations

from typing import Annotated

import typer

MACHINES = "Several machines"

Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        rich_help_panel=MACHINES,
        help="Run the I-th of N blocks of the RoIs into a part, which roicli merge joins.",
    ),
]
Dask = Annotated[
    str | None,
    typer.Option(
        "--dask",
        metavar="ADDRESS|local[:N]",
        rich_help_panel=MACHINES,
        help="Run on the workers of a Dask scheduler, or on N processes of this machine.",
    ),
]
