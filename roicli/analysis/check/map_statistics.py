"""What the rules want to know of the maps, from one pass over the images."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from roicli.core.record import frozen
from roicli.core.types import FloatArray, IntArray
from roicli.pipeline.features import FeatureLevel, MapBuffer

# How neighbouring values go together is measured on so many images, at most so long an axis.
SMOOTHNESS_IMAGES = 4
SMOOTHNESS_SIDE = 64


@frozen
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


@frozen
class ImageStatistics:
    """As ``MapStatistics``, of some images that follow one another; ``smoothness`` of each."""

    low: FloatArray
    high: FloatArray
    invalid: IntArray
    smoothness: tuple[FloatArray, ...]


# Gives a digest of each image's bytes.
Digest = Callable[[Sequence[int]], Sequence[bytes]]


def measure_map(level: FeatureLevel) -> MapStatistics:
    """One pass over the images, one at a time; images with the same extremes are read again."""
    return join_statistics(
        [measure_images(level, 0, level.shape[0])], lambda images: digest_images(level, images)
    )


def measure_images(level: FeatureLevel, start: int, stop: int) -> ImageStatistics:
    """One pass over images ``start`` to ``stop``."""
    images, channels = stop - start, level.shape[1]
    buffer = MapBuffer(level.compute_dtype)
    low, high = np.empty((images, channels)), np.empty((images, channels))
    invalid = np.zeros(images, np.int64)
    smoothness = []
    for place, index in enumerate(range(start, stop)):
        image = level.read_image(index, buffer)
        flat = image.reshape(channels, -1)
        with np.errstate(invalid="ignore"):
            low[place], high[place] = flat.min(axis=1), flat.max(axis=1)
        if not (np.isfinite(low[place]).all() and np.isfinite(high[place]).all()):
            invalid[place] = image.size - np.count_nonzero(np.isfinite(image))
        elif index < SMOOTHNESS_IMAGES:
            smoothness.append(measure_smoothness(image))
    return ImageStatistics(low, high, invalid, tuple(smoothness))


def join_statistics(parts: Sequence[ImageStatistics], digest: Digest) -> MapStatistics:
    """The statistics of a map from those of its images, in the images' order."""
    low, high = (np.concatenate([getattr(p, name) for p in parts]) for name in ("low", "high"))
    invalid = np.concatenate([part.invalid for part in parts])
    smoothness = [found for part in parts for found in part.smoothness]
    twins = _find_twins(np.concatenate([low, high], axis=1), digest)
    mean = np.mean(smoothness, axis=0) if smoothness else np.full(3, np.nan)
    return MapStatistics(low, high, invalid, twins, mean)


def digest_images(level: FeatureLevel, images: Sequence[int]) -> list[bytes]:
    """A digest of the bytes of each image, which is read for it."""
    buffer = MapBuffer(level.compute_dtype)
    found = []
    for index in images:
        image = np.ascontiguousarray(level.read_image(index, buffer))
        found.append(hashlib.blake2b(image.data, digest_size=16).digest())
    return found


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


def _find_twins(extremes: FloatArray, digest: Digest) -> tuple[tuple[int, int], ...]:
    """Images with the same bytes. Equal images have equal extremes, so few need be hashed."""
    alike: dict[bytes, list[int]] = defaultdict(list)
    for index, row in enumerate(extremes):
        alike[row.tobytes()].append(index)
    asked = sorted(index for group in alike.values() if len(group) > 1 for index in group)
    first: dict[bytes, int] = {}
    twins = []
    for index, found in zip(asked, digest(asked), strict=True):
        # The extremes are part of the key: only images of one group are compared.
        key = extremes[index].tobytes() + found
        if key in first:
            twins.append((index, first[key]))
        first.setdefault(key, index)
    return tuple(twins)
