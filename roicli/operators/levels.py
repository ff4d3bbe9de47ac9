"""Which level of a feature pyramid a RoI belongs to (Lin et al. 2017, FPN, equation 1)."""

from __future__ import annotations

import math
from typing import Any, assert_never

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.record import frozen
from roicli.core.types import FloatArray, IntArray, Size
from roicli.core.vocabulary import LevelRule

CANONICAL_SIZE_PX = 224.0
CANONICAL_LEVEL = 4
# mmdet's SingleRoIExtractor has no level of its own: a RoI of this size leaves the finest map.
FINEST_SIZE_PX = 56.0


def level_of_scale(spatial_scale: float) -> int | None:
    """log2(stride) where it is a whole number, else None."""
    level = -math.log2(spatial_scale)
    return round(level) if abs(level - round(level)) < 1e-6 else None


@frozen
class LevelAssignment:
    """A level rule with its constants; None is the rule's own. Raises ParameterError.

    ``canonical_size`` (pixels) is the side of a RoI that is on ``canonical_level``; ``image_size``
    (height, width) is that of the network's input, which only ``matterport`` needs.
    """

    rule: LevelRule = "torchvision"
    canonical_size: float | None = None
    canonical_level: int | None = None
    image_size: Size | None = None

    def __post_init__(self) -> None:
        size = self.canonical_size
        if size is not None and not (math.isfinite(size) and size > 0):
            raise ParameterError(f"canonical size is {size:g}, expected a positive number of px")

    @property
    def needs_image_size(self) -> bool:
        """Whether the rule looks at the image that a RoI is on."""
        return self.rule == "matterport"

    @property
    def is_relative(self) -> bool:
        """Whether the rule counts levels from the finest one, whatever its number."""
        return self.rule == "mmdet" and self.canonical_level is None

    def describe(self, finest: int) -> dict[str, Any]:
        """The rule and its constants by name, on a pyramid from level ``finest`` on."""
        return {
            "level_rule": self.rule,
            "canonical_size": self._size,
            "canonical_level": self._level(finest),
        }

    def assign(self, corners: FloatArray, finest: int, coarsest: int) -> IntArray:
        """(K,) level numbers of RoIs (K, 4) in image pixels, from ``finest`` to ``coarsest``.

        All are ``canonical_level + log2(sqrt(area) / canonical_size)``, made a whole number, in
        single precision as the libraries compute it. They differ in what they add, and where:
        torchvision (ops/poolers.py, LevelMapper) 1e-6 to the level; detectron2
        (modeling/poolers.py, assign_boxes_to_levels) 1e-8 and mmdet
        (single_level_roi_extractor.py, map_roi_levels) 1e-6 to the quotient; the TensorFlow Model
        Garden (spatial_transform_ops.py) nothing. Matterport (mrcnn/model.py, PyramidROIAlign)
        rounds half to even, and measures boxes that its ``norm_boxes`` normalized: a pixel less,
        over the image less a pixel. A box without positive area goes to the finest level. Raises
        ParameterError where the image size is missing.
        """
        single = corners.astype(np.float32)
        width, height = single[:, 2] - single[:, 0], single[:, 3] - single[:, 1]
        size, first = np.float32(self._size), np.float32(self._level(finest))
        quotient = _root(width, height) / size
        with np.errstate(divide="ignore"):
            match self.rule:
                case "torchvision":
                    level = np.floor(first + _rounded(np.log2, quotient) + np.float32(1e-6))
                case "detectron2":
                    level = np.floor(first + _rounded(np.log2, quotient + np.float32(1e-8)))
                case "mmdet":
                    level = first + np.floor(_rounded(np.log2, quotient + np.float32(1e-6)))
                case "model-garden":
                    level = np.floor(_rounded(np.log, quotient) / np.float32(math.log(2))) + first
                case "matterport":
                    level = first + np.rint(_rounded(np.log2, self._relate(width, height)))
                case _:
                    assert_never(self.rule)
        numbers: IntArray = np.clip(level, finest, coarsest).astype(np.int64)
        return numbers

    def _relate(self, width: FloatArray, height: FloatArray) -> FloatArray:
        """(K,) of Matterport: sqrt(area) of normalized boxes, over 224 of the normalized image."""
        if self.image_size is None or min(self.image_size) < 2:
            raise ParameterError(
                "level rule matterport measures RoIs against their image, whose size is not known",
                "add --image-size HEIGHTxWIDTH, that of the network's input",
            )
        image_height, image_width = (np.float32(side) for side in self.image_size)
        one = np.float32(1)
        root = _root((width - one) / (image_width - one), (height - one) / (image_height - one))
        return np.asarray(root / (np.float32(self._size) / np.sqrt(image_height * image_width)))

    @property
    def _size(self) -> float:
        if self.canonical_size is not None:
            return self.canonical_size
        return FINEST_SIZE_PX if self.rule == "mmdet" else CANONICAL_SIZE_PX

    def _level(self, finest: int) -> int:
        if self.canonical_level is not None:
            return self.canonical_level
        return finest if self.rule == "mmdet" else CANONICAL_LEVEL


def _root(width: FloatArray, height: FloatArray) -> FloatArray:
    """sqrt(area), 0 where that is not positive."""
    return np.asarray(np.sqrt(np.maximum(width * height, np.float32(0))))


def _rounded(logarithm: np.ufunc, values: FloatArray) -> FloatArray:
    """A logarithm rounded once to single precision.

    NumPy's own in single precision differs by the processor in its last bit, and so a level would.
    """
    return np.asarray(logarithm(values.astype(np.float64)), np.float32)
