"""Every geometric column against the oracle, the worked examples and the expected statistics."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roicli.core.types import RoIs
from roicli.error_table.columns import GEOMETRIC_COLUMNS
from roicli.error_table.geometric import quantize_errors, size_classes
from roicli.operators.roi_pool import PoolSpec
from tests import oracle
from tests.strategies import DOG_BOX, LONG_BOX, RULES, SCALES, boxes, examples, with_batch


def rois_of(corners, stored=np.float32):
    """RoIs of image 0 whose stored dtype loses half its spacing."""
    corners = np.asarray(corners, np.float64).reshape(-1, 4)
    spacing = np.spacing(np.abs(corners).astype(stored)).astype(np.float64) / 2
    return RoIs(np.zeros(len(corners), np.int64), corners, spacing.max(axis=1))


def columns_of(corners, spec, model="half-pixel", map_size=None, dtype=np.float32):
    return quantize_errors(rois_of(corners), spec, model, map_size, np.dtype(dtype))


def plain(value):
    """One cell as the oracle writes it."""
    if isinstance(value, bytes):
        return value.decode()
    return None if np.isnan(value) else value


@examples(200)
@given(
    rule=st.sampled_from(RULES),
    model=st.sampled_from(["half-pixel", "legacy"]),
    corners=boxes(1, 3),
    scale=st.sampled_from([float(np.float32(s)) for s in SCALES]),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    map_size=st.none() | st.tuples(st.integers(1, 40), st.integers(1, 40)),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_every_column_is_the_oracles(rule, model, corners, scale, size, map_size, dtype):
    quantization, partition = rule
    spec = PoolSpec(size, scale, quantization, partition)
    found = columns_of(corners, spec, model, map_size, dtype)
    rows = oracle.quantization_error(
        with_batch(corners), output_size=size, spatial_scale=scale, quantization=quantization,
        partition=partition, pixel_model=model, map_size=map_size, coordinate_dtype=dtype,
    )  # fmt: skip
    for index, row in enumerate(rows):
        assert set(found) | {"roi"} == set(row)
        for name, column in found.items():
            value, expected = plain(column[index]), row[name]
            if isinstance(expected, float) and value is not None:
                # mmcv's B is a real box of single precision, so its length carries rounding
                loose = 1e-3 if quantization == "mmcv" and dtype is np.float32 else 1e-6
                assert value == pytest.approx(expected, rel=loose, abs=loose * 100), name
            else:
                assert value == expected, name


def test_the_columns_are_those_of_the_table():
    found = columns_of([DOG_BOX], PoolSpec())
    assert set(found) == {c.name for c in GEOMETRIC_COLUMNS} - {"roi", "level"}


# --- worked examples --------------------------------------------------------------------------


def row(box, spec, **options):
    return {name: plain(column[0]) for name, column in columns_of([box], spec, **options).items()}


def test_w7_row():
    found = row(LONG_BOX, PoolSpec((7, 7), 0.25))
    assert found["iou"] == pytest.approx(0.85089, abs=5e-6)
    assert found["area_lost_cells"] == 0
    assert found["area_gained_cells"] == pytest.approx(63.9689, abs=5e-5)
    assert found["width_ratio"] == pytest.approx(33 / 32.44)
    assert found["y2_error_px"] == pytest.approx(6.0)  # 82 - 80.5 cells of 4 px
    assert found["edge_error_max_px"] == pytest.approx(6.0)
    assert found["edge_error_mean_px"] == pytest.approx((0.11 + 0.99 + 2.13 + 6.0) / 4)
    assert found["bin_overlap_x"] == pytest.approx((5 + 6 + 6 + 5 + 6 + 6 + 5) / 33 - 1)
    assert found["bin_overlap_y"] == pytest.approx((2 + 3 + 3 + 3 + 3 + 3 + 2) / 13 - 1)
    assert found["empty_bins"] == 0
    assert found["size_class"] == "medium"


@pytest.mark.parametrize(
    ("rule", "quantized", "lost", "gained", "iou"),
    [
        pytest.param(("floor", "overlap"), (9, 6, 15, 10), 5.3203, 1.0, 0.78444, id="W10"),
        pytest.param(("floor", "floor-size"), (9, 6, 15, 9), 11.0703, 0.75, 0.59339, id="W10-tail"),
        pytest.param(("caffe", "overlap"), (9, 6, 17, 12), 0.0, 19.6797, 0.59001, id="W11"),
    ],
)
def test_w10_w11_rows(rule, quantized, lost, gained, iou):
    found = row(DOG_BOX, PoolSpec((3, 3), 1 / 32, *rule))
    assert tuple(found[f"quantized_{edge}"] for edge in ("x1", "y1", "x2", "y2")) == quantized
    assert found["area_lost_cells"] == pytest.approx(lost, abs=5e-5)
    assert found["area_gained_cells"] == pytest.approx(gained, abs=5e-5)
    assert found["iou"] == pytest.approx(iou, abs=5e-6)


def test_floor_size_below_the_grid_loses_all():
    found = row((1.2, 1.2, 3.4, 3.4), PoolSpec(partition="floor-size"), map_size=(9, 9))
    assert [found[n] for n in ("iou", "width_ratio", "height_ratio")] == [0, 0, 0]
    assert (found["empty_bins"], found["clipped_fraction"]) == (49, None)
    assert found["area_lost_fraction"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("quantization", "partition"),
    [(q, p) for q in ("floor", "round", "hull") for p in ("overlap", "disjoint", "floor-size")],
)
@given(x=st.integers(0, 200), y=st.integers(0, 200), cells=st.integers(1, 20))
def test_a_box_on_grid_lines_has_no_error(quantization, partition, x, y, cells):
    side = 3 * cells
    box = np.array([x, y, x + side, y + side]) * 16.0
    found = row(box, PoolSpec((3, 3), 1 / 16, quantization, partition))
    for name in ("edge_error_max_px", "shift_px", "area_lost_cells", "area_gained_cells",
                 "total_edge_error_max_px", "bin_overlap_x", "bin_overlap_y"):  # fmt: skip
        assert found[name] == pytest.approx(0, abs=1e-9), name
    assert found["iou"] == 1


@given(corners=boxes(4, 8), rule=st.sampled_from(RULES), bins=st.integers(1, 9))
def test_areas_ratios_and_bin_errors_stay_in_their_bounds(corners, rule, bins):
    found = columns_of(corners, PoolSpec((bins, bins), 1 / 16, *rule), map_size=(20, 20))
    assert ((found["iou"] >= 0) & (found["iou"] <= 1)).all()
    for name in ("area_lost_fraction", "clipped_fraction"):
        defined = found[name][~np.isnan(found[name])]
        assert ((defined >= 0) & (defined <= 1 + 1e-12)).all()
    assert (found["area_lost_cells"] >= 0).all()
    assert (found["area_gained_cells"] >= 0).all()
    assert ((found["empty_bins"] >= 0) & (found["empty_bins"] <= bins**2)).all()
    if rule[1] == "disjoint":
        assert found["bin_edge_error_max"].max() <= (bins - 1) / bins + 1e-9


# --- size classes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "height", "name"),
    [
        (32, 31.99, "small"), (32, 32, "medium"), (96, 95.99, "medium"), (96, 96, "large"),
        (-50, -50, "small"), (0, 900, "small"), (-200, 200, "small"),
    ],
)  # fmt: skip
def test_size_classes_change_at_32_and_96_squared(width, height, name):
    assert size_classes(np.array([[10, 10, 10 + width, 10 + height]]))[0].decode() == name


# --- the expected statistics at the end of section 5 ------------------------------------------

COUNT = 100_000


@pytest.fixture(scope="module")
def random_corners():
    rng = np.random.default_rng(20)
    corner, size = rng.uniform(0, 8000, (COUNT, 2)), rng.uniform(100, 4000, (COUNT, 2))
    return np.concatenate([corner, corner + size], axis=1)


@pytest.mark.parametrize(
    ("rule", "model", "left", "right", "shift", "width"),
    [
        ("caffe", "half-pixel", 0.0, 1.0, 0.5, 1.0),
        ("caffe", "legacy", -0.5, 0.5, 0.0, 1.0),
        ("floor", "half-pixel", -0.5, -1.0, -0.75, -0.5),
        ("round", "half-pixel", 0.0, 0.0, 0.0, 0.0),
    ],
)
def test_expected_mean_errors(random_corners, rule, model, left, right, shift, width):
    spec = PoolSpec((2, 2), 1 / 16, rule)
    found = columns_of(random_corners, spec, model, dtype=np.float64)
    for axis in "xy":
        low, high = found[f"{axis}1_error_cells"], found[f"{axis}2_error_cells"]
        assert low.mean() == pytest.approx(left, abs=0.01)
        assert high.mean() == pytest.approx(right, abs=0.01)
        assert found[f"shift_{axis}_cells"].mean() == pytest.approx(shift, abs=0.01)
        assert (high - low).mean() == pytest.approx(width, abs=0.01)


@pytest.mark.parametrize(
    ("rule", "edge", "mean_absolute", "largest"),
    [
        ("caffe", "x1", 0.25, 0.5), ("caffe", "x2", 1.0, 1.5), ("floor", "y2", 1.0, 2.0),
        ("round", "x1", 0.25, 0.5), ("round", "y2", 0.25, 0.5),
    ],
)  # fmt: skip
def test_expected_absolute_errors(random_corners, rule, edge, mean_absolute, largest):
    found = columns_of(random_corners, PoolSpec((2, 2), 1 / 16, rule), dtype=np.float64)
    absolute = np.abs(found[f"{edge}_error_cells"])
    assert absolute.mean() == pytest.approx(mean_absolute, abs=0.01)
    assert largest - 0.02 < absolute.max() <= largest


@pytest.mark.parametrize(("first", "last", "mean"), [(3, 7, 1.14), (8, 19, 0.44), (20, 59, 0.14)])
def test_expected_bin_overlap(first, last, mean):
    far = np.arange(first, last + 1) - 1.0
    corners = np.stack([np.zeros_like(far), np.zeros_like(far), far, far], axis=1)
    found = columns_of(corners, PoolSpec())
    assert found["bin_overlap_x"].mean() == pytest.approx(mean, abs=0.005)
    np.testing.assert_array_equal(found["bin_overlap_x"], found["bin_overlap_y"])
