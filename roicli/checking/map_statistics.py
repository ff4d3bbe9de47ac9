"""What the rules want to know of the maps, from one pass over the images."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from roicli.datatypes import FloatArray, IntArray
from roicli.features import FeatureLevel, MapBuffer

# How neighbouring values go together is measured on so many images, at most so long an axis.
SMOOTHNESS_IMAGES = 4
SMOOTHNESS_SIDE = 64


@dataclass(frozen=True)
class MapStatistics:
    """One map's images (N, C, H, W) in numbers.

    ``low``, ``high`` (N, C): smallest and largest value, NaN where there is a NaN; ``invalid`` (N,)
    how many values are NaN or infinite; ``twins``: pairs (image, earlier image) that hold the same
    values; ``smoothness`` (3,) how alike neighbours along C, H and W are, NaN where not defined.
    """

    low: FloatArray
    high: FloatArray
    invalid: IntArray
    twins: tuple[tuple[int, int], ...]
    smoothness: FloatArray


def measure_map(level: FeatureLevel) -> MapStatistics:
    """One pass over the images, one at a time; images with the same extremes are read again."""
    images, channels = level.shape[:2]
    buffer = MapBuffer(level.compute_dtype)
    low, high = np.empty((images, channels)), np.empty((images, channels))
    invalid = np.zeros(images, np.int64)
    smoothness = []
    for index in range(images):
        image = level.read_image(index, buffer)
        flat = image.reshape(channels, -1)
        with np.errstate(invalid="ignore"):
            low[index], high[index] = flat.min(axis=1), flat.max(axis=1)
        if not (np.isfinite(low[index]).all() and np.isfinite(high[index]).all()):
            invalid[index] = image.size - np.count_nonzero(np.isfinite(image))
        elif index < SMOOTHNESS_IMAGES:
            smoothness.append(measure_smoothness(image))
    twins = _find_twins(level, buffer, np.concatenate([low, high], axis=1))
    mean = np.mean(smoothness, axis=0) if smoothness else np.full(3, np.nan)
    return MapStatistics(low, high, invalid, twins, mean)


def measure_smoothness(image: FloatArray) -> FloatArray:
    """The correlation of neighbours along each axis of a finite (C, H, W) block, in [-1, 1].

    ``1 - mean((next - this)^2) / (2 variance)``: 1 for a smooth axis, 0 for unrelated neighbours;
    NaN for an axis of one, or values that are all the same.
    """
    side = SMOOTHNESS_SIDE
    block = image[:side, :side, :side].astype(np.float64)
    # Values near the largest float64 must not overflow when they are squared.
    largest = np.abs(block).max(initial=0)
    block = block / largest if largest > 0 else block
    variance = block.var()
    if not variance > 0:
        return np.full(3, np.nan)
    return np.array(
        [
            1 - np.square(np.diff(block, axis=axis)).mean() / (2 * variance)
            if block.shape[axis] > 1
            else np.nan
            for axis in range(3)
        ]
    )


def _find_twins(
    level: FeatureLevel, buffer: MapBuffer, extremes: FloatArray
) -> tuple[tuple[int, int], ...]:
    """Images with the same bytes. Equal images have equal extremes, so few need be hashed."""
    alike: dict[bytes, list[int]] = defaultdict(list)
    for index, row in enumerate(extremes):
        alike[row.tobytes()].append(index)
    twins = []
    for group in alike.values():
        first: dict[bytes, int] = {}
        for index in group if len(group) > 1 else ():
            image = np.ascontiguousarray(level.read_image(index, buffer))
            digest = hashlib.blake2b(image.data, digest_size=16).digest()
            if digest in first:
                twins.append((index, first[digest]))
            first.setdefault(digest, index)
    return tuple(sorted(twins))
