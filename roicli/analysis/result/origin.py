"""Where a result of roicli's comes from, by its attributes, and the command to make it again.

The boxes are kept in the result as they were run, in pixels of the network's input, so the command
reads them there: however they were stored, chosen and scaled, these are the ones.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from roicli.core.declaration import Opt, declarations
from roicli.core.operator_table import OPERATORS, Operator
from roicli.core.panels import OPERATOR, ROUNDING
from roicli.core.record import frozen
from roicli.operators.phrases import TITLES
from roicli.storage.address import IMAGE

RESULT, BOXES, TABLE = "roi_features", "rois", "quantization_error"
# What each dataset of a result is.
MEANINGS = {
    RESULT: "the result: RoI features (K, C, P_h, P_w), a row a box",
    BOXES: "the boxes, as they were run: image, then pixels of the network's input",
    TABLE: "the error table, a row a box; roicli columns says what each column means",
}
# What stands among the options of reading, and is a parameter of some operators.
READ_BY_OPERATORS = ("angle_unit", "angle_direction", "image_size")
# What every result says of itself; a file that does not is damaged, or of someone else.
ALWAYS_SAID = {"spatial_scale", "output_size", "dtype"}
LEVEL_KEYS = ("level_rule", "canonical_size", "canonical_level")


@frozen
class Origin:
    """The run that made a result; ``command`` None where its inputs are not to be named again."""

    operator: str
    parameters: Mapping[str, Any]
    features: str
    rois: str
    created_utc: str
    roicli_version: str
    command: str | None


def find_origin(path: str, attributes: Mapping[str, Any], names: Sequence[str]) -> Origin | None:
    """The origin of a file with these attributes and datasets; None where it is no result."""
    operator: Any = attributes.get("operator")
    if operator not in get_args(Operator) or not {RESULT, BOXES} <= set(names):
        return None
    if not attributes.keys() >= ALWAYS_SAID:
        return None
    said = {key: _plain(value) for key, value in attributes.items()}
    return Origin(
        TITLES[operator],
        _find_parameters(operator, said),
        _name_inputs(said, "features"),
        _name_inputs(said, "rois"),
        str(said.get("created_utc", "")),
        str(said.get("roicli_version", "")),
        _make_command(operator, path, said),
    )


def _find_parameters(operator: Operator, said: Mapping[str, Any]) -> dict[str, Any]:
    """What the operator was given, by the names that Python has for it."""
    found = {"spatial_scale": said["spatial_scale"], "output_size": said["output_size"]}
    if "function" in said:  # a preset that roicli runs as the library does
        return found | {"preset": said["function"]}
    for name, declaration in declarations(OPERATORS[operator].options).items():
        is_own = isinstance(declaration.opt, Opt) and declaration.opt.panel in (OPERATOR, ROUNDING)
        if name in said and (is_own or name in READ_BY_OPERATORS):
            found[name] = said[name]
    found.pop("preset", None)  # its values stand among the others
    return found


def _plain(value: Any) -> Any:
    """An attribute as it was before it was stored: lists of lists are JSON there."""
    if isinstance(value, str) and value.startswith("[["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return None if value == "none" else value


def _name_inputs(said: Mapping[str, Any], role: str) -> str:
    names, datasets = _list(said.get(f"{role}_name", "")), _list(said.get(f"{role}_dataset", ""))
    pairs = zip(names, datasets, strict=False)
    return ", ".join(f"{name}::{inside}" if inside else name for name, inside in pairs)


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _operator_options(operator: Operator, said: Mapping[str, Any]) -> Iterator[str]:
    """The options that give the operator these parameters."""
    declared = declarations(OPERATORS[operator].options)
    for name, value in _find_parameters(operator, said).items():
        opt = declared[name].opt
        assert isinstance(opt, Opt)
        on, _, off = opt.flags.split()[-1].partition("/")
        if name == "spatial_scale":
            yield from (on, ",".join(f"{scale!r}" for scale in _list(value)))
        elif name == "output_size" or value != opt.default:
            yield from (on, _as_word(value)) if not off else ((on if value else off),)


def _as_word(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _make_command(operator: Operator, path: str, said: Mapping[str, Any]) -> str | None:
    """The command, or None where the maps or their levels cannot be named by it."""
    names, datasets = _list(said.get("features_name")), _list(said.get("features_dataset"))
    if not all(isinstance(name, str) for name in (*names, *datasets)):
        return None
    if len(set(names)) != 1 or not names[0] or IMAGE in names[0] or "level_from_name" in said:
        return None
    words = ["roicli", operator]
    if len(names) == 1:
        words += [f"{names[0]}::{datasets[0]}" if datasets[0] else names[0]]
    else:
        words += [names[0]]
    words += [f"{path}::/{BOXES}"]
    words += _operator_options(operator, said)
    if len(names) > 1:
        words += ["--levels", ",".join(name.strip("/") for name in datasets)]
        for key in LEVEL_KEYS:
            if said.get(key) is not None:
                words += [f"--{key.replace('_', '-')}", str(said[key])]
    words += _reading_options(said)
    return shlex.join([*words, "-o", "again.h5"])


def _reading_options(said: Mapping[str, Any]) -> Iterator[str]:
    """How the maps were read where that is not as usual, and what computed."""
    layout = _list(said.get("features_layout", "nchw"))[0]
    if layout != "nchw":
        yield from ("--layout", str(layout))
    if said.get("decode") is False:
        yield "--no-decode"
    if said.get("stored_as"):
        yield from ("--stored-as", str(said["stored_as"]))
    if any(key.startswith("roi_scale") for key in said):
        yield from ("--roi-scale", "1")  # the boxes that are kept are scaled already
    usual = "float64" if "float64" in _list(said.get("features_dtype")) else "float32"
    if said.get("dtype") != usual:
        yield from ("--dtype", str(said["dtype"]))
    if said.get("provider_used") == "cuda":
        yield from ("--provider", "cuda")
