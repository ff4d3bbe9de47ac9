"""Every option, declared once: keyword of the library, parameter of a command, line of the help.

Small TypedDicts hold what belongs together; a call's own TypedDict is made of them, and a command's
of the call's and of what only a command has. Here stands where and how a run is computed and
written; what it computes is in ``operator_options``, how inputs are read in ``input_options``.
"""

# Annotations are read at run time, so they are no text here.
from collections.abc import Sequence
from typing import Annotated, TypedDict

from roicli.core.declaration import Opt, PythonOnly
from roicli.core.panels import MACHINES, RUNNING, TABLE, WRITING
from roicli.core.parse import (
    Path,
    as_bytes,
    as_count,
    as_path,
)
from roicli.core.progress import Progress, StageTimes, no_progress
from roicli.core.vocabulary import (
    Compression,
    Provider,
    ResultDtype,
)

# Where and how it is computed


class ProviderOption(TypedDict, total=False):
    """What computes."""

    provider: Annotated[
        Provider,
        Opt("--provider", RUNNING, "What computes; auto is cuda where it loads, else cpu.", "auto"),
    ]


class ResourceOptions(TypedDict, total=False):
    """What a run may take: threads, and memory in bytes or like "512M"."""

    threads: Annotated[
        int | None,
        Opt(
            "--threads",
            RUNNING,
            "Threads of ONNX Runtime, and chunks of RoIs for its serial MaxRoiPool.",
            metavar="N",
            shown="the usable cores",
            read=as_count,
        ),
    ]
    max_memory: Annotated[
        int | str | None,
        Opt(
            "--max-memory",
            RUNNING,
            "Peak memory, like 512M or 2G.",
            metavar="BYTES",
            shown="a quarter of what is free",
            read=as_bytes,
        ),
    ]


class DeviceIdOption(TypedDict, total=False):
    """Which CUDA device."""

    device_id: Annotated[
        int, Opt("--device-id", RUNNING, "Which CUDA device, from 0.", 0, metavar="N")
    ]


class DeviceOptions(DeviceIdOption, total=False):
    """Which CUDA device, what may be taken of it, and whether nodes may run elsewhere."""

    max_device_memory: Annotated[
        int | str | None,
        Opt(
            "--max-device-memory",
            RUNNING,
            "Memory on the CUDA device, like 2G.",
            metavar="BYTES",
            shown="what there is",
            read=as_bytes,
        ),
    ]
    strict_provider: Annotated[
        bool,
        Opt(
            "--strict-provider",
            RUNNING,
            "Fail if a node of the graph would run on another provider.",
            False,
        ),
    ]


class ComputeOptions(ProviderOption, ResourceOptions, DeviceOptions, total=False):
    """What computes, how much it may take, and of which device."""


class VerifyOptions(TypedDict, total=False):
    """Whether RoIs are computed again in float64 while the run goes on: 64 of them, or as many."""

    verify: Annotated[
        bool | int | None,
        Opt(
            "--verify",
            RUNNING,
            "Compute 64 RoIs again in float64 while the run goes on; fail where they differ.",
            False,
        ),
    ]
    verify_rois: Annotated[
        int | None,
        Opt("--verify-rois", RUNNING, "--verify with as many RoIs.", metavar="N", shown="64"),
    ]


class WatchOptions(TypedDict, total=False):
    """Who watches a run.

    ``progress`` is told (RoIs done, RoIs in all, bytes); ``stage_times`` is filled.
    """

    progress: Annotated[
        Progress, PythonOnly("Told (RoIs done, RoIs in all, bytes) as it goes on.", no_progress)
    ]
    stage_times: Annotated[StageTimes | None, PythonOnly("Filled with the stages' seconds.")]


# What is written


class ForceOption(TypedDict, total=False):
    """Whether a file that is there may be replaced."""

    force: Annotated[
        bool, Opt("--force", WRITING, "Replace an existing file.", False, outward=True)
    ]


class ResumeOption(TypedDict, total=False):
    """Whether an interrupted run keeps what is finished, and goes on from what was kept."""

    resume: Annotated[
        bool,
        Opt(
            "--resume",
            WRITING,
            "Keep what is finished when interrupted, and go on from what is kept.",
            False,
            outward=True,
        ),
    ]


class ResumeOptions(ResumeOption, total=False):
    """What an interrupted run keeps.

    ``verify_inputs`` compares the inputs' contents then, not only their sizes and times.
    """

    verify_inputs: Annotated[
        bool,
        Opt(
            "--verify-inputs",
            WRITING,
            "With --resume: compare the inputs' contents, not only sizes and times.",
            False,
        ),
    ]


class CompressionOption(TypedDict, total=False):
    """How a result is compressed."""

    compression: Annotated[
        Compression,
        Opt(
            "--compression", WRITING, "Of an HDF5 (gzip, lzf) or Zarr (gzip, zstd) result.", "none"
        ),
    ]


class ResultDtypeOption(TypedDict, total=False):
    """The result's dtype."""

    dtype: Annotated[
        ResultDtype | None,
        Opt("--dtype", WRITING, "Of the result.", shown="float32, or float64 for float64 features"),
    ]


class ShardOption(TypedDict, total=False):
    """The I-th of N blocks of the RoIs, which is written as a part that ``merge`` joins."""

    shard: Annotated[
        str | None,
        Opt(
            "--shard",
            MACHINES,
            "Run the I-th of N blocks of the RoIs into a part, which roicli merge joins; slurm: "
            "that of an array's task.",
            metavar="I/N|slurm[/N]",
            outward=True,
        ),
    ]


class DaskOption(TypedDict, total=False):
    """A scheduler's address, or "local:N", whose workers run the blocks."""

    dask: Annotated[
        str | None,
        Opt(
            "--dask",
            MACHINES,
            "Run on the workers of a Dask scheduler, by its address, its file or Dask's "
            "configuration, or on N processes of this machine.",
            metavar="ADDRESS|file:PATH|config|local[:N]",
            outward=True,
        ),
    ]


class ErrorsOutOption(TypedDict, total=False):
    """A file for the whole error table."""

    errors_out: Annotated[
        Path | None,
        Opt(
            "--errors-out",
            TABLE,
            "The whole table to a file too: .csv, .tsv, .json, .jsonl, .parquet, .feather.",
            metavar="FILE",
            read=as_path,
            outward=True,
        ),
    ]


class GroupByOption(TypedDict, total=False):
    """Whose values the summary keeps apart; ``table_columns`` are asked of the table later."""

    group_by: Annotated[
        str | None,
        Opt(
            "--group-by",
            TABLE,
            "A summary of each value of a column, like class.",
            metavar="COLUMN",
        ),
    ]
    table_columns: Annotated[
        Sequence[str], PythonOnly("What will be asked of the error table: it is refused first.", ())
    ]


class ValuesOption(TypedDict, total=False):
    """Whether the value columns are measured too."""

    values: Annotated[
        bool,
        Opt(
            "--values",
            TABLE,
            "Measure value errors and their three shares too (runs pool, align and warp).",
            False,
        ),
    ]
