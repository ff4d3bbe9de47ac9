"""One bin of any operator that reads cells with weights: its samples, their cells, their sum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from roicli.analysis.explanation import Check, Edges, Span
from roicli.core.exceptions import ParameterError
from roicli.core.operator_table import Operator
from roicli.core.record import frozen
from roicli.core.shown import Shown
from roicli.core.types import FloatArray, Size
from roicli.operators.taps import Taps, TapSpec

if TYPE_CHECKING:
    from roicli.analysis.one_roi import RoiOnMap

# As many samples of one bin are listed as of RoI Align's.
MAX_LISTED = 1 << 16


@frozen
class WeightedCell:
    """One cell of the map, with its weight in a sample."""

    y: int
    x: int
    value: float
    weight: float


@frozen
class BinSample:
    """One sample (row, column in its bin): where it lies, in cells, cell i centred at i, None for
    a whole cell; the ``cells`` that it is made of, none off the map; and its value.
    """

    row: int
    column: int
    y: float | None
    x: float | None
    cells: tuple[WeightedCell, ...]
    value: float


@frozen
class BinReading(Shown):
    """The worked example of an operator: one bin (row, column) of one RoI on one channel.

    ``map_channel`` is the channel of the map that the bin reads, ``share`` what a sample counts;
    ``value`` is in float64, and ``bound`` how far a right result may be from it. ``options`` are
    the operator's.
    """

    operator: Operator
    title: str
    options: dict[str, Any]
    roi: int
    batch_index: int
    channel: int
    map_channel: int
    bin_index: Span
    output_size: Span
    stride: float
    dtype: str
    corners_px: Edges
    grid: Span
    share: float
    takes_maximum: bool
    samples: tuple[BinSample, ...]
    value: float
    bound: float
    features_name: str = ""
    rois_name: str = ""
    checks: tuple[Check, ...] = ()


def read_bin(
    opened: RoiOnMap, operator: Operator, roi: int, channel: int, bin_index: Size
) -> BinReading:
    """What one bin of the opened RoI's ``operator`` reads.

    Raises ParameterError for one of another kind.
    """
    spec, feature_map = opened.spec, opened.feature_map
    if not isinstance(spec, TapSpec):
        raise ParameterError(
            f"{spec.name} is explained without --operator, or not bin by bin",
            "drop --operator for RoI Align and RoI Pool",
        )
    corners = spec.numbers_of(opened.rois)[0].astype(feature_map.dtype)
    _, height, width = feature_map.shape
    taps = spec.taps_of(corners[None], (height, width), is_exact=True)
    grid = np.broadcast_shapes(*(np.shape(part) for part in (taps.is_used, *taps.taps[0])))[3:]
    if grid[0] * grid[1] > MAX_LISTED:
        raise ParameterError(
            f"bin {bin_index[0]},{bin_index[1]} has {grid[0]:,} x {grid[1]:,} samples, expected at "
            f"most {MAX_LISTED:,} to explain one by one",
            "give a larger --output-size, or check coordinates and scale",
        )
    here = spec.input_channels(slice(channel, channel + 1))
    group = spec.group_of_bin(bin_index)
    ((_, expected),) = spec.expect(feature_map[here], corners)
    samples = _read_samples(feature_map[here.start + group], taps, spec, bin_index, grid)
    share = np.broadcast_to(taps.share, (1, *spec.output_size, 1, 1))[0][bin_index].item()
    x1, y1, x2, y2 = map(float, opened.rois.corners[0])
    return BinReading(
        operator, spec.name, spec.describe(), roi, int(opened.rois.batch_index[0]),
        channel, here.start + group, bin_index, spec.output_size, 1 / spec.spatial_scale,
        feature_map.dtype.name, (x1, y1, x2, y2), (grid[0], grid[1]), float(share),
        spec.takes_maximum, samples, float(expected.values[0][bin_index]),
        float(expected.bound[0][bin_index]), opened.features_name, opened.rois_name,
    )  # fmt: skip


def check_bin_reading(reading: BinReading, found: float, source: str, dtype: str) -> Check:
    """The value held against a result's, which may be stored in a shorter dtype."""
    kind = np.dtype(dtype)
    explained = float(kind.type(reading.value))
    rounding = float(np.spacing(np.abs(kind.type(reading.value)))) if source != "ran" else 0.0
    return Check(reading.operator, source, explained, found, reading.bound + rounding)


def _read_samples(
    channel_map: FloatArray, taps: Taps, spec: TapSpec, bin_index: Size, grid: tuple[int, ...]
) -> tuple[BinSample, ...]:
    """The samples of a bin that there are, row by row."""
    whole = (1, *spec.output_size, *grid)

    def at(values: Any, place: tuple[int, int]) -> Any:
        return np.broadcast_to(values, whole)[(0, *bin_index, *place)].item()

    samples = []
    for place in np.ndindex(grid[0], grid[1]):
        if not at(taps.is_used, place):
            continue
        points = None if taps.points is None else [at(axis, place) for axis in taps.points]
        cells = tuple(
            _read_cell(channel_map, at(tap.y, place), at(tap.x, place), at(tap.weight, place))
            for tap in taps.taps
            if at(taps.is_read, place) and at(tap.is_read, place)
        )
        weighted = [cell.weight * cell.value for cell in cells]
        value = max(weighted, default=0.0) if spec.corners_apart else sum(weighted)
        value = value if at(taps.is_read, place) else spec.outside
        y, x = points or (None, None)
        samples.append(BinSample(place[0], place[1], y, x, cells, float(value)))
    return tuple(samples)


def _read_cell(channel_map: FloatArray, y: int, x: int, weight: float) -> WeightedCell:
    return WeightedCell(y, x, float(channel_map[y, x]), float(weight))
