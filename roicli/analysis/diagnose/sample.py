"""What a diagnosis looks at: a few RoIs, channels and bins of the inputs and of the result."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from roicli.analysis.diagnose.values import Bins, SampledMap
from roicli.analysis.roi_sample import areas, choose_visits, rows_of, spread
from roicli.core.exceptions import InputError
from roicli.core.types import Array, FloatArray, IntArray
from roicli.pipeline.features import MapBuffer
from roicli.pipeline.inputs import Inputs
from roicli.storage.array import StoredArray

MAPS = 8
CHANNELS = 32
# Bins an axis, evenly spread.
BINS = 14
# Samples of one RoI at the densest candidate, and values of all its channels.
MAX_SAMPLES, MAX_VALUES = 1 << 18, 1 << 22
DENSEST = 4


@dataclass(frozen=True)
class Sample:
    """S RoIs on a few maps, and the result's values there, (S, C, r, c) float64."""

    maps: tuple[SampledMap, ...]
    bins: Bins
    result: FloatArray

    def take(self, places: IntArray, channels: Array, bins: int = BINS) -> Sample:
        """Some of the RoIs (sorted places), of the channels, and so many bins an axis."""
        maps, start = [], 0
        for one in self.maps:
            here = places[(places >= start) & (places < start + len(one.corners))] - start
            start += len(one.corners)
            if len(here):
                corners, features = one.corners[here], one.feature_map[channels]
                maps.append(SampledMap(features, corners, one.spatial_scale))
        rows, columns = (spread(np.arange(n), bins) for n in self.result.shape[2:])
        kept = Bins(self.bins.output_size, self.bins.rows[rows], self.bins.columns[columns])
        return Sample(tuple(maps), kept, self.result[np.ix_(places, channels, rows, columns)])


def read_sample(inputs: Inputs, result: StoredArray, count: int | None) -> Sample:
    """RoIs of all sizes whose result is finite, and the channels that vary most.

    Raises InputError where no RoI is usable.
    """
    pyramid = inputs.pyramid
    assert pyramid is not None
    output_size = result.shape[2], result.shape[3]
    visits = choose_visits(inputs.rois, inputs.map_of_roi, _usable(inputs), count, MAPS)
    if not visits:
        raise InputError(
            f"{inputs.rois_name}: no RoI has positive sides and at most {MAX_SAMPLES} samples",
            "check the RoIs and the spatial scale",
        )
    bins = Bins(output_size, *(spread(np.arange(side), BINS) for side in output_size))
    stored = _read_rows(result, rows_of(visits), bins)
    finite: Array = np.all(np.isfinite(stored).reshape(len(stored), -1), axis=1)
    if not finite.any():
        raise InputError(f"{result.name}: holds NaN or infinity in every RoI that was looked at")
    channels = varied_channels(stored[finite], _channel_limit(inputs, rows_of(visits), stored))
    values = stored[finite][:, channels].astype(np.float64)
    maps, start = [], 0
    buffer = MapBuffer(pyramid.compute_dtype)
    corners = inputs.rois.corners.astype(pyramid.compute_dtype)
    for visit in visits:
        rows = visit.rows[finite[start : start + len(visit.rows)]]
        start += len(visit.rows)
        level = pyramid.levels[visit.level]
        whole = level.read_image(visit.image, buffer)[channels].astype(np.float64)
        # A cell that is not finite is in no RoI whose result is.
        feature_map = np.nan_to_num(whole, nan=0.0, posinf=0.0, neginf=0.0)
        maps.append(SampledMap(feature_map, corners[rows], level.spatial_scale))
    return Sample(tuple(maps), bins, values)


def _read_rows(result: StoredArray, rows: IntArray, bins: Bins) -> Array:
    """(S, C, r, c) of the stored result."""
    item = np.empty(result.shape[1:], result.dtype)
    shape = (len(rows), result.shape[1], len(bins.rows), len(bins.columns))
    stored = np.empty(shape, result.dtype)
    for place, row in enumerate(rows):
        result.read_item_into(int(row), item)
        stored[place] = item[:, bins.rows][:, :, bins.columns]
    return stored


def _usable(inputs: Inputs) -> Array:
    """(K,) RoIs that have an inside, and not too many samples at twice the scale."""
    corners = inputs.rois.corners
    scales = np.array([place.spatial_scale for place in inputs.places])[inputs.map_of_roi]
    positive = np.all(corners[:, 2:] > corners[:, :2], axis=1)
    usable: Array = positive & (areas(corners) * (2 * scales) ** 2 <= MAX_SAMPLES)
    return usable


def _channel_limit(inputs: Inputs, rows: IntArray, result: Array) -> int:
    """How many channels keep one RoI's samples in memory."""
    scales = np.array([place.spatial_scale for place in inputs.places])[inputs.map_of_roi[rows]]
    cells = areas(inputs.rois.corners[rows]) * (2 * scales) ** 2
    samples = max(float(cells.max()), math.prod(result.shape[2:]) * DENSEST**2)
    return int(np.clip(MAX_VALUES // samples, 1, CHANNELS))


def varied_channels(result: Array, count: int) -> IntArray:
    """The channels that tell most: those with the largest spread, in their order."""
    spreads = result.astype(np.float64).std(axis=(0, 2, 3))
    return np.sort(np.argsort(-spreads, kind="stable")[:count])


def norms_of(result: FloatArray) -> FloatArray:
    """(S,) L2 norms of the RoIs of a result (S, C, r, c)."""
    return np.asarray(np.sqrt(np.einsum("kcyx,kcyx->k", result, result)))
