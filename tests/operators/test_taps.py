"""What holds for every operator that reads cells with weights (``taps``)."""

from dataclasses import replace
from functools import cache
from math import prod

import h5py
import numpy as np
import onnx
import pytest
from hypothesis import given

import roicli
from roicli.core.operator_table import OPERATORS
from roicli.operators.average_pool import AveragePoolSpec, PsPoolSpec
from roicli.operators.convention import DEFORM_POOL, LEGACY, POOL, REAL, Convention
from roicli.operators.crop_and_resize import CropAndResizeSpec
from roicli.operators.deform_pool import DeformPoolSpec
from roicli.operators.evaluate import evaluate
from roicli.operators.export import build_export_graph
from roicli.operators.precise_roi_pool import PrecisePoolSpec
from roicli.operators.preset_rule import build_preset_spec
from roicli.operators.ps_align import PsAlignSpec
from roicli.operators.rotated_align import RotatedAlignSpec
from roicli.operators.sampled_map import SampledMap, all_bins, turn_corners
from roicli.operators.table import operator_type
from roicli.operators.taps import TapSpec
from roicli.runtime.engine import Engine
from tests.strategies import awkward_corners, boxes, examples, normal_map, ort

MAP = normal_map((8, 9, 12))


def rule(convention, output_size=(3, 2)):
    """What runs a rule that no operator's own options reach."""
    return build_preset_spec("library.function", convention, output_size).at_scale(0.25)


SPECS = {
    "average": AveragePoolSpec((3, 2), 0.25),
    "average, half-even": AveragePoolSpec((3, 4), 0.25, "half-even", "disjoint"),
    "average, floor": AveragePoolSpec((3, 4), 0.25, "floor", "floor-size"),
    "average, mmcv": AveragePoolSpec((3, 4), 0.25, "mmcv"),
    "average, hull": AveragePoolSpec((3, 4), 0.25, "hull"),
    "ps pool": PsPoolSpec((2, 2), 0.25),
    "ps pool, torchvision": PsPoolSpec((3, 4), 0.25, 2, "torchvision"),
    "ps pool, chainercv": PsPoolSpec((3, 4), 0.25, 1, "chainercv"),
    "ps align": PsAlignSpec((2, 2), 0.25),
    "ps align, adaptive": PsAlignSpec((3, 5), 0.25, 0, False, 2),
    "ps align, one group": PsAlignSpec((3, 5), 0.25, 3, True, 1),
    "rotated": RotatedAlignSpec((3, 2), 0.25),
    "rotated, clockwise": RotatedAlignSpec((2, 3), 0.25, 0, False, "degrees", "clockwise"),
    "precise": PrecisePoolSpec((3, 4), 0.25),
    "precise, zero": PrecisePoolSpec((5, 1), 0.25, "zero"),
    "rule, points skipped": rule(
        Convention(LEGACY, sampling_ratio=0, border="skip", reduction="max", empty="-10000")
    ),
    "rule, zeros around": rule(Convention(sampling_ratio=3, border="zero", empty="nan")),
    "rule, extrapolated": rule(Convention(REAL, sampling_ratio=1, border="extrapolate")),
    "rule, bins clipped": rule(Convention(LEGACY, cut="clipped", sampling_ratio=0)),
    "rule, weighted corners": rule(Convention(reduction="max-weighted-corners")),
    "rule, split corners": rule(Convention(LEGACY, reduction="max-split-corners")),
    "rule, floored": rule(Convention(LEGACY, sampling_ratio=0, reduction="max-floored")),
    "rule, deformable": rule(replace(DEFORM_POOL, group_size=2)),
    "rule, edges added up": rule(replace(POOL, cut="accumulated", empty="-10000"), (7, 3)),
    "deform": DeformPoolSpec((3, 2), 0.25, 0),
    "deform, r-fcn": DeformPoolSpec((2, 2), 0.25, 3, 0.2, "r-fcn"),
    "crop": CropAndResizeSpec((3, 2), 0.25),
    "crop, one point": CropAndResizeSpec((1, 1), 0.25, "cells"),
    "crop, matterport": CropAndResizeSpec((3, 2), 0.25, "matterport", (37, 50)),
    "crop, nearest": CropAndResizeSpec((3, 4), 0.25, interpolation="nearest"),
    "crop, maximum": CropAndResizeSpec((2, 3), 0.25, crop_points="max", extrapolation_value=-7.5),
    "crop, mean": CropAndResizeSpec((2, 3), 0.25, crop_points="avg", extrapolation_value=3),
    "crop, zeros": CropAndResizeSpec((3, 2), 0.25, "cells", outside_rule="zeros"),
}


# The engines' own results tell whether rules are right (test_preset_rule), the operators' own tests
# whether words of theirs are.
LATER = (
    "average, half-even",
    "average, floor",
    "ps pool, chainercv",
    "ps align, one group",
    "crop, one point",
    "crop, mean",
    "crop, zeros",
    "rule, zeros",
    "rule, extra",
    "rule, split",
    "rule, floored",
    "rule, deform",
    "rule, edges",
)
NAMES = [
    pytest.param(name, marks=pytest.mark.full if name.startswith(LATER) else ()) for name in SPECS
]


@cache
def runner_of(spec, dtype, threads, scratch):
    return Engine("cpu", threads, scratch_bytes=scratch).build_runner(spec, np.dtype(dtype))


def run(spec, feature_map, corners, threads=2, scratch=1 << 20):
    """(K, C, P_h, P_w) by ONNX Runtime."""
    runner = runner_of(spec, feature_map.dtype.name, threads, scratch)
    channels = spec.output_channels(len(feature_map))
    out = np.full((len(corners), channels, *spec.output_size), 7, feature_map.dtype)
    runner.load(feature_map)
    runner.run(np.ascontiguousarray(corners, feature_map.dtype), out)
    return out


def some_rois(spec, count=40, seed=0):
    return rois_of(spec, awkward_corners((9, 12), spec.spatial_scale, count, seed))


def rois_of(spec, corners):
    """What the operator takes: corners, or the same boxes, each turned by another angle."""
    if spec.offset_shape:
        shifts = np.random.default_rng(7).normal(size=(len(corners), prod(spec.offset_shape)))
        return np.concatenate([corners, shifts.astype(corners.dtype)], axis=1)
    if len(spec.roi_columns) == 4:
        return corners
    turned = turn_corners(corners, 0)
    turned[:, 2:4] = np.abs(turned[:, 2:4])
    turned[:, 4] = np.arange(len(corners)) * 37 % 360 - 90
    return turned


def as_inputs(spec, image, numbers):
    """RoIs with their image's number in front, and the offsets of those that have any."""
    count = len(spec.roi_columns)
    found = {"rois": np.column_stack([image, numbers[:, :count]]).astype(np.float32)}
    if spec.offset_shape:
        found["offsets"] = numbers[:, count:].reshape(-1, *spec.offset_shape).astype(np.float32)
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
@examples(4)
@given(corners=boxes())
def test_a_run_is_within_the_references_bound(name, dtype, corners):
    spec = SPECS[name]
    feature_map, corners = MAP.astype(dtype), rois_of(spec, corners.astype(dtype))
    for row, roi in zip(run(spec, feature_map, corners), corners, strict=True):
        for channels, expected in spec.expect(feature_map, roi):
            assert np.isfinite(expected.bound).all()
            assert (np.abs(row[channels] - expected.values) <= expected.bound).all()
            tight = 1e-3 if dtype == np.float32 else 1e-12
            assert (expected.bound <= tight * (1 + expected.magnitude)).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_roi_has_the_same_bits_in_any_company(name):
    spec = SPECS[name]
    corners = some_rois(spec)
    together = run(spec, MAP, corners)
    alone = run(spec, MAP, corners[::-1], threads=1, scratch=1)[::-1]
    assert together.tobytes() == alone.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_an_exported_graph_gives_what_a_run_gives(name):
    spec = SPECS[name]
    graph = build_export_graph(spec, np.dtype(np.float32), {})
    onnx.checker.check_model(onnx.load_from_string(graph.model), full_check=True)
    session = ort.InferenceSession(graph.model, providers=["CPUExecutionProvider"])
    corners = some_rois(spec)
    maps = np.stack([MAP, MAP[:, ::-1]])
    image = np.arange(len(corners)) % 2
    feeds = {"features": maps, **as_inputs(spec, image, corners)}
    (found,) = session.run(None, feeds)
    for number in (0, 1):
        expected = run(spec, np.ascontiguousarray(maps[number]), corners[image == number])
        # RoIs with other numbers of samples stand beside these, whose bits may differ for it.
        np.testing.assert_allclose(found[image == number], expected, rtol=2e-5, atol=1e-5)
    none_at_all = {
        name: value if name == "features" else value[:0] for name, value in feeds.items()
    }
    (none,) = session.run(None, none_at_all)
    assert none.shape == (0, *found.shape[1:])


@pytest.mark.parametrize("name", NAMES)
def test_nan_and_infinity_reach_the_bins_that_read_them(name):
    spec = SPECS[name]
    feature_map = MAP.copy()
    feature_map[:, 4, 5], feature_map[:, 2, 3], feature_map[:, 6, 9] = np.nan, np.inf, -np.inf
    corners, odd = some_rois(spec), 0
    found, before = run(spec, feature_map, corners), run(spec, MAP, corners)
    for row, roi, clean in zip(found, corners, before, strict=True):
        for channels, expected in spec.expect(feature_map, roi):
            finite = np.isfinite(expected.values)
            odd += (~finite).sum()
            np.testing.assert_array_equal(row[channels][~finite], expected.values[~finite])
            if not spec.takes_maximum:
                np.testing.assert_array_equal(row[channels][finite], clean[channels][finite])
    assert odd > 10


@pytest.mark.parametrize("name", NAMES)
def test_a_constant_map_is_constant_where_it_is_read(name):
    spec = SPECS[name]
    if spec.corners_apart:
        pytest.skip("the greatest weighted corner is a share of it")
    if spec.outside:
        spec = replace(spec, extrapolation_value=0.0)
    corners = rois_of(spec, np.float32([[8, 8, 30, 21], [9.5, 3, 27, 30]]))
    found = run(spec, np.full((8, 9, 12), 2.5, np.float32), corners)
    np.testing.assert_allclose(found, 2.5, rtol=1e-6)


@pytest.mark.parametrize("name", [name for name, spec in SPECS.items() if spec.groups == 1])
def test_channels_that_change_places_change_places_in_the_result(name):
    spec = SPECS[name]
    order = np.random.default_rng(3).permutation(len(MAP))
    corners = some_rois(spec)
    np.testing.assert_array_equal(
        run(spec, np.ascontiguousarray(MAP[order]), corners), run(spec, MAP, corners)[:, order]
    )


def test_every_operator_of_this_kind_is_tried():
    kinds = {operator_type(name) for name in OPERATORS}
    own = {type(spec) for name, spec in SPECS.items() if not name.startswith("rule")}
    assert own == {k for k in kinds if issubclass(k, TapSpec)}


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_is_its_point_of_the_space_of_conventions(name):
    """Another program for the same numbers: NumPy, all conventions in one (``evaluate``)."""
    spec = SPECS[name]
    # In float64, so that crops' order of operations makes no difference that matters.
    corners = some_rois(spec, 60).astype(np.float64)
    count = len(spec.roi_columns)
    corners[:, count:] = 0  # a convention moves no bins
    image = getattr(spec, "image_size", None)
    one = SampledMap(MAP.astype(np.float64), corners[:, :count], spec.spatial_scale, image)
    expected = evaluate(spec.convention, one, all_bins(spec.output_size))
    found = np.array([next(spec.expect(one.feature_map, row))[1].values for row in corners])
    different = np.abs(found - expected) > 1e-9
    # The ends of a crop may be on either side of the map's.
    assert not different[:, :, 1:-1, 1:-1].any()
    assert different.mean() <= (0.03 if name.startswith("crop") else 0)


def call_of(spec):
    """An operator's call with a spec's options."""
    options = {name: getattr(spec, name) for name in spec.defaults()}
    call = getattr(roicli, spec.operator.replace("-", "_"))
    return lambda maps, rois, output=None, **more: call(
        maps, rois, output, **{**options, "ignore": "R04,R05,R08", **more}
    )


# The others run under `full`: what is written, shared and resumed asks an operator for nothing.
WHOLE = [
    pytest.param(name, marks=() if name == "rotated" else pytest.mark.full)
    for name in SPECS
    if "," not in name
]


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_run_verifies_shares_and_resumes(name, tmp_path):
    spec = SPECS[name]
    call, maps, rois = call_of(spec), tmp_path / "maps.npy", tmp_path / "rois.npy"
    np.save(maps, normal_map((2, 8, 9, 12)))
    corners = some_rois(spec)
    given = as_inputs(spec, np.arange(len(corners)) % 2, corners)
    np.save(rois, given.pop("rois"))
    options = {"spatial_scale": spec.spatial_scale, **given}
    whole, again, merged = (tmp_path / f"{n}.h5" for n in ("whole", "again", "merged"))
    kept = call(maps, rois, **options, verify=True)
    assert kept.verification.rois == len(corners)
    assert kept.verification.left_out == 0
    call(maps, rois, whole, **options)
    call(maps, rois, again, **options, resume=True)
    assert roicli.compare(whole, again).equal
    parts = [tmp_path / f"part{number}.h5" for number in (1, 2)]
    for number, part in enumerate(parts, 1):
        call(maps, rois, part, **options, shard=f"{number}/2")
    roicli.merge(parts, merged)
    assert roicli.compare(whole, merged).equal
    with h5py.File(whole) as one, h5py.File(merged) as other:
        np.testing.assert_array_equal(one["rois"], other["rois"])
    assert kept.parameters["operator"] == spec.operator
    for option in spec.defaults():
        assert option in kept.parameters
    # Over a pyramid each RoI is read on its own level.
    levels = [normal_map((1, 8, side, side), seed=side) for side in (64, 32)]
    boxes_px = rois_of(spec, np.float32([[3, 4, 30, 33], [10, 10, 240, 250]]))
    given, scales = as_inputs(spec, np.zeros(2), boxes_px), [0.25, 0.125]
    both = call(levels, spatial_scale=scales, level_from=np.array([2, 3]), **given)
    for row in (0, 1):
        own = {name: value[row : row + 1] for name, value in given.items()}
        alone = call(levels[row], spatial_scale=scales[row], **own)
        np.testing.assert_array_equal(both.roi_features[row], alone.roi_features[0])
