"""RoIs in other pixels than the network's, and the scale of a map that the image's size implies."""

import json
import logging
from pathlib import Path

import h5py
import numpy as np
import pytest

import roicli
from roicli.core.exceptions import InputError, ParameterError
from roicli.pipeline.image_scale import infer_scale
from tests.cli.running import refuse, run, save, save_h5, succeed

# Two maps of 3 x 12 x 16 at stride 16: images of 192 x 256 px.
MAPS = np.random.default_rng(5).normal(size=(2, 3, 12, 16)).astype(np.float32)
BOXES = [[8, 16, 120, 96], [40, 24, 200, 180], [4, 100, 60, 190], [100, 50, 250, 150]]
ROIS = np.column_stack([[0, 1, 1, 0], np.array(BOXES, float)])
BASE = roicli.align(MAPS, ROIS, spatial_scale=1 / 16).roi_features


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save("f.npy", MAPS)


def shrunk(x, y=None):
    """The RoIs in pixels of images that the network saw x, y times as large; both may be (2,)."""
    factors = np.column_stack(np.broadcast_arrays(x, x if y is None else y))
    factors = np.broadcast_to(factors, (2, 2))[ROIS[:, 0].astype(int)]
    return np.column_stack([ROIS[:, 0], ROIS[:, 1:] / np.tile(factors, 2)])


def features(rois, **options):
    return roicli.align("f.npy", rois, spatial_scale=1 / 16, **options)


@pytest.mark.parametrize(
    ("scale", "rois"),
    [
        (1.25, shrunk(1.25)), ("1.25", shrunk(1.25)), ("5/4", shrunk(1.25)),
        ((1.5, 0.75), shrunk(1.5, 0.75)), ("1.5,0.75", shrunk(1.5, 0.75)),
        (np.array([1.5, 0.75]), shrunk([1.5, 0.75])),
        (np.array([[1.5], [0.75]]), shrunk([1.5, 0.75])),
        (np.array([[1.5, 2], [0.75, 1]]), shrunk([1.5, 0.75], [2, 1])),
        # mmdet's scale_factor, and sizes before and after
        (np.array([[1.5, 2, 1.5, 2], [0.75, 1, 0.75, 1]]), shrunk([1.5, 0.75], [2, 1])),
        (np.array([[[96, 128], [192, 192]], [[192, 256], [192, 192]]]),
         shrunk([1.5, 0.75], [2, 1])),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_roi_scale_may_be(scale, rois):
    found = features(rois, roi_scale=scale)
    np.testing.assert_allclose(found.roi_features, BASE, atol=1e-5)
    if isinstance(scale, np.ndarray):
        save("scales.npy", scale)
        save_h5("s.h5", im_scales=scale)
        for address in ("scales.npy", "s.h5::im_scales"):
            again = features(rois, roi_scale=address)
            np.testing.assert_array_equal(again.roi_features, found.roi_features)
            assert again.parameters["roi_scale_name"] == address.partition("::")[0]


def test_errors_and_boxes_are_in_the_networks_pixels(caplog):
    caplog.set_level(logging.INFO, "roicli")
    small = shrunk(1.5, 0.75)
    scaled = features(small, roi_scale="1.5,0.75")
    plain = features(ROIS)
    assert "coordinates times 1.5 in x, 0.75 in y (--roi-scale): errors" in caplog.text
    assert scaled.parameters["roi_scale"] == [1.5, 0.75]
    assert "roi_scale" not in plain.parameters
    for name in ("x1_error_px", "y2_error_px", "shift_px", "iou", "size_class"):
        a, b = scaled.errors.column(name), plain.errors.column(name)
        np.testing.assert_array_equal(a, b) if a.dtype.kind == "S" else np.testing.assert_allclose(
            a, b, atol=1e-5
        )
    np.testing.assert_allclose(scaled.errors.rois.corners, ROIS[:, 1:])


def test_what_a_dtype_lost_grows_with_the_scale():
    half = ROIS.astype(np.float16)
    lost = features(half).errors.column("coordinate_error_px")
    grown = roicli.errors(None, half, spatial_scale=1 / 16, roi_scale=(3, 1)).errors
    spacing = np.abs(np.spacing(half[:, 1:])).astype(float) / 2
    np.testing.assert_allclose(lost, spacing.max(axis=1))
    np.testing.assert_allclose(
        grown.column("coordinate_error_px"), (spacing * [3, 1, 3, 1]).max(axis=1)
    )


def test_a_result_carries_its_roi_scale():
    save("r.npy", shrunk(1.25))
    arguments = ("f.npy", "r.npy", "--spatial-scale", "1/16", "--roi-scale", "1.25")
    succeed("align", *arguments, "-o", "o.h5", "-q")
    with h5py.File("o.h5") as file:
        assert file.attrs["roi_scale"].tolist() == [1.25, 1.25]
        np.testing.assert_allclose(file["rois"], ROIS, rtol=1e-6)
    shown = json.loads(succeed("errors", *arguments, "--format", "json").text)
    assert shown["parameters"]["roi_scale"] == [1.25, 1.25]
    for command in (("check", *arguments), ("diagnose", *arguments[:2], "o.h5", *arguments[2:]),
                    ("sweep", *arguments), ("explain", *arguments, "--roi", "1")):  # fmt: skip
        succeed(*command)


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        ("0", ("RoI scale is '0'", "positive")), ("-1", ("RoI scale",)), ("nan", ("RoI scale",)),
        ("1,2,3", ("RoI scale", "a number, two")), ("none.npy", ("none.npy", "no such file")),
        ("three.npy", ("scales of 3 images, and there are 2", "in the order of FEATURES")),
        ("zero.npy", ("item 1 is", "positive, finite")),
        ("wide.npy", ("shape (2, 3)", "(N, 2), x and y")),
    ],
)  # fmt: skip
def test_a_roi_scale_that_is_none(scale, words):
    save("r.npy", ROIS)
    save("three.npy", np.ones(3))
    save("zero.npy", np.array([1.0, 0.0]))
    save("wide.npy", np.ones((2, 3)))
    refuse("align", "f.npy", "r.npy", "--spatial-scale", "1/16", "--roi-scale", scale, words=words)


def test_normalized_rois_have_their_scale_in_the_image_size():
    with pytest.raises(ParameterError, match="drop --roi-scale"):
        features(ROIS, normalized=True, image_size=(192, 256), roi_scale=2)


def test_without_maps_every_image_needs_its_scale():
    with pytest.raises(InputError, match="scales of 1 images, and there are 2"):
        roicli.errors(None, ROIS[1:], spatial_scale=1 / 16, roi_scale=np.ones((1, 3))[:, :1])
    roicli.errors(None, ROIS, spatial_scale=1 / 16, roi_scale=np.ones(5))


# Advice -----------------------------------------------------------------------------------------

MANY = np.concatenate([ROIS] * 4)


@pytest.mark.parametrize(
    ("rois", "options", "advice"),
    [
        # images twice and three times as large as the network's
        (MANY * [1, 3, 3, 3, 3] + [0, 300, 300, 300, 300], (), "add --roi-scale"),
        (MANY, ("--roi-scale", "8"), "without --roi-scale puts 16 of 16 inside"),
        (MANY * [1, 3, 3, 3, 3], ("--roi-scale", "3"), "--roi-scale inverted puts 16 of 16 inside"),
    ],
)
def test_advice_names_the_roi_scale(rois, options, advice):
    save("r.npy", rois)
    run_options = ("f.npy", "r.npy", "--spatial-scale", "1/16", *options)
    refuse("align", *run_options, words=("wholly outside", advice))
    found = json.loads(run("check", *run_options, "--format", "json").text)["findings"]
    assert any(advice in finding["advice"] for finding in found if finding["rule"] == "R05")


def test_rois_that_a_smaller_scale_would_put_inside():
    """Of 1.2 times larger images: some reach past the map, none lies outside."""
    save("r.npy", ROIS * [1, 1.2, 1.2, 1.2, 1.2])
    found = run("check", "f.npy", "r.npy", "--spatial-scale", "1/16", "--format", "json")
    advice = {f["rule"]: f["advice"] for f in json.loads(found.text)["findings"]}["R06"]
    # the farthest corner, 228 px down, is on 192; across 300 is on 256
    assert "--roi-scale" in advice
    assert "from 0.842 on down" in advice


def test_normalized_rois_stay_recognized_under_a_roi_scale():
    save("r.npy", ROIS / [1, 256, 192, 256, 192])
    words = ("look normalized", "--normalized")
    refuse("align", "f.npy", "r.npy", "--spatial-scale", "1/16", "--roi-scale", "1.5", words=words)
    found = features("r.npy", roi_scale="256,192").roi_features
    np.testing.assert_allclose(found, BASE, atol=1e-5)


# image_sizes beside the maps -----------------------------------------------------------------


def with_sizes(original, network=((192, 256), (192, 256)), dtype=np.int64):
    sizes = np.stack([np.broadcast_to(original, (2, 2)), np.broadcast_to(network, (2, 2))], axis=1)
    return save_h5("m.h5", maps__feats=MAPS, maps__image_sizes=sizes.astype(dtype))


def aligned(path, rois, **options):
    return roicli.align(f"{path}::maps/feats", rois, spatial_scale=1 / 16, **options)


def test_sizes_beside_the_maps_say_how_rois_were_resized(caplog):
    caplog.set_level(logging.INFO, "roicli")
    path = with_sizes([[384, 512], [288, 512]])
    large = shrunk(0.5, [0.5, 192 / 288])
    found = aligned(path, large)
    np.testing.assert_allclose(found.roi_features, BASE, atol=1e-5)
    assert found.parameters["roi_scale_dataset"] == "/maps/image_sizes"
    assert "image_sizes (--roi-scale): errors" in caplog.text
    # RoIs that leave the original are the network's.
    path = with_sizes([96, 128])
    assert np.array_equal(aligned(path, ROIS).roi_features, BASE)


def test_rois_that_may_be_in_either_pixels_are_refused():
    path = with_sizes([384, 512])
    with pytest.raises(InputError, match="all RoIs are inside both") as caught:
        aligned(path, ROIS)
    assert "--roi-scale m.h5::/maps/image_sizes" in str(caught.value.hint)
    assert np.array_equal(aligned(path, ROIS, roi_scale=1).roi_features, BASE)
    scaled = aligned(path, ROIS, roi_scale=f"{path}::maps/image_sizes").roi_features
    np.testing.assert_allclose(scaled, aligned(path, ROIS, roi_scale=0.5).roi_features)


@pytest.mark.parametrize("network", [[384, 256], [0, 256]])
def test_sizes_of_other_maps_are_not_used(network, caplog):
    caplog.set_level(logging.INFO, "roicli")
    assert np.array_equal(aligned(with_sizes([384, 512], network), ROIS).roi_features, BASE)
    assert "not those of the maps" in caplog.text


# The scale of a map ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "pixels", "scale"),
    [
        ((24, 32), (384, 512), 1 / 16),
        ((25, 42), (800, 1333), 1 / 32),  # filled up to 1344
        ((200, 334), (800, 1333), 1 / 4),
        ((37, 37), (518, 518), 1 / 14),
        ((14, 14), (224, 224), 1 / 16),
        ((1, 1), (7, 7), 1 / 8),
    ],
)
def test_the_scale_that_an_image_size_implies(cells, pixels, scale):
    assert infer_scale("f", cells, pixels) == scale


def test_a_map_with_a_cell_too_many_has_no_scale():
    """Some networks make 33 cells of 512 px: neither 1/16 nor 33/512 can be known to be meant."""
    with pytest.raises(InputError, match="no one stride"):
        infer_scale("f", (33, 33), (512, 512))


def test_axes_that_disagree_are_refused_with_both_scales():
    with pytest.raises(InputError, match=r"12 px down, 16 across") as caught:
        infer_scale("f", (16, 16), (192, 256))
    # 1/16 across and 1/12 down: y is multiplied by 16/12
    assert "--spatial-scale 0.0625 --roi-scale 1,1.33333333" in str(caught.value.hint)


def test_auto_takes_each_levels_scale():
    save("f2.npy", np.zeros((2, 3, 6, 8), np.float32))
    found = roicli.align("f.npy,f2.npy", ROIS, spatial_scale="auto", image_size="192x256")
    assert found.parameters["spatial_scale"] == [1 / 16, 1 / 32]
    for options, words in (
        ((), ("auto needs the size",)),
        (("--image-size", "200x9999"), ("f.npy: 12 x 16 cells", "no one stride")),
    ):
        save("r.npy", ROIS)
        refuse("align", "f.npy", "r.npy", "--spatial-scale", "auto", *options, words=words)
    refuse("errors", "r.npy", "--spatial-scale", "auto", "--image-size", "9x9", words=("no",))
    refuse("export", "align", "x.onnx", "--spatial-scale", "auto", words=("auto",))


@pytest.mark.parametrize("name", ["spatial_scale", "stride"])
def test_a_map_with_two_scales(name):
    """Which is of x nobody can know: both ways to say it are told, and each is right."""
    x, y = (1 / 16, 1 / 12) if name == "spatial_scale" else (16, 12)
    save_h5("two.h5", {name: np.array([x, y])}, f=MAPS)
    save("r.npy", ROIS * [1, 1, 0.75, 1, 0.75])
    first = "--spatial-scale 0.0625 --roi-scale 1,1.33333333"
    refuse("align", "two.h5", "r.npy", words=("2 numbers", first, "x, y", "y, x"))
    succeed("align", "two.h5", "r.npy", *first.split(), "-o", "o.npy", "-q")
    np.testing.assert_allclose(np.load("o.npy"), BASE, atol=1e-5)
    save_h5("one.h5", {name: np.array([x, x])}, f=MAPS)
    succeed("align", "one.h5", "r.npy", "-o", "o2.npy", "-q")
    refuse("align", "f.npy", "r.npy", "--spatial-scale", "1/16,1/12", words=("--roi-scale 1,Y",))
