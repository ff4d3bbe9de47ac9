"""``roicli merge``: the parts of a result, joined into one file."""

from __future__ import annotations

from typing import Unpack

from roicli.cli.command import ProgressBar
from roicli.cli.console import print_line
from roicli.core.call_options import MergeOptions
from roicli.core.command_options import MergeCommand, Parts
from roicli.core.declaration import keywords


def merge(parts: Parts, **options: Unpack[MergeCommand]) -> None:
    """Join the parts of a result, which must be made from the same and hold every RoI once.

    Example: roicli merge part-1.h5 part-2.h5 -o whole.h5
    """
    from roicli.pipeline.merging import merge as merge_parts

    quiet, output = options["quiet"], options["output"]
    with ProgressBar(quiet) as progress:
        given = keywords(MergeOptions, options, progress=progress)
        merged = merge_parts(parts, output, **given)
    if not quiet:
        plural = "s" if merged.parts != 1 else ""
        print_line(
            "note",
            f"wrote {output} {merged.shape} {merged.dtype} from {merged.parts:,} part{plural}",
        )
