"""Which level of a feature pyramid a RoI belongs to (Lin et al. 2017, FPN, equation 1)."""

from __future__ import annotations

import math
from typing import assert_never

import numpy as np

from roicli.core.types import FloatArray, IntArray
from roicli.core.vocabulary import LevelRule

CANONICAL_SIZE_PX = 224
CANONICAL_LEVEL = 4


def level_of_scale(spatial_scale: float) -> int | None:
    """log2(stride) where it is a whole number, else None."""
    level = -math.log2(spatial_scale)
    return round(level) if abs(level - round(level)) < 1e-6 else None


def assign_levels(corners: FloatArray, rule: LevelRule, finest: int, coarsest: int) -> IntArray:
    """(K,) level numbers of RoIs (K, 4) in image pixels, from ``finest`` to ``coarsest``.

    ``floor(4 + log2(sqrt(area) / 224))``, in single precision as both libraries compute it, which
    differ in their epsilon: torchvision (ops/poolers.py, LevelMapper) adds 1e-6 to the level,
    detectron2 (modeling/poolers.py, assign_boxes_to_levels) 1e-8 to the quotient. A box without
    positive area goes to the finest level.
    """
    single = corners.astype(np.float32)
    area = (single[:, 2] - single[:, 0]) * (single[:, 3] - single[:, 1])
    quotient = np.sqrt(np.maximum(area, 0)) / np.float32(CANONICAL_SIZE_PX)
    with np.errstate(divide="ignore"):
        match rule:
            case "torchvision":
                level = np.float32(CANONICAL_LEVEL) + np.log2(quotient) + np.float32(1e-6)
            case "detectron2":
                level = np.float32(CANONICAL_LEVEL) + np.log2(quotient + np.float32(1e-8))
            case _:
                assert_never(rule)
    numbers: IntArray = np.clip(np.floor(level), finest, coarsest).astype(np.int64)
    return numbers
