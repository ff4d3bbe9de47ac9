"""What a model has to capture, and what was captured, for a terminal and as JSON."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

from roicli.core.foreign import foreign
from roicli.core.strict_json import write_object
from roicli.pipeline.capture.plan import ModelPlan
from roicli.pipeline.capture.run import Capture
from roicli.pipeline.capture.store import StoredHead
from roicli.render.tables import print_folded

if TYPE_CHECKING:
    from roicli.render.documents import CaptureDocument, ListedModel

# A model of many blocks has many tensors that two nodes read.
MAPS_SHOWN = 20


def write_plan_json(plan: ModelPlan, stream: TextIO) -> None:
    """One strict object: inputs, outputs, heads with their nodes."""
    document: ListedModel = {
        "model": plan.path,
        "opset": plan.opset,
        "inputs": [
            {"name": foreign(one.name), "dtype": None if one.dtype is None else one.dtype.name,
             "shape": None if one.shape is None else list(one.shape)}
            for one in plan.inputs
        ],
        "outputs": [foreign(name) for name in plan.outputs],
        "heads": [
            {
                "name": head.name,
                "operator": head.first.operator,
                "nodes": [
                    {"name": site.name, "op_type": site.op_type, "opset": site.opset,
                     "inside": list(site.inside), "level": level,
                     "features": foreign(site.features),
                     "rois": foreign(site.rois), "output": foreign(site.output),
                     "attributes": site.attributes}
                    for site, level in zip(head.sites, head.levels, strict=True)
                ],
            }
            for head in plan.heads
        ],
        "custom": list(plan.custom),
        "maps": [{"name": one.name, "channels": one.channels, "made_by": one.made_by}
                 for one in plan.maps],
    }  # fmt: skip
    write_object(document, stream)


def print_plan(plan: ModelPlan, stream: TextIO) -> None:
    """Inputs and outputs, then a line a RoI node."""
    count = len(plan.sites)
    stream.write(f"{plan.path}: opset {plan.opset}, {count} RoI node{'s' * (count != 1)}\n")
    stream.writelines(f"  input  {one}\n" for one in plan.inputs)
    stream.writelines(f"  output {foreign(name)}\n" for name in plan.outputs)
    rows = [
        [head.name, level, f"{site.op_type} {site.name}", describe_options(site.options),
         foreign(site.features), site.where]
        for head in plan.heads
        for site, level in zip(head.sites, head.levels, strict=True)
    ]  # fmt: skip
    if rows:
        stream.write("\n")
        print_folded(["head", "map", "node", "options", "reads", "in"], rows, stream)
    for custom in plan.custom:
        stream.write(f"custom, not captured: {custom}\n")
    if plan.maps:
        stream.write("\nTensors for --outputs that look like maps, the last first:\n\n")
        shown = plan.maps[:MAPS_SHOWN]
        names = [[one.name, str(one.channels or "?"), one.made_by] for one in shown]
        print_folded(["tensor", "channels", "made by"], names, stream)
        if len(plan.maps) > len(shown):
            stream.write(f"{len(plan.maps) - len(shown)} more: --format json\n")


def describe_options(options: Mapping[str, Any]) -> str:
    """Options as words, sizes as HxW."""
    return ", ".join(f"{name} {_plain(value)}" for name, value in options.items())


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "x".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def write_capture_json(found: Capture, stream: TextIO) -> None:
    """One strict object: heads, how many RoIs, and the command that runs each."""
    document: CaptureDocument = {
        "output": found.output,
        "images": found.images,
        "heads": [
            {"name": head.name, "operator": head.operator, "nodes": list(head.nodes),
             "levels": list(head.levels), "rois": head.rois, "shape": list(head.result_shape),
             "images": list(head.images), "command": command_of(found.output, head)}
            for head in found.heads
        ],
        "outputs": list(found.outputs),
        "skipped": dict(found.skipped),
    }  # fmt: skip
    write_object(document, stream)


def print_capture(found: Capture, stream: TextIO) -> None:
    """A line a head, then the commands that compute them again."""
    rows = [
        [head.name, head.op_type, ", ".join(head.levels), f"{head.rois:,}",
         " x ".join(map(str, head.result_shape[1:])), ", ".join(head.nodes)]
        for head in found.heads
    ]  # fmt: skip
    if rows:
        print_folded(["head", "operator", "maps", "RoIs", "a RoI's result", "nodes"], rows, stream)
    commands = [command_of(found.output, head) for head in found.heads]
    if any(commands):
        stream.write("\nThe same again:\n")
        stream.writelines(f"  {command}\n" for command in commands if command)


def command_of(path: str, head: StoredHead) -> str | None:
    """The command that computes a head's result; None where no operator has its rule."""
    if head.options.get("mode") == "max":
        return None
    features, rois, options = head.arguments(path)
    words = ["roicli", head.operator, features, rois]
    for name, value in {**options, **head.options}.items():
        words += _as_flag(name, value)
    return shlex.join(words)


def _as_flag(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    return [flag, "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)]
