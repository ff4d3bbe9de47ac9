"""Sampling points as the operator rounds them, and the cells that they are read from."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roicli.operators.convention import ALIGN
from roicli.operators.geometry import find_neighbours, operator_points
from roicli.operators.point_bins import PointGrid
from roicli.operators.roi_align import AlignSpec
from tests import oracle
from tests.strategies import DOG_BOX, LONG_BOX, SCALES, boxes, with_batch


def test_w4_neighbours_and_weights_of_the_first_sample():
    x, y = operator_points(np.array(LONG_BOX), AlignSpec((7, 7), 0.25, 2, False))
    across, down = find_neighbours(x[0, :1], 272), find_neighbours(y[0, :1], 200)
    assert (down.low[0], down.high[0], across.low[0], across.high[0]) == (69, 70, 231, 232)
    lx, ly = across.share[0], down.share[0]
    weights = [(1 - ly) * (1 - lx), (1 - ly) * lx, ly * (1 - lx), ly * lx]
    np.testing.assert_allclose(weights, [0.2854, 0.0652, 0.5285, 0.1208], atol=5e-5)


def test_w9_neighbours_of_the_first_third():
    x, y = operator_points(np.array(DOG_BOX), AlignSpec((3, 3), 1 / 32, 2, True, "avg", "thirds"))
    across, down = find_neighbours(x[0, :1], 16), find_neighbours(y[0, :1], 16)
    centres = [edge + 0.5 for edge in (across.low[0], across.high[0], down.low[0], down.high[0])]
    assert centres == [9.5, 10.5, 6.5, 7.5]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", ["avg", "max"])
@given(
    corners=boxes(1, 1),
    aligned=st.booleans(),
    ratio=st.integers(0, 4),
    grid=st.sampled_from(["quarters", "thirds"]),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    scale=st.sampled_from([float(np.float32(s)) for s in SCALES]),
)
def test_points_are_the_oracles_up_to_rounding(
    dtype, mode, corners, aligned, ratio, grid, size, scale
):
    spec = AlignSpec(size, scale, ratio, aligned, mode, grid)
    x, y = operator_points(corners[0].astype(dtype), spec)
    assert x.dtype == y.dtype == dtype
    ys, xs = oracle.sampling_points(
        with_batch(corners)[0], size, scale, ratio, aligned, grid, coordinate_dtype=dtype
    )
    if ys.shape[1] == 0 or xs.shape[1] == 0:  # no grid on one axis is no sample at all
        ys, xs = ys[:, :0], xs[:, :0]
    # one rounding of the box, magnified by nothing but the few operations after it
    tolerance = 1e-9 if dtype is np.float64 else 16 * np.spacing(np.float32(2000 * scale))
    for found, expected in ((x, xs), (y, ys)):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@given(
    points=st.lists(st.floats(-5, 40) | st.integers(-3, 36).map(float), min_size=1, max_size=20),
    cells=st.integers(1, 30),
)
def test_neighbours_are_the_oracles(points, cells):
    found = find_neighbours(np.array(points), cells)
    for row, point in enumerate(points):
        expected = oracle.corners(0.0, point, 1, cells)
        assert found.on_map[row] == bool(expected)
        if expected:
            interpolated = np.zeros(cells)
            interpolated[found.low[row]] += 1 - found.share[row]
            interpolated[found.high[row]] += found.share[row]
            wanted = np.zeros(cells)
            for _, column, weight in expected:
                wanted[column] += weight
            np.testing.assert_allclose(interpolated, wanted, atol=1e-12)


@given(st.lists(st.floats(-3, 9, width=32), min_size=1, max_size=6), st.integers(1, 6))
def test_one_interpolation_three_ways(points: list[float], cells: int) -> None:
    """Sides, matrix and samples say the same; a point off the map reads no cell."""
    found = find_neighbours(np.array(points, np.float32), cells)
    values = np.random.default_rng(cells).normal(size=(2, cells, cells))
    matrix = found.matrix(cells)
    np.testing.assert_allclose(matrix.sum(axis=1), found.on_map)
    rows, columns = (
        found.at(np.s_[None, None, None, :, None]),
        found.at(np.s_[None, None, None, None]),
    )
    grid = PointGrid(rows, columns, np.ones((1, 1, 1, len(points), len(points)), bool))
    (samples,) = grid.reduce(values, ["mean"], ALIGN)
    np.testing.assert_allclose(samples[:, 0], matrix @ values @ matrix.T, atol=1e-12)
    for (places, own), (_, exact) in zip(found.sides, found.exact_sides, strict=True):
        assert own.dtype == np.float32
        assert ((places >= 0) & (places < cells)).all()
        np.testing.assert_allclose(np.where(found.on_map, own, 0), exact, atol=1e-7)
    (odd,) = grid.reduce(np.full((1, cells, cells), np.nan), ["max"], ALIGN)
    on_map = found.on_map[:, None] & found.on_map
    assert np.array_equal(np.isnan(odd[0, 0]), on_map)
