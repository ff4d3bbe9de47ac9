"""``roicli merge``: the parts of a result, joined into one file."""

from __future__ import annotations

from typing import Annotated

import typer

from roicli.cli import run_options as run_opt
from roicli.cli.console import print_line
from roicli.cli.reporting import ProgressBar

Parts = Annotated[
    list[str],
    typer.Argument(
        metavar="PART...", help="Parts of --shard, or the one virtual result of a run with --dask."
    ),
]
Output = Annotated[
    str,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        rich_help_panel=run_opt.WRITING,
        help="The whole: .h5, .npy or .zarr.",
    ),
]


def merge(
    parts: Parts,
    output: Output,
    force: run_opt.Force = False,
    compression: run_opt.CompressionOption = "none",
    quiet: run_opt.Quiet = False,
) -> None:
    """Join the parts of a result, which must be made from the same and hold every RoI once.

    Example: roicli merge part-1.h5 part-2.h5 -o whole.h5
    """
    from roicli.pipeline.merging import merge as merge_parts

    with ProgressBar(quiet) as progress:
        merged = merge_parts(parts, output, compression=compression, force=force, progress=progress)
    if not quiet:
        plural = "s" if merged.parts != 1 else ""
        print_line(
            "note",
            f"wrote {output} {merged.shape} {merged.dtype} from {merged.parts:,} part{plural}",
        )
