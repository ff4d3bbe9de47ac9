"""The RoI nodes of a model that can be captured: where they stand, what they read and compute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.foreign import ForeignText, foreign
from roicli.core.operator_table import Operator
from roicli.pipeline.model_nodes import (
    PlacedNode,
    Step,
    is_standard,
    name_node,
    plain_attributes,
    read_node,
    walk_nodes,
)

CROP, CROP_DOMAIN = "CropAndResize", "com.microsoft"
INTERPOLATIONS = ("bilinear", "nearest")


@dataclass(frozen=True, eq=False)
class RoiSite:
    """One RoI node: what it is called, where it stands, what it computes, its tensors by name.

    ``options`` are keywords of ``operator``'s call; a RoiAlign of ``mode`` max computes what no
    operator here does (``maximum``). ``batch`` is None where ``rois`` have their image's number in
    themselves. ``attributes`` are as they are stored.
    """

    name: ForeignText
    op_type: str
    operator: Operator
    opset: int
    inside: tuple[str, ...]
    path: tuple[Step, ...]
    options: Mapping[str, Any]
    attributes: Mapping[str, Any]
    features: str
    rois: str
    batch: str | None
    output: str

    @property
    def spatial_scale(self) -> float:
        """Cells per pixel of the RoIs, as the node multiplies."""
        return float(self.options["spatial_scale"])

    @property
    def maximum(self) -> bool:
        """Whether the maximum is over weighted corners, which is ONNX's alone."""
        return bool(self.options.get("mode") == "max")

    def size_in(self, model: str | None) -> Any:
        """The bins of a RoI. Raises InputError where the node takes them as an input."""
        if "output_size" not in self.options:
            raise InputError(f"{model}: node {self.name} takes its output size as an input")
        return self.options["output_size"]

    @property
    def where(self) -> str:
        """Where it stands, in words."""
        return " > ".join(self.inside) or "the main graph"

    def names(self) -> tuple[str, ...]:
        """What it may be called: its name and its output's, as stored and as shown."""
        output = foreign(self.output)
        return (self.name, self.name.raw, output, output.raw)


def find_sites(model: Any, path: str) -> list[RoiSite]:
    """Every RoI node in order, those of subgraphs too. Raises InputError for a malformed one."""
    return list(_find(model, path))


def _find(model: Any, path: str) -> Iterator[RoiSite]:
    for placed in walk_nodes(model):
        if is_standard(placed.node):
            yield _read_standard(placed, path)
        elif is_crop(placed.node):
            yield _read_crop(placed, path)


def is_crop(node: Any) -> bool:
    """Whether the node is ONNX Runtime's own crop-and-resize."""
    return bool(node.op_type == CROP and node.domain == CROP_DOMAIN)


def _read_standard(placed: PlacedNode, path: str) -> RoiSite:
    node = read_node(placed.node, placed.opset, path)
    # The scale as the node multiplies: a float32 that was written as the nearest decimal.
    options = node.options() | {"spatial_scale": float(np.float32(node.spatial_scale))}
    has_batch = node.operator == "align"
    if has_batch:
        options["mode"] = node.mode
    return _site(placed, path, node.operator, options, has_batch)


def _read_crop(placed: PlacedNode, path: str) -> RoiSite:
    """Boxes y1, x1, y2, x2 as shares of the map's first to last cell; the crop's size is an input.

    Source: onnxruntime, docs/ContribOperators.md, com.microsoft.CropAndResize.
    """
    values = plain_attributes(placed.node)
    mode, outside = values.get("mode", "bilinear"), values.get("extrapolation_value", 0.0)
    if mode not in INTERPOLATIONS or not isinstance(outside, float):
        raise InputError(
            f"{path}: node {name_node(placed.node)} has mode {mode!r} and extrapolation_value "
            f"{outside!r}, expected one of {', '.join(INTERPOLATIONS)} and a number"
        )
    options = {
        "spatial_scale": 1.0,
        "interpolation": mode,
        "extrapolation_value": outside,
        "normalization": "image",
    }
    return _site(placed, path, "crop-and-resize", options, True)


def _site(
    placed: PlacedNode, path: str, operator: Operator, options: Mapping[str, Any], has_batch: bool
) -> RoiSite:
    node, name = placed.node, name_node(placed.node)
    wanted = 3 if has_batch else 2
    given = [one for one in node.input[:wanted] if one]
    if len(given) < wanted or not node.output or not node.output[0]:
        raise InputError(
            f"{path}: node {name} has {len(given)} inputs and {len(node.output)} outputs, expected "
            f"at least {wanted} and one"
        )
    return RoiSite(
        name, str(node.op_type), operator, placed.opset, placed.inside, placed.path, options,
        plain_attributes(node), node.input[0], node.input[1],
        node.input[2] if has_batch else None, node.output[0],
    )  # fmt: skip
