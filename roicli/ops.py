"""torchvision's operators under its names, with its arguments and defaults: drop-ins.

``roicli.ops.roi_align(input, boxes, 7)`` gives what ``torchvision.ops.roi_align(input, boxes, 7)``
gives, computed by ONNX Runtime. ``input`` is (N, C, H, W) of any library, ``boxes`` (K, 5) with the
image's number in front, or a list of (L, 4), an image each. A tensor of PyTorch gives one of its
dtype and on its device, an array of JAX or CuPy one of that library, anything else NumPy's. Boxes
are taken as they are, as torchvision takes them: crossed, outside, or of no size. float16 is
computed in float32, which torchvision does not. There are no gradients, which is said of a tensor
that wants some.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from roicli.core.record import frozen
from roicli.pipeline.features import FeatureArgument

logger = logging.getLogger("roicli")

__all__ = ["MultiScaleRoIAlign", "ps_roi_align", "ps_roi_pool", "roi_align", "roi_pool"]

Size = int | Sequence[int]
# What ``check`` says of boxes that can be computed with all the same, which torchvision does.
ANY_BOX = "R04,R05,R06,R07,R08,R09,R10,R12,R13,R14,R17,R18,R19"


def roi_align(
    input: Any,  # noqa: A002 - torchvision's name
    boxes: FeatureArgument,
    output_size: Size,
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Any:
    """RoI Align: (K, C, P_h, P_w), the mean of interpolated points of each bin.

    ``sampling_ratio`` points per axis and bin; below 1 as many as the bin has cells. ``aligned``
    shifts by half a cell. Raises RoicliError. Source: torchvision.ops.roi_align.
    """
    return _run("align", input, boxes, output_size, spatial_scale,
                sampling_ratio=max(sampling_ratio, 0), aligned=aligned)  # fmt: skip


def roi_pool(
    input: Any,  # noqa: A002
    boxes: FeatureArgument,
    output_size: Size,
    spatial_scale: float = 1.0,
) -> Any:
    """RoI Pool: (K, C, P_h, P_w), the maximum of the cells of each rounded bin.

    Raises RoicliError. Source: torchvision.ops.roi_pool.
    """
    return _run("pool", input, boxes, output_size, spatial_scale)


def ps_roi_align(
    input: Any,  # noqa: A002
    boxes: FeatureArgument,
    output_size: Size,
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
) -> Any:
    """Position-sensitive RoI Align: (K, C / (P_h P_w), P_h, P_w), a bin its own channels.

    A bin without a point has 0, where torchvision divides 0 by 0. ``output_size`` is square.
    Raises RoicliError. Source: torchvision.ops.ps_roi_align.
    """
    ratio = max(sampling_ratio, 0)
    return _run("ps-align", input, boxes, output_size, spatial_scale, sampling_ratio=ratio)


def ps_roi_pool(
    input: Any,  # noqa: A002
    boxes: FeatureArgument,
    output_size: Size,
    spatial_scale: float = 1.0,
) -> Any:
    """Position-sensitive RoI Pool: (K, C / (P_h P_w), P_h, P_w), the mean of a bin's cells.

    ``output_size`` is square. Raises RoicliError. Source: torchvision.ops.ps_roi_pool.
    """
    return _run("ps-pool", input, boxes, output_size, spatial_scale, ps_rule="torchvision")


@frozen
class MultiScaleRoIAlign:
    """RoI Align over the levels of a pyramid, each RoI on the level of its size; a callable.

    ``featmap_names`` are the levels that are used. Source: torchvision.ops.MultiScaleRoIAlign.
    """

    featmap_names: Sequence[str]
    output_size: Size
    sampling_ratio: int
    canonical_scale: int = 224
    canonical_level: int = 4

    def __call__(
        self,
        x: Mapping[str, Any],
        boxes: Sequence[Any],
        image_shapes: Sequence[tuple[int, int]],
    ) -> Any:
        """(K, C, P_h, P_w) of boxes (L, 4), an image each.

        ``x`` are the levels by name, ``image_shapes`` (height, width) of each image; a level's
        scale is the power of two next to its height over the largest image's. Raises RoicliError.
        """
        levels = {name: one for name, one in x.items() if name in self.featmap_names}
        height = max(shape[0] for shape in image_shapes)
        scales = [2.0 ** round(math.log2(one.shape[-2] / height)) for one in levels.values()]
        return _run(
            "align", levels, boxes, self.output_size, scales,
            sampling_ratio=max(self.sampling_ratio, 0), aligned=False,
            canonical_size=self.canonical_scale, canonical_level=self.canonical_level,
        )  # fmt: skip


def _run(
    operator: str,
    features: Any,
    boxes: FeatureArgument,
    output_size: Size,
    spatial_scale: float | Sequence[float],
    **options: Any,
) -> Any:
    """What an operator gives, as the library of the maps has it."""
    from roicli import api

    size = output_size if isinstance(output_size, int) else tuple(output_size)
    found = api.run(
        operator, features, boxes, None,  # type: ignore[arg-type]
        {**options, "output_size": size, "spatial_scale": spatial_scale, "ignore": ANY_BOX},
    ).roi_features  # fmt: skip
    first = next(iter(features.values())) if isinstance(features, Mapping) else features
    return _give_back(found, first)


def _give_back(values: Any, like: Any) -> Any:
    """An array as the library of ``like`` has it: of its dtype, on its device."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(like, torch.Tensor):
        if like.requires_grad and torch.is_grad_enabled():
            logger.warning("roicli.ops computes no gradients: the result depends on no tensor")
        return torch.from_numpy(values).to(like.device, like.dtype)
    if hasattr(like, "__array_namespace__"):
        return like.__array_namespace__().asarray(values, dtype=like.dtype)
    return values
