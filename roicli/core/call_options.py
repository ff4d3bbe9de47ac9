"""The keywords of the calls that make error tables and graphs, each one TypedDict."""

# Annotations are read at run time, so they are no text here.
from collections.abc import Mapping
from typing import Annotated, TypedDict

from roicli.core.declaration import Opt
from roicli.core.input_options import (
    ExternalOption,
    IgnoreOption,
    ImageSizeOption,
    MapSizeOption,
    ReadingOptions,
)
from roicli.core.operator_options import (
    PresetOption,
    RatioOption,
    RoundingOptions,
    SamplingOptions,
    ScaleOption,
    SizeOption,
)
from roicli.core.operator_table import OperatorOptions, OwnOptions
from roicli.core.options import (
    ComputeOptions,
    DaskOption,
    ErrorsOutOption,
    ForceOption,
    GroupByOption,
    WatchOptions,
)
from roicli.core.panels import WRITING
from roicli.core.parse import ArrayLike, Path, as_path, as_several
from roicli.core.vocabulary import GraphDtype


class ErrorsOptions(
    ForceOption,
    DaskOption,
    OperatorOptions,
    MapSizeOption,
    ReadingOptions,
    IgnoreOption,
    ExternalOption,
    ComputeOptions,
    ErrorsOutOption,
    GroupByOption,
    WatchOptions,
    total=False,
):
    """The keywords of ``errors``."""


class GraphDtypeOption(TypedDict, total=False):
    """The dtype of a graph's tensors."""

    dtype: Annotated[GraphDtype, Opt("--dtype", WRITING, "Of the graph's tensors.", "float32")]


class IntoOptions(TypedDict, total=False):
    """A user's model whose RoI nodes are replaced by the graph, and what both are then run on."""

    into: Annotated[
        Path | None,
        Opt(
            "--into",
            WRITING,
            "Replace the RoI nodes of this model by the graph: what is not said stays as the node "
            "has it. Both are run.",
            metavar="MODEL[::NODE]",
            read=as_path,
            outward=True,
        ),
    ]
    input: Annotated[
        list[str] | str | Mapping[str, ArrayLike | str] | None,
        Opt(
            "--input",
            WRITING,
            "With --into: an array for an input of the model to run both on. Repeatable.",
            metavar="NAME=FILE[::DATASET]",
            shown="random numbers",
            read=as_several,
            outward=True,
        ),
    ]


class OpsetOption(TypedDict, total=False):
    """The opset of a graph."""

    opset: Annotated[int, Opt("--opset", WRITING, "The graph's opset, 16 to 21.", 18, metavar="N")]


class ExportOptions(
    IntoOptions,
    GraphDtypeOption,
    OpsetOption,
    ForceOption,
    SizeOption,
    ScaleOption,
    RatioOption,
    SamplingOptions,
    RoundingOptions,
    PresetOption,
    OwnOptions,
    ImageSizeOption,
    total=False,
):
    """The keywords of ``export``."""
