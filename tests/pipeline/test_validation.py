"""Each bad input is one error: the row, the column, what was found, what is expected."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import roicli
from roicli.core.declaration import settle
from roicli.core.exceptions import InputError, ParameterError
from roicli.core.types import RoIs
from roicli.operators.roi_align import AlignSpec
from roicli.pipeline.request import Reading
from roicli.pipeline.roi_source import choose_columns, read_rois
from roicli.pipeline.roi_table import Place, PlacedRois
from roicli.pipeline.rules import obey
from roicli.pipeline.validation import (
    check_feature_shape,
    check_sampling_memory,
)
from roicli.storage.array import MemoryArray
from tests.options import need_numba, some, table_of_options
from tests.strategies import normal_map

GOOD = np.array([[0, 1, 2, 30, 40], [1, 5, 6, 70, 80], [0, 0, 0, 9, 9]], np.float32)


def read(values, images=2, roi_format=None, image_size=None, scale=1.0):
    """The RoIs, on maps whose size nobody knows."""
    stored = MemoryArray(np.asarray(values), "boxes.npy")
    said = {"roi_format": roi_format, "image_size": image_size, "normalized": bool(image_size)}
    reading = settle(Reading, said)
    table = read_rois(stored, choose_columns(stored, reading, images), reading)
    places = (Place(scale, None, None),)
    obey(PlacedRois(table, images, places, np.zeros(len(table), int)), ["R04", "R13"])
    return table.as_rois()


def changed(row, column, value, dtype=np.float32):
    values = GOOD.astype(dtype)
    values[row, column] = value
    return values


def message_of(values, images=2):
    with pytest.raises(InputError) as caught:
        read(values, images)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- features ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5,), (2, 3), (1, 2, 3, 4, 5)])
def test_features_of_another_rank(shape):
    with pytest.raises(InputError, match=r"f.npy: features have shape .*, expected \(N, C, H, W\)"):
        check_feature_shape(MemoryArray(np.zeros(shape), "f.npy"))


def test_features_with_axes_of_one_are_told_of_them():
    with pytest.raises(InputError, match=r"without axes of one: \(2, 8, 24, 32\)"):
        check_feature_shape(MemoryArray(np.zeros((1, 2, 8, 24, 32), np.float32), "features"))


@pytest.mark.parametrize("shape", [(0, 2, 3, 4), (1, 0, 3, 4), (1, 2, 0, 4), (2, 3, 0)])
def test_empty_features(shape):
    with pytest.raises(InputError, match=r"f.npy: features are empty"):
        check_feature_shape(MemoryArray(np.zeros(shape), "f.npy"))


def test_one_image_may_lack_its_first_axis():
    assert check_feature_shape(MemoryArray(np.zeros((2, 3, 4)), "f")) == (1, 2, 3, 4)
    assert check_feature_shape(MemoryArray(np.zeros((5, 2, 3, 4)), "f")) == (5, 2, 3, 4)


# --- RoIs -------------------------------------------------------------------------------------


def test_good_rois_are_kept_as_they_are():
    rois = read(GOOD)
    assert rois.batch_index.tolist() == [0, 1, 0]
    assert rois.corners.dtype == np.float64
    np.testing.assert_array_equal(rois.corners, GOOD[:, 1:])


@pytest.mark.parametrize("shape", [(5,), (3, 3), (3, 6), (1, 3, 5), ()])
def test_rois_of_another_shape(shape):
    assert "expected (K, 5): batch_index, x1, y1, x2, y2" in message_of(np.zeros(shape))


def test_four_columns_are_of_one_image():
    assert read(GOOD[:, 1:], 1).batch_index.tolist() == [0, 0, 0]
    assert read(GOOD[:, 1:], None).batch_index.tolist() == [0, 0, 0]
    assert "there are 2 images, expected 5 columns" in message_of(GOOD[:, 1:])


@pytest.mark.parametrize("value", [-1, 0.9, -0.9, 2, np.nan, np.inf, -np.inf, 1e30])
def test_a_batch_index_that_is_no_image(value):
    text = message_of(changed(1, 0, value))
    assert "row 1, column 0 (batch_index)" in text
    assert f"found {np.float32(value):g}, expected a whole number from 0 to 1" in text


def test_a_batch_index_without_images_is_only_whole():
    assert read(changed(1, 0, 500), None).batch_index[1] == 500
    with pytest.raises(InputError, match=r"expected a whole number from 0;"):
        read(changed(1, 0, -2), None)


@pytest.mark.parametrize("column", [1, 2, 3, 4])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_coordinate_that_is_not_finite(column, value):
    name = ("x1", "y1", "x2", "y2")[column - 1]
    text = message_of(changed(2, column, value))
    assert f"row 2, column {column} ({name}): found {value:g}, expected a finite number" in text


def test_columns_are_counted_and_named_as_the_file_has_them():
    values = GOOD[:, 1:].copy()
    values[0, 2] = np.nan
    with pytest.raises(InputError, match=r"row 0, column 2 \(w\)"):
        read(values, 1, "xywh")


def test_a_double_past_float32():
    text = message_of(changed(0, 3, 1e300, np.float64))
    assert "row 0, column 3 (x2): found 1e+300, expected a number that float32 can hold" in text


def test_more_bad_rows_are_counted():
    assert message_of(changed([0, 2], 4, np.nan)).split("; ")[0].endswith("(2 such rows)")
    assert message_of(changed([0, 1, 2], 0, 7)).split("; ")[0].endswith("(3 such rows)")


def test_no_rois_are_fine():
    assert len(read(np.empty((0, 5)))) == 0


# --- formats ----------------------------------------------------------------------------------


@pytest.mark.parametrize("roi_format", ["xyxy", "xywh", "cxcywh"])
@given(
    x=st.integers(-500, 500), y=st.integers(-500, 500), w=st.integers(0, 500), h=st.integers(0, 500)
)
def test_every_format_gives_the_same_corners(roi_format, x, y, w, h):
    stored = {
        "xyxy": [x, y, x + w, y + h],
        "xywh": [x, y, w, h],
        "cxcywh": [x + w / 2, y + h / 2, w, h],
    }[roi_format]
    rois = read(np.array([stored], np.float64), 1, roi_format)
    assert rois.corners.tolist() == [[x, y, x + w, y + h]]


def test_normalized_coordinates_are_multiples_of_width_and_height():
    rois = read(np.array([[0.1, 0.2, 0.5, 1.0]]), 1, "xyxy", (200, 100))
    np.testing.assert_allclose(rois.corners, [[10, 40, 50, 200]])
    rois = read(np.array([[0.5, 0.5, 0.2, 0.4]]), 1, "cxcywh", (200, 100))
    np.testing.assert_allclose(rois.corners, [[40, 60, 60, 140]])


def test_stage_0_is_half_the_spacing_at_the_largest_coordinate():
    half = read(np.array([[0, 1, 1049, 8]], np.float16), 1)
    assert half.coordinate_error_px.tolist() == [0.5]
    assert read(np.array([[0, 1, 1049, 8]], np.int32), 1).coordinate_error_px.tolist() == [0.5]
    single = read(np.array([[0, 1, 1049, 8]], np.float32), 1)
    assert single.coordinate_error_px.tolist() == [2.0**-14]


def test_stage_0_adds_up_over_position_and_size():
    stored = np.array([[1024, 3, 512, 4]], np.float16)  # spacings 1, 2^-9, 0.5, 2^-8
    assert read(stored, 1, "xywh").coordinate_error_px.tolist() == [0.5 + 0.25]
    assert read(stored, 1, "cxcywh").coordinate_error_px.tolist() == [0.5 + 0.125]
    normalized = np.array([[0.5, 0.5, 0.5, 0.5]], np.float16)  # spacing 2^-11
    assert read(normalized, 1, "xyxy", (100, 300)).coordinate_error_px.tolist() == [300 * 2.0**-12]


def test_normalized_rois_need_the_image_size():
    assert settle(Reading, {"normalized": True, "image_size": (3, 4)}).normalized_to == (3, 4)
    in_pixels = settle(Reading, {})
    in_pixels.check_image_size()
    assert in_pixels.normalized_to is None
    with pytest.raises(ParameterError, match="RoIs in pixels do not need it"):
        settle(Reading, {"image_size": (3, 4)}).check_image_size()
    with pytest.raises(ParameterError, match="need the image size"):
        _ = settle(Reading, {"normalized": True}).normalized_to


# --- reach and memory -------------------------------------------------------------------------


def rois_of(*corners):
    corners = np.array(corners, np.float64)
    return RoIs(np.zeros(len(corners), np.int64), corners, np.zeros(len(corners)))


def test_cells_past_32_bits_are_refused():
    rois = [[0, 0, 0, 1, 1], [0, 0, 0, 2.0**31, 1]]
    read(rois, scale=0.5)
    with pytest.raises(
        InputError, match=r"^boxes.npy: row 1, x2: .* 2.15e\+09 cells from the origin"
    ):
        read(rois)


@pytest.mark.parametrize(
    ("corners", "scale", "words"),
    [
        ([-6e8, 0, 6e8, 1], 1.0, "row 0, width: found 1.2e+09 px, which is 1.2e+09 cells long"),
        ([0, 2**30, 1, -(2.0**30)], 1.0, "row 0, height: found -2.14748e+09 px"),
        ([2e38, 0, 3e38, 1], 1e-30, "row 0, x1: found 2e+38 px"),
        ([-9e37, 0, 9e37, 1], 1e-30, "row 0, width: found 1.8e+38 px"),
    ],
)
def test_sizes_that_overflow_are_refused_by_name_everywhere(corners, scale, words):
    """A box from -2^30 to 2^30 cells is 2^31 long; float32 cannot hold 3e38 - -3e38."""
    rois = np.array([[0, *corners]], np.float64)
    maps = np.ones((1, 1, 4, 4), np.float32)
    for call in (roicli.align, roicli.pool, roicli.errors):
        with pytest.raises(InputError) as caught:
            call(maps, rois, spatial_scale=scale)
        assert words in str(caught.value)
    with pytest.raises(InputError) as caught:
        roicli.errors(None, rois, spatial_scale=scale)
    assert words in str(caught.value)
    findings = roicli.check(maps, rois, spatial_scale=scale).findings
    assert "R02" in {finding.rule for finding in findings}


@pytest.mark.parametrize("scale", [1e-38, 1e-45, 1e7])
def test_scales_that_overflow_are_refused_by_name(scale):
    with pytest.raises(ParameterError, match=r"^spatial scale is .* from 1e-30 to 1e"):
        roicli.errors(None, np.zeros((1, 5), np.float32), spatial_scale=scale)


@some("scale", [(1e-30,), (1e-20,), (1.0,), (1e3,), (1e6,)], (1e-30,), (1e6,))
def test_what_is_allowed_is_computed_right_up_to_the_limits(scale):
    """Every rule on every runner and in the table, without a warning of an overflow."""
    need_numba()
    rng = np.random.default_rng(0)
    ends = np.array([-1.0, -0.4, 0, 0.3, 1]) * min(2.0**29, 9e37 * scale / 2) / scale
    inside = np.array([-1.0, 0, 1, 2.6, 5]) / scale
    sides = [np.sort(np.stack([rng.choice(ends, 40), rng.choice(inside, 40)]), axis=0)
             for _ in "xy"]  # fmt: skip
    rois = np.stack([np.zeros(40), sides[0][0], sides[1][0], sides[0][1], sides[1][1]], axis=1)
    maps = normal_map((1, 2, 4, 5))
    for spec, dtype in table_of_options((2, 2), scale):
        options = {key: value for key, value in vars(spec).items() if key != "output_size"}
        if options.get("sampling_ratio") == 0:
            continue  # an adaptive grid of such a box is refused for its memory
        call = roicli.align if isinstance(spec, AlignSpec) else roicli.pool
        found = [
            call(maps.astype(dtype), rois, output_size=(2, 2), provider=provider, **options)
            for provider in ("cpu", "native")
        ]
        np.testing.assert_array_equal(found[0].roi_features, found[1].roi_features)
        assert np.isfinite(found[0].roi_features).all()
        for name in (
            "quantized_x1",
            "x2_error_px",
            "edge_error_max_px",
            "iou",
            "area_gained_cells",
        ):
            assert np.isfinite(found[0].errors.column(name)).all(), (name, spec)


def check_memory(spec, *corners, channels=3):
    rows = np.arange(len(corners))
    check_sampling_memory(rois_of(*corners), rows, spec, channels, np.dtype(np.float32), "r")


def test_one_huge_adaptive_roi_is_refused():
    adaptive = AlignSpec((2, 2), sampling_ratio=0)
    check_memory(adaptive, [0, 0, 1000, 1000])
    with pytest.raises(InputError, match="r: row 1: adaptive sampling takes 2500 x 1500 points a "):
        check_memory(adaptive, [0, 0, 9, 9], [0, 0, 3000, 5000])


def test_a_fixed_ratio_takes_little_whatever_the_size():
    check_memory(AlignSpec((2, 2)), [0, 0, 1e8, 1e8])


def test_the_fine_grid_takes_its_samples_channel_by_channel():
    corners = [0, 0, 2000, 1000]
    for mode in ("avg", "max"):
        check_memory(AlignSpec((2, 2), sampling_ratio=0, mode=mode), corners, channels=256)
    huge = [0, 0, 3000, 1700]
    check_memory(AlignSpec((2, 2), sampling_ratio=0), huge, channels=256)
    with pytest.raises(InputError, match="for this one RoI"):
        check_memory(AlignSpec((2, 2), sampling_ratio=0, mode="max"), huge, channels=256)
