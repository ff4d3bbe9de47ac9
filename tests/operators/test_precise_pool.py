"""The exact mean over a bin, against integration piece by piece and against dense sampling."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roicli.analysis.sweep import pool_precisely
from roicli.operators.precise_roi_pool import bin_weights
from roicli.operators.roi_align import AlignSpec
from tests import oracle
from tests.strategies import awkward_corners, normal_map, with_batch

CELLS = (1, 2, 3, 8)


def weights_at(point: float, cells: int) -> np.ndarray:
    """What the oracle reads on a map of one row."""
    found = np.zeros(cells)
    for _, column, weight in oracle.corners(0.0, point, 1, cells):
        found[column] += weight
    return found


def integrate(low: float, high: float, cells: int) -> np.ndarray:
    """Mean weights over [low, high]: midpoints between the whole coordinates, which is exact."""
    inner = [c for c in range(math.floor(low), math.ceil(high) + 1) if low < c < high]
    edges = [low, *inner, high]
    total = sum((b - a) * weights_at((a + b) / 2, cells) for a, b in pairwise(edges))
    return np.asarray(total) / (high - low)


@given(st.sampled_from(CELLS), st.floats(-5, 12), st.floats(0.01, 15), st.integers(1, 4))
def test_every_bin_is_its_integral(cells: int, start: float, extent: float, bins: int) -> None:
    found = bin_weights(start, extent, bins, cells)
    for p in range(bins):
        low, high = start + extent * (p / bins), start + extent * ((p + 1) / bins)
        np.testing.assert_allclose(found[p], integrate(low, high, cells), atol=1e-9)


@given(st.sampled_from(CELLS), st.floats(-3, 10), st.sampled_from([0.0, 1e-300, 1e-12, 1e-7]))
def test_tiny_bins_are_points(cells: int, start: float, extent: float) -> None:
    np.testing.assert_allclose(
        bin_weights(start, extent, 1, cells)[0],
        integrate(start, start + extent, cells)
        if start + extent > start
        else weights_at(start, cells),
        atol=1e-6 if extent == 0 else 1e-3,
    )


def test_dense_sampling_tends_to_it() -> None:
    rng = np.random.default_rng(1)
    for cells in CELLS:
        for _ in range(10):
            start, extent = rng.uniform(-4, cells + 2), rng.uniform(0.1, 9)
            points = start + extent * (np.arange(3000) + 0.5) / 3000
            dense = np.mean([weights_at(point, cells) for point in points], axis=0)
            # A sample may fall on either side of the step at -1 and at the last cell's end.
            np.testing.assert_allclose(
                bin_weights(start, extent, 1, cells)[0], dense, atol=1.5 / 3000
            )


def test_border_by_hand() -> None:
    """Three cells: 1 in [-1, 0] belongs to cell 0, [2, 3] to cell 2, beyond is nothing."""
    np.testing.assert_allclose(bin_weights(-1, 1, 1, 3), [[1, 0, 0]])
    np.testing.assert_allclose(bin_weights(-2, 2, 1, 3), [[0.5, 0, 0]])
    np.testing.assert_allclose(bin_weights(2, 4, 2, 3), [[0, 0, 0.5], [0, 0, 0]])
    np.testing.assert_allclose(bin_weights(0, 1, 1, 3), [[0.5, 0.5, 0]])
    np.testing.assert_allclose(bin_weights(0, 2, 1, 3), [[0.25, 0.5, 0.25]])
    np.testing.assert_allclose(bin_weights(2, -2, 1, 3), [[0.25, 0.5, 0.25]])


@pytest.mark.full
@pytest.mark.parametrize("aligned", [True, False])
def test_roi_align_tends_to_it(aligned: bool) -> None:
    features = normal_map((1, 2, 9, 12)).astype(np.float64)
    corners = awkward_corners((9, 12), 0.25, 24, seed=4, dtype=np.float64)
    spec = AlignSpec((2, 3), 0.25, aligned=aligned)
    exact = pool_precisely(features[0], corners, spec)
    errors = []
    for ratio in (2, 8, 32):
        dense = oracle.roi_align(
            features, with_batch(corners), output_size=(2, 3), spatial_scale=0.25,
            sampling_ratio=ratio, aligned=aligned,
        )  # fmt: skip
        errors.append(np.linalg.norm(dense - exact) / np.linalg.norm(exact))
    # Slower than 1 / ratio^2: a sample falls on either side of the step at the border.
    assert errors[0] > 3 * errors[1] > 9 * errors[2]
    assert errors[2] < 0.01


def test_a_ramp_is_read_at_the_middle_of_the_bin() -> None:
    """Inside the map the mean of a linear function is its value at the bin's centre."""
    ramp = np.arange(20.0)[None, :, None] * 100 + np.arange(30.0)[None, None, :]
    corners = np.array([[3.0, 4.0, 21.0, 16.0]])
    found = pool_precisely(ramp, corners, AlignSpec((2, 3), 1.0))
    rows, columns = 3.5 + np.array([3.0, 9.0]), 2.5 + np.array([3.0, 9.0, 15.0])
    np.testing.assert_allclose(found[0, 0], rows[:, None] * 100 + columns)


def test_far_outside_is_zero() -> None:
    found = pool_precisely(np.ones((2, 4, 4)), np.array([[90.0, 90, 99, 99]]), AlignSpec((2, 2)))
    assert not found.any()
