"""Precise RoI Pooling as an operator: against quadrature, its own reference, and a whole run."""

import itertools

import h5py
import numpy as np
import pytest

import roicli
from roicli.core.exceptions import ParameterError
from roicli.operators.precise_roi_pool import PrecisePoolSpec, bin_weights
from roicli.runtime.engine import Engine
from tests.options import some
from tests.strategies import awkward_corners, normal_map, ort

MAP = normal_map((3, 9, 12))
BORDERS = ("clamp", "zero")


def run(spec, feature_map, corners):
    """(K, C, P_h, P_w) by ONNX Runtime."""
    runner = Engine("cpu", 2).build_runner(spec, feature_map.dtype)
    out = np.full((len(corners), len(feature_map), *spec.output_size), 7, feature_map.dtype)
    runner.load(feature_map)
    runner.run(np.ascontiguousarray(corners, feature_map.dtype), out)
    return out


def surface(feature_map, y, x, border):
    """The interpolated map (C, n) at points in cells, cell i at i, from its definition alone."""
    channels, height, width = feature_map.shape
    total = np.zeros((channels, len(y)))
    if border == "clamp":
        inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
        y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    else:
        inside = np.ones(len(y), bool)
    for row, column in itertools.product(range(height), range(width)):
        weight = np.maximum(0, 1 - np.abs(y - row)) * np.maximum(0, 1 - np.abs(x - column))
        total += feature_map[:, row, column, None] * weight * inside
    return total


def by_quadrature(feature_map, box, size, border, points=40):
    """The midpoint rule in every bin of a box in cells: an integral that knows no formula."""
    x1, y1, x2, y2 = box
    out = np.zeros((len(feature_map), *size))
    for i, j in np.ndindex(size):
        at = (np.arange(points) + 0.5) / points
        y = y1 + (i + at) * (y2 - y1) / size[0]
        x = x1 + (j + at) * (x2 - x1) / size[1]
        grid_y, grid_x = (axis.reshape(-1) for axis in np.meshgrid(y, x, indexing="ij"))
        out[:, i, j] = surface(feature_map, grid_y, grid_x, border).mean(axis=1)
    return out


BOXES = [(1.2, 2.3, 9.7, 7.1), (-3.4, -2.2, 4.1, 3.3), (8.5, 5.5, 15.2, 12.9), (2, 3, 5, 6),
         (3.3, 3.4, 3.5, 3.45), (-0.7, 1, 0.4, 2), (-9, -9, 30, 30)]  # fmt: skip


@some("box, border", itertools.product(BOXES, BORDERS), *zip(BOXES, itertools.cycle(BORDERS)))
def test_it_is_the_integral_of_the_surface_over_each_bin(box, border):
    scale = 0.25
    spec = PrecisePoolSpec((2, 3), scale, border)
    found = run(spec, MAP, np.array([box]) / scale)[0]
    expected = by_quadrature(MAP.astype(float), box, (2, 3), border)
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(MAP).max())
    fine = by_quadrature(MAP.astype(float), box, (2, 3), border, points=160)
    # Four times as many points come closer: this is what the rule tends to.
    assert np.abs(found - fine).max() <= max(np.abs(found - expected).max() / 2, 2e-3)


def test_by_hand():
    ramp = np.arange(12, dtype=np.float32).reshape(1, 3, 4)  # value = 4 y + x
    for border in BORDERS:
        spec = PrecisePoolSpec((1, 2), 1.0, border)
        inside = run(spec, ramp, [[0.5, 0.5, 2.5, 1.5]])  # centres x 1 and 2, y 1
        np.testing.assert_allclose(inside.ravel(), [5, 6], rtol=1e-6)
        for box in ([1, 1, 1, 2], [2, 1, 1, 2], [1, 1, 1, 1], [50, 50, 60, 60]):
            assert run(spec, ramp, [box]).tolist() == [[[[0.0, 0.0]]]]
    ones = np.ones((1, 3, 4), np.float32)
    edge = [[-1, 0, 0, 1]]  # the last cell before the map: all of it, or the rise from 0
    assert run(PrecisePoolSpec((1, 1), 1.0, "clamp"), ones, edge).item() == 1
    assert run(PrecisePoolSpec((1, 1), 1.0, "zero"), ones, edge).item() == pytest.approx(0.5)


# --- whole runs -------------------------------------------------------------------------------

IMAGES = normal_map((2, 3, 9, 12))
ROIS = np.column_stack([np.arange(30) % 2, awkward_corners((9, 12), 0.25, 30, 1)])
ROIS = ROIS[np.all(ROIS[:, 3:] > ROIS[:, 1:3], axis=1)].astype(np.float32)


@pytest.mark.full
def test_a_run_writes_says_resumes_shares_and_verifies_it(tmp_path):
    whole, again = tmp_path / "whole.h5", tmp_path / "again.h5"
    maps, rois = tmp_path / "maps.npy", tmp_path / "rois.npy"
    np.save(maps, IMAGES)
    np.save(rois, ROIS)
    options = {"spatial_scale": 0.25, "output_size": (2, 3), "border": "zero"}
    kept = roicli.precise_pool(maps, rois, **options, verify=True)
    assert kept.verification.rois == len(ROIS)
    assert kept.verification.left_out == 0
    roicli.precise_pool(maps, rois, whole, **options)
    roicli.precise_pool(maps, rois, again, **options, resume=True)
    assert roicli.compare(whole, again).equal
    with h5py.File(whole) as file:
        np.testing.assert_array_equal(file["roi_features"], kept.roi_features)
        attributes = dict(file.attrs) or dict(file["roi_features"].attrs)
    assert attributes["operator"] == "precise-pool"
    assert attributes["border"] == "zero"
    parts = [tmp_path / f"part{number}.h5" for number in (1, 2)]
    for number, part in enumerate(parts, 1):
        roicli.precise_pool(maps, rois, part, **options, shard=f"{number}/2")
    merged = tmp_path / "merged.h5"
    roicli.merge(parts, merged)
    assert roicli.compare(whole, merged).equal
    pool = roicli.pool(maps, rois, spatial_scale=0.25, output_size=(2, 3), pixel_model="legacy")
    for name in ("iou", "shift_px", "quantized_x1"):
        np.testing.assert_array_equal(kept.errors.column(name), pool.errors.column(name))


def test_over_a_pyramid_each_roi_is_pooled_on_its_level(tmp_path):
    with h5py.File(tmp_path / "p.h5", "w") as file:
        for level, side in (("p2", 64), ("p3", 32)):
            file[level] = normal_map((1, 2, side, side), seed=side)
            file[level].attrs["spatial_scale"] = side / 256
    rois = np.float32([[0, 3, 4, 30, 33], [0, 10, 10, 240, 250]])
    options = {"levels": "p2,p3", "level_from": np.array([2, 3])}
    found = roicli.precise_pool(tmp_path / "p.h5", rois, **options)
    for row, level in enumerate(("p2", "p3")):
        alone = roicli.precise_pool(f"{tmp_path}/p.h5::{level}", rois[row : row + 1])
        np.testing.assert_array_equal(found.roi_features[row], alone.roi_features[0])


def test_what_it_cannot_do_is_said():
    with pytest.raises(ParameterError, match="border is 'wrap', expected one of: clamp, zero"):
        roicli.precise_pool(IMAGES, ROIS, spatial_scale=0.25, border="wrap")
    with pytest.raises(TypeError, match="sampling_rate"):
        roicli.precise_pool(IMAGES, ROIS, sampling_rate=2)


@pytest.mark.parametrize("border", BORDERS)
def test_the_exported_graph_is_the_exact_mean(tmp_path, border):
    """Against the weights of ``bin_weights``, matrices that the graph does not use."""
    path, scale = tmp_path / "x.onnx", 0.25
    roicli.export("precise-pool", path, spatial_scale=scale, output_size="2x3", border=border)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"features": IMAGES, "rois": ROIS})
    for row, roi in zip(found, ROIS, strict=True):
        x1, y1, x2, y2 = roi[1:].astype(float) * scale
        y = bin_weights(y1, y2 - y1, 2, 9, border)
        x = bin_weights(x1, x2 - x1, 3, 12, border)
        expected = y @ IMAGES[int(roi[0])].astype(float) @ x.T
        np.testing.assert_allclose(row, expected, atol=1e-6)


def test_a_bin_is_explained_and_the_bins_are_drawn():
    options = {"spatial_scale": 0.25, "output_size": (2, 3), "roi": 2, "operator": "precise-pool"}
    reading = roicli.explain(IMAGES, ROIS, bin_index=(1, 2), channel=1, **options)
    assert all(check.equal for check in reading.checks)
    assert sum(cell.weight for sample in reading.samples for cell in sample.cells) == pytest.approx(
        1, abs=1e-6
    )
    picture = roicli.draw(IMAGES, ROIS, **options)
    edges = ROIS[2, 1:] * 0.25 + picture.point_offset
    places = np.array(picture.lines).reshape(-1, 2)
    np.testing.assert_allclose(places.min(axis=0), edges[:2], rtol=1e-6)
    np.testing.assert_allclose(places.max(axis=0), edges[2:], rtol=1e-6)
    assert len(picture.lines) == 3 + 4
    assert picture.points == ()


def test_it_is_timed():
    (row,) = roicli.bench("precise-pool", "sample_data/text_fpn.h5::p3",
                          "sample_data/text_rois.npy", runs=1)  # fmt: skip
    assert row.operator == "precise-pool"
    assert row.rois_per_s > 0
