"""Options to operator parameters: what was said, over a node or a preset, over the defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from roicli.core.declaration import declarations
from roicli.core.exceptions import ParameterError
from roicli.core.operator_table import OPERATORS, OperatorOptions, OwnOptions
from roicli.core.parse import as_size
from roicli.core.record import frozen
from roicli.core.types import Size, check_word
from roicli.core.vocabulary import AngleUnit, PixelModel
from roicli.operators.interface import OperatorSpec
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.operators.rounding import BOX_RULES
from roicli.operators.table import operator_type
from roicli.pipeline.features import Scales
from roicli.pipeline.request import Operation

if TYPE_CHECKING:
    from roicli.pipeline.model_nodes import RoiNode


AnySpec = TypeVar("AnySpec", bound=OperatorSpec)
# What holds where nothing is said, no preset and no node; the help shows the same.
DEFAULTS = {
    name: declaration.opt.default
    for options in (OperatorOptions, OwnOptions)
    for name, declaration in declarations(options).items()
}


@frozen
class Setting:
    """Every operator parameter, resolved from options, preset and defaults.

    ``spec`` is the operator that is asked for; ``pool`` and ``align`` are the two that the error
    table compares.
    """

    spec: OperatorSpec
    align: AlignSpec
    pool: PoolSpec
    pixel_model: PixelModel
    preset: str | None = None

    def __post_init__(self) -> None:
        check_word("pixel model", self.pixel_model, PixelModel)


def resolve_setting(
    operation: Operation,
    operator: str,
    node: RoiNode | None = None,
    scales: Scales | None = None,
    levels: tuple[str, ...] | None = None,
) -> Setting:
    """What was said over a node's attributes or a preset, over the declared defaults.

    ``scales`` and ``levels`` are those that were given beside a node.
    """
    _check_own(operation, operator)
    name, said = operation.preset, vars(operation)
    preset = {} if name is None else _read_preset(name, operator)
    if node is not None:
        _check_conflicts(operation, node, scales, levels)
        said = {**said, **node.options()}

    def pick(key: str) -> Any:
        for source in (said, preset, DEFAULTS):
            if source.get(key) is not None:
                return source[key]
        return None

    # A rule that cuts the box its own way goes with no partition of a preset.
    rule = BOX_RULES.get(said["quantization"] or DEFAULTS["quantization"])
    if rule and preset.get("partition") not in rule.partitions:
        preset = {**preset, "partition": rule.partitions[0]}

    def resolve(kind: type[AnySpec]) -> AnySpec:
        picked = {name: pick(name) for name in kind.defaults()}
        picked["output_size"] = as_size(picked["output_size"], "output size")
        return kind(**picked)

    align, pool = resolve(AlignSpec), resolve(PoolSpec)
    # `errors` runs both operators of its table, which is in RoI Align's model.
    spec: OperatorSpec = align
    if operator != "errors":
        kind = operator_type(operator)
        own = {key: said[key] for key in kind.defaults() if key != "output_size"}
        library = None if name is None else _read_rule(name, operator, own, align.output_size)
        spec = resolve(kind) if library is None else library
    if operation.aligned is not None:
        preset = {**preset, "pixel_model": None}
    return Setting(spec, align, pool, pick("pixel_model") or spec.pixel_model, name)


def turned_by_preset(request: Operation) -> AngleUnit | None:
    """The unit of the angles where a preset is of an operator of turned RoIs, else None."""
    if request.preset is None:
        return None
    from roicli.operators.presets import functions_of, operator_of

    if operator_of(request.preset, "align") != "rotated-align":
        return None
    said: AngleUnit | None = vars(request).get("angle_unit")
    return said or functions_of(request.preset)[0].angle_unit


def _read_preset(name: str, operator: str) -> dict[str, Any]:
    from roicli.operators.presets import preset_options  # which most runs do without

    return preset_options(name, operator)


def _read_rule(
    name: str, operator: str, said: dict[str, Any], output_size: Size
) -> OperatorSpec | None:
    """What runs a preset that the operator's own options do not reach; None where they do."""
    from roicli.operators.presets import rule_of_preset

    found = rule_of_preset(name, operator, said)
    if found is None:
        return None
    from roicli.operators.preset_rule import build_preset_spec

    return build_preset_spec(*found, output_size)


def _check_own(operation: Operation, operator: str) -> None:
    """Raise ParameterError for an option of another operator, which would change nothing."""
    entry = OPERATORS.get(operator)  # type: ignore[call-overload]
    own = declarations(OwnOptions) if entry is None else declarations(entry.options)
    for name, declaration in declarations(OwnOptions).items():
        if name not in own and getattr(operation, name) is not None:
            flag = declaration.flag
            raise ParameterError(f"{flag} is no option of {operator}", f"drop {flag}")


def _check_conflicts(
    operation: Operation,
    node: RoiNode,
    scales: Scales | None,
    levels: tuple[str, ...] | None,
) -> None:
    """Raise ParameterError where an option says otherwise than the node."""
    if operation.preset:
        raise ParameterError("--graph and --preset both set the operator", "give one of them")
    if levels:
        raise ParameterError("--graph has one spatial scale, so it goes with one map, not --levels")
    given = {
        **vars(operation),
        "spatial_scale": scales[0] if isinstance(scales, tuple) and len(scales) == 1 else scales,
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
