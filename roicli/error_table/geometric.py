"""What rounding does to K RoIs: the geometric columns of the error table, in pure NumPy.

R is the real box in cells, B the box after quantization 1, Q the union of the bins
(docs/semantics.md, 5). Edges of Q come from the operator's own arithmetic, R is in float64.
"""

from __future__ import annotations

import numpy as np

from roicli.core.norms import divide_where_positive
from roicli.core.types import Array, FloatArray, IntArray, RoIs, Size
from roicli.core.vocabulary import SIZE_CLASSES, PixelModel
from roicli.operators.geometry import AxisBins, quantize_rois
from roicli.operators.roi_pool import PoolSpec

SMALL_AREA_PX, MEDIUM_AREA_PX = 32.0**2, 96.0**2
# Cell i is [i, i + 1) in half-pixel coordinates; its centre is at i in legacy ones.
MODEL_OFFSET: dict[PixelModel, float] = {"half-pixel": 0.0, "legacy": -0.5}


def quantize_errors(
    rois: RoIs,
    spec: PoolSpec,
    pixel_model: PixelModel,
    map_size: Size | IntArray | None,
    compute_dtype: type[np.floating] | np.dtype[np.floating] = np.float32,
) -> dict[str, Array]:
    """Every geometric column of K RoIs on one map, but for ``roi`` and ``level``.

    ``map_size`` is (height, width) in cells, or (K, 2) of each RoI's map, or None where it is
    unknown (``clipped_fraction`` is then NaN). ``compute_dtype`` is the float type that the
    operator computes coordinates in. Returns arrays (K,) by column name; NaN is a value that is not
    defined.
    """
    axes = quantize_rois(rois.corners.astype(compute_dtype), spec)
    real = rois.corners * spec.spatial_scale
    offset = MODEL_OFFSET[pixel_model]
    quantized = np.stack(
        [axes[0].region_start, axes[1].region_start, axes[0].region_end, axes[1].region_end], axis=1
    ).astype(np.float64)
    columns: dict[str, Array] = {
        "batch_index": rois.batch_index,
        "size_class": size_classes(rois.corners),
        **dict(zip(("x1", "y1", "x2", "y2"), rois.corners.T, strict=True)),
        "coordinate_error_px": rois.coordinate_error_px,
        "clipped_fraction": _clipped_fraction(quantized, map_size),
        "empty_bins": _empty_bins(axes, map_size),
    }
    columns |= _edge_columns(quantized + offset, real, 1.0 / spec.spatial_scale)
    columns |= _area_columns(quantized + offset, real)
    columns |= _bin_columns(axes, real, offset, 1.0 / spec.spatial_scale)
    return columns


def size_classes(corners: FloatArray) -> Array:
    """(K,) COCO size classes as bytes, from the box area in image pixels (cocoeval areaRng)."""
    area = _area(corners)
    index = np.digitize(area, [SMALL_AREA_PX, MEDIUM_AREA_PX])
    names: Array = np.array([name.encode() for name in SIZE_CLASSES], "S6")[index]
    return names


def _sides(boxes: FloatArray) -> FloatArray:
    return np.asarray(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0))


def _area(boxes: FloatArray) -> FloatArray:
    return np.asarray(np.prod(_sides(boxes), axis=1))


def _edge_columns(quantized: FloatArray, real: FloatArray, stride: float) -> dict[str, Array]:
    """Stage 1: the signed error of each edge, the shift of the centre, the ratio of the sides."""
    error = quantized - real
    absolute_px = np.abs(error) * stride
    shift = (error[:, :2] + error[:, 2:]) / 2
    extent, q_extent = real[:, 2:] - real[:, :2], quantized[:, 2:] - quantized[:, :2]
    columns: dict[str, Array] = {
        "edge_error_max_px": absolute_px.max(axis=1, initial=0.0),
        "edge_error_mean_px": absolute_px.mean(axis=1),
        "shift_x_cells": shift[:, 0],
        "shift_y_cells": shift[:, 1],
        "shift_px": np.hypot(shift[:, 0], shift[:, 1]) * stride,
    }
    empty = np.any(q_extent <= 0, axis=1)
    for axis, name in enumerate(("width_ratio", "height_ratio")):
        columns[name] = divide_where_positive(
            np.where(empty, 0.0, q_extent[:, axis]), extent[:, axis]
        )
    for index, edge in enumerate(("x1", "y1", "x2", "y2")):
        columns[f"quantized_{edge}"] = quantized[:, index]
        columns[f"{edge}_error_cells"] = error[:, index]
        columns[f"{edge}_error_px"] = error[:, index] * stride
    return columns


def _area_columns(quantized: FloatArray, real: FloatArray) -> dict[str, Array]:
    """Stage 1: what the rounded region misses of the real box, and what it adds."""
    common = np.concatenate(
        [np.maximum(quantized[:, :2], real[:, :2]), np.minimum(quantized[:, 2:], real[:, 2:])],
        axis=1,
    )
    shared, area, q_area = _area(common), _area(real), _area(quantized)
    # The overlap is rounded on its own; no area may come out a hair below zero.
    lost, gained = np.maximum(area - shared, 0.0), np.maximum(q_area - shared, 0.0)
    union = area + q_area - shared
    return {
        "iou": np.where(union > 0, np.nan_to_num(divide_where_positive(shared, union)), 0.0),
        "area_lost_cells": lost,
        "area_gained_cells": gained,
        "area_lost_fraction": divide_where_positive(lost, area),
        "area_gained_fraction": divide_where_positive(gained, area),
    }


def _bin_columns(
    axes: tuple[AxisBins, AxisBins], real: FloatArray, offset: float, stride: float
) -> dict[str, Array]:
    """Stage 2, and both stages together: both edges of every bin, both axes."""
    stage2, total, columns = [], [], {}
    for axis, (name, bins) in enumerate(zip(("bin_overlap_x", "bin_overlap_y"), axes, strict=True)):
        count = bins.start.shape[1]
        part = np.arange(count + 1) / count
        low, high = real[:, axis, None], real[:, axis + 2, None]
        box_low, box_high = bins.box_start[:, None], bins.box_end[:, None]
        equal, true = box_low + part * (box_high - box_low), low + part * (high - low)
        edges = (bins.start, bins.end)
        for side, edge in zip((slice(0, -1), slice(1, None)), edges, strict=True):
            stage2.append(np.abs(edge - equal[:, side]))
            total.append(np.abs(edge + offset - true[:, side]))
        length = bins.box_end - bins.box_start
        columns[name] = divide_where_positive((bins.end - bins.start).sum(axis=1), length) - 1.0
    bin_errors, total_errors = np.concatenate(stage2, axis=1), np.concatenate(total, axis=1)
    mean, largest = bin_errors.mean(axis=1), bin_errors.max(axis=1)
    return columns | {
        "bin_edge_error_mean": mean,
        "bin_edge_error_max": largest,
        "bin_edge_error_mean_px": mean * stride,
        "bin_edge_error_max_px": largest * stride,
        "total_edge_error_mean_px": total_errors.mean(axis=1) * stride,
        "total_edge_error_max_px": total_errors.max(axis=1) * stride,
    }


def _clipped_fraction(quantized: FloatArray, map_size: Size | IntArray | None) -> FloatArray:
    """Share of Q outside the map; not defined without a map or for an empty Q."""
    if map_size is None:
        return np.full(len(quantized), np.nan)
    inside = np.clip(quantized, 0, np.asarray(map_size)[..., [1, 0, 1, 0]])
    area = _area(quantized)
    return divide_where_positive(area - _area(inside), area)


def _empty_bins(axes: tuple[AxisBins, AxisBins], map_size: Size | IntArray | None) -> Array:
    """Bins without a cell: of the map where it is known, else of the bin itself."""
    filled = []
    for axis, bins in zip((1, 0), axes, strict=True):
        start, end = bins.start, bins.end
        if map_size is not None:
            start, end = bins.clipped(np.asarray(map_size)[..., axis, None])
        filled.append((end > start).sum(axis=1))
    return np.asarray(axes[0].start.shape[1] * axes[1].start.shape[1] - filled[0] * filled[1])
