"""NaN and infinity: one rule for everything that computes (docs/semantics.md, section 2a)."""

import numpy as np
import onnxruntime
import pytest

from roicli.analysis.explain import explain_align, explain_pool
from roicli.core.types import RoIs
from roicli.operators.convention import BOXES, HALF_PIXEL, LEGACY, Convention
from roicli.operators.evaluate import evaluate
from roicli.operators.export import build_export_graph
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.operators.sampled_map import SampledMap, all_bins
from roicli.runtime.engine import Engine
from tests import oracle
from tests.options import need_numba, of_options, some, table_of_options
from tests.strategies import awkward_corners, with_batch

SHAPES = [(5, 13, 17), (3, 1, 9), (2, 7, 1), (19, 6, 5), (1, 1, 1)]
SIZE, SCALE = (2, 4), 0.25
ODD = np.array([np.nan, -np.nan, np.inf, -np.inf])


@pytest.fixture(autouse=True)
def native_is_there():
    need_numba()


def sprinkled(shape, seed, dtype):
    """A map with NaN and infinities, at the corners above all."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape)
    odd = rng.random(shape) < 0.1
    odd[:, [0, -1], [0, -1]] |= rng.random((shape[0], 2)) < 0.6
    values[odd] = rng.choice(ODD, odd.sum())
    return values.astype(dtype)


def corners_for(spec, shape, seed, dtype):
    """Boxes on eighths of a cell, where weights are often 0; elsewhere for points at thirds, which
    the oracle may round to the other side of a cell's centre.
    """
    corners = awkward_corners(shape[1:], SCALE, 30, seed, dtype)
    if isinstance(spec, AlignSpec) and not spec.native_to_roi_align and spec.sampling_ratio != 2:
        rng = np.random.default_rng(seed)
        return (corners + rng.uniform(0.01, 0.1, corners.shape)).astype(dtype)
    if isinstance(spec, AlignSpec) and spec.sampling_grid == "thirds":
        return (corners + 0.0123).astype(dtype)
    return (np.round(corners * 2) / 2).astype(dtype)


def run(spec, feature_map, corners, provider):
    runner = Engine(provider, 2).build_runner(spec, feature_map.dtype)
    out = np.full((len(corners), len(feature_map), *spec.output_size), 7, feature_map.dtype)
    runner.load(feature_map)
    runner.run(corners, out)
    return out


def by_oracle(spec, feature_map, corners):
    compute = oracle.roi_align if isinstance(spec, AlignSpec) else oracle.roi_pool
    with np.errstate(invalid="ignore"):
        return compute(
            feature_map[None], with_batch(corners), coordinate_dtype=feature_map.dtype.type,
            **vars(spec),
        )  # fmt: skip


def same(found, expected):
    return np.isclose(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


@of_options(SIZE, SCALE)
@some("seed", [(seed,) for seed in range(len(SHAPES))], (0,), (2,))
def test_cpu_native_oracle_and_reference_agree_on_every_option(seed, cases):
    shape, odd = SHAPES[seed], 0
    for spec, dtype in cases:
        feature_map = sprinkled(shape, seed, dtype)
        corners = corners_for(spec, shape, seed, dtype)
        cpu, native = (run(spec, feature_map, corners, p) for p in ("cpu", "native"))
        np.testing.assert_array_equal(cpu, native, err_msg=str(spec))
        expected = by_oracle(spec, feature_map, corners)
        assert same(cpu, expected).all(), spec
        odd += (~np.isfinite(cpu)).sum()
        for row, one in zip(cpu, corners, strict=True):
            for channels, wanted in spec.expect(feature_map, one):
                assert np.isfinite(wanted.bound).all(), spec
                finite = np.isfinite(wanted.values)
                np.testing.assert_array_equal(
                    np.where(finite, 0, row[channels]), np.where(finite, 0, wanted.values)
                )
                distance = np.abs(row[channels][finite] - wanted.values[finite])
                assert (distance <= wanted.bound[finite]).all(), spec
    assert odd > 10 * len(cases)


def test_what_is_no_cells_value_does_not_come_out():
    """The least finite number for -infinity, -infinity for NaN, NaN for an unread first cell."""
    box = np.array([[0, 0, 20, 20]], np.float32)
    off = np.array([[20, 20, 48, 48]], np.float32)
    nothing, low = np.full((2, 1, 8, 8), np.float32(-np.inf))
    nothing[:] = np.nan
    first = np.ones((1, 8, 8), np.float32)
    first[0, 0, 0] = np.nan
    for provider in ("cpu", "native"):
        for spec, _ in table_of_options((1, 1), SCALE):
            assert np.isnan(run(spec, nothing, box, provider)).all(), (provider, spec)
            assert np.isfinite(run(spec, first, off, provider)).all(), (provider, spec)
        assert (run(PoolSpec((1, 1), SCALE), low, box, provider) == -np.inf).all()


@of_options(SIZE, SCALE)
def test_exported_graphs_follow_the_rule_but_for_bare_nodes(cases):
    for spec, dtype in cases:
        if isinstance(spec, AlignSpec) and spec.sampling_ratio == 0:
            continue
        if isinstance(spec, PoolSpec) and spec.native_to_max_roi_pool and dtype == np.float32:
            continue  # one MaxRoiPool node, which skips NaN
        shape = SHAPES[0]
        feature_map, corners = (
            sprinkled(shape, 0, dtype),
            corners_for(spec, shape, 0, dtype),
        )
        feature_map[:, 0, 0] = 1  # a bare RoiAlign reads the first cell, times 0
        graph = build_export_graph(spec, np.dtype(dtype), {})
        session = onnxruntime.InferenceSession(graph.model, providers=["CPUExecutionProvider"])
        rois = with_batch(corners).astype(dtype)
        (found,) = session.run(None, {"features": feature_map[None], "rois": rois})
        np.testing.assert_array_equal(
            found, run(spec, feature_map, corners, "cpu"), err_msg=str(spec)
        )


@of_options(SIZE, SCALE)
def test_diagnoses_arithmetic_follows_the_rule(cases):
    shape = SHAPES[0]
    compared = 0
    for spec, _ in cases:
        feature_map, corners = (
            sprinkled(shape, 0, np.float64),
            corners_for(spec, shape, 0, np.float64),
        )
        if isinstance(spec, AlignSpec):
            rule = Convention(
                HALF_PIXEL if spec.aligned else LEGACY,
                grid=spec.sampling_grid,
                sampling_ratio=spec.sampling_ratio,
                reduction="mean" if spec.mode == "avg" else "max",
            )
        else:
            cut = "hull" if spec.quantization == "mmcv" else spec.partition
            rule = Convention(BOXES[spec.quantization], cut=cut, reduction="cell-max")
        found = evaluate(rule, SampledMap(feature_map, corners, SCALE), all_bins(SIZE))
        assert same(found, by_oracle(spec, feature_map, corners)).all(), spec
        compared += 1
    assert compared == len(cases)


@of_options(SIZE, SCALE)
def test_explanations_follow_the_rule(cases):
    shape = SHAPES[0]
    odd = 0
    for spec, dtype in cases:
        feature_map = sprinkled(shape, 0, dtype)
        corners = corners_for(spec, shape, 0, dtype)
        found = run(spec, feature_map, corners, "cpu")
        for roi in range(0, len(corners), 5):
            for bin_index in ((0, 0), (1, 2)):
                if isinstance(spec, AlignSpec):
                    explained = explain_align(feature_map[1], corners[roi], spec, bin_index).value
                else:
                    one = RoIs(np.zeros(1, int), corners[roi][None].astype(float), np.zeros(1))
                    explained = explain_pool(
                        feature_map[1], one, spec, "half-pixel", bin_index
                    ).maximum
                ran = found[(roi, 1, *bin_index)]
                np.testing.assert_array_equal(explained, ran, err_msg=str(spec))
                odd += not np.isfinite(ran)
    assert odd > len(cases) / 2
