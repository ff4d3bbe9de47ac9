"""The frozen records that pass between the stages. They check themselves when they are made."""

from __future__ import annotations

import math
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from roicli.core.exceptions import ParameterError
from roicli.core.record import frozen

Array = NDArray[Any]
FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]
FloatType = np.dtype[np.floating[Any]]
Size = tuple[int, int]

MAX_OUTPUT_SIDE = 1024
MAX_SAMPLING_RATIO = 256
MIN_SCALE, MAX_SCALE = 1e-30, 1e6


def as_bytes(values: Array) -> memoryview:
    """The bytes of a C-contiguous array, not copied."""
    return memoryview(cast("Any", values.reshape(-1).view(np.uint8)))


def check_word(name: str, value: object, words: Any) -> None:
    """Raise ParameterError unless ``value`` is one of the words of the Literal type ``words``."""
    if value not in get_args(words):
        choices = ", ".join(get_args(words))
        raise ParameterError(f"{name} is {value!r}, expected one of: {choices}")


def check_output_size(size: Size) -> None:
    """Raise ParameterError unless ``size`` is (height, width) with sides from 1 to 1024."""
    whole = all(isinstance(side, int) and not isinstance(side, bool) for side in size)
    if len(size) != 2 or not whole or not all(1 <= side <= MAX_OUTPUT_SIDE for side in size):
        found = "x".join(map(str, size))
        raise ParameterError(
            f"output size is {found}, expected height x width from 1 to {MAX_OUTPUT_SIDE} each"
        )


def check_spatial_scale(scale: float) -> None:
    """Raise ParameterError unless ``scale`` is from 1e-30 to 1e6 cells per image pixel."""
    # The operators hold the scale as a float32 and divide by it, where sizes in pixels overflow.
    # The pixel that mmcv's RoI Pool adds to a box must be a number of cells that they can count.
    if not (math.isfinite(scale) and MIN_SCALE <= scale <= MAX_SCALE):
        raise ParameterError(
            f"spatial scale is {scale:g}, expected a positive number of cells per image pixel, "
            f"from {MIN_SCALE:g} to {MAX_SCALE:g}",
            "a map of stride 16 has --spatial-scale 1/16",
        )


def check_sampling(sampling_ratio: object, aligned: object) -> None:
    """Raise ParameterError for a sampling ratio or an ``aligned`` that is none."""
    if not isinstance(aligned, bool):
        raise ParameterError(f"aligned is {aligned!r}, expected True or False")
    ratio = sampling_ratio
    if not isinstance(ratio, int) or not 0 <= ratio <= MAX_SAMPLING_RATIO:
        raise ParameterError(
            f"sampling ratio is {ratio!r}, expected 0 (adaptive) "
            f"to {MAX_SAMPLING_RATIO} points per axis and bin"
        )


# What the numbers of a turned RoI are, after its image's index.
TURNED_COLUMNS = ("cx", "cy", "w", "h", "angle")


@frozen
class RoIs:
    """K checked RoIs.

    ``batch_index`` (K,) int64; ``corners`` (K, 4) float64: x1, y1, x2, y2 in image pixels, as they
    were stored; ``coordinate_error_px`` (K,) float64 is what the stored dtype can have lost.
    ``offsets`` (K, 2, P_h, P_w) are those of an operator that moves bins, x then y, else None.
    Turned RoIs have ``turned`` (K, 5), the numbers of ``TURNED_COLUMNS``, the angle as it was
    stored; their ``corners`` are those of the upright boxes that enclose them.
    """

    batch_index: IntArray
    corners: FloatArray
    coordinate_error_px: FloatArray
    turned: FloatArray | None = None
    offsets: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.batch_index)

    @property
    def sides(self) -> FloatArray:
        """(K, 2) width and height in image pixels; of turned RoIs along their own sides."""
        if self.turned is None:
            return self.corners[:, 2:] - self.corners[:, :2]
        return self.turned[:, 2:4]

    def take(self, rows: Any) -> RoIs:
        """The RoIs of ``rows`` (indices, a mask or a slice), in that order."""
        turned = None if self.turned is None else self.turned[rows]
        offsets = None if self.offsets is None else self.offsets[rows]
        errors = self.coordinate_error_px[rows]
        return RoIs(self.batch_index[rows], self.corners[rows], errors, turned, offsets)

    def numbers(self, roi_columns: tuple[str, ...]) -> FloatArray:
        """(K, n) what an operator takes that has these columns."""
        if roi_columns != TURNED_COLUMNS:
            return self.corners
        if self.turned is None:
            assert len(self) == 0
            return np.empty((0, len(TURNED_COLUMNS)))
        return self.turned

    @property
    def row_width(self) -> int:
        """How many columns ``as_rows`` has."""
        return 5 if self.turned is None else 1 + len(TURNED_COLUMNS)

    def as_rows(self, dtype: Any = np.float32) -> FloatArray:
        """(K, 5) rows ``batch_index, x1, y1, x2, y2``; turned ones (K, 6), as ``turned``."""
        numbers = self.corners if self.turned is None else self.turned
        return np.column_stack([self.batch_index, numbers]).astype(dtype, copy=False)
