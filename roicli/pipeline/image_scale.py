"""The scale of a map that nobody wrote down, from the size of the image that the network saw."""

from __future__ import annotations

import logging
import math

from roicli.core.exceptions import InputError
from roicli.core.types import Size

logger = logging.getLogger("roicli")

# What detectors fill images up to a multiple of, with strides below it.
PADDED_TO_PX = 32


def infer_scale(name: str, map_size: Size, image_size: Size) -> float:
    """As ``find_scale``, which it tells."""
    scale = find_scale(name, map_size, image_size)
    logger.info(
        f"{name}: --spatial-scale auto is {scale:g} (stride {1 / scale:g}), from "
        f"{map_size[0]} x {map_size[1]} cells of {image_size[0]} x {image_size[1]} px"
    )
    return scale


def find_scale(name: str, map_size: Size, image_size: Size) -> float:
    """Cells per pixel of a map (height, width) of an image (height, width).

    The power of two that torchvision takes (ops/poolers.py, _infer_scale: the nearest to cells over
    pixels), where it explains the map's size but for rounding and padding; else the one whole
    stride of both axes. Raises InputError where there is neither.
    """
    down, across = (cells / pixels for cells, pixels in zip(map_size, image_size, strict=True))
    scale = _nearest_power(down)
    sides = list(zip(map_size, image_size, strict=True))
    if scale != _nearest_power(across) or not all(_explains(scale, *side) for side in sides):
        strides = {pixels / cells for cells, pixels in sides}
        stride = strides.pop()
        if strides or not stride.is_integer():
            height, width = map_size
            raise InputError(
                f"{name}: {height} x {width} cells of an image of {image_size[0]} x "
                f"{image_size[1]} px (height x width) have no one stride: "
                f"{1 / down:.6g} px down, {1 / across:.6g} across",
                "give --spatial-scale; where each axis has its own scale: "
                f"--spatial-scale {across:.9g} --roi-scale 1,{down / across:.9g}",
            )
        scale = 1 / stride
    return scale


def _nearest_power(scale: float) -> float:
    return 2.0 ** round(math.log2(scale))


def _explains(scale: float, cells: int, pixels: int) -> bool:
    """Whether an axis of so many pixels, filled up or not, has so many cells, but for rounding."""
    padded_to = max(PADDED_TO_PX, 1 / scale)
    padded = math.ceil(pixels / padded_to) * padded_to
    return math.floor(pixels * scale) <= cells <= math.ceil(padded * scale)
