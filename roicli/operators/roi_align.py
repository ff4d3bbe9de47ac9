"""RoI Align: He et al. 2017, section 3; ONNX RoiAlign-16."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.types import MAX_SAMPLING_RATIO, FloatArray, FloatType, IntArray, check_word
from roicli.core.vocabulary import Mode, Operator, PixelModel, SamplingGrid
from roicli.operators.interface import Compiled, GraphWay, OperatorSpec, Sampling
from roicli.operators.onnx_graph import GraphBuilder

if TYPE_CHECKING:
    from roicli.operators.reference import Expected

# What RoiAlign keeps for one sampling point: four positions and four weights.
SAMPLE_BYTES = 48


@dataclass(frozen=True)
class AlignSpec(OperatorSpec):
    """RoI Align: every parameter of the operator (docs/semantics.md, RoI Align; ONNX RoiAlign-16).

    ``output_size`` (height, width) in bins, ``spatial_scale`` in cells per image pixel,
    ``sampling_ratio`` points per axis and bin (0 = adaptive), ``aligned`` True for half-pixel and
    False for legacy. ``mode="max"`` is the maximum of the interpolated samples. Raises
    ParameterError.
    """

    operator: ClassVar[Operator] = "align"
    title: ClassVar[str] = "RoI Align"
    compiled: ClassVar[Compiled] = Compiled("run_roi_align", ("plan_align", "align_blocks"))

    sampling_ratio: int = 2
    aligned: bool = True
    mode: Mode = "avg"
    sampling_grid: SamplingGrid = "quarters"

    def __post_init__(self) -> None:
        super().__post_init__()
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

    def counts(self, corners: FloatArray) -> IntArray:
        """(K, 2) sampling points a bin of RoIs (K, 4), as (x, y)."""
        from roicli.operators.geometry import align_boxes, sampling_counts

        return sampling_counts(align_boxes(corners, self)[1], self)

    def work(self, corners: FloatArray) -> FloatArray:
        """(k,) sampling points a bin; a bin without one counts as one value."""
        return np.asarray(np.maximum(self.counts(corners).prod(axis=1, dtype=np.float64), 1))

    def sampling(self, corners: FloatArray, channels: int, dtype: FloatType) -> Sampling:
        """What RoiAlign keeps of its points; and what one channel of a fine grid takes."""
        counts = self.counts(corners.astype(dtype))
        per_sample = SAMPLE_BYTES
        if not self.native_to_roi_align:
            per_sample += 2 * dtype.itemsize
        bins = self.output_size[0] * self.output_size[1]
        name = "sampling" if self.sampling_ratio else "adaptive sampling"
        return Sampling(np.prod(counts + 0.0, axis=1) * (bins * per_sample), counts, name)

    def expect(
        self, feature_map: FloatArray, corners: FloatArray, coordinate_ulp: float
    ) -> Iterator[tuple[slice, Expected]]:
        """The mean or the maximum of interpolated samples."""
        from roicli.operators.reference import expect_align

        return expect_align(feature_map, corners, self, coordinate_ulp)

    def graph_way(self, dtype: FloatType, resident: bool) -> GraphWay:
        """One RoiAlign node where that is the operator, else a finer grid of its samples."""
        return "one node" if self.native_to_roi_align else "fine grid"

    def add_export(self, builder: GraphBuilder, dtype: FloatType) -> str:
        """One node, or a fine grid that is pooled; an adaptive fine grid fits no graph."""
        from roicli.operators.export import add_align

        return add_align(builder, self, dtype)
