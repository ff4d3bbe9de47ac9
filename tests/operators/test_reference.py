"""The float64 reference against the oracle, the operators against its bounds, and what it skips."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roicli.operators import reference
from roicli.operators.roi_align import AlignSpec
from roicli.runtime import runners as runtime
from tests import oracle
from tests.options import (
    FLOAT_TYPES,
    every_align,
    every_pool,
    need_numba,
    some,
    table_of_aligns,
    table_of_pools,
)
from tests.strategies import DOG_BOX, awkward_corners, boxes, normal_map, with_batch

SCALE = 1 / 16
MAP = normal_map((5, 13, 17), seed=2)
CORNERS = awkward_corners((13, 17), SCALE, 40, seed=1)
ALIGNS, POOLS = every_align((2, 3), SCALE), every_pool((2, 3), SCALE)


def whole(feature_map, corners, spec, coordinate_ulp=0.0):
    """(values, magnitude, bound) of one RoI, all channels, in order."""
    corners = np.asarray(corners, feature_map.dtype)
    channels, parts = zip(*spec.expect(feature_map, corners, coordinate_ulp), strict=True)
    assert [c for part in channels for c in range(part.start, part.stop)] == list(
        range(len(feature_map))
    )
    names = ("values", "magnitude", "bound")
    return [np.concatenate([getattr(part, name) for part in parts]) for name in names]


def run(spec, feature_map, corners, provider="cpu"):
    runner = runtime.build_runner(spec, feature_map.dtype, provider, 2)
    out = np.empty((len(corners), len(feature_map), *spec.output_size), feature_map.dtype)
    runner.load(feature_map)
    runner.run(np.ascontiguousarray(corners, feature_map.dtype), out)
    return out


# --- the oracle -------------------------------------------------------------------------------


def test_a_maximum_of_cells_is_exact():
    """The oracle's values of every option: ``test_every_option``."""
    for spec, dtype in table_of_pools((2, 3), SCALE):
        for corners in CORNERS:
            values, magnitude, bound = whole(MAP.astype(dtype), corners, spec)
            np.testing.assert_array_equal(magnitude, np.abs(values))
            assert (bound == 0).all()


def test_a_bin_by_exact_fractions():
    """One bin of the sample box with every number a fraction: nothing is rounded."""
    spec = AlignSpec((3, 3), 1 / 32)
    feature_map = (MAP * 1000).round().astype(np.float32)
    y_points, x_points = oracle.sampling_points([0, *DOG_BOX], (3, 3), 1 / 32, 2, True)
    y_points, x_points = (np.float32(p) for p in (y_points, x_points))
    total = size = Fraction(0)
    for y in y_points[0]:
        for x in x_points[0]:
            low_y, low_x = int(y), int(x)
            share_y, share_x = Fraction(float(y)) - low_y, Fraction(float(x)) - low_x
            for row, weight_y in ((low_y, 1 - share_y), (low_y + 1, share_y)):
                for column, weight_x in ((low_x, 1 - share_x), (low_x + 1, share_x)):
                    cell = Fraction(float(feature_map[0, row, column]))
                    total += weight_y * weight_x * cell
                    size += weight_y * weight_x * abs(cell)
    values, magnitude, bound = whole(feature_map, DOG_BOX, spec)
    assert values[0, 0, 0] == pytest.approx(float(total / 4), rel=1e-15)
    assert magnitude[0, 0, 0] == pytest.approx(float(size / 4), rel=1e-15)
    # Higham's gamma of 11 roundings: 7 of a sample, 3 additions and a division.
    unit = 2.0**-24
    assert bound[0, 0, 0] == pytest.approx(11 * unit / (1 - 11 * unit) * float(size / 4), rel=1e-6)


@pytest.mark.parametrize("step", [1, 50, 1 << 30])
def test_channels_come_in_steps_and_give_the_same(step, monkeypatch):
    for spec in (ALIGNS[2], ALIGNS[-1], POOLS[0]):
        expected = whole(MAP, CORNERS[30], spec)
        monkeypatch.setattr(reference, "STEP_VALUES", step)
        for found, one in zip(whole(MAP, CORNERS[30], spec), expected, strict=True):
            np.testing.assert_allclose(found, one, rtol=1e-14, atol=1e-16)
        monkeypatch.undo()


# --- the operators stay within the bounds -----------------------------------------------------


@pytest.mark.parametrize("provider", ["cpu", "native"])
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
@given(
    corners=boxes(max_size=4),
    spec=st.sampled_from([*ALIGNS, *POOLS]),
    seed=st.integers(0, 1000),
    scale=st.sampled_from([1.0, 1e-30, 1e30]),
    positive=st.booleans(),
)
def test_every_operator_is_within_the_bound(provider, dtype, corners, spec, seed, scale, positive):
    if provider == "native":
        need_numba()
    feature_map = normal_map((3, 13, 17), seed) * scale
    feature_map = (np.abs(feature_map) if positive else feature_map).astype(dtype)
    for row, found in zip(corners, run(spec, feature_map, corners, provider), strict=True):
        values, _, bound = whole(feature_map, row, spec)
        assert np.isfinite(bound).all()
        assert (np.abs(found - values) <= bound).all()


def test_the_bound_is_not_loose():
    """A bound that is a hundred times too large would catch nothing small."""
    for spec in (ALIGNS[8], replace(ALIGNS[8], mode="max")):
        found = run(spec, MAP, CORNERS)
        shares = []
        for row, corners in zip(found, CORNERS, strict=True):
            values, _, bound = whole(MAP, corners, spec)
            shares.append((np.abs(row - values) / np.where(bound > 0, bound, 1)).max())
        assert 0.02 < max(shares) <= 1


def test_many_samples_have_a_bound_of_their_number():
    few, many = (whole(MAP, (0, 0, 200, 200), replace(ALIGNS[8], sampling_ratio=n)) for n in (1, 9))
    ratio = (many[2] / many[1]) / (few[2] / few[1])
    np.testing.assert_allclose(ratio, (7 + 81) / (7 + 1), rtol=1e-4)


@pytest.mark.parametrize("exponent", [-44, -40, -38, 30, 38])
@pytest.mark.parametrize("spec", [ALIGNS[8], ALIGNS[9], ALIGNS[10], ALIGNS[11]], ids=repr)
def test_numbers_at_the_ends_of_single_precision(spec, exponent):
    feature_map = (MAP * 10.0**exponent).astype(np.float32)
    found = run(spec, feature_map, CORNERS)
    compared = 0
    for row, corners in zip(found, CORNERS, strict=True):
        values, _, bound = whole(feature_map, corners, spec)
        finite = np.isfinite(bound)
        compared += finite.sum()
        assert (np.abs(row[finite] - values[finite]) <= bound[finite]).all()
        assert np.isfinite(row[finite]).all()
    assert compared > 0


# --- what cannot be compared ------------------------------------------------------------------


@some("spec", [(spec,) for spec in ALIGNS],
      *[(spec,) for spec, _ in table_of_aligns((2, 3), SCALE)])  # fmt: skip
def test_bins_that_read_what_is_not_finite_are_left_out_where_points_are_uncertain(spec):
    """As on CUDA; ``test_not_finite`` holds the values where the points are certain."""
    feature_map = MAP.copy()
    feature_map[1, 6, 9], feature_map[2, 3, 3], feature_map[3, 8:, 2] = np.nan, np.inf, -np.inf
    left_out = 0
    for row, corners in zip(run(spec, feature_map, CORNERS), CORNERS, strict=True):
        values, _, bound = whole(feature_map, corners, spec, coordinate_ulp=8.0)
        finite, clean = np.isfinite(bound), np.isfinite(whole(MAP, corners, spec, 8.0)[2])
        left_out += (~finite).sum()
        assert (np.abs(row[finite] - values[finite]) <= bound[finite]).all()
        assert (finite == clean)[[0, 4]].all()
    assert 0 < left_out < MAP.shape[0] * len(CORNERS) * np.prod(spec.output_size) / 2


def test_coordinates_that_differ_in_their_last_bits_stay_within_a_wider_bound():
    """As where a compiler fuses a multiplication with an addition: start and end once rounded."""
    spec = AlignSpec((2, 3), 0.3, 2)
    corners = awkward_corners((13, 17), 0.3, 60, seed=5)
    scale = np.float64(np.float32(0.3))
    fused = ((corners * scale - 0.5).astype(np.float32).astype(np.float64) + 0.5) / scale
    found = oracle.roi_align(
        MAP[None], with_batch(fused), output_size=(2, 3), spatial_scale=float(scale),
        coordinate_dtype=np.float64,
    )  # fmt: skip
    beyond = 0
    for row, one in zip(found, corners, strict=True):
        values, _, exact = whole(MAP, one, spec)
        _, _, wide = whole(MAP, one, spec, coordinate_ulp=8.0)
        assert (np.abs(row - values) <= wide).all()
        beyond += (np.abs(row - values) > exact).sum()
    assert beyond > 0


def test_a_point_that_may_be_on_either_side_of_the_map_is_left_out():
    corners = np.float32([0, 0, 17, 13])  # at scale 1, one sample a bin
    spec = AlignSpec((1, 1), 1.0, 1, aligned=False)
    edge = np.float32([-2, 0, 0, 13])  # its centre lies at -1, where the map ends
    assert np.isfinite(whole(MAP, edge, spec)[2]).all()
    assert np.isinf(whole(MAP, edge, spec, 8.0)[2]).all()
    assert np.isfinite(whole(MAP, corners, spec, 8.0)[2]).all()


def test_a_box_that_may_be_divided_otherwise_is_left_out():
    spec = AlignSpec((1, 1), 1.0, 0)
    on_the_edge, between = (0, 0, 3, 3), (0, 0, 2.5, 2.5)
    assert np.isinf(whole(MAP, on_the_edge, spec, 8.0)[2]).all()
    assert np.isfinite(whole(MAP, on_the_edge, spec)[2]).all()
    assert np.isfinite(whole(MAP, between, spec, 8.0)[2]).all()


def test_a_sum_that_overflows_is_left_out_although_its_mean_would_not():
    feature_map = np.full((1, 9, 9), 3e38, np.float32)
    box = np.float32([[1, 1, 7, 7]])
    for ratio, overflows in ((1, False), (2, True)):
        spec = AlignSpec((2, 2), 1.0, ratio)
        assert np.isinf(run(spec, feature_map, box)).all() == overflows
        values, _, bound = whole(feature_map, box[0], spec)
        np.testing.assert_allclose(values, 3e38, rtol=1e-6)
        assert np.isinf(bound).all() == overflows
