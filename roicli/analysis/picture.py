"""One RoI as a picture in data: cells, boxes, areas, bin edges and sampling points.

Positions are in cells of the pixel model (half-pixel: cell i covers [i, i + 1); legacy: it is
centred at i), so a position times the stride is in image pixels. Every one comes from ``geometry``.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from roicli.analysis.explain import explain_align
from roicli.analysis.explanation import AlignedBin
from roicli.core.exceptions import ParameterError
from roicli.core.record import frozen
from roicli.core.shown import Drawn
from roicli.core.types import FloatArray, FloatType, RoIs, Size
from roicli.core.vocabulary import PixelModel
from roicli.error_table.geometric import MODEL_OFFSET
from roicli.operators.geometry import AxisBins, align_boxes, operator_points, quantize_rois
from roicli.operators.interface import OperatorSpec
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.operators.taps import TapSpec

# x1, y1, x2, y2
Box = tuple[float, float, float, float]
Interval = tuple[float, float]
Place = tuple[float, float]
# A picture shows this much around the boxes, in shares of their side and in cells.
MARGIN_SHARE, MARGIN_CELLS = 0.08, 1.0
# No picture is flatter or taller than this.
MOST_ELONGATED = 2.4


@frozen
class Picture(Drawn):
    """Everything that a drawing of one RoI shows.

    ``cells`` (h, w) are the values of the window, its first cell ``first_cell`` (row, column);
    cell i starts at ``i + cell_offset``. ``lost`` is R without Q, ``gained`` Q without R, as
    rectangles. ``align_x``, ``align_y``: bin edges (P + 1); ``pool_x``, ``pool_y``: bins (P).
    ``points_x`` (P_w * n,), ``points_y`` (P_h * n,): the sampling points are their grid.
    Of another ``operator`` than RoI Align these are empty, and ``lines`` and ``points`` stand for
    them, places (x, y). ``close_up`` is the bin to show closely, positions before ``point_offset``
    is added.
    """

    roi: int
    batch_index: int
    level: int | None
    channel: int | None
    stride: float
    pixel_model: PixelModel
    rounding: str
    window: Box
    cells: FloatArray
    first_cell: Size
    cell_offset: float
    real: Box
    quantized: Box
    lost: tuple[Box, ...]
    gained: tuple[Box, ...]
    align_x: tuple[float, ...]
    align_y: tuple[float, ...]
    pool_x: tuple[Interval, ...]
    pool_y: tuple[Interval, ...]
    points_x: tuple[float, ...]
    points_y: tuple[float, ...]
    map_size: Size
    bin_index: Size | None = None
    close_up: AlignedBin | None = None
    operator: str = "RoI Align"
    box_name: str = "real box"
    lines: tuple[tuple[Place, Place], ...] = ()
    points: tuple[Place, ...] | None = None

    @property
    def area_lost(self) -> float:
        """Area of R without Q, in cells."""
        return sum(map(measure_area, self.lost))

    @property
    def area_gained(self) -> float:
        """Area of Q without R, in cells."""
        return sum(map(measure_area, self.gained))

    @property
    def iou(self) -> float:
        """Intersection over union of R and Q, as in the error table."""
        shared = measure_area(self.real) - self.area_lost
        union = measure_area(self.quantized) + self.area_lost
        return shared / union if union > 0 else 0.0

    @property
    def edge_error_max_px(self) -> float:
        """The largest of the four absolute edge errors, as in the error table."""
        pairs = zip(self.quantized, self.real, strict=True)
        return max(abs(rounded - real) for rounded, real in pairs) * self.stride

    def describe(self) -> tuple[str, str]:
        """What the picture shows, in two lines."""
        shown = "mean of channels" if self.channel is None else f"channel {self.channel}"
        error = f"IoU {self.iou:.3f}, an edge up to {self.edge_error_max_px:.1f} px off"
        return (
            f"RoI {self.roi} on image {self.batch_index}, stride {self.stride:g}, {shown}",
            f"{self.rounding}: {error}",
        )

    @property
    def bin_box(self) -> Box:
        """RoI Align's bin that the picture shows closely."""
        row, column = self.bin_index or (0, 0)
        x, y = self.align_x, self.align_y
        return x[column], y[row], x[column + 1], y[row + 1]

    @property
    def point_offset(self) -> float:
        """From the operator's coordinates, cell i centred at i, to the picture's."""
        return 0.5 + self.cell_offset


def measure_area(box: Box) -> float:
    """Area in cells; a box with crossed corners has none."""
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def subtract(box: Box, other: Box) -> tuple[Box, ...]:
    """What of ``box`` lies outside ``other``, as up to four rectangles without overlap."""
    x1, y1, x2, y2 = box
    left, right = max(x1, other[0]), min(x2, other[2])
    top, bottom = max(y1, other[1]), min(y2, other[3])
    if x1 >= x2 or y1 >= y2:
        return ()
    if left >= right or top >= bottom:
        return (box,)
    parts = (
        (x1, y1, x2, top),
        (x1, bottom, x2, y2),
        (x1, top, left, bottom),
        (right, top, x2, bottom),
    )
    return tuple(part for part in parts if part[0] < part[2] and part[1] < part[3])


def frame(boxes: tuple[Box, ...]) -> Box:
    """The window that shows the boxes with a margin, not too elongated."""
    edges = np.array(boxes)
    low = np.minimum(edges[:, :2], edges[:, 2:]).min(axis=0)
    high = np.maximum(edges[:, :2], edges[:, 2:]).max(axis=0)
    margin = np.maximum(MARGIN_SHARE * (high - low), MARGIN_CELLS)
    low, high = low - margin, high + margin
    missing = np.maximum((high - low)[::-1] / MOST_ELONGATED - (high - low), 0) / 2
    low, high = low - missing, high + missing
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def build_picture(
    index: int,
    rois: RoIs,
    feature_map: FloatArray,
    align: AlignSpec,
    pool: PoolSpec,
    pixel_model: PixelModel,
    level: int | None = None,
    channel: int | None = None,
    bin_index: Size | None = None,
) -> Picture:
    """The picture of the one RoI of ``rois`` on its map (C, H, W); channel None is the mean."""
    offset, dtype = MODEL_OFFSET[pixel_model], feature_map.dtype
    corners = rois.corners.astype(dtype)
    real = rois.corners[0] * align.spatial_scale
    axes = quantize_rois(corners, pool)
    box = _as_box(real)
    region = [axis.region_start[0] for axis in axes] + [axis.region_end[0] for axis in axes]
    quantized = _as_box(np.array(region) + offset)
    shown = average_channels(feature_map) if channel is None else feature_map[channel]
    window = frame((box, quantized))
    cells, first = _cut(shown, window, offset)
    align_x, align_y = _align_edges(corners, align, offset + 0.5)
    points_x, points_y = operator_points(corners[0], align)
    close_up = None if bin_index is None else explain_align(shown, corners[0], align, bin_index)
    return Picture(
        roi=index,
        batch_index=int(rois.batch_index[0]),
        level=level,
        channel=channel,
        stride=1 / align.spatial_scale,
        pixel_model=pixel_model,
        rounding=f"{pool.quantization}, {pool.partition}",
        window=window,
        cells=cells,
        first_cell=first,
        cell_offset=offset,
        real=box,
        quantized=quantized,
        lost=subtract(box, quantized),
        gained=subtract(quantized, box),
        align_x=align_x,
        align_y=align_y,
        pool_x=_intervals(axes[0], offset),
        pool_y=_intervals(axes[1], offset),
        points_x=tuple(float(x) + offset + 0.5 for x in points_x.reshape(-1)),
        points_y=tuple(float(y) + offset + 0.5 for y in points_y.reshape(-1)),
        map_size=(shown.shape[0], shown.shape[1]),
        bin_index=bin_index,
        close_up=close_up,
    )


def average_channels(feature_map: FloatArray) -> FloatArray:
    """The mean (H, W) of a map (C, H, W), which may hold NaN, infinities and huge numbers."""
    with np.errstate(invalid="ignore"):
        mean: FloatArray = feature_map.mean(axis=0, dtype=np.float64)
    return mean


def scale_values(values: FloatArray) -> FloatArray:
    """Values from 0, the least that is finite, to 1, the greatest; NaN where one is not finite."""
    scaled: FloatArray = np.where(np.isfinite(values), values, np.nan).astype(np.float64)
    finite = scaled[~np.isnan(scaled)]
    if not finite.size:
        return scaled
    # Halved: a difference of the largest numbers is none.
    low, high = float(finite.min()) / 2, float(finite.max()) / 2
    return (scaled / 2 - low) / max(high - low, 1e-30)


def draw_operator(
    picture: Picture, spec: OperatorSpec, rois: RoIs, dtype: FloatType, map_size: Size
) -> Picture:
    """The picture with the bins and the points of another operator instead of RoI Align's.

    Raises ParameterError for one that has no such bins and points.
    """
    if not isinstance(spec, TapSpec):
        raise ParameterError(
            f"{spec.name} is drawn without --operator, or not at all", "drop --operator"
        )
    sketch = spec.sketch(spec.numbers_of(rois)[0].astype(dtype), map_size)
    lines, points = (part + picture.point_offset for part in sketch)
    return replace(
        picture,
        operator=spec.name,
        box_name="real box" if rois.turned is None else "enclosing box",
        align_x=(),
        align_y=(),
        points_x=(),
        points_y=(),
        lines=tuple((_as_place(start), _as_place(end)) for start, end in lines),
        points=tuple(_as_place(point) for point in points),
    )


def _as_place(place: FloatArray) -> Place:
    return float(place[0]), float(place[1])


def _intervals(bins: AxisBins, offset: float) -> tuple[Interval, ...]:
    """The bins of the one RoI on an axis, moved by ``offset``."""
    ends = zip(bins.start[0], bins.end[0], strict=True)
    return tuple((float(start) + offset, float(end) + offset) for start, end in ends)


def _as_box(edges: object) -> Box:
    x1, y1, x2, y2 = (float(edge) for edge in np.asarray(edges))
    return x1, y1, x2, y2


def _cut(shown: FloatArray, window: Box, offset: float) -> tuple[FloatArray, Size]:
    """The cells of the map (H, W) that the window touches, and the first of them."""
    height, width = shown.shape
    low = np.floor(np.array([window[1], window[0]]) - offset).astype(int)
    high = np.ceil(np.array([window[3], window[2]]) - offset).astype(int)
    top, left = np.clip(low, 0, [height, width]).tolist()
    bottom, right = np.clip(high, 0, [height, width]).tolist()
    return shown[top:bottom, left:right], (top, left)


def _align_edges(
    corners: FloatArray, spec: AlignSpec, offset: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The edges of RoI Align's bins, x and y, moved by ``offset``."""
    start, extent = align_boxes(corners, spec)
    x_edges, y_edges = (
        tuple(
            float(start[0, axis]) + offset + number / count * float(extent[0, axis])
            for number in range(count + 1)
        )
        for axis, count in enumerate(spec.output_size[::-1])
    )
    return x_edges, y_edges


def round_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from ``low`` to ``high``, at most about ``most``."""
    if not high > low:
        return [low]
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]
