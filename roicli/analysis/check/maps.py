"""Rules on the feature maps themselves: R14, a guess, R15, which counts, and R20, how they lie."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from roicli.analysis.check.inputs import CheckedInputs
from roicli.analysis.check.map_statistics import MapStatistics
from roicli.analysis.check.records import Limits
from roicli.core.parse import TOKENS
from roicli.core.types import Array, FloatArray
from roicli.pipeline.axis_orders import CHANNELS_LAST, has_shape_of_channels_last
from roicli.pipeline.draft import Draft
from roicli.pipeline.features import FeatureLevel
from roicli.pipeline.fits import FILLED_SHARE
from roicli.pipeline.layout import layout_of, rearrange
from roicli.pipeline.roi_table import fits_inside, has_centre_outside
from roicli.storage.array import KEPT_BYTES, describe_sharing

# Neighbours along an image axis of real maps correlate by 0.5 and more, channels hardly at all; a
# page of text, whose lines follow one another, is the exception along one axis.
SMOOTH_MEAN = 0.5
SMOOTH_LEAST = 0.25
ROUGH_MOST = 0.2
SHORTEST_AXIS = 4
FEWEST_ROIS = 5
# To open so many small files takes several times as long as to read what they hold.
MANY_FILES, SMALL_FILE_BYTES = 16, 1 << 16


def find_nhwc(inputs: CheckedInputs, limits: Limits) -> Iterator[Draft]:
    """R14: maps that look like (N, H, W, C), by the values, by the RoIs, or by the shape alone."""
    assert inputs.pyramid is not None
    for index, (level, statistics) in enumerate(
        zip(inputs.pyramid.levels, inputs.statistics, strict=True)
    ):
        if layout_of(level.stored).startswith(TOKENS):
            continue  # whose channels are last, and are read so
        reason = (
            _reason_of_values(level, statistics)
            or _reason_of_rois(inputs, index, statistics)
            or _reason_of_shape(level, statistics)
        )
        if reason:
            yield Draft(
                1, (), f"looks like (N, H, W, C): shape {level.shape}, and {reason}",
                f"add --layout {rearrange(layout_of(level.stored), CHANNELS_LAST)}", "maps",
                level.stored.name,
            )  # fmt: skip


def _reason_of_values(level: FeatureLevel, statistics: MapStatistics) -> str | None:
    """Values go smoothly along the first two axes and not along the last."""
    first, second, last = statistics.smoothness
    if min(level.shape[1:]) < SHORTEST_AXIS or np.isnan(statistics.smoothness).any():
        return None
    least = min(first, second)
    if (first + second) / 2 < SMOOTH_MEAN or least < SMOOTH_LEAST or last > ROUGH_MOST:
        return None
    if least - last < SMOOTH_LEAST:
        return None
    return (
        f"neighbours correlate by {first:.2f} and {second:.2f} along axes 1 and 2, by {last:.2f} "
        "along the last, as channels do"
    )


def _has_smooth_last_axis(statistics: MapStatistics) -> bool:
    """The last axis is an image axis for certain: values go smoothly along it."""
    return bool(statistics.smoothness[2] > SMOOTH_MEAN)


def _reason_of_rois(inputs: CheckedInputs, index: int, statistics: MapStatistics) -> str | None:
    """RoIs leave the map as it is read, and fill the map that it would be, all inside it."""
    if inputs.rois is None or _has_smooth_last_axis(statistics):
        return None
    assert inputs.pyramid is not None
    level = inputs.pyramid.levels[index]
    if level.sizes is not None:  # one layout for maps of many sizes shows in their channels
        return None
    of_level = [
        block.corners[block.usable & (block.place == index)] for block in inputs.rois.blocks()
    ]
    corners = np.concatenate(of_level)
    as_read = _extent(level, (3, 2))
    otherwise = _extent(level, (2, 1))
    leaving = has_centre_outside(corners, as_read)
    if len(corners) < FEWEST_ROIS or leaving.sum() < max(2, 0.1 * len(corners)):
        return None
    cell = 1 / level.spatial_scale
    # Exchanged x and y explain the same, and better: then R07 says so.
    swapped = corners[:, [1, 0, 3, 2]]
    if not fits_inside(corners, otherwise, cell).all() or fits_inside(swapped, as_read, cell).all():
        return None
    if np.any(corners[:, 2:].max(axis=0) < FILLED_SHARE * otherwise):
        return None
    return (
        f"the RoIs leave the map as it is read and fill {level.shape[1]} x {level.shape[2]} cells"
    )


def _extent(level: FeatureLevel, axes: tuple[int, int]) -> FloatArray:
    """(2,) width and height in image pixels where ``axes`` are those of the width and height."""
    return np.array([level.shape[axis] for axis in axes]) / level.spatial_scale


def _reason_of_shape(level: FeatureLevel, statistics: MapStatistics) -> str | None:
    if _has_smooth_last_axis(statistics):
        return None
    if not has_shape_of_channels_last(level.shape):
        return None
    _, first, second, last = level.shape
    return f"{first} x {second} is a map's shape and {last} a number of channels"


def find_bad_maps(inputs: CheckedInputs, limits: Limits) -> Iterator[Draft]:
    """R15: NaN and infinity, constant maps, dead channels, images stored twice."""
    assert inputs.pyramid is not None
    for level, statistics in zip(inputs.pyramid.levels, inputs.statistics, strict=True):
        name = level.stored.name
        constant = _constant_images(level, statistics)
        yield from _images(
            np.flatnonzero(statistics.invalid), name,
            f"hold NaN or infinity, {statistics.invalid.sum():,} values in all",
            "find where they come from: every RoI over them is lost",
        )  # fmt: skip
        yield from _images(
            np.flatnonzero(constant), name, "are constant: one value everywhere",
            "was the map written before it was computed?",
        )  # fmt: skip
        yield from _dead_channels(level, statistics, constant, limits)
        pairs = [(image, twin) for image, twin in statistics.twins if not constant[image]]
        if pairs:
            image, twin = pairs[0]
            yield from _images(
                np.array([image for image, _ in pairs]), name,
                f"hold the same values as an earlier one: image {image} is image {twin}",
                "was one image written in several places?",
            )  # fmt: skip


def _images(rows: Array, name: str, message: str, advice: str) -> Iterator[Draft]:
    if len(rows):
        yield Draft(len(rows), rows.tolist(), f"images {message}", advice, "images", name)


def _constant_images(level: FeatureLevel, statistics: MapStatistics) -> Array:
    """(N,) whether an image has one value in every channel and cell; one number is no constant."""
    if math.prod(level.shape[1:]) == 1:
        return np.zeros(level.shape[0], bool)
    low, high = statistics.low.min(axis=1), statistics.high.max(axis=1)
    found: Array = np.isfinite(low) & (low == high)
    return found


def _dead_channels(
    level: FeatureLevel, statistics: MapStatistics, constant: Array, limits: Limits
) -> Iterator[Draft]:
    """Channels that have one and the same value in every image that is not constant itself."""
    low, high = statistics.low[~constant], statistics.high[~constant]
    if len(low) * math.prod(level.shape[2:]) < 2:
        return
    dead = np.flatnonzero(np.isfinite(low.min(axis=0)) & (low.min(axis=0) == high.max(axis=0)))
    if len(dead) <= limits.max_dead * low.shape[1]:
        return
    yield Draft(
        len(dead), dead.tolist(),
        "channels have one value in every image",
        "dead after a ReLU, or not written; tolerate a share of them with --max-dead",
        "channels", level.stored.name,
    )  # fmt: skip


def find_slow_chunks(inputs: CheckedInputs, limits: Limits) -> Iterator[Draft]:
    """R20: chunks of several images, too large to be kept unasked, or many files an image."""
    assert inputs.pyramid is not None
    for level in inputs.pyramid.levels:
        stored, name = level.stored, level.stored.name
        sharing = describe_sharing(level.shape[0], stored.chunk_rows)
        image = math.prod(level.shape[1:]) * stored.dtype.itemsize
        size = min(level.shape[0], stored.chunk_rows) * image
        if sharing is not None and size > KEPT_BYTES:
            yield Draft(
                1, (), sharing,
                f"nothing to do where --max-memory has room for their {size >> 20:,} MiB: they are "
                "read together; else store maps in chunks of one image", "maps", name,
            )  # fmt: skip
        elif stored.image_files > MANY_FILES and image < stored.image_files * SMALL_FILE_BYTES:
            yield Draft(
                1, (), f"each image lies in {stored.image_files:,} files of "
                f"{image // stored.image_files:,} bytes, which are opened one by one",
                "store maps in chunks of one image, or in shards", "maps", name,
            )  # fmt: skip
