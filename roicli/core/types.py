"""The frozen records that pass between the stages. They check themselves when they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from roicli.core.exceptions import ParameterError
from roicli.core.vocabulary import Mode, Partition, PixelModel, Quantization, SamplingGrid

Array = NDArray[Any]
FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
FloatType = np.dtype[np.floating[Any]]
Size = tuple[int, int]

MAX_OUTPUT_SIDE = 1024
MAX_SAMPLING_RATIO = 256
MIN_SCALE, MAX_SCALE = 1e-30, 1e6


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


@dataclass(frozen=True)
class AlignSpec:
    """RoI Align: every parameter of the operator (SEMANTICS: RoI Align; ONNX RoiAlign-16).

    ``output_size`` (height, width) in bins, ``spatial_scale`` in cells per image pixel,
    ``sampling_ratio`` points per axis and bin (0 = adaptive), ``aligned`` True for half-pixel and
    False for legacy. ``mode="max"`` is the maximum of the interpolated samples. Raises
    ParameterError.
    """

    operator: ClassVar[Literal["align"]] = "align"

    output_size: Size = (7, 7)
    spatial_scale: float = 1.0
    sampling_ratio: int = 2
    aligned: bool = True
    mode: Mode = "avg"
    sampling_grid: SamplingGrid = "quarters"

    def __post_init__(self) -> None:
        check_output_size(self.output_size)
        check_spatial_scale(self.spatial_scale)
        check_word("mode", self.mode, Mode)
        check_word("sampling grid", self.sampling_grid, SamplingGrid)
        if not isinstance(self.aligned, bool):
            raise ParameterError(f"aligned is {self.aligned!r}, expected True or False")
        ratio = self.sampling_ratio
        if not isinstance(ratio, int) or not 0 <= ratio <= MAX_SAMPLING_RATIO:
            raise ParameterError(
                f"sampling ratio is {ratio!r}, expected 0 (adaptive) "
                f"to {MAX_SAMPLING_RATIO} points per axis and bin"
            )

    @property
    def pixel_model(self) -> PixelModel:
        """The pixel model that ``aligned`` implies."""
        return "half-pixel" if self.aligned else "legacy"

    @property
    def native_to_roi_align(self) -> bool:
        """Whether one ONNX RoiAlign node computes this exactly (else a finer grid is pooled)."""
        return self.mode == "avg" and self.sampling_grid == "quarters"


@dataclass(frozen=True)
class PoolSpec:
    """RoI Pool: every parameter of the operator (SEMANTICS: RoI Pool; ONNX MaxRoiPool-1).

    ``output_size`` (height, width) in bins, ``spatial_scale`` in cells per image pixel,
    ``quantization`` is the rounding of the box, ``partition`` the rounding of the bins inside it.
    Raises ParameterError.
    """

    operator: ClassVar[Literal["pool"]] = "pool"

    output_size: Size = (7, 7)
    spatial_scale: float = 1.0
    quantization: Quantization = "caffe"
    partition: Partition = "overlap"

    def __post_init__(self) -> None:
        check_output_size(self.output_size)
        check_spatial_scale(self.spatial_scale)
        check_word("quantization", self.quantization, Quantization)
        check_word("partition", self.partition, Partition)
        if self.quantization == "mmcv" and self.partition != "overlap":
            raise ParameterError(
                f"quantization mmcv has bins of its own, found partition {self.partition}, "
                "expected overlap",
                "drop --partition, or choose another --quantization",
            )

    @property
    def pixel_model(self) -> PixelModel:
        """RoI Pool's cell i covers [i, i + 1)."""
        return "half-pixel"

    @property
    def native_to_max_roi_pool(self) -> bool:
        """Whether one ONNX MaxRoiPool node computes this exactly (else index windows do)."""
        return self.quantization == "caffe" and self.partition == "overlap"


OperatorSpec = AlignSpec | PoolSpec


@dataclass(frozen=True)
class RoIs:
    """K checked RoIs.

    ``batch_index`` (K,) int64; ``corners`` (K, 4) float64: x1, y1, x2, y2 in image pixels, as they
    were stored; ``coordinate_error_px`` (K,) float64 is what the stored dtype can have lost.
    """

    batch_index: IntArray
    corners: FloatArray
    coordinate_error_px: FloatArray

    def __len__(self) -> int:
        return len(self.batch_index)

    def take(self, rows: Any) -> RoIs:
        """The RoIs of ``rows`` (indices, a mask or a slice), in that order."""
        return RoIs(self.batch_index[rows], self.corners[rows], self.coordinate_error_px[rows])

    def as_rows(self, dtype: Any = np.float32) -> FloatArray:
        """(K, 5) rows ``batch_index, x1, y1, x2, y2``."""
        return np.column_stack([self.batch_index, self.corners]).astype(dtype, copy=False)
