"""Independent test oracle: docs/semantics.md sections 2, 3 and 5 in plain loops.

Nothing here is fast and nothing is shared with the package. Values are float64. Coordinates of the
operators follow the operators' own float type (`coordinate_dtype`), since a rounding to a cell or a
ceil can turn on the last bit. Sizes are (height, width), RoIs are `batch_index, x1, y1, x2, y2` in
image pixels, `spatial_scale` is cells per image pixel.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

Array: TypeAlias = NDArray[np.float64]
FloatType: TypeAlias = type[np.float32] | type[np.float64]
Row: TypeAlias = dict[str, float | int | str | None]


# --- section 2: RoI Align ---------------------------------------------------------------------


def sampling_points(
    roi: ArrayLike,
    output_size: tuple[int, int] = (7, 7),
    spatial_scale: float = 1.0,
    sampling_ratio: int = 2,
    aligned: bool = True,
    sampling_grid: str = "quarters",
    coordinate_dtype: FloatType = np.float64,
) -> tuple[Array, Array]:
    """The coordinates in cells where one RoI (5,) is sampled: ys (P_h, n_h), xs (P_w, n_w).

    Section 2, bullets 1, 2 and thirds. Adaptive n is ceil(bin size); not positive: no points.
    """
    t = coordinate_dtype
    _, x1, y1, x2, y2 = (t(v) for v in np.asarray(roi))
    offset = t(0.5) if aligned else t(0)
    axes = []
    for low, high, count in ((y1, y2, output_size[0]), (x1, x2, output_size[1])):
        start = low * t(spatial_scale) - offset
        extent = high * t(spatial_scale) - offset - start
        if not aligned:
            extent = max(extent, t(1))
        size = extent / t(count)
        n = sampling_ratio if sampling_ratio > 0 else max(math.ceil(size), 0)
        points = np.zeros((count, n), dtype=np.float64)
        for p in range(count):
            for i in range(n):
                if sampling_grid == "quarters":
                    points[p, i] = start + t(p) * size + (t(i) + t(0.5)) * size / t(n)
                elif sampling_grid == "thirds":
                    points[p, i] = start + t(p) * size + t(i + 1) * size / t(n + 1)
                else:
                    raise ValueError(f"unknown sampling grid {sampling_grid!r}")
        axes.append(points)
    return axes[0], axes[1]


def corners(y: float, x: float, height: int, width: int) -> list[tuple[int, int, float]]:
    """(row, column, weight) of the four cells a point is read from; [] outside (section 2)."""
    if y < -1 or y > height or x < -1 or x > width:
        return []
    y = min(max(y, 0.0), height - 1.0)
    x = min(max(x, 0.0), width - 1.0)
    y0, x0 = math.floor(y), math.floor(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    ly, lx = y - y0, x - x0
    return [
        (y0, x0, (1 - ly) * (1 - lx)),
        (y0, x1, (1 - ly) * lx),
        (y1, x0, ly * (1 - lx)),
        (y1, x1, ly * lx),
    ]


def roi_align(
    features: ArrayLike,
    rois: ArrayLike,
    *,
    output_size: tuple[int, int] = (7, 7),
    spatial_scale: float = 1.0,
    sampling_ratio: int = 2,
    aligned: bool = True,
    mode: str = "avg",
    sampling_grid: str = "quarters",
    coordinate_dtype: FloatType | None = None,
) -> Array:
    """RoI Align (section 2): features (N, C, H, W), rois (K, 5) -> (K, C, P_h, P_w).

    `coordinate_dtype` None is "the tensor's float type": float64 for float64 features, otherwise
    float32. A point outside is a sample of value 0, in `avg` and in `max`; no samples give 0.
    """
    if mode not in ("avg", "max"):
        raise ValueError(f"unknown mode {mode!r}")
    if coordinate_dtype is None:
        wide = np.asarray(features).dtype == np.float64
        coordinate_dtype = np.float64 if wide else np.float32
    options = (output_size, spatial_scale, sampling_ratio, aligned, sampling_grid, coordinate_dtype)
    maps, boxes = np.asarray(features).astype(np.float64), np.asarray(rois)
    _, channels, height, width = maps.shape
    out = np.zeros((len(boxes), channels, *output_size), dtype=np.float64)
    for k, roi in enumerate(boxes):
        image = maps[int(roi[0])]
        ys, xs = sampling_points(roi, *options)
        for ph in range(output_size[0]):
            for pw in range(output_size[1]):
                samples = []
                for y in ys[ph]:
                    for x in xs[pw]:
                        value = np.zeros(channels, dtype=np.float64)
                        for row, column, weight in corners(float(y), float(x), height, width):
                            value += weight * image[:, row, column]
                        samples.append(value)
                if samples and mode == "avg":
                    out[k, :, ph, pw] = np.mean(samples, axis=0)
                elif samples:
                    out[k, :, ph, pw] = np.max(samples, axis=0)
    return out


# --- section 3: RoI Pool ----------------------------------------------------------------------


class AxisBins(NamedTuple):
    """One axis of a quantized box, in cells before clipping.

    start, size: B = [start, start + size). edges: the P bins, half-open [low, high).
    """

    start: float
    size: float
    edges: list[tuple[int, int]]


def round_half_away(value: float) -> int:
    """C's `round`, exact for every float: 0.5 -> 1, 2.5 -> 3, -0.5 -> -1 (section 1)."""
    whole = math.floor(abs(value))
    if abs(value) - whole >= 0.5:
        whole += 1
    return whole if value >= 0 else -whole


def _axis_bins(
    x1: float, x2: float, count: int, scale: float, quantization: str, partition: str, t: FloatType
) -> AxisBins:
    """Both quantizations of one axis, in the float type t (section 3)."""
    low, high, s = t(x1), t(x2), t(scale)
    edges: list[tuple[int, int]] = []
    if quantization == "mmcv":
        if partition != "overlap":
            raise ValueError("mmcv goes with partition overlap only")
        begin = low * s
        extent = (high + t(1)) * s - begin
        for p in range(count):
            first = t(p) * (extent / t(count)) + begin
            last = t(p + 1) * (extent / t(count)) + begin
            edges.append((math.floor(first), math.ceil(last)))
        return AxisBins(float(begin), float(extent), edges)
    if quantization == "caffe":
        start = round_half_away(float(low * s))
        size = round_half_away(float(high * s)) - start + 1
    elif quantization == "floor":
        start, size = math.floor(low * s), math.floor((high - low) * s)
    elif quantization == "round":
        start = round_half_away(float(low * s))
        size = round_half_away(float(high * s)) - start
    elif quantization == "half-even":
        start = round(float(low * s))
        size = round(float(high * s)) - start
    elif quantization == "hull":
        start = math.floor(low * s)
        size = math.ceil(high * s) - start
    else:
        raise ValueError(f"unknown quantization {quantization!r}")
    size = max(size, 1)
    for p in range(count):
        if partition == "overlap":
            step = t(size) / t(count)
            left, right = math.floor(t(p) * step), math.ceil(t(p + 1) * step)
        elif partition == "disjoint":
            left, right = p * size // count, (p + 1) * size // count
        elif partition == "floor-size":
            left, right = p * (size // count), (p + 1) * (size // count)
        else:
            raise ValueError(f"unknown partition {partition!r}")
        edges.append((start + left, start + right))
    return AxisBins(float(start), float(size), edges)


def bins(
    roi: ArrayLike,
    output_size: tuple[int, int] = (7, 7),
    spatial_scale: float = 1.0,
    quantization: str = "caffe",
    partition: str = "overlap",
    coordinate_dtype: FloatType = np.float32,
) -> tuple[AxisBins, AxisBins]:
    """(y axis, x axis) of one RoI (5,): B and its bins in cells, before clipping (section 3).

    An mmcv box without positive size on either axis has only empty bins, [floor(start),
    floor(start)) on both axes; its B keeps the (negative or zero) size.
    """
    _, x1, y1, x2, y2 = (float(v) for v in np.asarray(roi))
    options = (spatial_scale, quantization, partition, coordinate_dtype)
    axes = [
        _axis_bins(y1, y2, output_size[0], *options),
        _axis_bins(x1, x2, output_size[1], *options),
    ]
    if quantization == "mmcv" and min(axis.size for axis in axes) <= 0:
        for i, axis in enumerate(axes):
            cell = math.floor(axis.start)
            axes[i] = AxisBins(axis.start, axis.size, [(cell, cell)] * output_size[i])
    return axes[0], axes[1]


def _clip(edges: list[tuple[int, int]], cells: int) -> list[tuple[int, int]]:
    """Half-open bins cut to [0, cells)."""
    return [(min(max(low, 0), cells), min(max(high, 0), cells)) for low, high in edges]


def roi_pool(
    features: ArrayLike,
    rois: ArrayLike,
    *,
    output_size: tuple[int, int] = (7, 7),
    spatial_scale: float = 1.0,
    quantization: str = "caffe",
    partition: str = "overlap",
    coordinate_dtype: FloatType = np.float32,
) -> Array:
    """RoI Pool (section 3): features (N, C, H, W), rois (K, 5) -> (K, C, P_h, P_w)."""
    options = (output_size, spatial_scale, quantization, partition, coordinate_dtype)
    maps, boxes = np.asarray(features).astype(np.float64), np.asarray(rois)
    _, channels, height, width = maps.shape
    out = np.zeros((len(boxes), channels, *output_size), dtype=np.float64)
    for k, roi in enumerate(boxes):
        y_axis, x_axis = bins(roi, *options)
        for ph, (top, bottom) in enumerate(_clip(y_axis.edges, height)):
            for pw, (left, right) in enumerate(_clip(x_axis.edges, width)):
                if bottom > top and right > left:
                    cells = maps[int(roi[0]), :, top:bottom, left:right]
                    out[k, :, ph, pw] = cells.max(axis=(1, 2))
    return out


# --- section 5: quantization error ------------------------------------------------------------


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator > 0 else None


def _common(a_low: float, a_high: float, b_low: float, b_high: float) -> float:
    """Length of the intersection of two intervals, 0 where they miss or one is empty."""
    return max(0.0, min(a_high, b_high) - max(a_low, b_low))


def _coordinate_error(coordinates: list[float], stored_dtype: DTypeLike) -> float:
    """Stage 0: half the spacing of the stored type at the coordinate, the largest, in px."""
    dtype = np.dtype(stored_dtype)
    if dtype.kind in "iu":
        return 0.5
    return max(float(np.spacing(np.abs(np.asarray(c, dtype)))) / 2 for c in coordinates)


def quantization_error(
    rois: ArrayLike,
    *,
    output_size: tuple[int, int] = (7, 7),
    spatial_scale: float,
    quantization: str = "caffe",
    partition: str = "overlap",
    pixel_model: str = "half-pixel",
    map_size: tuple[int, int] | None = None,
    stored_dtype: DTypeLike = np.float32,
    coordinate_dtype: FloatType = np.float32,
) -> list[Row]:
    """The geometric columns of section 5, one dict per RoI of rois (K, 5), in its order.

    R is box * s in float64. map_size is (H, W). A ratio to a zero or negative size is None.
    """
    if pixel_model not in ("half-pixel", "legacy"):
        raise ValueError(f"unknown pixel model {pixel_model!r}")
    moved = 0.5 if pixel_model == "legacy" else 0.0
    stride = 1.0 / spatial_scale
    options = (output_size, spatial_scale, quantization, partition, coordinate_dtype)
    rows: list[Row] = []
    for k, roi in enumerate(np.asarray(rois)):
        x1, y1, x2, y2 = (float(v) for v in roi[1:])
        y_axis, x_axis = bins(roi, *options)
        area_px = max(0.0, x2 - x1) * max(0.0, y2 - y1)
        row: Row = {"roi": k, "batch_index": int(roi[0])}
        row["size_class"] = "small" if area_px < 32**2 else "medium" if area_px < 96**2 else "large"
        row |= {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
        row["coordinate_error_px"] = _coordinate_error([x1, y1, x2, y2], stored_dtype)
        # R and Q in cells, Q in the pixel model
        left, top, right, bottom = (v * spatial_scale for v in (x1, y1, x2, y2))
        q_left = min(low for low, _ in x_axis.edges) - moved
        q_right = max(high for _, high in x_axis.edges) - moved
        q_top = min(low for low, _ in y_axis.edges) - moved
        q_bottom = max(high for _, high in y_axis.edges) - moved
        errors = []
        edges_q, edges_r = (q_left, q_top, q_right, q_bottom), (left, top, right, bottom)
        for name, q, r in zip(("x1", "y1", "x2", "y2"), edges_q, edges_r, strict=True):
            row[f"quantized_{name}"] = q
            row[f"{name}_error_cells"] = q - r
            row[f"{name}_error_px"] = (q - r) * stride
            errors.append(abs(q - r))
        row["edge_error_max_px"] = max(errors) * stride
        row["edge_error_mean_px"] = sum(errors) / 4 * stride
        shift_x = (q_left + q_right) / 2 - (left + right) / 2
        shift_y = (q_top + q_bottom) / 2 - (top + bottom) / 2
        row["shift_x_cells"], row["shift_y_cells"] = shift_x, shift_y
        row["shift_px"] = math.hypot(shift_x, shift_y) * stride
        empty = q_right <= q_left or q_bottom <= q_top  # then "iou 0, ratios 0": both of them
        row["width_ratio"] = _ratio(0.0 if empty else q_right - q_left, right - left)
        row["height_ratio"] = _ratio(0.0 if empty else q_bottom - q_top, bottom - top)
        # areas
        area_r = max(0.0, right - left) * max(0.0, bottom - top)
        area_q = (q_right - q_left) * (q_bottom - q_top)
        both = _common(left, right, q_left, q_right) * _common(top, bottom, q_top, q_bottom)
        row["iou"] = both / (area_r + area_q - both) if area_q > 0 else 0.0
        row["area_lost_cells"] = area_r - both
        row["area_gained_cells"] = area_q - both
        row["area_lost_fraction"] = _ratio(area_r - both, area_r)
        row["area_gained_fraction"] = _ratio(area_q - both, area_r)
        row["clipped_fraction"] = None
        if map_size is not None:  # the map is [0, W) x [0, H), moved with Q
            inside = _common(q_left, q_right, -moved, map_size[1] - moved)
            inside *= _common(q_top, q_bottom, -moved, map_size[0] - moved)
            row["clipped_fraction"] = _ratio(area_q - inside, area_q)
        # bins: both edges of every bin of both axes
        stage2, total = [], []
        for axis, r_low, r_high in ((x_axis, left, right), (y_axis, top, bottom)):
            count = len(axis.edges)
            for p, pair in enumerate(axis.edges):
                for step, edge in ((p, pair[0]), (p + 1, pair[1])):
                    stage2.append(abs(edge - (axis.start + step * axis.size / count)))
                    total.append(abs(edge - moved - (r_low + step * (r_high - r_low) / count)))
        mean = sum(stage2) / len(stage2)
        row["bin_edge_error_mean"], row["bin_edge_error_max"] = mean, max(stage2)
        row["bin_edge_error_mean_px"] = mean * stride
        row["bin_edge_error_max_px"] = max(stage2) * stride
        row["total_edge_error_mean_px"] = sum(total) / len(total) * stride
        row["total_edge_error_max_px"] = max(total) * stride
        for name, axis in (("x", x_axis), ("y", y_axis)):
            extents = _ratio(float(sum(high - low for low, high in axis.edges)), axis.size)
            row[f"bin_overlap_{name}"] = None if extents is None else extents - 1
        y_bins, x_bins = y_axis.edges, x_axis.edges
        if map_size is not None:
            y_bins, x_bins = _clip(y_bins, map_size[0]), _clip(x_bins, map_size[1])
        row["empty_bins"] = sum(
            1 for y0, y1_ in y_bins for x0, x1_ in x_bins if y1_ <= y0 or x1_ <= x0
        )
        rows.append(row)
    return rows


def value_error(
    pool: ArrayLike,
    align_avg: ArrayLike,
    align_max: ArrayLike,
    warp_max: ArrayLike,
    *,
    pooled_region_empty: bool = False,
) -> dict[str, float | None]:
    """The value columns and the attribution of one RoI (section 5), arrays (C, P_h, P_w).

    None where a norm it divides by is 0; the shares also where Q is empty.
    """
    a, b, c, d = (np.asarray(v, dtype=np.float64) for v in (pool, align_avg, align_max, warp_max))
    delta = a - b
    norm_a, norm_b = math.sqrt(float((a * a).sum())), math.sqrt(float((b * b).sum()))
    squared = 0.0 if pooled_region_empty else float((delta * delta).sum())
    return {
        "value_error_max": float(np.abs(delta).max()),
        "value_error_mean": float(np.abs(delta).mean()),
        "value_error_relative_l2": _ratio(math.sqrt(float((delta * delta).sum())), norm_b),
        "value_cosine": _ratio(float((a * b).sum()), norm_a * norm_b),
        "share_stage1": _ratio(float(((d - c) * delta).sum()), squared),
        "share_stage2": _ratio(float(((a - d) * delta).sum()), squared),
        "share_aggregation": _ratio(float(((c - b) * delta).sum()), squared),
    }
