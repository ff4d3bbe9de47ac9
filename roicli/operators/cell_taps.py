"""Bins of whole cells, as any convention says: their mean or their maximum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from roicli.core.record import frozen
from roicli.core.types import FloatArray, IntArray, Size
from roicli.core.vocabulary import PixelModel
from roicli.operators.array_math import ArrayMath, NumpyMath, Value
from roicli.operators.placed_bins import cut_cells, place_span
from roicli.operators.taps import Tap, Taps, TapSpec, lattice, mask_below


@frozen
class CellSpec(TapSpec):
    """An operator whose bins are whole cells, where ``convention`` says which."""

    @property
    def pixel_model(self) -> PixelModel:
        """Cell i covers [i, i + 1)."""
        return "half-pixel"

    @property
    def taps_a_sample(self) -> int:
        """A sample is a cell."""
        return 1

    @property
    def takes_maximum(self) -> bool:
        """Whether cells are compared, and not added."""
        return self.convention.reduction == "cell-max"

    def counts(self, corners: FloatArray, map_size: Size) -> IntArray:
        """(k, 2) cells of the longest bin on each axis."""
        math = NumpyMath(corners.dtype)
        columns = self.values_of(corners)
        with np.errstate(over="ignore", invalid="ignore"):
            windows = self._windows(math, columns, map_size)
        longest = [(last - first).max(axis=(1, 2, 3, 4)) for first, last in windows]
        return np.asarray(np.maximum(np.stack(longest[::-1], axis=1), 0))

    def windows_of(
        self, corners: FloatArray, map_size: Size
    ) -> tuple[tuple[IntArray, IntArray], tuple[IntArray, IntArray]]:
        """(first, last), each (K, P) int64, of the bins on the map, for x and y."""
        windows = self._windows(NumpyMath(corners.dtype), self.values_of(corners), map_size)
        y, x = (
            tuple(np.ascontiguousarray(edge.reshape(len(corners), -1)) for edge in axis)
            for axis in windows
        )
        return (x[0], x[1]), (y[0], y[1])

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
        columns = self.values_of(corners[None])
        windows = self._windows(NumpyMath(corners.dtype), columns, map_size)
        ys, xs = (np.unique(np.concatenate([edge.reshape(-1) for edge in one])) for one in windows)
        return lattice(ys - 0.5, xs - 0.5)

    def taps(self, math: ArrayMath, rois: Sequence[Value], map_size: tuple[Value, Value]) -> Taps:
        """Each cell of the bin, all with the same weight."""
        (top, bottom), (left, right) = self._windows(math, rois, map_size)
        down, across = bottom - top, right - left
        is_used = mask_below(math, (down, across))
        share = math.exact(math.number(1))
        if not self.takes_maximum:
            share = share / math.exact(math.real(math.maximum(down * across, 1)))
        y = top + math.counting(math.largest(down), 3)
        x = left + math.counting(math.largest(across), 4)
        tap = Tap(y, x, math.exact(math.number(1)), is_used)
        return Taps((tap,), share, is_used, is_used)
