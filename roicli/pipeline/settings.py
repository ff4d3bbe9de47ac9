"""Options to operator parameters: what was said, over a node or a preset, over the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.parsing import as_size, parse_scale
from roicli.core.types import check_word
from roicli.core.vocabulary import PixelModel, PresetName
from roicli.operators.interface import OperatorSpec
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.operators.rounding import BOX_RULES
from roicli.operators.table import operator_type

if TYPE_CHECKING:
    from roicli.pipeline.model_nodes import RoiNode


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
