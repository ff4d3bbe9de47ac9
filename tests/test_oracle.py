"""The oracle against docs/semantics.md: worked examples W2-W16, expected statistics, bare ORT."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tests import oracle
from tests.options import some

ort: Any = import_module("onnxruntime")  # ships no types

LONG_BOX = [0, 920.11, 276.99, 1049.87, 322.0]  # W2-W7, scale 1/4
DOG_BOX = [0, 296.0, 192.0, 496.0, 337.0]  # W8-W11, scale 1/32
EIGHT = 1.0 + np.arange(64.0).reshape(1, 1, 8, 8)  # W14-W16


def near(value: Any, expected: Any, tolerance: float = 1e-6) -> None:
    np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance)


def number(row: oracle.Row, column: str) -> float:
    value = row[column]
    assert isinstance(value, (int, float))
    return float(value)


def dog_row(**options: Any) -> oracle.Row:
    return oracle.quantization_error(
        [DOG_BOX], output_size=(3, 3), spatial_scale=1 / 32, coordinate_dtype=np.float64, **options
    )[0]


# --- worked examples --------------------------------------------------------------------------


def test_w2_box_in_cells() -> None:
    ys, xs = oracle.sampling_points(LONG_BOX, spatial_scale=0.25, sampling_ratio=1, aligned=False)
    # with one sample a bin the points are the bin centres: start + (p + 1/2) * bin
    near(np.diff(xs[:, 0]), [4.634286] * 6)
    near(np.diff(ys[:, 0]), [1.6075] * 6)
    near(xs[0, 0] - 4.6342857 / 2, 230.0275)
    near(ys[0, 0] - 1.6075 / 2, 69.2475)
    near(xs[6, 0] + 4.6342857 / 2, 262.4675)
    near(ys[6, 0] + 1.6075 / 2, 80.5)
    near(7 * 4.6342857, 32.44)
    near(7 * 1.6075, 11.2525)


def test_w3_first_bin_legacy() -> None:
    ys, xs = oracle.sampling_points(LONG_BOX, spatial_scale=0.25, aligned=False)
    near(ys[0], [69.649375, 70.453125])
    near(xs[0], [231.186071, 233.503214])


def test_w4_first_sample_weights() -> None:
    ys, xs = oracle.sampling_points(LONG_BOX, spatial_scale=0.25, aligned=False)
    found = oracle.corners(ys[0, 0], xs[0, 0], 200, 272)
    assert [c[:2] for c in found] == [(69, 231), (69, 232), (70, 231), (70, 232)]
    near([c[2] for c in found], [0.2854, 0.0652, 0.5285, 0.1208], 5e-5)
    near(sum(c[2] for c in found), 1.0, 1e-12)


def test_w5_first_sample_half_pixel() -> None:
    ys, xs = oracle.sampling_points(LONG_BOX, spatial_scale=0.25, aligned=True)
    near([ys[0, 0], xs[0, 0]], [69.149375, 230.686071])
    assert oracle.corners(ys[0, 0], xs[0, 0], 200, 272)[0][:2] == (69, 230)


def test_w6_adaptive_grid() -> None:
    ys, xs = oracle.sampling_points(LONG_BOX, spatial_scale=0.25, sampling_ratio=0)
    assert (ys.shape, xs.shape) == ((7, 2), (7, 5))


def test_w7_roi_pool_caffe_bins() -> None:
    y_axis, x_axis = oracle.bins(LONG_BOX, spatial_scale=0.25)
    assert (x_axis.start, x_axis.size, y_axis.start, y_axis.size) == (230, 33, 69, 13)
    assert [(a - 230, b - 230) for a, b in x_axis.edges] == [
        (0, 5), (4, 10), (9, 15), (14, 19), (18, 24), (23, 29), (28, 33),
    ]  # fmt: skip
    assert [(a - 69, b - 69) for a, b in y_axis.edges] == [
        (0, 2), (1, 4), (3, 6), (5, 8), (7, 10), (9, 12), (11, 13),
    ]  # fmt: skip
    row = oracle.quantization_error([LONG_BOX], spatial_scale=0.25)[0]
    near(row["iou"], 0.85089, 5e-6)
    near(row["area_lost_cells"], 0.0)
    near(row["area_gained_cells"], 63.9689)  # 33 * 13 - 32.44 * 11.2525
    assert row["size_class"] == "medium"  # 129.76 * 45.01 = 5840 px, between 1024 and 9216
    near(row["x1_error_cells"], -0.0275)
    near(row["y2_error_px"], 6.0)  # round(80.5) + 1 = 82, 1.5 cells of 4 px


def test_w8_box_and_first_bin() -> None:
    ys, xs = oracle.sampling_points(
        DOG_BOX, output_size=(3, 3), spatial_scale=1 / 32, sampling_ratio=1, aligned=False
    )
    near(np.diff(xs[:, 0]), [2.083333] * 2)
    near(np.diff(ys[:, 0]), [1.510417] * 2)
    left, top = xs[0, 0] - 2.083333 / 2, ys[0, 0] - 1.510417 / 2
    near([left, top], [9.25, 6.0])
    near([3 * 2.083333, 3 * 1.510417], [6.25, 4.53125], 2e-6)
    # the cells that [9.25, 11.33) x [6, 7.51) touches
    assert (np.floor(left + 1e-5), np.floor(left + 2.083333)) == (9, 11)
    assert (np.floor(top + 1e-5), np.floor(top + 1.510417)) == (6, 7)


def test_w9_thirds_and_quarters() -> None:
    def first(grid: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        ys, xs = oracle.sampling_points(
            DOG_BOX, output_size=(3, 3), spatial_scale=1 / 32, aligned=False, sampling_grid=grid
        )
        return ys[0], xs[0]

    ys, xs = first("thirds")
    near(xs, [9.944444, 10.638889])
    near(ys, [6.503472, 7.006944])
    near(first("quarters")[1], [9.770833, 10.8125])
    near(first("quarters")[0], [6.377604, 7.132813])
    neighbours = oracle.corners(ys[0] - 0.5, xs[0] - 0.5, 16, 16)
    assert [(x + 0.5, y + 0.5) for y, x, _ in neighbours] == [
        (9.5, 6.5), (10.5, 6.5), (9.5, 7.5), (10.5, 7.5),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("quantization", "partition", "region", "lost", "gained", "iou"),
    [
        pytest.param("floor", "overlap", (9, 6, 15, 10), 5.3203, 1.0, 0.78444, id="w10-floor"),
        pytest.param("floor", "floor-size", (9, 6, 15, 9), 11.0703, 0.75, 0.59339, id="w10-tail"),
        pytest.param("caffe", "overlap", (9, 6, 17, 12), 0.0, 19.6797, 0.59001, id="w11-caffe"),
    ],
)
def test_w10_w11_areas(
    quantization: str,
    partition: str,
    region: tuple[int, ...],
    lost: float,
    gained: float,
    iou: float,
) -> None:
    row = dog_row(quantization=quantization, partition=partition)
    assert tuple(row[f"quantized_{e}"] for e in ("x1", "y1", "x2", "y2")) == region
    near([row["area_lost_cells"], row["area_gained_cells"]], [lost, gained], 5e-5)
    near(row["iou"], iou, 5e-6)


def test_w12_five_by_seven() -> None:
    x = np.arange(35.0).reshape(1, 1, 5, 7)
    got = oracle.roi_pool(
        x, [[0, 0, 0, 7, 5]], output_size=(2, 2), quantization="round", partition="disjoint"
    )
    assert got.tolist() == [[[[9, 13], [30, 34]]]]
    got = oracle.roi_pool(x, [[0, 0, 0, 6, 4]], output_size=(2, 2))
    assert got.tolist() == [[[[17, 20], [31, 34]]]]


def test_w13_eight_by_eight() -> None:
    x = np.arange(64.0).reshape(1, 1, 8, 8)
    got = oracle.roi_pool(
        x, [[0, 1, 2, 7, 7]], output_size=(2, 2), quantization="round", partition="disjoint"
    )
    assert got.tolist() == [[[[27, 30], [51, 54]]]]
    got = oracle.roi_pool(x, [[0, 1, 2, 6, 6], [0, 1, 2, 7, 7]], output_size=(2, 2))
    assert got.tolist() == [[[[35, 38], [51, 54]]], [[[36, 39], [60, 63]]]]


def test_w14_max_of_interpolated_samples() -> None:
    # ORT's own mode="max" (maximum of weighted corners) gives 8.734, 13.303, 25.922, 37.476
    got = oracle.roi_align(EIGHT, [[0, 1.3, 1.2, 5.9, 6.1]], output_size=(2, 2), mode="max")
    near(got.ravel(), [23.825, 26.125, 43.425, 45.725], 1e-9)


def test_w15_roi_pool_small_cases() -> None:
    def pool(x: NDArray[np.float64], *box: float) -> list[float]:
        values: list[float] = oracle.roi_pool(x, [[0, *box]], output_size=(2, 2)).ravel().tolist()
        return values

    assert pool(EIGHT, 0.5, 0.5, 2.5, 2.5) == [19, 20, 27, 28]
    assert pool(EIGHT, 5, 5, 3, 3) == [46] * 4
    assert pool(EIGHT, 20, 20, 30, 30) == [0] * 4
    assert pool(-EIGHT, 1, 1, 3, 3) == [-10, -11, -18, -19]


def test_w16_zero_size_align() -> None:
    def align(**options: Any) -> list[float]:
        got = oracle.roi_align(EIGHT, [[0, 3, 3, 3, 3]], output_size=(1, 2), **options)
        values: list[float] = got.ravel().tolist()
        return values

    assert align() == [23.5, 23.5]
    assert align(sampling_ratio=0) == [0, 0]
    assert align(sampling_ratio=0, mode="max") == [0, 0]
    assert align(aligned=False) == [32.25, 32.75]


# --- definitions without a worked example -----------------------------------------------------


@pytest.mark.parametrize("box", [[10, 3, 4, 9], [10, 10, 4, 4], [3, 10, 9, 4]])
def test_crossed_box_has_no_adaptive_samples(box: list[float]) -> None:
    # ORT 1.31.1 fails with an integer overflow where exactly one axis has ceil(w / P) < 0
    got = oracle.roi_align(EIGHT, [[0, *box]], output_size=(2, 2), sampling_ratio=0)
    assert not got.any()


def test_round_is_half_away_from_zero() -> None:
    values = [0.5, 2.5, -0.5, -1.5, 0.49999997, 0.49999999999999994, -0.2, 4.0]
    assert [oracle.round_half_away(v) for v in values] == [1, 3, -1, -2, 0, 0, 0, 4]


def test_thirds_generalise() -> None:
    for ratio, expected in ((1, [0.5]), (2, [1 / 3, 2 / 3]), (3, [0.25, 0.5, 0.75])):
        options: dict[str, Any] = {"sampling_ratio": ratio, "sampling_grid": "thirds"}
        ys, _ = oracle.sampling_points([0, 0, 0, 2, 2], (2, 2), aligned=False, **options)
        near(ys, [expected, [1 + v for v in expected]], 1e-12)


def test_partitions_of_the_text() -> None:
    def sizes(n: int, partition: str) -> list[int]:
        _, x = oracle.bins([0, 0, 0, n, n], (2, 2), 1.0, "round", partition)
        return [b - a for a, b in x.edges]

    assert sizes(5, "disjoint") == [2, 3]
    assert sizes(7, "disjoint") == [3, 4]
    assert sizes(7, "floor-size") == [3, 3]
    assert sizes(1, "floor-size") == [0, 0]
    assert sizes(5, "overlap") == [3, 3]


def test_coordinate_error_by_type() -> None:
    def error(dtype: Any) -> float:
        rows = oracle.quantization_error([LONG_BOX], spatial_scale=0.25, stored_dtype=dtype)
        return number(rows[0], "coordinate_error_px")

    assert error(np.float16) == 0.5
    assert error(np.int64) == 0.5
    near(error(np.float32), 0.00006, 2e-6)
    assert error(np.float64) == 2.0**-43


def test_legacy_model_moves_everything_by_half_a_cell() -> None:
    half = oracle.quantization_error([LONG_BOX], spatial_scale=0.25, map_size=(75, 240))[0]
    legacy = oracle.quantization_error(
        [LONG_BOX], spatial_scale=0.25, map_size=(75, 240), pixel_model="legacy"
    )[0]
    for edge in ("x1", "y1", "x2", "y2"):
        near(number(half, f"quantized_{edge}") - number(legacy, f"quantized_{edge}"), 0.5)
    for same in ("width_ratio", "clipped_fraction", "bin_edge_error_max", "empty_bins"):
        assert half[same] == legacy[same]
    near(half["clipped_fraction"], 1 - 10 * 6 / (33 * 13))
    # x bins starting before cell 240: 3; y bins starting before cell 75: 4 ([7, 10) starts at 76)
    assert half["empty_bins"] == 49 - 3 * 4


def test_floor_size_below_the_grid_is_empty() -> None:
    box = [0, 1.2, 1.2, 3.4, 3.4]
    row = oracle.quantization_error([box], spatial_scale=1, partition="floor-size")[0]
    assert (row["iou"], row["width_ratio"], row["height_ratio"]) == (0, 0, 0)
    assert (row["empty_bins"], row["clipped_fraction"]) == (49, None)
    near(row["area_lost_fraction"], 1)
    assert oracle.roi_pool(EIGHT, [box], partition="floor-size").any() == np.False_


def test_mmcv_regions() -> None:
    _, x = oracle.bins([0, 1.5, 1.5, 3.5, 3.5], (2, 2), quantization="mmcv")
    assert (x.start, x.size, x.edges) == (1.5, 3.0, [(1, 3), (3, 5)])
    crossed = [0, 5, 5, 3, 6]  # width (3 + 1) - 5 = -1
    assert not oracle.roi_pool(EIGHT, [crossed], output_size=(2, 2), quantization="mmcv").any()
    row = oracle.quantization_error([crossed], spatial_scale=1, quantization="mmcv")[0]
    assert (row["iou"], row["empty_bins"], row["height_ratio"]) == (0, 49, 0)
    assert (row["width_ratio"], row["area_lost_fraction"]) == (None, None)


def test_shares_sum_to_one() -> None:
    a = list(np.random.default_rng(1).normal(size=(4, 2, 7, 7)))
    row = oracle.value_error(*a)
    shares = [row[f"share_{part}"] for part in ("stage1", "stage2", "aggregation")]
    near(sum(v for v in shares if v is not None), 1.0, 1e-12)
    same = oracle.value_error(a[0], a[0], a[2], a[3])
    assert (same["value_error_max"], same["share_stage1"]) == (0, None)
    near(same["value_cosine"], 1.0, 1e-12)
    zero = oracle.value_error(a[0], 0 * a[0], a[2], a[3])
    assert (zero["value_error_relative_l2"], zero["value_cosine"]) == (None, None)


# --- the expected statistics at the end of section 5 ------------------------------------------

STATISTICS = {
    # rule, model: (left mean, left mean abs, left max), (right mean, right max), shift, width
    ("caffe", "half-pixel"): (0.0, 0.25, 0.5, 1.0, 1.5, 0.5, 1.0),
    ("caffe", "legacy"): (-0.5, None, None, 0.5, None, 0.0, 1.0),
    ("floor", "half-pixel"): (-0.5, None, None, -1.0, 2.0, -0.75, -0.5),
    ("round", "half-pixel"): (0.0, 0.25, 0.5, 0.0, 0.5, 0.0, 0.0),
}


@some("rule, model", list(STATISTICS), ("caffe", "half-pixel"), ("round", "half-pixel"))
def test_expected_statistics(rule: str, model: str) -> None:
    rng = np.random.default_rng(20)
    corner, size = rng.uniform(0, 800, (3000, 2)), rng.uniform(40, 400, (3000, 2))
    boxes = np.column_stack([np.zeros(3000), corner, corner + size])
    rows = oracle.quantization_error(
        boxes, output_size=(2, 2), spatial_scale=1 / 16, quantization=rule, pixel_model=model
    )
    left = np.array([[number(r, "x1_error_cells"), number(r, "y1_error_cells")] for r in rows])
    right = np.array([[number(r, "x2_error_cells"), number(r, "y2_error_cells")] for r in rows])
    shift = np.array([[number(r, "shift_x_cells"), number(r, "shift_y_cells")] for r in rows])
    found = (
        left.mean(), np.abs(left).mean(), np.abs(left).max(), right.mean(), right.max()
        if rule != "floor" else np.abs(right).max(), shift.mean(), (right - left).mean(),
    )  # fmt: skip
    for value, expected in zip(found, STATISTICS[rule, model], strict=True):
        if expected is not None:
            near(value, expected, 0.03)


@pytest.mark.parametrize(("sizes", "mean"), [((3, 7), 1.14), ((8, 19), 0.44), ((20, 59), 0.14)])
def test_expected_bin_overlap(sizes: tuple[int, int], mean: float) -> None:
    boxes = [[0, 0, 0, n - 1, n - 1] for n in range(sizes[0], sizes[1] + 1)]
    rows = oracle.quantization_error(boxes, spatial_scale=1)
    near(np.mean([number(r, "bin_overlap_x") for r in rows]), mean, 0.005)


# --- against bare ONNX Runtime ----------------------------------------------------------------


def run_ort(operator: str, inputs: dict[str, NDArray[Any]], **attributes: Any) -> NDArray[Any]:
    types = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
    graph = helper.make_graph(
        [helper.make_node(operator, list(inputs), ["out"], **attributes)],
        "g",
        [helper.make_tensor_value_info(n, types[str(v.dtype)], v.shape) for n, v in inputs.items()],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, list("KCYX"))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, inputs)[0])


def random_case(seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features (2, 3, 13, 17) of both signs; boxes on a 272 x 208 image, some of them nasty."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(2, 3, 13, 17)).astype(np.float32)
    corner = rng.uniform(-60, 250, (80, 2))
    other = corner + rng.uniform(0, 200, (80, 2))
    other[:10] = corner[:10] + rng.uniform(0, 4, (10, 2))  # tiny
    other[10:20] = corner[10:20] - rng.uniform(0, 80, (10, 2))  # crossed
    other[20:25, 0] = corner[20:25, 0] - 30  # crossed on one axis
    corner[25:30], other[25:30] = 600, 700  # wholly outside
    corner[30:35], other[30:35] = -300, -200
    corner[35:50], other[35:50] = np.round(corner[35:50] / 8) * 8, np.round(other[35:50] / 8) * 8
    other[50:52] = corner[50:52]  # zero size
    batch = rng.integers(0, 2, (80, 1))
    return features, np.concatenate([batch, corner, other], axis=1).astype(np.float32)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [2, 0])
@pytest.mark.parametrize("seed", [0, 1])
def test_align_against_onnxruntime(aligned: bool, sampling_ratio: int, seed: int) -> None:
    features, rois = random_case(seed)
    expected = run_ort(
        "RoiAlign",
        {"x": features, "rois": rois[:, 1:].copy(), "batch": rois[:, 0].astype(np.int64)},
        output_height=3,
        output_width=5,
        spatial_scale=1 / 16,
        sampling_ratio=sampling_ratio,
        mode="avg",
        coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
    )
    got = oracle.roi_align(
        features,
        rois,
        output_size=(3, 5),
        spatial_scale=1 / 16,
        sampling_ratio=sampling_ratio,
        aligned=aligned,
    )
    assert np.abs(got).max() > 0.5
    near(got, expected, 1e-5)


@pytest.mark.parametrize("output_size", [(7, 7), (3, 5)])
@pytest.mark.parametrize("scale", [1 / 16, 0.1, 0.06])
@pytest.mark.parametrize("seed", [0, 1])
def test_pool_against_onnxruntime(output_size: tuple[int, int], scale: float, seed: int) -> None:
    features, rois = random_case(seed)
    expected = run_ort(
        "MaxRoiPool",
        {"x": features, "rois": rois},
        pooled_shape=list(output_size),
        spatial_scale=scale,
    )
    got = oracle.roi_pool(features, rois, output_size=output_size, spatial_scale=scale)
    assert (got < 0).any()
    assert (got == 0).any()
    np.testing.assert_array_equal(got, expected)


def test_single_precision_edge_reaches_past_the_box() -> None:
    # float32: 7 * (57 / 7) = 57.000004, so the last bin of a 57-cell box ends at 58. Exactly: 57
    box = [0, 0, 0, 56, 56]
    assert oracle.bins(box)[1].edges[-1] == (48, 58)
    assert oracle.bins(box, coordinate_dtype=np.float64)[1].edges[-1] == (48, 57)
    x = np.arange(64 * 64, dtype=np.float32).reshape(1, 1, 64, 64)
    rois = np.array([box], dtype=np.float32)
    expected = run_ort("MaxRoiPool", {"x": x, "rois": rois}, pooled_shape=[7, 7])
    assert expected[0, 0, 6, 6] == 57 * 64 + 57
    np.testing.assert_array_equal(oracle.roi_pool(x, rois), expected)
