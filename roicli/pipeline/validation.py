"""Raw arrays to checked inputs, or one clear line: what, where, found, expected.

After this nothing is checked again downstream.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import numpy as np

from roicli.core.exceptions import InputError, ParameterError
from roicli.core.types import Array, FloatArray, IntArray, RoIs, Size
from roicli.core.vocabulary import RoiFormat
from roicli.operators.interface import OperatorSpec
from roicli.storage.array import StoredArray
from roicli.storage.limits import check_memory

COORDINATE_NAMES: dict[RoiFormat, tuple[str, str, str, str]] = {
    "xyxy": ("x1", "y1", "x2", "y2"),
    "xywh": ("x", "y", "w", "h"),
    "cxcywh": ("cx", "cy", "w", "h"),
}
# The operators hold cell indices in 32-bit integers.
MAX_CELL = float(1 << 30)
# In float32 a sum or a difference of two such coordinates is finite.
MAX_PIXEL = 1e38
MAX_SAMPLES_BYTES = 256 << 20
# What one RoI takes while it is checked: as stored, its corners, what each can be off by.
ROI_BYTES = 120


def check_feature_shape(stored: StoredArray) -> tuple[int, int, int, int]:
    """(N, C, H, W) of a stored (N, C, H, W) or (C, H, W) array. Raises InputError."""
    shape = stored.shape
    if len(shape) not in (3, 4):
        raise InputError(
            f"{stored.name}: features have shape {shape}, expected (N, C, H, W) or (C, H, W)"
        )
    n, c, h, w = (1, *shape) if len(shape) == 3 else shape
    if c == 0 or h == 0 or w == 0 or n == 0:
        raise InputError(f"{stored.name}: features are empty, shape {shape}")
    return n, c, h, w


def check_rois(
    stored: StoredArray,
    images: int | None,
    roi_format: RoiFormat = "xyxy",
    normalized_to: Size | None = None,
) -> RoIs:
    """Read and check K RoIs. ``images`` is how many maps there are, None where there are none.

    ``normalized_to`` (height, width) is the image size that coordinates from 0 to 1 refer to.
    Raises InputError naming the first bad row and column.
    """
    shape = stored.shape
    if len(shape) != 2 or shape[1] not in (4, 5):
        raise InputError(
            f"{stored.name}: RoIs have shape {shape}, expected (K, 5): batch_index, x1, y1, x2, y2"
        )
    if shape[1] == 4 and images is not None and images != 1:
        raise InputError(
            f"{stored.name}: RoIs have 4 columns and there are {images} images, "
            "expected 5 columns: batch_index, x1, y1, x2, y2"
        )
    check_memory(stored.name, f"{shape[0]:,} RoIs", shape[0] * ROI_BYTES)
    values = stored.read_all()
    coordinates = values[:, -4:]
    batch_index = _check_batch_index(stored.name, values, images)
    columns = COORDINATE_NAMES[roi_format]
    _check_coordinates(stored.name, coordinates, columns, shape[1] - 4)
    corners, error = to_corners(
        coordinates.astype(np.float64),
        np.asarray(stored.precision.half_spacing(coordinates), np.float64),
        roi_format,
        normalized_to,
    )
    # A sum or product of two that fit need not fit.
    _check_coordinates(f"{stored.name}, as corners in pixels", corners, COORDINATE_NAMES["xyxy"], 1)
    return RoIs(batch_index, corners, error.max(axis=1, initial=0.0))


def _check_batch_index(name: str, values: Array, images: int | None) -> IntArray:
    if values.shape[1] == 4:
        return np.zeros(len(values), np.int64)
    with np.errstate(invalid="ignore"):
        column = values[:, 0].astype(np.float64)
        whole = np.isfinite(column) & (column == np.floor(column)) & (column >= 0)
    limit = 2.0**63 if images is None else images
    bad = np.flatnonzero(~whole | ~(column < limit))
    if len(bad):
        expected = "from 0" if images is None else f"from 0 to {images - 1}"
        raise InputError(
            f"{name}: row {bad[0]}, column 0 (batch_index): found {column[bad[0]]:g}, "
            f"expected a whole number {expected}{_and_more(bad)}"
        )
    return column.astype(np.int64)


def _check_coordinates(name: str, coordinates: Array, columns: Sequence[str], first: int) -> None:
    largest = np.finfo(np.float32).max
    with np.errstate(invalid="ignore"):
        fine = np.abs(coordinates) <= largest
    if coordinates.dtype.kind in "iu" or fine.all():
        return
    rows, places = np.nonzero(~fine)
    found = coordinates[rows[0], places[0]]
    expected = "a finite number" if not np.isfinite(found) else "a number that float32 can hold"
    raise InputError(
        f"{name}: row {rows[0]}, column {first + places[0]} ({columns[places[0]]}): "
        f"found {found:g}, expected {expected}{_and_more(np.unique(rows))}"
    )


def _and_more(rows: Array) -> str:
    return f" ({len(rows)} such rows)" if len(rows) > 1 else ""


def to_corners(
    values: FloatArray, error: FloatArray, roi_format: RoiFormat, normalized_to: Size | None
) -> tuple[FloatArray, FloatArray]:
    """Coordinates (K, 4) of a format, and what each can be off by, to corners in image pixels."""
    if normalized_to is not None:
        height, width = normalized_to
        scale = np.array([width, height, width, height], np.float64)
        values, error = values * scale, error * scale
    first, size = values[:, :2], values[:, 2:]
    first_error, size_error = error[:, :2], error[:, 2:]
    match roi_format:
        case "xyxy":
            return values, error
        case "xywh":
            corners = np.concatenate([first, first + size], axis=1)
            return corners, np.concatenate([first_error, first_error + size_error], axis=1)
        case "cxcywh":
            corners = np.concatenate([first - size / 2, first + size / 2], axis=1)
            return corners, np.tile(first_error + size_error / 2, 2)
        case _:
            assert_never(roi_format)


def reaches_too_far(corners: FloatArray, spatial_scale: float | FloatArray) -> Array:
    """(K, 6) where x1, y1, x2, y2 or a width or height is more than the operators can count.

    They hold cells in 32-bit integers and pixels in float32. ``spatial_scale`` is one number or
    (K, 1).
    """
    lengths = np.abs(np.concatenate([corners, corners[:, 2:] - corners[:, :2]], axis=1))
    return np.asarray(~((lengths * spatial_scale <= MAX_CELL) & (lengths <= MAX_PIXEL)))


def check_reach(rois: RoIs, spatial_scale: float, name: str) -> None:
    """Raise InputError where a coordinate or a size is past what the operators can hold."""
    rows, places = np.nonzero(reaches_too_far(rois.corners, spatial_scale))
    if len(rows):
        row, place = rows[0], places[0]
        x1, y1, x2, y2 = rois.corners[row]
        found = (x1, y1, x2, y2, x2 - x1, y2 - y1)[place]
        what = (*COORDINATE_NAMES["xyxy"], "width", "height")[place]
        where = "long" if place >= 4 else "from the origin"
        raise InputError(
            f"{name}: row {row}, {what}: found {found:g} px, which is "
            f"{abs(found) * spatial_scale:.3g} cells {where}, expected at most {MAX_CELL:.3g} "
            f"cells and {MAX_PIXEL:g} px",
            "check the coordinates and the spatial scale",
        )


def check_sampling_memory(
    rois: RoIs,
    rows: IntArray,
    spec: OperatorSpec,
    channels: int,
    dtype: np.dtype[np.floating],
    name: str,
) -> None:
    """Raise InputError where one RoI of ``rows`` takes more than 256 MiB of sampling points."""
    needed, counts, kind = spec.sampling(rois.corners[rows], channels, dtype)
    if len(needed) and needed.max() > MAX_SAMPLES_BYTES:
        worst = int(np.argmax(needed))
        across, down = counts[worst]
        raise InputError(
            f"{name}: row {rows[worst]}: {kind} takes {down} x {across} points a bin, "
            f"{needed[worst] / 2**20:,.0f} MiB for this one RoI, expected at most "
            f"{MAX_SAMPLES_BYTES >> 20} MiB",
            "give --sampling-ratio 2 or a smaller output size, or check coordinates and scale",
        )


def check_image_size(normalized: bool, image_size: Size | None) -> Size | None:
    """The size that normalized coordinates refer to, or None. Raises ParameterError."""
    if normalized and image_size is None:
        raise ParameterError("normalized RoIs need the image size", "add --image-size HEIGHTxWIDTH")
    if image_size is not None and not normalized:
        raise ParameterError(
            "image size is given, and RoIs in pixels do not need it", "add --normalized, or drop it"
        )
    return image_size


def describe_unusual(
    rois: RoIs, spatial_scale: float, map_size: Size | None
) -> tuple[int, int, int]:
    """How many RoIs have crossed corners, reach outside the map, lie wholly outside it."""
    cells = rois.corners * spatial_scale
    crossed = np.any(cells[:, 2:] < cells[:, :2], axis=1)
    if map_size is None:
        return int(crossed.sum()), 0, 0
    partly, wholly = find_outside(cells, np.array(map_size[::-1], np.float64))
    return int(crossed.sum()), int(partly.sum()), int(wholly.sum())


def find_outside(
    corners: FloatArray, extent: FloatArray, slack: FloatArray | float = 0.0
) -> tuple[Array, Array]:
    """Masks (K,) of the boxes that are partly, and that are wholly outside.

    ``corners`` (K, 4) may be crossed; ``extent`` is (width, height), once or a row (K, 2), in the
    same unit; ``slack`` is how far an edge may reach past it, once or (K, 1).
    """
    low = np.minimum(corners[:, :2], corners[:, 2:])
    high = np.maximum(corners[:, :2], corners[:, 2:])
    wholly = np.any((high < 0) | (low > extent), axis=1)
    reaches = np.any((low < -slack) | (high > extent + slack), axis=1)
    return reaches & ~wholly, wholly
