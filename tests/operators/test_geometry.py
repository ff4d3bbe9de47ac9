"""Bin edges and sampling points: worked examples, the oracle, and what must hold for every box."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roicli.operators import geometry, rounding
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from tests import oracle
from tests.strategies import DOG_BOX, LONG_BOX, RULES, SCALES, boxes, examples, with_batch

FLOAT_TYPES = [np.float32, np.float64]


def quantized(box, spec, dtype=np.float32):
    """(x, y) AxisBins of one box."""
    return geometry.quantize_rois(np.array([box], dtype), spec)


def edges(axis):
    """[(start, end), ...] of the one RoI of an axis."""
    return list(zip(axis.start[0].tolist(), axis.end[0].tolist(), strict=True))


# --- rounding ---------------------------------------------------------------------------------


def test_halves_round_away_from_zero():
    values = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 0.2, -0.2, 4.0, 0.0])
    assert rounding.round_half_away(values).tolist() == [1, 2, 3, -1, -2, 0, 0, 4, 0]


@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_the_largest_float_below_a_half_rounds_to_zero(dtype):
    below = np.nextafter(dtype(0.5), dtype(0))
    rounded = rounding.round_half_away(np.array([below, -below]))
    assert rounded.dtype == dtype
    assert rounded.tolist() == [0, 0]


@given(st.floats(-(2.0**52), 2.0**52))
def test_rounding_is_exact_for_every_double(value):
    assert rounding.round_half_away(np.array([value]))[0] == oracle.round_half_away(value)


@pytest.mark.parametrize("value", [8388609.0, 16777216.0, 2.0**30])
def test_whole_numbers_too_big_for_a_fraction_stay(value):
    single = np.array([value, -value], np.float32)
    np.testing.assert_array_equal(rounding.round_half_away(single), single)


@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_scaling_uses_the_float32_attribute_in_the_type_of_the_coordinates(dtype):
    scaled = rounding.scale_to_cells(np.array([3.0], dtype), 0.1)
    assert scaled.dtype == dtype
    assert scaled[0] == dtype(3.0) * dtype(np.float32(0.1))


# --- RoI Pool ---------------------------------------------------------------------------------


@examples(200)
@given(
    rule=st.sampled_from(RULES),
    dtype=st.sampled_from(FLOAT_TYPES),
    corners=boxes(),
    scale=st.sampled_from(SCALES),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_every_rule_has_the_oracles_edges(rule, dtype, corners, scale, size):
    quantization, partition = rule
    scale = float(np.float32(scale))
    spec = PoolSpec(size, scale, quantization, partition)
    found = geometry.quantize_rois(corners.astype(dtype), spec)
    for row, roi in enumerate(with_batch(corners)):
        y_axis, x_axis = oracle.bins(roi, size, scale, quantization, partition, dtype)
        for axis, expected in zip(found, (x_axis, y_axis), strict=True):
            starts, ends = axis.start[row].tolist(), axis.end[row].tolist()
            assert list(zip(starts, ends, strict=True)) == expected.edges
            assert axis.box_start[row] == expected.start
            length = axis.box_end[row] - axis.box_start[row]
            assert length == pytest.approx(expected.size, rel=1e-4, abs=1e-4)


def test_w7_bins_of_the_long_box():
    x_axis, y_axis = quantized(LONG_BOX, PoolSpec((7, 7), 0.25))
    assert [(a - 230, b - 230) for a, b in edges(x_axis)] == [
        (0, 5), (4, 10), (9, 15), (14, 19), (18, 24), (23, 29), (28, 33),
    ]  # fmt: skip
    assert [(a - 69, b - 69) for a, b in edges(y_axis)] == [
        (0, 2), (1, 4), (3, 6), (5, 8), (7, 10), (9, 12), (11, 13),
    ]  # fmt: skip
    assert (x_axis.box_start[0], x_axis.box_end[0]) == (230, 263)
    assert (y_axis.region_start[0], y_axis.region_end[0]) == (69, 82)


@pytest.mark.parametrize(
    ("quantization", "partition", "region"),
    [
        pytest.param("floor", "overlap", (9, 6, 15, 10), id="W10"),
        pytest.param("floor", "floor-size", (9, 6, 15, 9), id="W10-tail"),
        pytest.param("caffe", "overlap", (9, 6, 17, 12), id="W11"),
    ],
)
def test_w10_w11_pooled_regions(quantization, partition, region):
    x_axis, y_axis = quantized(DOG_BOX, PoolSpec((3, 3), 1 / 32, quantization, partition))
    found = [x_axis.region_start, y_axis.region_start, x_axis.region_end, y_axis.region_end]
    assert tuple(int(edge[0]) for edge in found) == region


@pytest.mark.parametrize(
    ("box", "x_edges", "y_edges"),
    [
        pytest.param((0, 0, 7, 5), [(0, 3), (3, 7)], [(0, 2), (2, 5)], id="W12"),
        pytest.param((1, 2, 7, 7), [(1, 4), (4, 7)], [(2, 4), (4, 7)], id="W13"),
    ],
)
def test_w12_w13_disjoint_bins(box, x_edges, y_edges):
    x_axis, y_axis = quantized(box, PoolSpec((2, 2), 1.0, "round", "disjoint"))
    assert (edges(x_axis), edges(y_axis)) == (x_edges, y_edges)


def test_disjoint_bins_neither_drop_nor_repeat_a_cell():
    size = np.arange(1, 301)
    start = np.zeros_like(size)
    for bins in range(1, 15):
        low, high = rounding.partition_box(start, size, bins, "disjoint", np.dtype(np.float32))
        assert (low[:, 0] == 0).all()
        assert (high[:, -1] == size).all()
        np.testing.assert_array_equal(high[:, :-1], low[:, 1:])
        assert (high - low).max(axis=1).tolist() == [math.ceil(n / bins) for n in size]


def test_floor_size_bins_are_equal_and_side_by_side():
    size = np.arange(1, 301)
    start = np.zeros_like(size)
    for bins in range(1, 15):
        low, high = rounding.partition_box(start, size, bins, "floor-size", np.dtype(np.float32))
        assert ((high - low) == (size // bins)[:, None]).all()
        np.testing.assert_array_equal(high[:, :-1], low[:, 1:])


def test_single_precision_reads_the_58th_of_57_cells_and_double_does_not():
    box = (0, 0, 56, 56)
    assert edges(quantized(box, PoolSpec())[0])[-1] == (48, 58)
    assert edges(quantized(box, PoolSpec(), np.float64)[0])[-1] == (48, 57)


@given(corners=boxes(), cells=st.integers(1, 60))
def test_clipped_bins_lie_on_the_map(corners, cells):
    axis, _ = geometry.quantize_rois(corners, PoolSpec((3, 5)))
    start, end = axis.clipped(cells)
    assert start.min() >= 0
    assert end.max() <= cells
    inside = (axis.start >= 0) & (axis.end <= cells)
    np.testing.assert_array_equal(start[inside], axis.start[inside])
    np.testing.assert_array_equal(end[inside], axis.end[inside])


@pytest.mark.parametrize("quantization", ["floor", "round", "hull"])
@given(cells=st.lists(st.integers(0, 200), min_size=2, max_size=2), side=st.integers(1, 60))
def test_a_box_on_grid_lines_is_its_own_quantized_box(quantization, cells, side):
    x, y = cells
    box = np.array([x, y, x + side, y + side]) * 16
    x_axis, y_axis = quantized(box, PoolSpec((3, 3), 1 / 16, quantization))
    assert (x_axis.box_start[0], x_axis.box_end[0]) == (x, x + side)
    assert (y_axis.box_start[0], y_axis.box_end[0]) == (y, y + side)


def test_a_crossed_mmcv_box_has_bins_without_a_cell():
    x_axis, y_axis = quantized((5, 5, 3, 6), PoolSpec((2, 2), 1.0, "mmcv"))
    for axis in (x_axis, y_axis):
        assert (axis.start == axis.end).all()


# --- RoI Align --------------------------------------------------------------------------------


def points(box, spec, dtype=np.float64):
    """(ys, xs) of one box, each (bins, samples)."""
    start, extent = geometry.align_boxes(np.array([box], dtype), spec)
    counts = geometry.sampling_counts(extent, spec)
    x, y = (
        geometry.bin_points(
            start[:, axis], extent[:, axis], bins, int(counts[0, axis]), spec.sampling_grid
        )[0]
        for axis, bins in enumerate(spec.output_size[::-1])
    )
    return y, x


def test_w2_box_in_cells():
    spec = AlignSpec((7, 7), 0.25, aligned=False)
    start, extent = geometry.align_boxes(np.array([LONG_BOX]), spec)
    np.testing.assert_allclose(start[0], [230.0275, 69.2475], atol=1e-9)
    np.testing.assert_allclose(extent[0], [32.44, 11.2525], atol=1e-9)


@pytest.mark.parametrize(
    ("box", "spec", "ys", "xs"),
    [
        pytest.param(LONG_BOX, AlignSpec((7, 7), 0.25, 2, False), [69.649375, 70.453125],
                     [231.186071, 233.503214], id="W3"),
        pytest.param(LONG_BOX, AlignSpec((7, 7), 0.25, 2, True), [69.149375, 69.953125],
                     [230.686071, 233.003214], id="W5"),
        pytest.param(DOG_BOX, AlignSpec((3, 3), 1 / 32, 2, False, "avg", "thirds"),
                     [6.503472, 7.006944], [9.944444, 10.638889], id="W9-thirds"),
        pytest.param(DOG_BOX, AlignSpec((3, 3), 1 / 32, 2, False),
                     [6.377604, 7.132813], [9.770833, 10.8125], id="W9-quarters"),
    ],
)  # fmt: skip
def test_w3_w5_w9_first_sampling_points(box, spec, ys, xs):
    found_ys, found_xs = points(box, spec)
    np.testing.assert_allclose(found_ys[0], ys, atol=5e-7)
    np.testing.assert_allclose(found_xs[0], xs, atol=5e-7)


def test_w6_adaptive_grid_is_2_by_5():
    ys, xs = points(LONG_BOX, AlignSpec((7, 7), 0.25, 0))
    assert (ys.shape, xs.shape) == ((7, 2), (7, 5))


ALIGN_OPTIONS = {
    "aligned": st.booleans(),
    "ratio": st.integers(0, 4),
    "grid": st.sampled_from(["quarters", "thirds"]),
    "size": st.tuples(st.integers(1, 7), st.integers(1, 7)),
    "scale": st.sampled_from([float(np.float32(s)) for s in SCALES]),
}


@given(corners=boxes(1, 1), **ALIGN_OPTIONS)
def test_sampling_points_are_the_oracles(corners, aligned, ratio, grid, size, scale):
    spec = AlignSpec(size, scale, ratio, aligned, "avg", grid)
    roi = with_batch(corners)[0]
    expected = oracle.sampling_points(roi, size, scale, ratio, aligned, grid)
    for found, wanted in zip(points(corners[0], spec), expected, strict=True):
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


@given(corners=boxes(1, 4), **ALIGN_OPTIONS)
def test_single_samples_of_the_fine_grid_are_the_sampling_points(
    corners, aligned, ratio, grid, size, scale
):
    corners = corners.astype(np.float64)
    spec = AlignSpec(size, scale, ratio, aligned, "avg", grid)
    _, extent = geometry.align_boxes(corners, spec)
    counts = geometry.sampling_counts(extent, spec)
    fine = geometry.fine_grid_rois(corners, counts, spec)
    extra = int(grid == "thirds")
    for box, moved, (across, down) in zip(corners, fine, counts.tolist(), strict=True):
        steps = (size[0] * (down + extra), size[1] * (across + extra))
        if across == 0 or down == 0:
            continue
        single = AlignSpec(steps, scale, 1, aligned)
        for found, expected in zip(points(moved, single), points(box, spec), strict=True):
            kept = found.reshape(len(expected), -1)[:, : expected.shape[1]]
            np.testing.assert_allclose(kept, expected, rtol=1e-9, atol=1e-9)


@given(corners=boxes())
def test_legacy_boxes_are_at_least_one_cell_and_aligned_ones_are_not_clamped(corners):
    corners = corners.astype(np.float64)
    _, legacy = geometry.align_boxes(corners, AlignSpec(aligned=False))
    _, aligned = geometry.align_boxes(corners, AlignSpec(aligned=True))
    sides = corners[:, 2:] - corners[:, :2]
    np.testing.assert_allclose(aligned, sides, atol=1e-9)
    np.testing.assert_allclose(legacy, np.where(sides < 1, 1, sides), atol=1e-9)
