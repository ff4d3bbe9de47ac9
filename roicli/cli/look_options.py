"""The options of the commands that one looks with: explain, draw, report."""

from __future__ import annotations

from typing import Annotated

import typer

LOOKING = "What to look at"

Roi = Annotated[
    int,
    typer.Option("--roi", metavar="K", rich_help_panel=LOOKING, help="Row number of the RoI."),
]
BinIndex = Annotated[
    str,
    typer.Option("--bin", metavar="I,J", rich_help_panel=LOOKING, help="Bin: row, column."),
]
CloseUp = Annotated[
    str | None,
    typer.Option(
        "--bin",
        metavar="I,J",
        rich_help_panel=LOOKING,
        help="A close-up of this bin (row, column): one sample and its four weights.",
    ),
]
Channel = Annotated[
    int,
    typer.Option("--channel", metavar="C", rich_help_panel=LOOKING, help="Which channel."),
]
MapChannel = Annotated[
    int | None,
    typer.Option(
        "--channel",
        metavar="C",
        rich_help_panel=LOOKING,
        help="Which channel the heat map shows.",
        show_default="the mean over channels",
    ),
]
Compare = Annotated[
    str | None,
    typer.Option(
        "--compare",
        metavar="pool,align",
        rich_help_panel=LOOKING,
        help="A panel each, side by side.",
    ),
]
Image = Annotated[
    str | None,
    typer.Option(
        "--image", metavar="PHOTO", rich_help_panel=LOOKING, help="An image to put under the map."
    ),
]
ResultFile = Annotated[
    str | None,
    typer.Option(
        "--result",
        metavar="FILE",
        rich_help_panel=LOOKING,
        help="A stored result to check too; exit code 1 where it equals neither operator.",
    ),
]
