"""One bin of one RoI as a worked example: the records. ``explaining`` fills them."""

from __future__ import annotations

from math import isnan
from typing import assert_never

from roicli.core.operator_table import Operator
from roicli.core.record import frozen
from roicli.core.shown import Drawn, Shown
from roicli.core.vocabulary import Mode, Partition, PixelModel, Quantization, SamplingGrid

Edges = tuple[float, float, float, float]
Span = tuple[int, int]


@frozen
class Corner:
    """One of the four cells around a sampling point.

    ``weight`` is the area of the diagonally opposite rectangle, ``height`` x ``width`` cells.
    """

    y: int
    x: int
    value: float
    height: float
    width: float
    weight: float


@frozen
class Sample:
    """One sampling point (row, column of the bin's grid) and what it is interpolated from.

    ``y``, ``x`` in cells, cell i centred at i (after the half-pixel step, where there is one);
    ``y_before_step``, ``x_before_step`` in image pixels times the scale. Off the map there are no
    corners, and the value is 0.
    """

    row: int
    column: int
    y: float
    x: float
    y_before_step: float
    x_before_step: float
    corners: tuple[Corner, ...]
    value: float


@frozen
class AlignedBin:
    """RoI Align of one bin. Edges are x1, y1, x2, y2 in cells, sizes (height, width) in cells."""

    sampling_ratio: int
    aligned: bool
    mode: Mode
    sampling_grid: SamplingGrid
    box_before_step: Edges
    box: Edges
    size: tuple[float, float]
    bin_size: tuple[float, float]
    bin_before_step: Edges
    cell_rows: Span
    cell_columns: Span
    grid: Span
    samples: tuple[Sample, ...]
    mean: float
    maximum: float

    @property
    def value(self) -> float:
        """What the operator gives."""
        match self.mode:
            case "avg":
                return self.mean
            case "max":
                return self.maximum
            case _:
                assert_never(self.mode)


@frozen
class EdgeError:
    """One edge, in cells of the pixel model: real, after rounding the box, after rounding the bins.

    Stage 1 is ``boxed - real``, stage 2 ``quantized - boxed``; the stride turns both into pixels.
    For an edge of the whole box ``boxed`` is the edge of B.
    """

    edge: str
    real: float
    boxed: float
    quantized: float
    stride: float

    @property
    def stage1_cells(self) -> float:
        """What rounding the box does."""
        return self.boxed - self.real

    @property
    def stage2_cells(self) -> float:
        """What rounding the bins does."""
        return self.quantized - self.boxed

    @property
    def total_cells(self) -> float:
        """Both."""
        return self.quantized - self.real

    @property
    def stage1_px(self) -> float:
        """What rounding the box does, in image pixels."""
        return self.stage1_cells * self.stride

    @property
    def stage2_px(self) -> float:
        """What rounding the bins does, in image pixels."""
        return self.stage2_cells * self.stride

    @property
    def total_px(self) -> float:
        """Both, in image pixels."""
        return self.total_cells * self.stride


@frozen
class PooledBin:
    """RoI Pool of one bin. Spans are half-open, in cells; ``rows``, ``columns`` are on the map.

    ``x_bins``, ``y_bins``: every bin of the RoI before clipping; ``box`` is B, ``region`` Q, x1,
    y1, x2, y2 in cells where cell i covers [i, i + 1). ``maximum_at`` (y, x) is None for an empty
    bin, whose maximum is 0.
    """

    quantization: Quantization
    partition: Partition
    box: Edges
    region: Edges
    x_bins: tuple[Span, ...]
    y_bins: tuple[Span, ...]
    rows: Span
    columns: Span
    values: tuple[tuple[float, ...], ...]
    maximum: float
    maximum_at: Span | None
    box_edges: tuple[EdgeError, ...]
    bin_edges: tuple[EdgeError, ...]
    iou: float
    area_lost_cells: float
    area_gained_cells: float

    @property
    def cells(self) -> tuple[int, int, int, int] | None:
        """The first and last cells of the box, x1, y1, x2, y2; None where it is not whole."""
        if any(edge != int(edge) for edge in self.box):
            return None
        x1, y1, x2, y2 = map(int, self.box)
        return x1, y1, x2 - 1, y2 - 1

    @property
    def size(self) -> tuple[float, float]:
        """The height and width of the box, in cells."""
        x1, y1, x2, y2 = self.box
        return y2 - y1, x2 - x1


@frozen
class Check:
    """A value of the explanation held against the operator's: ``source`` "ran" or a file's name.

    ``bound`` is how far rounding may take the one from the other; 0 where their bits are the same.
    """

    operator: Operator
    source: str
    explained: float
    found: float
    bound: float = 0.0

    @property
    def difference(self) -> float:
        """Found minus explained; 0 where both are the same number, or both none."""
        return 0.0 if self.equal else self.found - self.explained

    @property
    def equal(self) -> bool:
        """Whether both are the same number; NaN in the map makes both NaN."""
        if isnan(self.found) or isnan(self.explained):
            return isnan(self.found) and isnan(self.explained)
        return self.found == self.explained or abs(self.found - self.explained) <= self.bound


@frozen
class Explanation(Shown, Drawn):
    """The worked example: one bin (row, column) of one RoI on one channel.

    ``corners_px`` are x1, y1, x2, y2 in image pixels, ``stride`` pixels a cell; ``align`` and
    ``pool`` say what each operator reads for the bin, ``checks`` whether that is what it gives.
    """

    roi: int
    batch_index: int
    channel: int
    bin_index: Span
    output_size: Span
    stride: float
    pixel_model: PixelModel
    dtype: str
    corners_px: Edges
    align: AlignedBin
    pool: PooledBin
    features_name: str = ""
    rois_name: str = ""
    checks: tuple[Check, ...] = ()
