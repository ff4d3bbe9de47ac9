"""What a diagnosis looks at: a few RoIs, channels and bins of the inputs and of the result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from roicli.analysis.diagnose.candidates import Wanted
from roicli.analysis.diagnose.distance import Yardstick
from roicli.analysis.roi_sample import choose_visits, rows_of, spread
from roicli.core.exceptions import InputError
from roicli.core.norms import find_exponents
from roicli.core.record import frozen
from roicli.core.types import Array, FloatArray, IntArray
from roicli.operators.sampled_map import Bins, SampledMap
from roicli.pipeline.features import MapBuffer
from roicli.pipeline.inputs import Inputs
from roicli.pipeline.order import MapVisit
from roicli.storage.array import StoredArray

MAPS = 8
CHANNELS = 32
# Cells below which a minimum extent, or crop_and_resize's ends, may tell.
SMALL = 1.5
# Bins an axis, evenly spread.
BINS = 14
# Samples of one RoI at the densest candidate, and values of all its channels.
MAX_SAMPLES, MAX_VALUES = 1 << 18, 1 << 22
DENSEST = 4
# Cells of a RoI at its own scale: the candidate at twice the scale samples each four times.
MAX_CELLS = MAX_SAMPLES // 4
# Roundings of the operator's own arithmetic, in units of the dtype that it computes in.
ROUNDINGS = 4


class RoiKinds(NamedTuple):
    """Which of S RoIs are out of the ordinary (masks (S,)): ``without_size`` have no positive
    sides, ``off_map`` reach past their map, ``near_border`` are near its border, and ``small`` are
    smaller than about a cell.
    """

    without_size: Array
    off_map: Array
    near_border: Array
    small: Array

    def take(self, places: IntArray) -> RoiKinds:
        """Those of some of the RoIs."""
        return RoiKinds(*(mask[places] for mask in self))

    @property
    def special(self) -> Array:
        """(S,) RoIs on which rules for the border or a minimum extent may tell."""
        return np.asarray(self.near_border | self.small)

    @property
    def ordinary(self) -> Array:
        """(S,) RoIs that are nothing of all this."""
        return np.asarray(~(self.special | self.off_map | self.without_size))


@frozen
class Sample:
    """S RoIs on a few maps, and the result's values there, (S, C, r, c) float64.

    ``rows`` (S,) are the RoIs' numbers. Where bins read channels of their own the maps hold those
    of each channel of the result one after another; ``position_maps`` are for results that take the
    first of each group, and so on. ``rounding`` is what the result's own dtype, and the operator's
    arithmetic, may have lost of a value, relative to its size.
    """

    maps: tuple[SampledMap, ...]
    position_maps: tuple[SampledMap, ...]
    bins: Bins
    result: FloatArray
    rows: IntArray
    kinds: RoiKinds
    wanted: Wanted
    groups: int
    rounding: float = 0.0

    @property
    def yardstick(self) -> Yardstick:
        """What distances of values from the result are measured by."""
        return Yardstick(self.result, self.rounding)

    @property
    def says_nothing(self) -> Array:
        """(S,) RoIs whose values are one number: 0, not finite, or the same in all bins. Fills, and
        what lies off the map, are so under many conventions.
        """
        flat = self.result.reshape(len(self.result), -1)
        usual = (flat == 0) | ~np.isfinite(flat)
        same = (flat == flat[:, :1]) & (flat.shape[1] > 1)
        return np.asarray((usual | same).all(axis=1))

    def take(self, places: IntArray, channels: Array, bins: int = BINS) -> Sample:
        """Some of the RoIs (sorted places), of the channels, and so many bins an axis."""
        groups = np.arange(self.groups)
        read = (channels[:, None] * self.groups + groups).reshape(-1)
        maps = _take_maps(self.maps, places, read)
        position_maps = maps
        if self.groups > 1:
            position_maps = _take_maps(self.position_maps, places, read)
        rows, columns = (spread(np.arange(n), bins) for n in self.result.shape[2:])
        looked_at = Bins(self.bins.output_size, self.bins.rows[rows], self.bins.columns[columns])
        return replace(
            self,
            maps=maps,
            position_maps=position_maps,
            bins=looked_at,
            result=self.result[np.ix_(places, channels, rows, columns)],
            rows=self.rows[places],
            kinds=self.kinds.take(places),
        )

    def reasons(self) -> dict[str, Array]:
        """What may set RoIs (S,) apart from others, the rarer first; the last is true of all."""
        return {
            "NaN or infinite in the result": np.asarray(
                ~np.isfinite(self.result).all(axis=(1, 2, 3))
            ),
            "without positive size": self.kinds.without_size,
            "reaching past the map": self.kinds.off_map,
            "near the map's border": self.kinds.near_border,
            "smaller than a cell or two": self.kinds.small,
            "with other numbers": np.ones(len(self.rows), bool),
        }

    def take_rois(self, places: IntArray) -> Sample:
        """Some of the RoIs (sorted places), with everything else."""
        return self.take(places, np.arange(self.result.shape[1]))


def _take_maps(
    maps: Sequence[SampledMap], places: IntArray, channels: IntArray
) -> tuple[SampledMap, ...]:
    """Some RoIs (places in all maps' RoIs, one after another) and channels."""
    kept, start = [], 0
    for one in maps:
        here = places[(places >= start) & (places < start + len(one.corners))] - start
        start += len(one.corners)
        if len(here):
            features, corners = one.feature_map[channels], one.corners[here]
            kept.append(replace(one, feature_map=features, corners=corners))
    return tuple(kept)


def read_sample(
    inputs: Inputs,
    result: StoredArray,
    count: int | None,
    wanted: Wanted,
    angle: float = 0.0,
) -> Sample:
    """RoIs of all sizes, and the channels that vary most. Raises InputError where there is none.

    What is not finite in the maps or the result stays so. With an ``angle`` in degrees upright RoIs
    are turned by it.
    """
    assert inputs.pyramid is not None
    visits = choose_visits(inputs.rois, inputs.map_of_roi, ~find_too_large(inputs), count, MAPS)
    if not visits:
        raise InputError(
            f"{inputs.rois_name}: every RoI covers more than {MAX_CELLS:,} cells, too many to try",
            "check the RoIs and the spatial scale",
        )
    height, width = result.shape[2:]
    bins = Bins((height, width), *(spread(np.arange(side), BINS) for side in (height, width)))
    rows = rows_of(visits)
    stored = _read_rows(result, rows, bins)
    if not np.isfinite(stored).any():
        raise InputError(f"{result.name}: holds NaN or infinity wherever it was looked at")
    groups = inputs.pyramid.channels // result.shape[1]
    limit = max(1, _channel_limit(inputs, rows, stored) // groups)
    channels = varied_channels(stored, limit)
    number = np.arange(groups)
    orders = [(channels[:, None] * groups + number).reshape(-1)]
    if groups > 1:
        orders.append((channels[:, None] + number * result.shape[1]).reshape(-1))
    maps = _read_maps(inputs, visits, orders, angle)
    values = stored[:, channels].astype(np.float64)
    kinds = _find_kinds(inputs, rows, maps[0])
    rounding = ROUNDINGS * float(np.finfo(inputs.pyramid.compute_dtype).eps) / 2
    if result.precision.mantissa_bits is not None:
        rounding = max(rounding, 0.5 ** (result.precision.mantissa_bits + 1))
    return _in_ordinary_numbers(
        Sample(maps[0], maps[-1], bins, values, rows, kinds, wanted, groups, rounding)
    )


def _read_maps(
    inputs: Inputs, visits: Sequence[MapVisit], orders: Sequence[IntArray], angle: float
) -> list[tuple[SampledMap, ...]]:
    """The maps of all visits with their RoIs, once for each order of channels."""
    pyramid, rois = inputs.pyramid, inputs.rois
    assert pyramid is not None
    corners = rois.corners if rois.turned is None else rois.turned
    corners = corners.astype(pyramid.compute_dtype)
    buffer, maps = MapBuffer(pyramid.compute_dtype), []
    for visit in visits:
        level = pyramid.levels[visit.level]
        whole = level.read_image(visit.image, buffer)
        maps.append([
            SampledMap(
                whole[channels].astype(np.float64), corners[visit.rows], level.spatial_scale,
                angle=angle,
            )
            for channels in orders
        ])  # fmt: skip
    return list(zip(*maps, strict=True))


def _find_kinds(inputs: Inputs, rows: IntArray, maps: Sequence[SampledMap]) -> RoiKinds:
    """The kinds of the RoIs ``rows``, which the maps hold one after another."""
    counts = [len(one.corners) for one in maps]
    scale = np.repeat([one.spatial_scale for one in maps], counts)[:, None]
    size = np.repeat([one.feature_map.shape[:0:-1] * 2 for one in maps], counts, axis=0)
    cells, sides = inputs.rois.corners[rows] * scale, inputs.rois.sides[rows]
    return RoiKinds(
        without_size=np.any(sides <= 0, axis=1),
        off_map=np.any((cells < 0) | (cells > size), axis=1),
        near_border=np.any((cells < 1) | (cells > size - 1.5), axis=1),
        small=np.any(sides * scale < SMALL, axis=1),
    )


def _in_ordinary_numbers(sample: Sample) -> Sample:
    """Maps and result over one power of two, where squares of the maps' numbers fit no float64.

    Every candidate gives as much less then.
    """
    finite = [np.where(np.isfinite(m.feature_map), m.feature_map, 0.0) for m in sample.maps]
    exponent = max(int(find_exponents(values.reshape(1, -1))[0]) for values in finite)
    if abs(exponent) > np.finfo(np.float64).maxexp or exponent == 0:
        return sample
    factor = 2.0**-exponent
    maps, position_maps = (
        tuple(replace(m, feature_map=m.feature_map * factor) for m in part)
        for part in (sample.maps, sample.position_maps)
    )
    with np.errstate(over="ignore"):
        result = sample.result * factor
    return replace(sample, maps=maps, position_maps=position_maps, result=result)


def _read_rows(result: StoredArray, rows: IntArray, bins: Bins) -> Array:
    """(S, C, r, c) of the stored result."""
    item = np.empty(result.shape[1:], result.dtype)
    shape = (len(rows), result.shape[1], len(bins.rows), len(bins.columns))
    stored = np.empty(shape, result.dtype)
    for place, row in enumerate(rows):
        result.read_item_into(int(row), item)
        stored[place] = item[:, bins.rows][:, :, bins.columns]
    return stored


def find_too_large(inputs: Inputs) -> Array:
    """(K,) RoIs that would take too many samples at twice the scale."""
    return _count_cells(inputs, np.arange(len(inputs.rois))) > MAX_CELLS


def _count_cells(inputs: Inputs, rows: IntArray) -> FloatArray:
    """(k,) cells that RoIs cover at their own scale, an axis at least one, for legacy RoIs do."""
    scales = np.array([place.spatial_scale for place in inputs.places])[inputs.map_of_roi[rows]]
    with np.errstate(over="ignore"):
        sides = np.abs(inputs.rois.sides[rows]) * scales[:, None]
        return np.asarray(np.maximum(sides, 1.0).prod(axis=1))


def _channel_limit(inputs: Inputs, rows: IntArray, result: Array) -> int:
    """How many channels keep one RoI's samples in memory."""
    cells = 4 * _count_cells(inputs, rows)
    samples = max(float(cells.max()), math.prod(result.shape[2:]) * DENSEST**2)
    return int(np.clip(MAX_VALUES // samples, 1, CHANNELS))


def varied_channels(result: Array, count: int) -> IntArray:
    """The channels that tell most, in their order: those that vary most within RoIs, for what is
    constant on each map varies between these; of results with one bin, those that vary.
    """
    wide = result.astype(np.float64)
    bins = (2, 3) if wide[0, 0].size > 1 else (0, 2, 3)
    with np.errstate(over="ignore"):
        spreads = np.where(np.isfinite(wide), wide, 0.0).std(axis=bins)
    if spreads.ndim == 2:
        spreads = spreads.mean(axis=0)
    return np.sort(np.argsort(-spreads, kind="stable")[:count])


def norms_of(result: FloatArray) -> FloatArray:
    """(S,) L2 norms of the RoIs of a result (S, C, r, c); what is not finite counts as 0."""
    finite = np.where(np.isfinite(result), result, 0.0)
    return np.asarray(np.sqrt(np.einsum("kcyx,kcyx->k", finite, finite)))
