"""The operators' commands: ``roicli align``, ``pool``, ``precise-pool``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack

from roicli.cli.command import ProgressBar, TableRequest, finish
from roicli.cli.console import check_stdout, print_line
from roicli.core.call_options import RUNS
from roicli.core.command_options import (
    AlignCommand,
    Features,
    PoolCommand,
    PrecisePoolCommand,
    Rois,
    RunCommand,
)
from roicli.core.declaration import keywords, settle
from roicli.core.vocabulary import Operator

if TYPE_CHECKING:
    from roicli.pipeline.execute import Result


def align(features: Features, rois: Rois, **options: Unpack[AlignCommand]) -> None:
    """Run RoI Align and show what RoI Pool's rounding would have cost each RoI.

    Example: roicli align sample_data/text_fpn.h5::p3 sample_data/text_rois.npy
    """
    _run("align", features, rois, options)


def pool(features: Features, rois: Rois, **options: Unpack[PoolCommand]) -> None:
    """Run RoI Pool and show what its rounding cost each RoI.

    Example: roicli pool sample_data/text_fpn.h5::p3 sample_data/text_rois.npy
    """
    _run("pool", features, rois, options)


def precise_pool(features: Features, rois: Rois, **options: Unpack[PrecisePoolCommand]) -> None:
    """Run Precise RoI Pooling: the exact mean of the interpolated map over each bin.

    Example: roicli precise-pool sample_data/text_fpn.h5::p3 sample_data/text_rois.npy
    """
    _run("precise-pool", features, rois, options)


def _run(operator: Operator, features: str, rois: str, options: RunCommand) -> None:
    """One call of the library, and its result to the screen."""
    from roicli import api

    table = settle(TableRequest, options)
    thresholds = table.thresholds(options["values"])
    output, verbose = options["output"], options["verbose"]
    check_stdout(output)
    if output is None and options["shard"] is None:
        output = api.default_output(features, operator)
    with ProgressBar(options["quiet"], verbose) as progress:
        given: Mapping[str, Any] = keywords(
            RUNS[operator], options, progress=progress, table_columns=table.asked(thresholds)
        )
        call = getattr(api, operator.replace("-", "_"))
        result: Result = call(features, rois, output, **given)
    if verbose:
        for key, value in result.parameters.items():
            print_line("run", f"{key}: {value}")
    if output != "-" and not options["quiet"]:
        shape = tuple(result.parameters["result_shape"])
        print_line("note", f"wrote {output} {shape} {result.parameters['dtype']}")
    shows = not (options["quiet"] or options["no_table"])
    finish(result, table, thresholds, shows, to_stderr=output == "-")
