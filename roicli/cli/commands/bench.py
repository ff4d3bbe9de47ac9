"""``roicli bench``: how fast a run is on the user's own files."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from roicli.cli import options as opt
from roicli.cli import run_options as run_opt
from roicli.cli.commands.listings import ListFormat, print_json, print_rows
from roicli.core.vocabulary import Operator

OperatorArgument = Annotated[Operator, typer.Argument(metavar="OPERATOR", help="Which operator.")]
Providers = Annotated[
    str,
    typer.Option("--providers", metavar="NAME,...", help="They take turns: cpu, native, cuda."),
]
Runs = Annotated[int, typer.Option("--runs", metavar="N", help="Counted runs of each provider.")]
Folder = Annotated[
    str | None,
    typer.Option(
        "--folder",
        help="Where the result is written and removed.",
        show_default="the system's folder for temporary files",
    ),
]


def bench(
    operator: OperatorArgument,
    features: opt.Features,
    rois: opt.Rois,
    providers: Providers = "cpu",
    runs: Runs = 7,
    folder: Folder = None,
    output_size: opt.OutputSize = None,
    spatial_scale: opt.SpatialScale = None,
    sampling_ratio: opt.SamplingRatio = None,
    aligned: opt.Aligned = None,
    mode: opt.ModeOption = None,
    sampling_grid: opt.Grid = None,
    quantization: opt.QuantizationOption = None,
    partition: opt.PartitionOption = None,
    levels: opt.Levels = None,
    allow_external: opt.AllowExternal = False,
    threads: run_opt.Threads = None,
    max_memory: run_opt.MaxMemory = None,
    list_format: ListFormat = "table",
) -> None:
    """Time whole runs on your files: median, p10, p90, rates, and the share of each stage.

    Example: roicli bench align sample_data/text_fpn.h5::p3 sample_data/text_rois.npy --runs 3
    """
    _run(locals())


def _run(given: dict[str, Any]) -> None:
    from roicli.analysis.bench import bench as measure
    from roicli.core.parsing import parse_names

    operator, features, rois = (given.pop(name) for name in ("operator", "features", "rois"))
    list_format = given.pop("list_format")
    providers = parse_names(given.pop("providers"))
    rows = [asdict(row) for row in measure(operator, features, rois, providers=providers, **given)]
    if list_format == "json":
        print_json("bench", rows)
        return
    shown = [{key: _short(value) for key, value in row.items()} for row in rows]
    print_rows([dict(zip(("measure", *providers), column, strict=True)) for column in _turn(shown)])


def _turn(rows: list[dict[str, str]]) -> list[tuple[str, ...]]:
    """One line per measure, one column per provider: that fits any terminal."""
    return [(name, *(row[name] for row in rows)) for name in rows[0] if name != "provider"]


def _short(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
