"""Deformable RoI Pool: by hand, against plain operators at moved boxes, and its offsets' files."""

import json

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import roicli
from roicli.core.exceptions import InputError, ParameterError
from tests.cli.running import run, succeed
from tests.log import logged
from tests.operators import engines
from tests.strategies import awkward_corners, examples, normal_map, ort

MAPS = normal_map((2, 8, 9, 12))
SCALE = 0.25
CORNERS = awkward_corners((9, 12), SCALE, 24, 5)
ROIS = np.column_stack([np.arange(24) % 2, CORNERS]).astype(np.float32)
OFFSETS = np.random.default_rng(2).normal(size=(24, 2, 2, 3)).astype(np.float32)
LOOK = {"spatial_scale": SCALE, "output_size": (2, 3), "ignore": "R04,R05,R08"}
OPTIONS = LOOK | {"provider": "cpu"}
# Boxes and offsets whose moved bins stay on the map.
INSIDE = np.float32([[0, 8, 8, 40, 24], [1, 10, 6, 33, 30]])


def deform(rois=ROIS, maps=MAPS, **options):
    return roicli.deform_pool(maps, rois, **{**OPTIONS, **options}).roi_features


def test_by_hand():
    """docs/operators/deform-pool.md."""
    ramp = np.arange(30, dtype=np.float32).reshape(1, 1, 5, 6)  # value = 6 y + x
    offsets = np.zeros((1, 2, 2, 2), np.float32)
    offsets[0, 0, 0, 0], offsets[0, 1, 1, 1] = 1, -2.5  # right, and up
    options = {"output_size": 2, "sampling_ratio": 1, "spatial_scale": 1.0}
    found = deform(np.float32([[0, 1, 1, 5, 5]]), ramp, offsets=offsets, **options)
    np.testing.assert_allclose(found[0, 0], [[10.9, 12.5], [22.5, 18.5]], rtol=1e-6)


@pytest.mark.parametrize("ratio", [0, 2])
def test_without_offsets_it_is_plain_roi_align(ratio):
    plain = roicli.align(MAPS, ROIS, sampling_ratio=ratio, **OPTIONS).roi_features
    with logged() as notes:
        found = deform(sampling_ratio=ratio)
    assert any("no --offsets" in note for note in notes)
    np.testing.assert_allclose(found, plain, atol=2e-6)
    zeros = np.zeros_like(OFFSETS)
    np.testing.assert_array_equal(deform(sampling_ratio=ratio, offsets=zeros), found)


@examples(6)
@given(gamma=st.sampled_from([0.1, 0.5, -1.0]), seed=st.integers(0, 99))
def test_a_moved_bin_is_that_bin_of_a_moved_box(gamma, seed):
    offsets = np.random.default_rng(seed).uniform(-1, 1, (2, 2, 2, 3)).astype(np.float32)
    found = deform(INSIDE, offsets=offsets, gamma=gamma)
    sides = (INSIDE[:, 3:] - INSIDE[:, 1:3])[:, :, None, None]
    shifts = gamma * sides * offsets  # pixels, x then y
    for row, column in np.ndindex(2, 3):
        moved = INSIDE.copy()
        moved[:, 1:] += np.tile(shifts[:, :, row, column], 2)
        one = roicli.align(MAPS, moved, **OPTIONS).roi_features
        np.testing.assert_allclose(found[:, :, row, column], one[:, :, row, column], atol=1e-4)


def test_position_sensitive_bins_move_the_same_way():
    """By whole cells, which the rounding of the corners does not see."""
    options = {"deform_rule": "r-fcn", "group_size": 2, "sampling_ratio": 3}
    sides = (np.round(INSIDE[:, 3:]) + 1 - np.round(INSIDE[:, 1:3])) * SCALE
    cells = np.random.default_rng(3).integers(-1, 2, (2, 2, 2, 3))
    offsets = (cells / sides[:, :, None, None]).astype(np.float32)
    found = deform(INSIDE, offsets=offsets, gamma=1.0, **options)
    assert found.shape == (2, 2, 2, 3)
    for row, column in np.ndindex(2, 3):
        moved = INSIDE.copy()
        moved[:, 1:] += np.tile(cells[:, :, row, column] / SCALE, 2)
        one = deform(moved, **options)
        np.testing.assert_allclose(found[:, :, row, column], one[:, :, row, column], atol=1e-4)


def test_without_offsets_it_is_openvinos():
    name = next(name for name in engines.entries() if "DeformablePSROIPooling" in name)
    entry = engines.entries()[name]
    found = roicli.deform_pool(
        engines.features(), entry.rois, spatial_scale=engines.SCALE, ignore="R04,R05,R06",
        output_size=entry.result.shape[2:], preset="openvino", group_size=1, provider="cpu",
        sampling_ratio=entry.convention.sampling_ratio,
    )  # fmt: skip
    assert found.parameters["deform_rule"] == "r-fcn"
    np.testing.assert_allclose(found.roi_features, entry.result, atol=2e-6)


def test_offsets_follow_their_rois_through_files_shards_and_choices(tmp_path):
    maps, rois, offsets = (str(tmp_path / f"{name}.npy") for name in ("maps", "rois", "offsets"))
    for path, values in ((maps, MAPS), (rois, ROIS), (offsets, OFFSETS)):
        np.save(path, values)
    with h5py.File(tmp_path / "o.h5", "w") as file:
        file["deep/offsets"] = OFFSETS.astype(np.float64)
    whole = roicli.deform_pool(
        maps, rois, tmp_path / "w.h5", offsets=offsets, verify=True, **OPTIONS
    )
    assert whole.verification.rois == len(ROIS)
    kept = roicli.deform_pool(maps, rois, offsets=f"{tmp_path}/o.h5::deep/offsets", **OPTIONS)
    with h5py.File(tmp_path / "w.h5") as file:
        np.testing.assert_array_equal(file["roi_features"], kept.roi_features)
        assert file.attrs["offsets_name"] == offsets
        assert file.attrs["gamma"] == 0.1
    parts = [tmp_path / f"part{number}.h5" for number in (1, 2)]
    for number, part in enumerate(parts, 1):
        roicli.deform_pool(maps, rois, part, offsets=offsets, shard=f"{number}/2", **OPTIONS)
    roicli.merge(parts, tmp_path / "m.h5")
    assert roicli.compare(tmp_path / "w.h5", tmp_path / "m.h5").equal
    # A chosen row keeps its own offsets.
    chosen = roicli.deform_pool(maps, rois, offsets=offsets, where="image == 1", **OPTIONS)
    np.testing.assert_array_equal(chosen.roi_features, kept.roi_features[1::2])


def test_a_resumed_run_knows_other_offsets(tmp_path):
    one = roicli.deform_pool(MAPS, ROIS, tmp_path / "o.h5", offsets=OFFSETS, **OPTIONS)
    other = roicli.deform_pool(MAPS, ROIS, tmp_path / "p.h5", offsets=OFFSETS * 2, **OPTIONS)
    assert one.parameters["offsets_name"] == other.parameters["offsets_name"]
    assert not roicli.compare(tmp_path / "o.h5", tmp_path / "p.h5").equal


def test_the_exported_graph_takes_the_offsets_as_an_input(tmp_path):
    options = {"spatial_scale": SCALE, "output_size": (2, 3)}
    roicli.export("deform-pool", tmp_path / "x.onnx", **options)
    session = ort.InferenceSession(tmp_path / "x.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"features": MAPS, "rois": ROIS, "offsets": OFFSETS})
    np.testing.assert_allclose(found, deform(offsets=OFFSETS), atol=1e-5)
    with pytest.raises(ParameterError, match="offsets are an input of the graph"):
        roicli.export("deform-pool", tmp_path / "y.onnx", offsets=OFFSETS)


def test_moved_bins_are_explained_and_drawn():
    offsets = np.zeros((2, 2, 2, 3), np.float32)
    offsets[1, 0, 1, 2] = 2.0  # bin (1, 2) of RoI 1: a fifth of 23 px at stride 4 to the right
    options = {**LOOK, "roi": 1, "operator": "deform-pool", "offsets": offsets}
    reading = roicli.explain(MAPS, INSIDE, bin_index=(1, 2), channel=3, **options)
    assert [check.equal for check in reading.checks] == [True]
    plain = roicli.explain(MAPS, INSIDE, bin_index=(1, 2), channel=3,
                           **{**options, "offsets": None})  # fmt: skip
    moved = [a.x - b.x for a, b in zip(reading.samples, plain.samples, strict=True)]
    np.testing.assert_allclose(moved, 0.2 * 23 * SCALE, rtol=1e-5)
    picture = roicli.draw(MAPS, INSIDE, **options)
    still = roicli.draw(MAPS, INSIDE, **options | {"offsets": None})
    assert len(picture.lines) == len(still.lines) == 2 * 3 * 4
    changed = [a != b for a, b in zip(picture.lines, still.lines, strict=True)]
    assert changed == [False] * 20 + [True] * 4
    assert picture.operator == "deformable RoI Pool"


@pytest.mark.parametrize(
    ("offsets", "error", "words"),
    [
        (OFFSETS[:5], InputError, r"shape \(5, 2, 2, 3\), expected \(K, 2, 2, 3\), K 24"),
        (OFFSETS[:, :, :1], InputError, r"expected \(K, 2, 2, 3\)"),
        (np.where(np.arange(24)[:, None, None, None] == 7, np.nan, OFFSETS), InputError,
         "row 7: an offset that is not finite"),
    ],
)  # fmt: skip
def test_offsets_that_do_not_fit_are_refused(offsets, error, words):
    with pytest.raises(error, match=words):
        deform(offsets=offsets)


def test_options_that_go_together():
    for options, words in (
        ({"group_size": 2}, "deform rule mmcv has no groups"),
        ({"deform_rule": "r-fcn", "sampling_ratio": 0, "group_size": 1}, "sampling ratio is 0"),
        ({"gamma": float("nan")}, "gamma"),
        ({"deform_rule": "r-fcn", "group_size": 3, "output_size": 3}, "8 channels, which group"),
    ):
        with pytest.raises(ParameterError, match=words):
            deform(**options)
    with pytest.raises(ParameterError, match="offsets is no option of align"):
        roicli.explain(MAPS, ROIS, roi=0, offsets=OFFSETS, **LOOK)


def test_the_command(tmp_path):
    maps, rois, offsets, out = (f"{tmp_path}/{name}.npy" for name in ("m", "r", "o", "out"))
    for path, values in ((maps, MAPS), (rois, ROIS[12:]), (offsets, OFFSETS[12:])):
        np.save(path, values)
    call = ("deform-pool", maps, rois, "--spatial-scale", "1/4", "--output-size", "2x3",
            "--ignore", "R04,R05,R08", "-o", out)  # fmt: skip
    succeed(*call, "--offsets", offsets, "--gamma", "0.5")
    np.testing.assert_allclose(np.load(out), deform(ROIS[12:], offsets=OFFSETS[12:], gamma=0.5),
                               atol=1e-5)  # fmt: skip
    failed = run(*call, "--force", "--offsets", rois)
    assert failed.code == 2
    assert "offsets of shape (12, 5), expected (K, 2, 2, 3), K 12" in failed.err
    look = ("--roi", "0", "--operator", "deform-pool", "--offsets", offsets, "--format", "json")
    told = run("explain", *call[1:-2], *look)
    assert json.loads(told.text)["explanation"]["operator"] == "deform-pool"
