"""The arithmetic of one bin, step by step: RoI Align's, and RoI Pool's beside it.

Every position comes from ``geometry`` and every value is rounded in the operator's own float type
and order, so the outcome can be held against the operator's bit for bit.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, Unpack, overload

import numpy as np

from roicli.analysis.bin_reading import BinReading, check_bin_reading, read_bin
from roicli.analysis.explanation import (
    AlignedBin,
    Check,
    Corner,
    EdgeError,
    Edges,
    Explanation,
    PooledBin,
    Sample,
    Span,
)
from roicli.analysis.one_roi import (
    RoiOnMap,
    check_bin,
    check_index,
    open_roi,
    operator_looked_at,
    read_stored_value,
)
from roicli.core.declaration import check_known, record, settle
from roicli.core.exceptions import ParameterError
from roicli.core.look_options import ExplainOneOptions, ExplainOptions
from roicli.core.operator_table import Operator
from roicli.core.types import Array, FloatArray, RoIs, Size
from roicli.core.vocabulary import PixelModel
from roicli.error_table.geometric import MODEL_OFFSET, quantize_errors
from roicli.operators.geometry import (
    AxisBins,
    Neighbours,
    align_boxes,
    dropped_samples,
    find_neighbours,
    operator_points,
    quantize_rois,
)
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.operators.rounding import scale_to_cells
from roicli.operators.taps import TapSpec
from roicli.pipeline.features import FeatureArgument
from roicli.pipeline.request import RunRequest
from roicli.storage.limits import external_files
from roicli.storage.open import inputs_unchanged

# Sampling points or cells of one bin that are listed: those of the largest fixed ratio, 256 x 256.
MAX_LISTED = 1 << 16


@record(ExplainOneOptions)
class ExplainRequest(RunRequest):
    """What was asked of ``explain``."""

    roi: int
    channel: int
    bin_index: Size
    result: str | os.PathLike[str] | Array | None
    operator: Operator | None


@overload
def explain(
    features: FeatureArgument,
    rois: FeatureArgument,
    **options: Unpack[ExplainOptions],
) -> Explanation: ...


@overload
def explain(
    features: FeatureArgument,
    rois: FeatureArgument,
    **options: Unpack[ExplainOneOptions],
) -> Explanation | BinReading: ...


@inputs_unchanged()
def explain(
    features: FeatureArgument,
    rois: FeatureArgument,
    **options: Unpack[ExplainOneOptions],
) -> Explanation | BinReading:
    """The arithmetic of one bin (row, column) of one RoI, and whether it equals the operators'.

    ``features`` and ``rois`` as for ``align``. Both operators are really run, and their values of
    the bin stand in ``checks``; ``result`` is a stored one (K, C, P_h, P_w) to check too. With
    ``operator`` that one alone is explained, its weighted cells, as a ``BinReading``. Raises
    RoicliError, naming the range of what is outside it.
    """
    check_known("explain", options, ExplainOneOptions)
    request = settle(ExplainRequest, options)
    operator = operator_looked_at(request, request.operator)
    roi, channel, bin_index = request.roi, request.channel, request.bin_index
    opened = open_roi(features, rois, roi, request, operator)
    if request.operator is not None or isinstance(opened.spec, TapSpec):
        return _explain_one(opened, request, operator)
    check_index("channel", channel, len(opened.feature_map))
    check_bin(bin_index, opened.align.output_size)
    channel_map, corners = opened.feature_map[channel], opened.rois.corners[0]
    aligned = explain_align(channel_map, corners.astype(channel_map.dtype), opened.align, bin_index)
    pooled = explain_pool(channel_map, opened.rois, opened.pool, opened.pixel_model, bin_index)
    x1, y1, x2, y2 = map(float, corners)
    checks = _check(opened, request, aligned, pooled)
    return Explanation(
        roi, int(opened.rois.batch_index[0]), channel, bin_index, opened.align.output_size,
        1 / opened.align.spatial_scale, opened.pixel_model, channel_map.dtype.name,
        (x1, y1, x2, y2), aligned, pooled, opened.features_name, opened.rois_name, checks,
    )  # fmt: skip


def _explain_one(opened: RoiOnMap, request: ExplainRequest, operator: Operator) -> BinReading:
    """One operator's bin, and whether it is what the operator gives."""
    channel, bin_index = request.channel, request.bin_index
    check_index("channel", channel, opened.result_shape[1])
    check_bin(bin_index, opened.spec.output_size)
    reading = read_bin(opened, operator, request.roi, channel, bin_index)
    ran = float(opened.run(opened.spec)[(channel, *bin_index)])
    checks = [check_bin_reading(reading, ran, "ran", reading.dtype)]
    if request.result is not None:
        with external_files(request.allow_external):
            stored, name = read_stored_value(request.result, opened, channel, bin_index)
        checks.append(check_bin_reading(reading, float(stored), name, stored.dtype.name))
    return replace(reading, checks=tuple(checks))


def _check(
    opened: RoiOnMap, request: ExplainRequest, aligned: AlignedBin, pooled: PooledBin
) -> tuple[Check, ...]:
    """Both values against the operators' own and, where there is one, a stored result's."""
    channel, bin_index = request.channel, request.bin_index
    place = (channel, *bin_index)
    checks = [
        Check("align", "ran", aligned.value, float(opened.run(opened.align)[place])),
        Check("pool", "ran", pooled.maximum, float(opened.run(opened.pool)[place])),
    ]
    if request.result is not None:
        with external_files(request.allow_external):
            stored, name = read_stored_value(request.result, opened, channel, bin_index)
        # A result may be stored in a shorter dtype; the explanation is rounded to it as it was.
        checks += [
            replace(check, source=name, explained=float(stored.dtype.type(check.explained)),
                    found=float(stored))
            for check in checks
        ]  # fmt: skip
    return tuple(checks)


def explain_align(
    channel_map: FloatArray, corners: FloatArray, spec: AlignSpec, bin_index: Span
) -> AlignedBin:
    """RoI Align of one bin of one RoI (He et al. 2017, section 3).

    ``channel_map`` (H, W); ``corners`` (4,) x1, y1, x2, y2 in image pixels, in the map's dtype.
    """
    start, extent = (part[0] for part in align_boxes(corners[None], spec))
    bins = np.array(spec.output_size[::-1], corners.dtype)
    size = extent / bins
    step = corners.dtype.type(0.5 if spec.aligned else 0)
    low = start + step + np.array(bin_index[::-1], corners.dtype) * size
    x_points, y_points = operator_points(corners, spec)
    y, x = y_points[bin_index[0]], x_points[bin_index[1]]
    if len(y) * len(x) > MAX_LISTED:
        raise ParameterError(
            f"bin {bin_index[0]},{bin_index[1]} has {len(y):,} x {len(x):,} sampling points, "
            f"expected at most {MAX_LISTED:,} to explain one by one",
            "give --sampling-ratio 2 or a larger --output-size, or check coordinates and scale",
        )
    # A map may hold NaN and infinities, and its numbers may be near the largest.
    with np.errstate(invalid="ignore", over="ignore"):
        samples = _interpolate(channel_map, y, x, float(step))
        grid = np.array([sample.value for sample in samples], corners.dtype)
        grid = grid.reshape(len(y), len(x))
        mean, greatest = _mean(grid, spec), _greatest(grid)
    box = np.concatenate([start, start + extent])
    return AlignedBin(
        spec.sampling_ratio, spec.aligned, spec.mode, spec.sampling_grid,
        _edges(scale_to_cells(corners, spec.spatial_scale)), _edges(box),
        (float(extent[1]), float(extent[0])), (float(size[1]), float(size[0])),
        _edges(np.concatenate([low, low + size])),
        _touched(low[1], size[1], spec), _touched(low[0], size[0], spec),
        (len(y), len(x)), samples, mean, greatest,
    )  # fmt: skip


def _touched(low: float, size: float, spec: AlignSpec) -> Span:
    """The first and the last cell that a bin reaches into; legacy cells are centred at i."""
    edge = low if spec.aligned else low + 0.5
    first = int(np.floor(edge))
    return first, max(int(np.ceil(edge + size)) - 1, first)


def _interpolate(
    channel_map: FloatArray, y: FloatArray, x: FloatArray, step: float
) -> tuple[Sample, ...]:
    """Every sample of a bin, row by row."""
    rows, columns = (find_neighbours(p, n) for p, n in zip((y, x), channel_map.shape, strict=True))
    samples = []
    for i in range(len(y)):
        for j in range(len(x)):
            on_map = rows.on_map[i] and columns.on_map[j]
            corners, value = _weigh(channel_map, rows, i, columns, j) if on_map else ((), 0.0)
            place = float(y[i]), float(x[j])
            before = place[0] + step, place[1] + step
            samples.append(Sample(i, j, *place, *before, corners, value))
    return tuple(samples)


def _weigh(
    channel_map: FloatArray, rows: Neighbours, i: int, columns: Neighbours, j: int
) -> tuple[tuple[Corner, ...], float]:
    """The four corners of one sample, and their weighted sum in the operator's order."""
    value: Any = None
    corners: list[Corner] = []
    for y, height in ((cells[i], weights[i]) for cells, weights in rows.sides):
        for x, width in ((cells[j], weights[j]) for cells, weights in columns.sides):
            weight, cell = height * width, channel_map[y, x]
            value = weight * cell if value is None else value + weight * cell
            corners.append(Corner(int(y), int(x), *map(float, (cell, height, width, weight))))
    return tuple(corners), float(value)


def _mean(grid: FloatArray, spec: AlignSpec) -> float:
    """The mean of a bin's samples (n_y, n_x), added in the operator's order; 0 without samples.

    RoiAlign adds one by one, row after row; a mean of thirds adds each row first (graphs).
    """
    total = grid.dtype.type(0)
    for row in grid if dropped_samples(spec.sampling_grid) else grid.reshape(-1, 1):
        line = row[0] if len(row) else total
        for value in row[1:]:
            line = line + value
        total = total + line
    return float(total / grid.dtype.type(max(grid.size, 1)))


def _greatest(grid: FloatArray) -> float:
    """The greatest of a bin's samples, NaN where one of them is; 0 without samples."""
    return float(grid.max()) if grid.size else 0.0


def explain_pool(
    channel_map: FloatArray, rois: RoIs, spec: PoolSpec, model: PixelModel, bin_index: Span
) -> PooledBin:
    """RoI Pool of one bin of one RoI (Girshick 2015, section 2.1), and what its rounding did.

    ``channel_map`` (H, W); ``rois`` holds the one RoI, in image pixels.
    """
    axes = quantize_rois(rois.corners.astype(channel_map.dtype), spec)
    x_axis, y_axis = axes
    rows, columns = (
        tuple(int(edge[0, number]) for edge in axis.clipped(cells))
        for axis, cells, number in zip((y_axis, x_axis), channel_map.shape, bin_index, strict=True)
    )
    window = channel_map[slice(*rows), slice(*columns)]
    if window.size > MAX_LISTED:
        raise ParameterError(
            f"bin {bin_index[0]},{bin_index[1]} of RoI Pool has {window.shape[0]:,} x "
            f"{window.shape[1]:,} cells, expected at most {MAX_LISTED:,} to explain one by one",
            "give a larger --output-size, or check coordinates and scale",
        )
    at = np.unravel_index(int(np.argmax(window)), window.shape) if window.size else None
    errors = quantize_errors(rois, spec, model, None, channel_map.dtype)
    region = [float(axis.region_start[0]) for axis in axes]
    region += [float(axis.region_end[0]) for axis in axes]
    box = [float(axis.box_start[0]) for axis in axes] + [float(axis.box_end[0]) for axis in axes]
    return PooledBin(
        spec.quantization, spec.partition, _edges(np.array(box)), _edges(np.array(region)),
        _spans(x_axis), _spans(y_axis), (rows[0], rows[1]), (columns[0], columns[1]),
        tuple(tuple(map(float, line)) for line in window),
        float(window[at]) if at else 0.0,
        (rows[0] + int(at[0]), columns[0] + int(at[1])) if at else None,
        _box_edges(rois, spec, model, np.array(box), np.array(region)),
        _bin_edges(rois, spec, model, axes, bin_index),
        *(float(errors[name][0]) for name in ("iou", "area_lost_cells", "area_gained_cells")),
    )  # fmt: skip


def _box_edges(
    rois: RoIs, spec: PoolSpec, model: PixelModel, box: FloatArray, region: FloatArray
) -> tuple[EdgeError, ...]:
    """The four edges of the box: R, B and Q."""
    real, offset = rois.corners[0] * spec.spatial_scale, MODEL_OFFSET[model]
    names, stride = ("x1", "y1", "x2", "y2"), 1 / spec.spatial_scale
    places = zip(names, real, box + offset, region + offset, strict=True)
    return tuple(EdgeError(name, float(r), float(b), float(q), stride) for name, r, b, q in places)


def _bin_edges(
    rois: RoIs, spec: PoolSpec, model: PixelModel, axes: tuple[AxisBins, AxisBins], bin_index: Span
) -> tuple[EdgeError, ...]:
    """The four edges of a bin: equal division of R, equal division of B, the bin's own."""
    real, offset, edges = rois.corners[0] * spec.spatial_scale, MODEL_OFFSET[model], {}
    for axis, (bins, letter) in enumerate(zip(axes, "xy", strict=True)):
        number, count = bin_index[1 - axis], bins.start.shape[1]
        low, high = float(bins.box_start[0]), float(bins.box_end[0])
        for side, own in ((0, bins.start[0, number]), (1, bins.end[0, number])):
            part = (number + side) / count
            edges[f"{letter}{side + 1}"] = EdgeError(
                f"{letter}{side + 1}",
                float(real[axis] + part * (real[axis + 2] - real[axis])),
                low + part * (high - low) + offset,
                float(own) + offset,
                1 / spec.spatial_scale,
            )
    return tuple(edges[name] for name in ("x1", "y1", "x2", "y2"))


def _spans(axis: AxisBins) -> tuple[Span, ...]:
    return tuple((int(a), int(b)) for a, b in zip(axis.start[0], axis.end[0], strict=True))


def _edges(values: Array) -> Edges:
    x1, y1, x2, y2 = (float(value) for value in values)
    return x1, y1, x2, y2
