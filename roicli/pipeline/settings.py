"""Options to operator parameters: what was said, over a node or a preset, over the defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.parsing import as_size, parse_scale
from roicli.core.types import Size, check_word
from roicli.core.vocabulary import (
    Border,
    Compression,
    GraphDtype,
    Mode,
    Operator,
    Partition,
    PixelModel,
    PresetName,
    Provider,
    Quantization,
    ResultDtype,
    SamplingGrid,
)
from roicli.operators.interface import OperatorSpec
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.operators.rounding import BOX_RULES
from roicli.operators.table import operator_type
from roicli.pipeline.inputs import InputOptions
from roicli.pipeline.stage_times import StageTimes
from roicli.pipeline.stream import Progress

if TYPE_CHECKING:
    from roicli.pipeline.model_nodes import RoiNode


class OperatorOptions(InputOptions, total=False):
    """Options that every command shares; what is not given comes from the preset, then defaults.

    ``output_size`` 7 or (height, width); ``sampling_ratio`` 0 is adaptive; ``pixel_model``
    overrides what ``aligned`` implies for the error table; ``max_memory`` bounds the peak in bytes,
    or like "512M" (default: a quarter of what is free); ``progress`` is told (RoIs done, RoIs in
    all, bytes); ``stage_times`` is filled. ``device_id`` numbers CUDA devices,
    ``max_device_memory`` bounds what is taken on one, like ``max_memory``; ``strict_provider``
    refuses to run where a node would be on another provider.
    """

    output_size: int | str | Size | None
    sampling_ratio: int | None
    aligned: bool | None
    sampling_grid: SamplingGrid | None
    quantization: Quantization | None
    partition: Partition | None
    pixel_model: PixelModel | None
    preset: PresetName | None
    provider: Provider
    threads: int | None
    max_memory: int | str | None
    max_device_memory: int | str | None
    device_id: int
    strict_provider: bool
    progress: Progress
    stage_times: StageTimes


class ErrorsOptions(OperatorOptions, total=False):
    """Options of ``errors``; ``errors_out`` is a file for the whole table, which ``force``
    replaces. ``dask`` is a scheduler's address, or "local:N", whose workers run the blocks.
    """

    errors_out: str | os.PathLike[str] | None
    force: bool
    dask: str | None


class RunOptions(ErrorsOptions, total=False):
    """Options of the commands that write features.

    ``dtype`` of the result, ``compression`` of an HDF5 or Zarr result, ``values`` measures the
    value columns too; ``graph`` takes the operator's attributes from a node of an ONNX model;
    ``verify`` computes RoIs again in float64 while the run goes on, 64 (True) or as many as it
    says; ``resume`` keeps what is finished when the run is interrupted, and goes on from what an
    interrupted run kept; ``verify_inputs`` compares the inputs' contents then, not only their sizes
    and times; ``shard`` "I/N" runs the I-th of N blocks of the RoIs and writes a part, which
    ``merge`` joins.
    """

    dtype: ResultDtype | None
    compression: Compression
    values: bool
    graph: str | os.PathLike[str] | None
    verify: bool | int
    resume: bool
    verify_inputs: bool
    shard: str | None


class ExportOptions(OperatorOptions, total=False):
    """Options of ``export``; ``dtype`` of the graph's tensors, ``force`` replaces a file."""

    mode: Mode | None
    graph: str | os.PathLike[str] | None
    dtype: GraphDtype
    force: bool


class PrecisePoolOptions(RunOptions, total=False):
    """Options of ``precise_pool``; ``border`` says how the map goes on outside."""

    border: Border | None


class AlignOptions(RunOptions, total=False):
    """Options of ``align``; ``mode`` "max" is the maximum of the interpolated samples."""

    mode: Mode | None


OPTIONS: dict[Operator, type] = {
    "align": AlignOptions,
    "pool": RunOptions,
    "precise-pool": PrecisePoolOptions,
}
AnySpec = TypeVar("AnySpec", bound=OperatorSpec)


@dataclass(frozen=True)
class Setting:
    """Every operator parameter, resolved from options, preset and defaults.

    ``spec`` is the operator that is asked for; ``pool`` and ``align`` are the two that the error
    table compares.
    """

    spec: OperatorSpec
    align: AlignSpec
    pool: PoolSpec
    pixel_model: PixelModel
    preset: PresetName | None = None

    def __post_init__(self) -> None:
        check_word("pixel model", self.pixel_model, PixelModel)


def check_known(function: str, options: Mapping[str, Any], known: type) -> None:
    """Raise TypeError for an option that the function does not take, as Python itself would."""
    for name in options:
        if name not in known.__annotations__:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")


def resolve_setting(
    options: Mapping[str, Any], operator: str, node: RoiNode | None = None
) -> Setting:
    """Options over a node's attributes or a preset, over the defaults of the operators' fields."""
    name = options.get("preset")
    preset = {} if name is None else _read_preset(name)
    chosen = _without_conflicts(options, node) if node else options

    def pick(key: str, default: Any) -> Any:
        for source in (chosen, preset):
            if source.get(key) is not None:
                return source[key]
        return default

    # A rule that cuts the box its own way goes with no partition of a preset.
    rule = BOX_RULES.get(chosen.get("quantization") or "caffe")
    if rule and preset.get("partition") not in rule.partitions:
        preset = {**preset, "partition": rule.partitions[0]}

    def resolve(kind: type[AnySpec]) -> AnySpec:
        picked = {name: pick(name, default) for name, default in kind.defaults().items()}
        picked["output_size"] = as_size(picked["output_size"], "output size")
        return kind(**picked)

    align, pool = resolve(AlignSpec), resolve(PoolSpec)
    # `errors` runs both operators of its table, which is in RoI Align's model.
    spec = align if operator == "errors" else resolve(operator_type(operator))
    if options.get("aligned") is not None:
        preset = {**preset, "pixel_model": None}
    return Setting(spec, align, pool, pick("pixel_model", spec.pixel_model), name)


def _read_preset(name: str) -> dict[str, Any]:
    from roicli.operators.libraries import PRESETS

    if name not in PRESETS:
        raise ParameterError(f"preset is {name!r}, expected one of: {', '.join(PRESETS)}")
    return vars(PRESETS[name])


def _without_conflicts(options: Mapping[str, Any], node: RoiNode) -> Mapping[str, Any]:
    """The node's attributes as options; an option that says otherwise is an error."""
    if options.get("preset"):
        raise ParameterError("--graph and --preset both set the operator", "give one of them")
    if options.get("levels"):
        raise ParameterError("--graph has one spatial scale, so it goes with one map, not --levels")
    for key, value in node.options().items():
        given = options.get(key)
        if given is not None and key == "output_size":
            given = as_size(given, "output size")
        if isinstance(given, str) and key == "spatial_scale":
            given = parse_scale(given)
        same = given is None or (
            np.float32(given) == np.float32(value) if key == "spatial_scale" else given == value
        )
        if not same:
            raise ParameterError(
                f"{key.replace('_', ' ')} is {given!r}, but node {node.name} has {value!r}",
                "drop the option, or --graph",
            )
    return {**options, **node.options()}
