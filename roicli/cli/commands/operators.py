"""The operators' commands, one for each entry of ``core.operator_table``."""

import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Annotated, Any, TypedDict

from roicli.cli.command import ProgressBar, TableRequest, finish
from roicli.cli.console import check_stdout, print_line
from roicli.cli.options import Features, QuietTableOption, Rois, TableOptions
from roicli.core.declaration import Opt, keywords, settle
from roicli.core.operator_table import OPERATORS, Operator, call_name
from roicli.core.panels import RUNNING, WRITING

# After so long a run a person wants to know what is faster; of these operators it was measured.
LONG_SECONDS = 20.0
MEASURED = ("align", "pool")


class OutputOption(TypedDict, total=False):
    """Where the features go."""

    output: Annotated[
        str | None,
        Opt(
            "-o --output",
            WRITING,
            ".h5, .npy, .zarr (a folder or URL), or - for an .npy on stdout.",
            metavar="FILE",
            shown="<features>.<command>.h5",
            outward=True,
        ),
    ]


class VerboseOption(TypedDict, total=False):
    """Whether more than notes is said."""

    verbose: Annotated[bool, Opt("-v --verbose", RUNNING, "More on stderr.", False)]


def run_command(call: type) -> tuple[type, ...]:
    """The options of an operator's command: the keywords of its call, and what all have beside."""
    return (OutputOption, call, TableOptions, QuietTableOption, VerboseOption)


def build_command(operator: Operator) -> Callable[..., None]:
    """The command of an operator: one call of the library, and its result to the screen."""
    entry = OPERATORS[operator]

    def run(features: Features, rois: Rois, **options: Any) -> None:
        _run(operator, features, rois, options)

    run.__name__ = call_name(operator)
    run.__doc__ = (
        f"{entry.help}\n\n"
        f"Example: roicli {operator} sample_data/text_fpn.h5::p3 sample_data/text_rois.npy"
    )
    run.__annotations__["options"] = run_command(entry.options)
    return run


def _advise_native(parameters: Mapping[str, Any], seconds: float) -> str:
    """What the compiled kernels would give after a long run that auto left to the CPU."""
    chosen = parameters["provider_requested"], parameters["provider_used"]
    if seconds < LONG_SECONDS or chosen != ("auto", "cpu"):
        return ""
    if parameters["operator"] not in MEASURED or find_spec("numba") is None:
        return ""
    return (
        f" in {seconds:.0f} s; --provider native, which is installed, gives the same bits and was "
        "several times as fast in docs/benchmarks.md"
    )


def _run(operator: Operator, features: str, rois: str, options: Any) -> None:
    from roicli import api

    table = settle(TableRequest, options)
    thresholds = table.thresholds(options["values"])
    output, verbose = options["output"], options["verbose"]
    check_stdout(output)
    # Beside features on stdout stands the verdict alone.
    with ProgressBar(options["quiet"], verbose, says_notes=output != "-") as progress:
        given: Any = keywords(
            OPERATORS[operator].options, options, progress=progress,
            table_columns=table.asked(thresholds),
        )  # fmt: skip
        operator, given = api.follow_preset(operator, given)
        if output is None and options["shard"] is None:
            output = api.default_output(features, operator)
        began = time.monotonic()
        result = api.run(operator, features, rois, output, given)
        seconds = time.monotonic() - began
    if verbose:
        for key, value in result.parameters.items():
            print_line("run", f"{key}: {value}")
    if output != "-" and not options["quiet"]:
        shape = tuple(result.parameters["result_shape"])
        advice = _advise_native(result.parameters, seconds)
        print_line("note", f"wrote {output} {shape} {result.parameters['dtype']}{advice}")
    finish(result, table, thresholds, options["quiet"], to_stderr=output == "-")
