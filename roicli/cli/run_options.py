"""Options of how a run computes and where its result goes."""

from __future__ import annotations

from typing import Annotated

import typer

from roicli.core.vocabulary import Compression, Provider, ResultDtype

WRITING, RUNNING = "Writing the result", "Running"

Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        rich_help_panel=WRITING,
        help=".h5, .npy, .zarr (a folder or URL), or - for an .npy on stdout.",
        show_default="<features>.<command>.h5",
    ),
]
Force = Annotated[
    bool, typer.Option("--force", rich_help_panel=WRITING, help="Replace an existing file.")
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        rich_help_panel=WRITING,
        help="Keep what is finished when interrupted, and go on from what is kept.",
    ),
]
VerifyInputs = Annotated[
    bool,
    typer.Option(
        "--verify-inputs",
        rich_help_panel=WRITING,
        help="With --resume: compare the inputs' contents, not only sizes and times.",
    ),
]
CompressionOption = Annotated[
    Compression,
    typer.Option(
        "--compression",
        rich_help_panel=WRITING,
        help="Of an HDF5 (gzip, lzf) or Zarr (gzip, zstd) result.",
    ),
]
Dtype = Annotated[
    ResultDtype | None,
    typer.Option(
        "--dtype",
        rich_help_panel=WRITING,
        help="Of the result.",
        show_default="float32, or float64 for float64 features",
    ),
]
ProviderOption = Annotated[
    Provider,
    typer.Option(
        "--provider",
        rich_help_panel=RUNNING,
        help="What computes; auto is cuda where it loads, else cpu.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        rich_help_panel=RUNNING,
        show_default="the usable cores",
        help="Threads of ONNX Runtime, and chunks of RoIs for its serial MaxRoiPool.",
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="BYTES",
        rich_help_panel=RUNNING,
        help="Peak memory, like 512M or 2G.",
        show_default="a quarter of what is free",
    ),
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify",
        rich_help_panel=RUNNING,
        help="Compute 64 RoIs again in float64 while the run goes on; fail where they differ.",
    ),
]
VerifyRois = Annotated[
    int | None,
    typer.Option(
        "--verify-rois",
        metavar="N",
        rich_help_panel=RUNNING,
        help="--verify with as many RoIs.",
        show_default="64",
    ),
]
MaxDeviceMemory = Annotated[
    str | None,
    typer.Option(
        "--max-device-memory",
        metavar="BYTES",
        rich_help_panel=RUNNING,
        help="Memory on the CUDA device, like 2G.",
        show_default="what there is",
    ),
]
DeviceId = Annotated[
    int,
    typer.Option(
        "--device-id", metavar="N", rich_help_panel=RUNNING, help="Which CUDA device, from 0."
    ),
]
StrictProvider = Annotated[
    bool,
    typer.Option(
        "--strict-provider",
        rich_help_panel=RUNNING,
        help="Fail if a node of the graph would run on another provider.",
    ),
]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", rich_help_panel=RUNNING, help="No notes, no table.")
]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", rich_help_panel=RUNNING, help="More on stderr.")
]
