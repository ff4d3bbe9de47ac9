"""The calls that ``import roicli`` offers, on arrays and on files."""

import json
import logging
from itertools import product
from pathlib import Path

import h5py
import numpy as np
import pytest

import roicli
from roicli.core.exceptions import InputError, OutputError, ParameterError
from roicli.operators.levels import LevelAssignment
from tests import oracle
from tests.log import logged
from tests.options import some
from tests.strategies import AWKWARD, awkward_corners, normal_map

SAMPLES = Path(__file__).resolve().parents[2] / "sample_data"
FPN, FPN_ROIS = str(SAMPLES / "text_fpn.h5"), str(SAMPLES / "text_rois.npy")
MAPS = normal_map((2, 3, 13, 17), seed=9)
CORNERS = awkward_corners((13, 17), 1 / 16, 30, seed=4)
ROIS = np.column_stack([np.arange(30) % 2, CORNERS]).astype(np.float32)
CALLS = {"align": roicli.align, "pool": roicli.pool}
OPTIONS = {"spatial_scale": 1 / 16, "output_size": (2, 3)}
ODD = {"ignore": AWKWARD}
GIVEN = OPTIONS | ODD


@pytest.fixture
def files(tmp_path):
    """(features, rois) addresses of the same arrays."""
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        file["maps"] = MAPS
        file["maps"].attrs["spatial_scale"] = 1 / 16
        file["boxes"] = ROIS
    return f"{tmp_path}/maps.h5", f"{tmp_path}/maps.h5::/boxes"


# --- values -----------------------------------------------------------------------------------


def test_pool_is_the_oracles():
    found = roicli.pool(MAPS, ROIS, **GIVEN)
    np.testing.assert_array_equal(found.roi_features, oracle.roi_pool(MAPS, ROIS, **OPTIONS))
    assert (found.operator, found.output, len(found.errors)) == ("pool", None, 30)


def test_align_is_the_oracles():
    found = roicli.align(MAPS, ROIS, **GIVEN, mode="max", aligned=False, sampling_ratio=3)
    expected = oracle.roi_align(
        MAPS, ROIS, **OPTIONS, mode="max", aligned=False, sampling_ratio=3
    )  # fmt: skip
    np.testing.assert_allclose(found.roi_features, expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("operator", CALLS)
def test_files_give_the_bits_of_arrays(files, operator):
    size = {"output_size": (2, 3), "ignore": AWKWARD}
    from_files = CALLS[operator](*files, **size)
    from_arrays = CALLS[operator](MAPS, ROIS, **GIVEN)
    np.testing.assert_array_equal(from_files.roi_features, from_arrays.roi_features)


@pytest.mark.parametrize("operator", CALLS)
@pytest.mark.parametrize("ending", ["npy", "h5"])
def test_an_output_file_holds_the_result_in_memory(tmp_path, operator, ending):
    path = tmp_path / f"out.{ending}"
    found = CALLS[operator](MAPS, ROIS, path, **GIVEN)
    assert found.roi_features is None
    assert found.output == str(path)
    expected = CALLS[operator](MAPS, ROIS, **GIVEN).roi_features
    with h5py.File(path) if ending == "h5" else open(path, "rb") as stream:
        stored = stream["roi_features"][()] if ending == "h5" else np.load(stream)
    np.testing.assert_array_equal(stored, expected)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_result_has_the_dtype_that_was_asked_for(tmp_path, dtype):
    expected = roicli.pool(MAPS, ROIS, **GIVEN).roi_features.astype(dtype)
    found = roicli.pool(MAPS, ROIS, dtype=dtype, **GIVEN).roi_features
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)
    roicli.pool(MAPS, ROIS, tmp_path / "x.npy", dtype=dtype, **GIVEN)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), expected)


def test_double_maps_give_double_results():
    assert roicli.align(MAPS.astype(np.float64), ROIS, **ODD).roi_features.dtype == np.float64
    assert roicli.align(MAPS.astype(np.float16), ROIS, **ODD).roi_features.dtype == np.float32


def test_rois_are_never_rounded_to_the_maps_float16():
    box = np.array([[0, 920.11, 276.99, 1049.87, 322.0]])
    maps = normal_map((1, 1, 100, 300)).astype(np.float16)
    found = roicli.align(maps, box, spatial_scale=0.25)
    wide = roicli.align(maps.astype(np.float32), box, spatial_scale=0.25)
    np.testing.assert_array_equal(found.roi_features, wide.roi_features)


def test_one_image_and_four_columns():
    found = roicli.pool(MAPS[0], ROIS[::2, 1:], **GIVEN).roi_features
    np.testing.assert_array_equal(found, roicli.pool(MAPS, ROIS[::2], **GIVEN).roi_features)


@pytest.mark.parametrize("operator", CALLS)
def test_no_rois_give_an_empty_result(tmp_path, operator):
    nothing = np.empty((0, 5), np.float32)
    found = CALLS[operator](MAPS, nothing, values=True, quantization="hull", **GIVEN)
    assert found.roi_features.shape == (0, 3, 2, 3)
    for name in ("a.npy", "a.h5"):
        CALLS[operator](MAPS, nothing, tmp_path / name, **GIVEN)
    assert np.load(tmp_path / "a.npy").shape == (0, 3, 2, 3)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["roi_features"].shape == (0, 3, 2, 3)
        assert len(file["quantization_error"]) == 0


# --- the error table --------------------------------------------------------------------------

WAYS = [
    {"sampling_ratio": 2},
    {"sampling_ratio": 2, "aligned": False, "quantization": "floor"},
    {"sampling_ratio": 1, "sampling_grid": "thirds", "quantization": "hull"},
    {"sampling_ratio": 0, "quantization": "round", "partition": "disjoint"},
    {"sampling_ratio": 2, "quantization": "floor", "partition": "floor-size"},
    {"sampling_ratio": 2, "quantization": "mmcv"},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_value_columns_are_the_oracles(way):
    maps, rois = MAPS.astype(np.float64), ROIS[:24].astype(np.float64)
    table = roicli.errors(maps, rois, **GIVEN, **way).errors
    rounding = {key: way[key] for key in ("quantization", "partition") if key in way}
    sampling = {key: value for key, value in way.items() if key not in rounding}
    wide = {"coordinate_dtype": np.float64}
    pool = oracle.roi_pool(maps, rois, **OPTIONS, **rounding, **wide)
    average = oracle.roi_align(maps, rois, **OPTIONS, **sampling)
    maximum = oracle.roi_align(maps, rois, **OPTIONS, **sampling, mode="max")
    on_box = sampling | {"aligned": True, "mode": "max", "output_size": (2, 3)}
    for row, roi in enumerate(rois):
        y_axis, x_axis = oracle.bins(roi, (2, 3), 1 / 16, **rounding, **wide)
        box = [roi[0], x_axis.start, y_axis.start, x_axis.start + x_axis.size,
               y_axis.start + y_axis.size]  # fmt: skip
        warp = oracle.roi_align(maps, [box], spatial_scale=1.0, **on_box)[0]
        empty = any(axis.edges[-1][1] <= axis.edges[0][0] for axis in (x_axis, y_axis))
        expected = oracle.value_error(
            pool[row], average[row], maximum[row], warp, pooled_region_empty=empty
        )
        for name, value in expected.items():
            found = table.column(name)[row]
            if value is None:
                assert np.isnan(found), (row, name)
            else:
                assert found == pytest.approx(value, rel=1e-6, abs=1e-6), (row, name)


@pytest.mark.parametrize("operator", CALLS)
def test_values_beside_features_are_those_of_errors(operator):
    both = CALLS[operator](MAPS, ROIS, values=True, **GIVEN)
    alone = CALLS[operator](MAPS, ROIS, **GIVEN)
    np.testing.assert_array_equal(both.roi_features, alone.roi_features)
    records = roicli.errors(MAPS, ROIS, **GIVEN).errors.records(slice(None))
    assert both.errors.records(slice(None)).tobytes() == records.tobytes()
    with pytest.raises(ParameterError, match="did not measure"):
        alone.errors.column("value_cosine")


def test_errors_of_boxes_alone():
    table = roicli.errors(None, ROIS, spatial_scale=1 / 16, map_size=(13, 17), **ODD).errors
    with_maps = roicli.errors(MAPS, ROIS, spatial_scale=1 / 16, **ODD).errors
    for column in table.columns:
        np.testing.assert_array_equal(table.column(column.name), with_maps.column(column.name))
    unknown = roicli.errors(None, ROIS, spatial_scale=1 / 16, **ODD).errors
    assert np.isnan(unknown.column("clipped_fraction")).all()
    with pytest.raises(ParameterError, match="map size is the features' own"):
        roicli.errors(MAPS, ROIS, map_size=(13, 17), **ODD)


def test_align_takes_the_pixel_model_of_aligned_and_pool_half_pixel():
    for aligned, model in ((True, "half-pixel"), (False, "legacy")):
        assert roicli.align(MAPS, ROIS, aligned=aligned, **ODD).errors.pixel_model == model
        assert roicli.pool(MAPS, ROIS, aligned=aligned, **ODD).errors.pixel_model == "half-pixel"


@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "jsonl"])
def test_the_whole_table_is_written_where_it_was_asked_for(tmp_path, ending):
    path = tmp_path / f"errors.{ending}"
    found = roicli.errors(None, ROIS, errors_out=path, spatial_scale=1 / 16, **ODD)
    text = path.read_text()
    if ending == "json":
        shares = [row["iou"] for row in json.loads(text)["rois"]]
    elif ending == "jsonl":
        rows = [json.loads(line) for line in text.splitlines()]
        shares = [row["iou"] for row in rows if "iou" in row]
    else:
        lines = [line.split("," if ending == "csv" else "\t") for line in text.splitlines()
                 if not line.startswith("#")]  # fmt: skip
        shares = [float(line[lines[0].index("iou")]) for line in lines[1:]]
    np.testing.assert_allclose(shares, found.errors.column("iou"), rtol=1e-5)
    with pytest.raises(OutputError, match="exists already"):
        roicli.errors(None, ROIS, errors_out=path, **ODD)


# --- pyramids ---------------------------------------------------------------------------------


@some("operator, rule", product(CALLS, ("torchvision", "detectron2")),
      *zip(CALLS, ("torchvision", "detectron2"), strict=True))  # fmt: skip
def test_a_pyramid_is_each_level_alone(operator, rule):
    large = [[0, 0, 0, 512, 512], [1, 3, 3, 500, 509]]  # the sample has none for p5
    rois = np.concatenate([np.load(FPN_ROIS), np.array(large, np.float32)])
    rois = rois[np.random.default_rng(0).permutation(len(rois))]
    whole = CALLS[operator](FPN, rois, levels="p3,p4,p5", level_rule=rule, values=True)
    levels = LevelAssignment(rule).assign(rois[:, 1:].astype(np.float64), 3, 5)
    np.testing.assert_array_equal(whole.errors.column("level"), levels)
    assert set(levels) == {3, 4, 5}
    for level in (3, 4, 5):
        here = np.flatnonzero(levels == level)
        alone = CALLS[operator](f"{FPN}::/p{level}", rois[here], values=True)
        np.testing.assert_array_equal(alone.roi_features, whole.roi_features[here])
        for name in ("shift_px", "clipped_fraction", "value_error_max", "share_stage1", "level"):
            np.testing.assert_array_equal(
                alone.errors.column(name), whole.errors.column(name)[here]
            )


def test_levels_may_be_given_and_a_pyramid_may_be_arrays(tmp_path):
    levels = np.array([3, 4, 5] * 34)
    np.save(tmp_path / "levels.npy", levels)
    by_file = roicli.pool(FPN, FPN_ROIS, levels=("p3", "p4", "p5"),
                          level_from=tmp_path / "levels.npy")  # fmt: skip
    with h5py.File(FPN) as file:
        arrays = [file[name][()] for name in ("p3", "p4", "p5")]
    by_array = roicli.pool(arrays, FPN_ROIS, spatial_scale="1/8,1/16,1/32", level_from=levels)
    np.testing.assert_array_equal(by_file.errors.column("level"), levels)
    np.testing.assert_array_equal(by_array.roi_features, by_file.roi_features)
    by_list = roicli.pool(f"{FPN}::p3,{FPN}::p4, {FPN}::p5", FPN_ROIS, level_from=levels)
    np.testing.assert_array_equal(by_list.roi_features, by_file.roi_features)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": "p3,p5"}, r"levels are \[3, 5\]"),
        ({"levels": "p5,p4"}, r"levels are \[5, 4\]"),
        ({"levels": "p3,p4", "spatial_scale": "1/8"}, "1 spatial scales for 2 maps"),
        ({"levels": "p3,p4", "spatial_scale": "1/8,0.1"}, "are numbered from 0"),
        ({"levels": "p3,p9"}, "has no dataset 'p9'"),
        ({"levels": "p3,p4", "level_from": np.zeros(5)}, r"shape \(5,\), expected \(102,\)"),
        ({"levels": "p3,p4", "level_from": np.full(102, 7)}, "row 0: level 7, expected one of 3"),
        ({"levels": "p3,p4", "level_rule": "mine"}, "level rule is 'mine', expected one of"),
        ({}, "datasets fit"),
    ],
    ids=str,
)  # fmt: skip
def test_a_pyramid_that_is_none_is_refused(options, message):
    with pytest.raises((InputError, ParameterError), match=message):
        roicli.pool(FPN, FPN_ROIS, **options)


# --- refusals and notes -----------------------------------------------------------------------


def test_an_input_is_never_the_output(files):
    for force in (True, False):
        with pytest.raises(OutputError):
            roicli.align(*files, files[0], force=force, **ODD)


def test_a_huge_adaptive_roi_is_refused_before_anything_is_written(tmp_path):
    box = np.array([[0, 0, 0, 1e6, 1e6]])
    with pytest.raises(InputError, match="adaptive sampling takes"):
        roicli.align(MAPS, box, tmp_path / "x.npy", sampling_ratio=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_are_at_least_one(threads):
    with pytest.raises(ParameterError, match=f"threads is {threads}"):
        roicli.align(MAPS, ROIS, threads=threads, **ODD)


def test_a_long_run_is_told_of_the_compiled_kernels_once_they_are_installed(monkeypatch):
    rois = np.array([[0, 5, 5, 9, 9]])

    def told(**options):
        with logged() as notes:
            roicli.align(MAPS, rois, spatial_scale=1, **options)
        return [line for line in notes if "--provider native" in line]

    monkeypatch.setattr("roicli.pipeline.run.find_spec", lambda name: name)
    assert told() == []
    monkeypatch.setattr("roicli.pipeline.run.LONG_RUN_BYTES", 1)
    if roicli.align(MAPS, rois, spatial_scale=1).parameters["provider_used"] == "cpu":
        (line,) = told(provider="auto")
        assert "ROICLI_PROVIDER=native" in line
    assert told(provider="cpu") == []
    monkeypatch.setattr("roicli.pipeline.run.find_spec", lambda name: None)
    assert told(provider="auto") == []


def test_notes_tell_what_a_person_should_know():
    rois = np.array([[0, 5, 5, 2, 9], [0, 900, 900, 990, 990], [1, 1, 1, 9, 9.0]])
    with logged() as notes:
        roicli.pool(MAPS, rois, ignore="R04")
    assert any("taking --spatial-scale 1.0" in line for line in notes)
    with logged(logging.WARNING) as warnings:
        roicli.pool(MAPS, rois, ignore="R04")
    (outside,) = warnings
    assert "rois: 1 of 3 RoIs lie wholly outside the 13 x 17 px" in outside
    with logged(logging.WARNING) as warnings:
        roicli.pool(MAPS, rois, ignore="R04,r05")
    assert warnings == []
    with pytest.raises(InputError, match="rois: 1 of 3 RoIs have crossed corners"):
        roicli.pool(MAPS, rois)


def test_unknown_names_of_the_package_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = roicli.nonsense
    assert all(getattr(roicli, name) is not None for name in roicli.__all__)
