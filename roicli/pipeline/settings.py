"""Options to operator parameters: what was said, over a node or a preset, over the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.parsing import as_size, parse_scale
from roicli.core.types import AlignSpec, PoolSpec, check_word
from roicli.core.vocabulary import PixelModel, PresetName

if TYPE_CHECKING:
    from roicli.pipeline.model_nodes import RoiNode


@dataclass(frozen=True)
class Setting:
    """Every operator parameter, resolved from options, preset and defaults."""

    align: AlignSpec
    pool: PoolSpec
    pixel_model: PixelModel
    preset: PresetName | None = None

    def __post_init__(self) -> None:
        check_word("pixel model", self.pixel_model, PixelModel)


def resolve_setting(
    options: Mapping[str, Any], operator: str, node: RoiNode | None = None
) -> Setting:
    """Options over a node's attributes or a preset, over defaults (aligned, ratio 2, caffe)."""
    name = options.get("preset")
    preset = {} if name is None else _read_preset(name)
    chosen = _without_conflicts(options, node) if node else options

    def pick(key: str, default: Any) -> Any:
        for source in (chosen, preset):
            if source.get(key) is not None:
                return source[key]
        return default

    output_size = as_size(pick("output_size", 7), "output size")
    align = AlignSpec(
        output_size,
        1.0,
        pick("sampling_ratio", 2),
        pick("aligned", True),
        pick("mode", "avg"),
        pick("sampling_grid", "quarters"),
    )
    # A rule that cuts the box its own way goes with no partition of a preset.
    if chosen.get("quantization") == "mmcv" and chosen.get("partition") is None:
        preset = {**preset, "partition": "overlap"}
    pool = PoolSpec(output_size, 1.0, pick("quantization", "caffe"), pick("partition", "overlap"))
    # `errors` with features runs both operators; its table is in RoI Align's model.
    implied = pool.pixel_model if operator == "pool" else align.pixel_model
    if options.get("aligned") is not None:
        preset = {**preset, "pixel_model": None}
    return Setting(align, pool, pick("pixel_model", implied), name)


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
