"""Options to operator parameters: what was said, over a node or a preset, over the defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from roicli.core.call_options import OperatorOptions
from roicli.core.declaration import declarations
from roicli.core.exceptions import ParameterError
from roicli.core.options import ModeOption
from roicli.core.parsing import as_size
from roicli.core.types import AlignSpec, PoolSpec, check_word
from roicli.core.vocabulary import PixelModel, PresetName
from roicli.pipeline.request import Operation

if TYPE_CHECKING:
    from roicli.pipeline.model_nodes import RoiNode


# What holds where nothing is said, no preset and no node; the help shows the same.
DEFAULTS = {
    name: declaration.opt.default for name, declaration in declarations(OperatorOptions).items()
} | {name: declaration.opt.default for name, declaration in declarations(ModeOption).items()}


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
    operation: Operation,
    operator: str,
    node: RoiNode | None = None,
    scales: tuple[float, ...] | None = None,
    levels: tuple[str, ...] | None = None,
) -> Setting:
    """What was said over a node's attributes or a preset, over the declared defaults.

    ``scales`` and ``levels`` are those that were given beside a node.
    """
    name, said = operation.preset, vars(operation)
    preset = {} if name is None else _read_preset(name)
    if node is not None:
        _check_conflicts(operation, node, scales, levels)
        said = {**said, **node.options()}

    def pick(key: str) -> Any:
        for source in (said, preset, DEFAULTS):
            if source.get(key) is not None:
                return source[key]
        return None

    output_size = as_size(pick("output_size"), "output size")
    align = AlignSpec(
        output_size,
        1.0,
        pick("sampling_ratio"),
        pick("aligned"),
        pick("mode"),
        pick("sampling_grid"),
    )
    # A rule that cuts the box its own way goes with no partition of a preset.
    if said["quantization"] == "mmcv" and said["partition"] is None:
        preset = {**preset, "partition": "overlap"}
    pool = PoolSpec(output_size, 1.0, pick("quantization"), pick("partition"))
    # `errors` with features runs both operators; its table is in RoI Align's model.
    implied = pool.pixel_model if operator == "pool" else align.pixel_model
    if operation.aligned is not None:
        preset = {**preset, "pixel_model": None}
    return Setting(align, pool, pick("pixel_model") or implied, name)


def _read_preset(name: str) -> dict[str, Any]:
    from roicli.operators.libraries import PRESETS

    if name not in PRESETS:
        raise ParameterError(f"preset is {name!r}, expected one of: {', '.join(PRESETS)}")
    return vars(PRESETS[name])


def _check_conflicts(
    operation: Operation,
    node: RoiNode,
    scales: tuple[float, ...] | None,
    levels: tuple[str, ...] | None,
) -> None:
    """Raise ParameterError where an option says otherwise than the node."""
    if operation.preset:
        raise ParameterError("--graph and --preset both set the operator", "give one of them")
    if levels:
        raise ParameterError("--graph has one spatial scale, so it goes with one map, not --levels")
    given = {
        **vars(operation),
        "spatial_scale": scales[0] if scales and len(scales) == 1 else scales,
    }
    for key, value in node.options().items():
        said = given[key]
        same = said == value
        if key == "spatial_scale" and isinstance(said, float):
            same = bool(np.float32(said) == np.float32(value))
        if said is not None and not same:
            raise ParameterError(
                f"{key.replace('_', ' ')} is {said!r}, but node {node.name} has {value!r}",
                "drop the option, or --graph",
            )
