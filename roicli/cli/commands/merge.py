"""``roicli merge``: the parts of a result, joined into one file."""

from typing import Annotated, Required, TypedDict, Unpack

from roicli.cli.command import ProgressBar
from roicli.cli.console import print_line
from roicli.cli.options import QuietOption
from roicli.core.declaration import Arg, Opt, keywords
from roicli.core.look_options import MergeOptions
from roicli.core.panels import WRITING

Parts = Annotated[
    list[str], Arg("PART...", "Parts of --shard, or the one virtual result of a run with --dask.")
]


class WholeOption(TypedDict, total=False):
    """Where the joined result goes."""

    output: Required[
        Annotated[
            str,
            Opt(
                "-o --output",
                WRITING,
                "The whole: .h5, .npy or .zarr.",
                metavar="FILE",
                outward=True,
            ),
        ]
    ]


class MergeCommand(WholeOption, MergeOptions, QuietOption, total=False):
    """The options of ``roicli merge``."""


def merge(parts: Parts, **options: Unpack[MergeCommand]) -> None:
    """Join the parts of a result, which must be made from the same and hold every RoI once.

    Example: roicli merge part-1.h5 part-2.h5 -o whole.h5
    """
    from roicli.pipeline.shards import merge as merge_parts
    from roicli.render.tables import format_count

    quiet, output = options["quiet"], options["output"]
    with ProgressBar(quiet) as progress:
        given = keywords(MergeOptions, options, progress=progress)
        merged = merge_parts(parts, output, **given)
    if not quiet:
        parts_read = format_count(merged.parts, "part")
        print_line("note", f"wrote {output} {merged.shape} {merged.dtype} from {parts_read}")
