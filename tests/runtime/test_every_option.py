"""The full product of options: the oracle's values, and one result whoever computes it."""

from importlib.util import find_spec
from itertools import combinations, product
from typing import get_args

import numpy as np

from roicli.core.vocabulary import Partition, Quantization
from roicli.operators.export import build_export_graph
from roicli.operators.roi_pool import PoolSpec
from roicli.runtime.runners import build_runner
from tests import oracle
from tests.cuda.devices import LIKE_CUDA
from tests.options import (
    ALIGN_TABLE,
    POOL_TABLE,
    every_align,
    every_option,
    some,
    table_of_options,
)
from tests.strategies import RULES, awkward_corners, normal_map, ort, with_batch

SIZE, SCALE = (2, 3), 1 / 16
MAP = normal_map((3, 13, 17), seed=2)
CORNERS = awkward_corners((13, 17), SCALE, 40, seed=1)
# A crossed box has no adaptive grid, and bare RoiAlign fails on it.
STRAIGHT = np.all(CORNERS[:, 2:] > CORNERS[:, :2], axis=1)


def run(spec, feature_map, corners, provider="cpu", device=None):
    """(K, C, P_h, P_w) of a new runner."""
    runner = build_runner(spec, feature_map.dtype, provider, 2, 32 << 20, device)
    shape = (len(corners), len(feature_map), *spec.output_size)
    out = np.full(shape, np.nan, feature_map.dtype)  # a bin left out shows
    runner.load(feature_map)
    runner.run(corners, out)
    return out


def run_exported(spec, feature_map, corners):
    """The exported graph on bare ONNX Runtime."""
    graph = build_export_graph(spec, feature_map.dtype, {})
    session = ort.InferenceSession(graph.model, providers=["CPUExecutionProvider"])
    rois = with_batch(corners).astype(feature_map.dtype)
    return session.run(None, {"features": feature_map[None], "rois": rois})[0]


def run_reference(spec, feature_map, corners):
    """The float64 reference that ``--verify`` compares with."""
    out = np.full((len(corners), len(feature_map), *spec.output_size), np.nan)
    for row, values in zip(corners, out, strict=True):
        for channels, part in spec.expect(feature_map, row):
            values[channels] = part.values
    return out


def expected_of(spec, feature_map, dtype):
    """The oracle's (K, C, P_h, P_w), and how far the operator and the reference may be from it."""
    rois = with_batch(CORNERS)
    if isinstance(spec, PoolSpec):
        expected = oracle.roi_pool(
            feature_map[None], rois, output_size=SIZE, spatial_scale=SCALE,
            quantization=spec.quantization, partition=spec.partition, coordinate_dtype=dtype,
        )  # fmt: skip
        return expected, 0, 0
    expected = oracle.roi_align(
        feature_map[None], rois, output_size=SIZE, spatial_scale=SCALE,
        sampling_ratio=spec.sampling_ratio, aligned=spec.aligned, mode=spec.mode,
        sampling_grid=spec.sampling_grid,
    )  # fmt: skip
    if spec.native_to_roi_align:
        return expected, 1e-9 if dtype == np.float64 else 1e-5, 1e-13
    # The fine grid of a maximum or of thirds rounds its own coordinates; the oracle has one rule.
    return (expected, 1e-9, 1e-9) if dtype == np.float64 else (expected, 2e-4, 2e-4)


@some("spec, dtype", every_option(SIZE, SCALE), *table_of_options(SIZE, SCALE), ids=repr)
def test_it_is_the_oracles_and_the_same_bits_whoever_computes_it(spec, dtype):
    feature_map, corners = MAP.astype(dtype), CORNERS.astype(dtype)
    expected, tolerance, reference_tolerance = expected_of(spec, feature_map, dtype)
    assert expected.min() < -0.5 < 0.5 < expected.max()
    found = run(spec, feature_map, corners)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    reference = run_reference(spec, feature_map, corners)
    np.testing.assert_allclose(reference, expected, rtol=0, atol=reference_tolerance)
    same = {"as on CUDA": run(spec, feature_map, corners, device=LIKE_CUDA)}
    if find_spec("numba"):
        same["native"] = run(spec, feature_map, corners, "native")
    for way, other in same.items():
        np.testing.assert_array_equal(other, found, err_msg=way)
    adaptive = not isinstance(spec, PoolSpec) and spec.sampling_ratio == 0
    if not adaptive or spec.native_to_roi_align:
        kept = STRAIGHT if adaptive else slice(None)
        np.testing.assert_array_equal(
            run_exported(spec, feature_map, corners[kept]), found[kept], err_msg="exported"
        )


def test_the_table_covers_the_options():
    """Every pair of RoI Align's options meets in it, and RoI Pool's words are all there."""
    for one, other in combinations(zip(*ALIGN_TABLE, strict=True), 2):
        assert set(zip(one, other, strict=True)) == set(product(one, other))
    ways = {row[:4] for row in ALIGN_TABLE}
    assert ways <= {
        (spec.sampling_ratio, spec.aligned, spec.mode, spec.sampling_grid)
        for spec in every_align(SIZE, SCALE)
    }
    for place, words in enumerate((Quantization, Partition)):
        assert {row[place] for row in POOL_TABLE} == set(get_args(words))
        assert {rule[place] for rule in RULES} == set(get_args(words))
