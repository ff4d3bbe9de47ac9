"""The runners: the bits of bare ONNX Runtime, the worked examples, what holds for every box.

The oracle's values of every option: ``test_every_option``.
"""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roicli.core.exceptions import ProviderError
from roicli.operators import graphs, onnx_graph
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.runtime import runners as runtime
from roicli.runtime import session as sessions
from roicli.runtime.devices import HOST
from roicli.runtime.pool_runner import WindowMaxRunner
from tests.options import FLOAT_TYPES, RATIOS
from tests.strategies import (
    RULES,
    awkward_corners,
    boxes,
    examples,
    normal_map,
    ort_max_roi_pool,
    ort_roi_align,
    with_batch,
)

EIGHT = 1.0 + np.arange(64.0).reshape(1, 8, 8)  # docs/semantics.md W14-W16
MAP = normal_map((3, 13, 17))
SCALE = 1 / 16
CORNERS = awkward_corners((13, 17), SCALE, 40, seed=1)
# ORT fails as a whole on boxes with a negative adaptive grid on exactly one axis.
UNCROSSED = CORNERS[np.all(CORNERS[:, 2:] > CORNERS[:, :2], axis=1)]


def run(spec, feature_map, corners, threads=2):
    """(K, C, P_h, P_w) of a new runner."""
    runner = runtime.build_runner(spec, feature_map.dtype, "cpu", threads)
    return run_with(runner, spec, feature_map, corners)


def run_with(runner, spec, feature_map, corners):
    corners = np.asarray(corners, feature_map.dtype).reshape(-1, 4)
    shape = (len(corners), len(feature_map), *spec.output_size)
    out = np.full(shape, np.nan, feature_map.dtype)  # a bin left out shows
    runner.load(feature_map)
    runner.run(corners, out)
    return out


# --- bare ONNX Runtime ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_align_has_the_bits_of_bare_roi_align(dtype):
    for aligned, ratio in product((True, False), RATIOS):
        corners = UNCROSSED if ratio == 0 else CORNERS
        expected = ort_roi_align(
            MAP[None].astype(dtype), with_batch(corners), (3, 5), spatial_scale=SCALE,
            sampling_ratio=ratio,
            coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
        )  # fmt: skip
        spec = AlignSpec((3, 5), SCALE, ratio, aligned)
        found = run(spec, MAP.astype(dtype), corners)
        np.testing.assert_array_equal(found, expected, err_msg=str(spec))


def test_pool_has_the_bits_of_bare_max_roi_pool_on_any_threads():
    for scale, threads in product((1 / 16, 0.1), (1, 2, 5)):
        expected = ort_max_roi_pool(MAP[None], with_batch(CORNERS), (7, 5), scale)
        found = run(PoolSpec((7, 5), scale), MAP, CORNERS, threads)
        np.testing.assert_array_equal(found, expected, err_msg=f"{scale} {threads}")


@pytest.mark.parametrize("size", [(7, 7), (2, 5), (1, 1)])
def test_index_windows_have_the_bits_of_max_roi_pool(size):
    spec = PoolSpec(size, SCALE)
    windows = WindowMaxRunner(spec, np.dtype(np.float32))
    max_roi_pool = runtime.MaxRoiPoolRunner(spec, 2)
    np.testing.assert_array_equal(
        run_with(windows, spec, MAP, CORNERS), run_with(max_roi_pool, spec, MAP, CORNERS)
    )


def test_the_58th_of_57_cells_is_read():
    feature_map = np.arange(64 * 64, dtype=np.float32).reshape(1, 64, 64)
    assert run(PoolSpec(), feature_map, (0, 0, 56, 56))[0, 0, 6, 6] == 57 * 64 + 57


# --- worked examples --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("feature_map", "box", "rule", "expected"),
    [
        pytest.param(np.arange(35.0).reshape(1, 5, 7), (0, 0, 7, 5), ("round", "disjoint"),
                     [9, 13, 30, 34], id="W12-disjoint"),
        pytest.param(np.arange(35.0).reshape(1, 5, 7), (0, 0, 6, 4), (),
                     [17, 20, 31, 34], id="W12-caffe"),
        pytest.param(EIGHT - 1, (1, 2, 7, 7), ("round", "disjoint"),
                     [27, 30, 51, 54], id="W13-disjoint"),
        pytest.param(EIGHT - 1, (1, 2, 6, 6), (), [35, 38, 51, 54], id="W13-caffe-6"),
        pytest.param(EIGHT - 1, (1, 2, 7, 7), (), [36, 39, 60, 63], id="W13-caffe-7"),
        pytest.param(EIGHT, (0.5, 0.5, 2.5, 2.5), (), [19, 20, 27, 28], id="W15-halves"),
        pytest.param(EIGHT, (5, 5, 3, 3), (), [46] * 4, id="W15-crossed"),
        pytest.param(EIGHT, (20, 20, 30, 30), (), [0] * 4, id="W15-outside"),
        pytest.param(-EIGHT, (1, 1, 3, 3), (), [-10, -11, -18, -19], id="W15-negative"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_w12_w13_w15_pooled_values(feature_map, box, rule, expected, dtype):
    found = run(PoolSpec((2, 2), 1.0, *rule), feature_map.astype(dtype), box)
    assert found.ravel().tolist() == expected


def test_w14_true_maximum():
    found = run(AlignSpec((2, 2), mode="max"), EIGHT.astype(np.float32), (1.3, 1.2, 5.9, 6.1))
    np.testing.assert_allclose(found.ravel(), [23.825, 26.125, 43.425, 45.725], rtol=1e-6)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [23.5, 23.5]),
        ({"sampling_ratio": 0}, [0, 0]),
    ],
)
def test_w16_box_without_size(mode, options, expected):
    found = run(AlignSpec((1, 2), mode=mode, **options), EIGHT.astype(np.float32), (3, 3, 3, 3))
    assert found.ravel().tolist() == expected


def test_w16_legacy_box_without_size_is_one_cell():
    found = run(AlignSpec((1, 2), aligned=False), EIGHT.astype(np.float32), (3, 3, 3, 3))
    assert found.ravel().tolist() == [32.25, 32.75]


# --- what must hold for every box -------------------------------------------------------------


@pytest.mark.parametrize("box", [(10, 3, 4, 9), (10, 10, 4, 4), (3, 10, 9, 4), (3, 3, 9, 3)])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_boxes_without_an_adaptive_grid_are_zeros_among_others(box, mode):
    spec = AlignSpec((2, 2), sampling_ratio=0, mode=mode)
    fine = (1.0, 1.0, 6.0, 6.0)
    found = run(spec, EIGHT.astype(np.float32), [fine, box, fine])
    assert not found[1].any()
    alone = run(spec, EIGHT.astype(np.float32), [fine])[0]
    np.testing.assert_array_equal(found[[0, 2]], [alone, alone])


SPECS = [
    AlignSpec((3, 2), SCALE),
    AlignSpec((3, 2), SCALE, 0, False),
    AlignSpec((3, 2), SCALE, 0, mode="max"),
    AlignSpec((3, 2), SCALE, 2, mode="max", sampling_grid="thirds"),
    AlignSpec((3, 2), SCALE, 0, sampling_grid="thirds"),
    PoolSpec((3, 2), SCALE),
    PoolSpec((3, 2), SCALE, "hull", "disjoint"),
    PoolSpec((3, 2), SCALE, "mmcv"),
]
RUNNERS = [runtime.build_runner(spec, np.dtype(np.float32), "cpu", 2) for spec in SPECS]


@pytest.mark.parametrize("number", range(len(SPECS)))
@examples(8)
@given(corners=boxes(2, 6), seed=st.integers(0, 1000))
def test_permuting_rois_permutes_outputs(number, corners, seed):
    spec, runner = SPECS[number], RUNNERS[number]
    order = np.random.default_rng(seed).permutation(len(corners))
    straight = run_with(runner, spec, MAP, corners)
    np.testing.assert_array_equal(run_with(runner, spec, MAP, corners[order]), straight[order])


@pytest.mark.parametrize("number", range(len(SPECS)))
@pytest.mark.parametrize("value", [3.0, -2.5])
def test_a_constant_map_gives_the_constant_inside(number, value):
    feature_map = np.full((2, 13, 17), value, np.float32)
    inside = np.array([[16, 16, 160, 120], [30, 30, 90, 190], [40.5, 3.25, 200.75, 77.0]])
    found = run_with(RUNNERS[number], SPECS[number], feature_map, inside)
    np.testing.assert_allclose(found, value, rtol=1e-6)


@pytest.mark.parametrize("number", range(len(SPECS)))
def test_no_rois_are_no_rows(number):
    found = run_with(RUNNERS[number], SPECS[number], MAP, np.empty((0, 4)))
    assert found.shape == (0, 3, 3, 2)


@pytest.mark.parametrize("number", range(len(SPECS)))
def test_a_runner_takes_map_after_map(number):
    spec, other = SPECS[number], normal_map((5, 9, 11), seed=7)
    first = run_with(RUNNERS[number], spec, MAP, CORNERS)
    found = run_with(RUNNERS[number], spec, other, CORNERS)
    np.testing.assert_array_equal(found, run(spec, other, CORNERS))
    np.testing.assert_array_equal(run_with(RUNNERS[number], spec, MAP, CORNERS), first)


@pytest.mark.parametrize("scratch_bytes", [1, 2000, 100_000])
@pytest.mark.parametrize(
    "spec",
    [
        PoolSpec((3, 5), SCALE, "hull"),
        AlignSpec((3, 5), SCALE, 0, mode="max"),
        AlignSpec((3, 5), SCALE, 3, sampling_grid="thirds"),
    ],
    ids=repr,
)
def test_little_room_takes_more_parts_and_gives_the_same_bits(spec, scratch_bytes):
    runner = runtime.build_runner(spec, MAP.dtype, "cpu", 2, scratch_bytes)
    np.testing.assert_array_equal(run_with(runner, spec, MAP, CORNERS), run(spec, MAP, CORNERS))


# --- sessions that cannot be ------------------------------------------------------------------


def test_a_graph_that_onnxruntime_refuses_is_a_provider_error():
    broken = onnx_graph.Graph(b"not a model", ("x",), "y")
    with pytest.raises(ProviderError, match="refused the graph on the CPU"):
        sessions.Session(broken, HOST, 1)


@pytest.mark.parametrize("into", [True, False])
def test_a_run_that_fails_is_a_provider_error_of_one_line(into):
    session = sessions.Session(graphs.build_cell_table_graph(np.dtype(np.float32)), HOST, 1)
    wrong = {"features": np.zeros((2, 2), np.float32)}
    arguments = (wrong, np.zeros((1, 1), np.float32)) if into else (wrong,)
    call = session.run_into if into else session.run_resident
    with pytest.raises(ProviderError, match="ONNX Runtime failed") as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_every_pair_of_options_has_a_runner():
    for mode, grid in product(("avg", "max"), ("quarters", "thirds")):
        runner = runtime.build_runner(AlignSpec(mode=mode, sampling_grid=grid),
                                      np.dtype(np.float32), "cpu", 1)  # fmt: skip
        one_node = (mode, grid) == ("avg", "quarters")
        assert isinstance(runner, runtime.RoiAlignRunner) == one_node
    for rule in RULES:
        runner = runtime.build_runner(PoolSpec((7, 7), 1.0, *rule), np.dtype(np.float32), "cpu", 1)
        assert isinstance(runner, runtime.MaxRoiPoolRunner) == (rule == ("caffe", "overlap"))


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize(
    "spec",
    [AlignSpec((9, 9), SCALE, 4, mode="max"), AlignSpec((9, 9), SCALE, 3, sampling_grid="thirds")],
    ids=repr,
)
def test_the_channels_of_a_large_roi_go_in_pieces_with_the_same_bits(spec, odd):
    feature_map = normal_map((7, 13, 17))
    if odd:
        feature_map[2, 0, 0], feature_map[4, 5:8] = np.nan, -np.inf
    whole = runtime.FineGridRunner(spec, np.dtype(np.float32))
    pieces = runtime.FineGridRunner(spec, np.dtype(np.float32), scratch_bytes=13_000)
    expected = run_with(whole, spec, feature_map, CORNERS)
    assert run_with(pieces, spec, feature_map, CORNERS).tobytes() == expected.tobytes()
