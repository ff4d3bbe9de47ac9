"""The conventions that a stored result may follow, as data: the grid that ``diagnose`` searches.

Sources: SEMANTICS, RoI Align (the trap of ONNX's ``mode="max"``), RoI Pool (rules that users meet),
and the equivalences between tools. OpenVINO's ``half_pixel`` moves a coordinate by half an image
pixel before scaling and half a cell back after it (openvino, ROIAlign-9).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from roicli.core.operator_table import Operator
from roicli.core.types import FloatArray, Size
from roicli.core.vocabulary import Partition, Quantization, SamplingGrid
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.operators.rounding import BOX_RULES
from roicli.storage.array import narrow_float

Reduction = Literal["avg", "max", "max-weighted-corners", "max-floored"]
Coordinates = Literal["half-pixel", "legacy", "openvino-half-pixel"]

REDUCTION_WORDS: dict[Reduction, str] = {
    "avg": "average",
    "max": "maximum of the samples",
    "max-weighted-corners": "maximum of the weighted corners (ONNX's mode max)",
    "max-floored": "maximum of the samples and 0 (OpenVINO's max)",
}
COORDINATE_WORDS: dict[Coordinates, str] = {
    "half-pixel": "half-pixel",
    "legacy": "legacy",
    "openvino-half-pixel": "OpenVINO's half_pixel",
}


@dataclass(frozen=True)
class Oddity:
    """One thing that went wrong with the RoIs or their scale on the way."""

    name: str
    words: str
    scale_factor: float = 1.0
    shift_px: float = 0.0
    widen_px: float = 0.0
    swapped: bool = False
    roi_dtype: Literal["float16", "bfloat16"] | None = None

    def apply(self, corners: FloatArray) -> FloatArray:
        """RoIs (K, 4) in image pixels as they arrived; not finite where the dtype cannot hold."""
        moved = corners + np.array(
            [self.shift_px] * 2 + [self.shift_px + self.widen_px] * 2, corners.dtype
        )
        if self.swapped:
            moved = moved[:, [1, 0, 3, 2]]
        if self.roi_dtype == "float16":
            with np.errstate(over="ignore"):
                return moved.astype(np.float16).astype(corners.dtype)
        if self.roi_dtype == "bfloat16":
            # Once, from single precision, as a framework that holds them so would.
            return moved.astype(np.float32).astype(narrow_float("bfloat16")).astype(corners.dtype)
        return moved


NO_ODDITY = Oddity("none", "")
ODDITIES = (
    NO_ODDITY,
    Oddity("scale-doubled", "scale twice as large", scale_factor=2.0),
    Oddity("scale-halved", "scale half as large", scale_factor=0.5),
    Oddity("shifted-plus", "coordinates +0.5 px", shift_px=0.5),
    Oddity("shifted-minus", "coordinates -0.5 px", shift_px=-0.5),
    Oddity("inclusive", "x2 and y2 +1 px", widen_px=1.0),
    Oddity("swapped", "x and y swapped", swapped=True),
    Oddity("float16", "RoIs through float16", roi_dtype="float16"),
    Oddity("bfloat16", "RoIs through bfloat16", roi_dtype="bfloat16"),
)


@dataclass(frozen=True)
class AlignConvention:
    """RoI Align by somebody's rules; ``sampling_ratio`` 0 is adaptive."""

    reduction: Reduction
    coordinates: Coordinates
    sampling_ratio: int
    sampling_grid: SamplingGrid
    oddity: Oddity

    @property
    def operator(self) -> Operator:
        """Which operator."""
        return "align"

    @property
    def strangeness(self) -> int:
        """How many things about it are out of the ordinary."""
        plain = (
            self.reduction in ("avg", "max"),
            self.coordinates != "openvino-half-pixel",
            self.sampling_grid == "quarters",
            self.oddity == NO_ODDITY,
        )
        return plain.count(False)

    @property
    def name(self) -> str:
        """The convention in words."""
        ratio = f"sampling ratio {self.sampling_ratio}" if self.sampling_ratio else "adaptive"
        parts = [
            "RoI Align",
            REDUCTION_WORDS[self.reduction],
            COORDINATE_WORDS[self.coordinates],
            ratio,
        ]
        parts += ["sampled at thirds"] if self.sampling_grid == "thirds" else []
        return ", ".join([*parts, *filter(None, [self.oddity.words])])

    @property
    def command(self) -> str | None:
        """What of ``roicli`` gives the same numbers, where something does."""
        if self.reduction not in ("avg", "max") or self.oddity != NO_ODDITY:
            return None
        if self.coordinates == "openvino-half-pixel":
            return None
        aligned = "--aligned" if self.coordinates == "half-pixel" else "--no-aligned"
        mode = "" if self.reduction == "avg" else " --mode max"
        grid = "" if self.sampling_grid == "quarters" else " --sampling-grid thirds"
        return f"roicli align {aligned} --sampling-ratio {self.sampling_ratio}{mode}{grid}"

    def spec(self, output_size: Size, spatial_scale: float) -> AlignSpec:
        """Where it samples, on a map of ``spatial_scale``."""
        scale = spatial_scale * self.oddity.scale_factor
        aligned = self.coordinates != "legacy"
        return AlignSpec(
            output_size, scale, self.sampling_ratio, aligned, "avg", self.sampling_grid
        )

    def corners(self, corners: FloatArray) -> FloatArray:
        """The RoIs (K, 4) as it takes them."""
        moved = self.oddity.apply(corners)
        half = corners.dtype.type(0.5)
        return moved + half if self.coordinates == "openvino-half-pixel" else moved


@dataclass(frozen=True)
class PoolConvention:
    """RoI Pool by somebody's rules."""

    quantization: Quantization
    partition: Partition
    oddity: Oddity

    @property
    def operator(self) -> Operator:
        """Which operator."""
        return "pool"

    @property
    def strangeness(self) -> int:
        """How many things about it are out of the ordinary."""
        plain = (
            self.quantization == "caffe",
            self.partition == "overlap",
            self.oddity == NO_ODDITY,
        )
        return plain.count(False)

    @property
    def name(self) -> str:
        """The convention in words."""
        parts = ["RoI Pool", f"quantization {self.quantization}", f"partition {self.partition}"]
        return ", ".join([*parts, *filter(None, [self.oddity.words])])

    @property
    def command(self) -> str | None:
        """What of ``roicli`` gives the same numbers, where something does."""
        if self.oddity != NO_ODDITY:
            return None
        return f"roicli pool --quantization {self.quantization} --partition {self.partition}"

    def spec(self, output_size: Size, spatial_scale: float) -> PoolSpec:
        """Where its bins lie, on a map of ``spatial_scale``."""
        scale = spatial_scale * self.oddity.scale_factor
        return PoolSpec(output_size, scale, self.quantization, self.partition)

    def corners(self, corners: FloatArray) -> FloatArray:
        """The RoIs (K, 4) as it takes them."""
        return self.oddity.apply(corners)


Convention = AlignConvention | PoolConvention

# How each kind of sampling may be reduced and how densely it may sample; nobody takes ONNX's or
# OpenVINO's maximum at thirds, and at ratio 1 thirds are the centre too.
ALIGN_GRID: tuple[tuple[SamplingGrid, tuple[int, ...], tuple[Reduction, ...]], ...] = (
    ("quarters", (2, 0, 1, 3, 4), ("avg", "max", "max-weighted-corners", "max-floored")),
    ("thirds", (2, 0, 3, 4), ("avg", "max")),
)
COORDINATES: tuple[Coordinates, ...] = ("half-pixel", "legacy", "openvino-half-pixel")


def all_conventions() -> list[Convention]:
    """Every candidate, the plainer first; those that sample alike stand together."""
    found: list[Convention] = [
        AlignConvention(reduction, coordinates, ratio, grid, oddity)
        for oddity in ODDITIES
        for grid, ratios, reductions in ALIGN_GRID
        for coordinates in COORDINATES
        for ratio in ratios
        for reduction in reductions
    ]
    found += [
        PoolConvention(quantization, partition, oddity)
        for oddity in ODDITIES
        for quantization, rule in BOX_RULES.items()
        for partition in rule.partitions
    ]
    return found
