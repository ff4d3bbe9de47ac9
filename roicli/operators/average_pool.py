"""Average RoI Pool, and its position-sensitive kind: the mean of whole cells.

``average-pool`` takes RoI Pool's boxes and bins (``rounding``); ``ps-pool`` those of R-FCN (Dai et
al. 2016, section 2.2; psroi_pooling_layer), of ``torchvision.ops.ps_roi_pool`` and of ChainerCV. A
bin without cells is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from roicli.core.operator_table import Operator, PsRule
from roicli.core.record import frozen
from roicli.core.types import FloatArray, IntArray, Size, check_word
from roicli.core.vocabulary import Partition, PixelModel, Quantization
from roicli.operators.array_math import ArrayMath, NumpyMath, Value
from roicli.operators.convention import AVERAGE_POOL, PS_RULES, Convention
from roicli.operators.placed_bins import cut_cells, place_span
from roicli.operators.rounding import BOX_RULES, check_rule
from roicli.operators.taps import Tap, Taps, TapSpec, check_group_size, lattice, mask_below


@frozen
class CellMeanSpec(TapSpec):
    """The mean of the whole cells of each bin, where ``convention`` says which."""

    @property
    def pixel_model(self) -> PixelModel:
        """Cell i covers [i, i + 1)."""
        return "half-pixel"

    @property
    def taps_a_sample(self) -> int:
        """A sample is a cell."""
        return 1

    def counts(self, corners: FloatArray, map_size: Size) -> IntArray:
        """(k, 2) cells of the longest bin on each axis."""
        math = NumpyMath(corners.dtype)
        columns = [column.reshape(-1, 1, 1, 1, 1) for column in corners.T]
        with np.errstate(over="ignore", invalid="ignore"):
            windows = self._windows(math, columns, map_size)
        longest = [(last - first).max(axis=(1, 2, 3, 4)) for first, last in windows]
        return np.asarray(np.maximum(np.stack(longest[::-1], axis=1), 0))

    def work(self, corners: FloatArray) -> FloatArray:
        """(k,) cells a bin, whatever the map's border cuts off."""
        height, width = self.output_size
        sides = np.maximum((corners[:, 2:] - corners[:, :2]) * self.spatial_scale, 0)
        return np.asarray((sides[:, 0] / width + 2) * (sides[:, 1] / height + 2))

    def _windows(
        self, math: ArrayMath, rois: Sequence[Value], map_size: tuple[Value, Value]
    ) -> tuple[tuple[Value, Value], tuple[Value, Value]]:
        """The cells on the map of the bins on both axes (y, x), half-open, as (first, last)."""
        rule = self.convention
        spans = [
            place_span(math, rois[i], rois[i + 2], self.spatial_scale, rule.box) for i in (1, 0)
        ]
        is_sized = (spans[0].extent > 0) & (spans[1].extent > 0)
        windows = []
        for number, (span, cells) in enumerate(zip(spans, map_size, strict=True)):
            edges = cut_cells(math, span, self.output_size[number], 1 + number, rule.box, rule.cut)
            most = cells if rule.last_cell else cells - 1
            first, last = (math.minimum(math.maximum(edge, 0), most) for edge in edges)
            windows.append((first, math.where(is_sized, math.maximum(first, last), first)))
        return windows[0], windows[1]

    def bin_lines(self, corners: FloatArray, map_size: Size) -> FloatArray:
        """Every place where a bin begins or ends, on the map."""
        columns = [column.reshape(-1, 1, 1, 1, 1) for column in corners[None].T]
        windows = self._windows(NumpyMath(corners.dtype), columns, map_size)
        ys, xs = (np.unique(np.concatenate([edge.reshape(-1) for edge in one])) for one in windows)
        return lattice(ys - 0.5, xs - 0.5)

    def taps(self, math: ArrayMath, rois: Sequence[Value], map_size: tuple[Value, Value]) -> Taps:
        """Each cell of the bin, with the same weight."""
        (top, bottom), (left, right) = self._windows(math, rois, map_size)
        down, across = bottom - top, right - left
        is_used = mask_below(math, (down, across))
        cells = math.real(math.maximum(down * across, 1))
        share = math.exact(math.number(1)) / math.exact(cells)
        y = top + math.counting(math.largest(down), 3)
        x = left + math.counting(math.largest(across), 4)
        tap = Tap(y, x, math.exact(math.number(1)), is_used)
        return Taps((tap,), share, is_used, is_used)


@frozen
class AveragePoolSpec(CellMeanSpec):
    """Average RoI Pool: RoI Pool's boxes and bins, and the mean of a bin's cells.

    ``output_size`` (height, width) in bins, ``spatial_scale`` in cells per image pixel,
    ``quantization`` and ``partition`` as RoI Pool's. Raises ParameterError.
    """

    operator: ClassVar[Operator] = "average-pool"
    title: ClassVar[str] = "average RoI Pool"

    quantization: Quantization = "caffe"
    partition: Partition = "overlap"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rule(self.quantization, self.partition)

    @property
    def convention(self) -> Convention:
        """RoI Pool's placement and cut, with a mean."""
        rule = BOX_RULES[self.quantization]
        cut = "hull" if rule.real_edges else self.partition
        return replace(AVERAGE_POOL, box=rule.box, cut=cut)


@frozen
class PsPoolSpec(CellMeanSpec):
    """Position-sensitive RoI Pool (Dai et al. 2016, R-FCN): each bin reads channels of its own.

    ``output_size`` (height, width) in bins, ``spatial_scale`` in cells per image pixel,
    ``group_size`` g groups of bins on each axis (0: as many as bins), so that C channels give
    C / g^2; ``ps_rule`` is "r-fcn" (corners rounded before they are scaled, extent at least 0.1),
    "torchvision" (rounded after it, the last row and column never read) or "chainercv" (not
    rounded). Raises ParameterError.
    """

    operator: ClassVar[Operator] = "ps-pool"
    title: ClassVar[str] = "position-sensitive RoI Pool"

    group_size: int = 0
    ps_rule: PsRule = "r-fcn"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word("PS rule", self.ps_rule, PsRule)
        check_group_size(self.group_size, self.output_size)

    @property
    def groups(self) -> int:
        """Groups of bins on an axis."""
        return self.group_size or self.output_size[0]

    @property
    def convention(self) -> Convention:
        """The rule's, with its groups."""
        return replace(PS_RULES[self.ps_rule], group_size=self.groups)
