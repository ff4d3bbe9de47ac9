"""Maps under keys, each of its own size: one run computes what a run of each map alone would."""

from pathlib import Path

import h5py
import numpy as np
import pytest

import roicli
from roicli.core.exceptions import InputError
from roicli.pipeline.features import MapReading, open_pyramid
from roicli.storage.formats.hdf5 import child
from tests.cli.running import refuse, run, succeed
from tests.log import logged
from tests.options import need_numba

RNG = np.random.default_rng(5)
KEYS = ("2", "10", "1")  # in natural order: 1, 2, 10
SIZES = {"1": (12, 20), "2": (16, 9), "10": (7, 30)}
MAPS = {key: RNG.normal(size=(3, *SIZES[key])).astype(np.float32) for key in KEYS}
ORDER = sorted(KEYS, key=int)
# In image pixels at stride 4, inside their own maps alone.
BOXES = {
    key: np.array([[1, 2, 4 * w - 3, 4 * h - 5], [0, 0, 2 * w, 2 * h]], np.float32)
    for key, (h, w) in SIZES.items()
}
ROIS = np.concatenate(
    [np.column_stack([np.full(2, int(key)), BOXES[key]]) for key in ORDER]
).astype(np.float32)[[4, 0, 3, 1, 5, 2]]
STRIDE_4 = {"spatial_scale": 1 / 4}


@pytest.fixture(autouse=True)
def stored(folder: Path) -> None:
    """The maps in a folder, in one HDF5 file of three kinds, and in one NPZ."""
    Path("maps").mkdir()
    with h5py.File("feats.h5", "w") as file:
        for key, values in MAPS.items():
            np.save(f"maps/{key}.npy", values)
            file[f"plain/{key}"] = values
            file[f"deep/{key}/p2"] = values[np.newaxis].astype(np.float64)
            file.create_dataset(f"packed/{key}", data=values, compression="gzip", chunks=(1, 3, 3))
    np.savez("feats.npz", **MAPS)
    np.savez_compressed("packed.npz", **MAPS)
    np.save("rois.npy", ROIS)


PATTERNS = [
    "maps/{image}.npy", "feats.h5::plain/{image}", "feats.h5::/deep/{image}/p2",
    "feats.h5::packed/{image}", "feats.npz::{image}", "packed.npz::{image}",
]  # fmt: skip


def one_by_one(function=roicli.align, **options):
    """What a run of each map alone gives, in the order of the RoIs."""
    found = [None] * len(ROIS)
    for key in ORDER:
        rows = np.flatnonzero(ROIS[:, 0] == int(key))
        result = function(MAPS[key], ROIS[rows, 1:], **STRIDE_4, **options)
        for row, values in zip(rows, result.roi_features, strict=True):
            found[row] = values
    return np.array(found)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_collection_is_computed_as_its_maps_are(pattern):
    found = roicli.align(pattern, "rois.npy", **STRIDE_4, output_size=3)
    np.testing.assert_allclose(found.roi_features, one_by_one(output_size=3), atol=1e-6)


@pytest.mark.parametrize("function", [roicli.pool, roicli.precise_pool])
@pytest.mark.parametrize("provider", ["cpu", "native"])
def test_every_operator_and_runner_takes_maps_of_many_sizes(function, provider):
    if provider == "native":
        need_numba()
        if function is roicli.precise_pool:
            pytest.skip("it has no compiled kernel")
    options = {"output_size": 3, "provider": provider}
    found = function("maps/{image}.npy", "rois.npy", verify=True, **STRIDE_4, **options)
    np.testing.assert_array_equal(found.roi_features, one_by_one(function, **options))


def test_the_error_table_knows_the_size_of_each_map():
    """What is outside one map is inside a larger one."""
    rois = ROIS.copy()
    rois[:, 3] += 10
    found = roicli.pool("feats.h5::plain/{image}", rois, **STRIDE_4).errors
    for key in ORDER:
        rows = np.flatnonzero(rois[:, 0] == int(key))
        alone = roicli.pool(MAPS[key], rois[rows, 1:], **STRIDE_4).errors
        for name in ("clipped_fraction", "empty_bins", "iou"):
            np.testing.assert_array_equal(found.column(name)[rows], alone.column(name))
    assert found.column("clipped_fraction").max() > 0


def test_rules_look_at_the_map_that_a_roi_is_on():
    """The middle of one map may lie outside another."""
    assert not roicli.check("maps/{image}.npy", ROIS, **STRIDE_4, select="R05,R06,R07").findings
    moved = ROIS.copy()
    moved[:, 0] = np.select([moved[:, 0] == 1, moved[:, 0] == 2], [2, 10], 1)
    found = roicli.check("maps/{image}.npy", moved, **STRIDE_4).findings
    assert {finding.rule for finding in found} & {"R05", "R06"}
    with pytest.raises(InputError, match=r"image 11 is none of the maps' images \(3: 1, 2, 10\)"):
        roicli.align("maps/{image}.npy", ROIS + np.array([1, 0, 0, 0, 0]))


def test_every_command_takes_a_collection(tmp_path):
    features, rois = "feats.h5::packed/{image}", "rois.npy"
    scale = ("--spatial-scale", "1/4")
    for command in ("draw", "explain", "sweep", "errors", "check"):
        more = ("--roi", "0") if command in ("draw", "explain") else ()
        succeed(command, features, rois, *scale, *more)
    succeed("report", features, rois, *scale, "-o", "r.html")
    result = roicli.align(features, rois, **STRIDE_4, output_size=3).roi_features
    np.save("result.npy", result)
    assert run("diagnose", features, rois, "result.npy", *scale).code == 0


def test_a_run_goes_on_and_blocks_of_rois_read_their_images_alone():
    features = "maps/{image}.npy"
    expected = roicli.align(features, "rois.npy", **STRIDE_4).roi_features
    roicli.align(features, "rois.npy", "a.h5", **STRIDE_4, resume=True)
    for number in (1, 2):
        roicli.align(features, "rois.npy", f"{number}.h5", **STRIDE_4, shard=f"{number}/2")
    succeed("merge", "1.h5", "2.h5", "-o", "v.h5")
    for name in ("a.h5", "v.h5"):
        with h5py.File(name) as file:
            np.testing.assert_array_equal(file["roi_features"][:], expected)
    Path("maps/10.npy").write_bytes(b"damaged")
    roicli.align(features, ROIS[ROIS[:, 0] < 3], **STRIDE_4)


def test_a_pyramid_an_image():
    """Levels of one group an image; every image has every level, at one scale."""
    with h5py.File("p.h5", "w") as file:
        for key, values in MAPS.items():
            for name, step in (("p2", 1), ("p3", 2)):
                data = file.create_dataset(f"{key}/{name}", data=values[:, ::step, ::step])
                data.attrs["spatial_scale"] = 0.25 / step
            file[f"{key}/boxes"] = BOXES[key]
    options = {"levels": "p2,p3", "level_rule": "torchvision", "canonical_size": 40}
    options |= {"canonical_level": 3}
    found = roicli.align("p.h5::{image}", "rois.npy", output_size=2, **options)
    assert set(found.errors.column("level")) == {2, 3}
    for key in ORDER:
        rows = np.flatnonzero(ROIS[:, 0] == int(key))
        alone = roicli.align(f"p.h5::{key}", ROIS[rows, 1:], output_size=2, **options)
        np.testing.assert_array_equal(found.roi_features[rows], alone.roi_features)
    listed = roicli.align("p.h5::{image}/p2,p.h5::{image}/p3", "rois.npy", output_size=2,
                          **{**options, "levels": None})  # fmt: skip
    np.testing.assert_array_equal(listed.roi_features, found.roi_features)
    with h5py.File("p.h5", "a") as file:
        file["10/p3"].attrs["spatial_scale"] = 0.5
    with pytest.raises(InputError, match=r"10/p3: says 0.5, and p.h5::1/p3 says 0.125"):
        roicli.align("p.h5::{image}", "rois.npy", **options)
    roicli.align("p.h5::{image}", "rois.npy", **options, spatial_scale="1/4,1/8")
    with h5py.File("p.h5", "a") as file:
        del file["10/p3"]
    with pytest.raises(InputError, match=r"p.h5::10/p3: is not there, and p.h5::10/p2 is"):
        roicli.align("p.h5::{image}", "rois.npy", **options)


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}])
def test_a_file_an_image_takes_no_child_each(monkeypatch, options):
    """One child opens all HDF5 files; each of them is an input that must stay as it is."""
    for key, values in MAPS.items():
        with h5py.File(f"maps/{key}.h5", "w") as file:
            file.create_dataset("p3", data=values, **options)
    born = []
    begin = child.begin_child
    monkeypatch.setattr(child, "begin_child", lambda *a: born.append(1) or begin(*a))
    found = roicli.align("maps/{image}.h5::p3", ROIS, "o.h5", **STRIDE_4, output_size=3,
                         resume=True)  # fmt: skip
    assert len(born) <= (5 if options else 2)  # the first map alone, and all of them
    np.testing.assert_allclose(found_in("o.h5"), one_by_one(output_size=3), atol=1e-6)
    assert found.roi_features is None
    pyramid = open_pyramid("maps/{image}.h5::p3", (), (0.25,))
    pyramid.expect(np.arange(3))
    assert set(pyramid.files) == {f"maps/{key}.h5" for key in KEYS}
    pyramid.close()
    refuse("inspect", "maps/{image}.h5", words=("stands for 3 images", "maps/1.h5"))


def found_in(path):
    with h5py.File(path) as file:
        return file["roi_features"][:]


def test_what_a_file_says_is_noted_once(folder):
    with h5py.File("m.h5", "w") as file:
        for key, values in MAPS.items():
            file[key] = values.transpose(0, 2, 1)
            file[key].attrs["MATLAB_class"] = np.bytes_("single")
    with logged() as lines:
        found = roicli.align("m.h5::{image}", "rois.npy", **STRIDE_4, output_size=3)
    np.testing.assert_array_equal(found.roi_features, one_by_one(output_size=3))
    assert sum("read as --layout cwh" in line for line in lines) == 1
    assert found.parameters["features_layout"] == ["cwh"]


def test_maps_that_do_not_belong_together():
    np.save("maps/3.npy", np.zeros((4, 5, 5), np.float32))
    rois = np.array([[1, 1, 1, 9, 9], [3, 1, 1, 9, 9]])
    with pytest.raises(InputError, match=r"3.npy: a map of shape \(4, 5, 5\), expected 3"):
        roicli.align("maps/{image}.npy", rois)
    for key, values in MAPS.items():
        np.save(f"maps/{key}.npy", values.transpose(1, 2, 0).copy())
    Path("maps/3.npy").unlink()
    with pytest.raises(InputError, match="--layout hwc puts the channels there"):
        roicli.align("maps/{image}.npy", ROIS, **STRIDE_4)
    found = roicli.align("maps/{image}.npy", ROIS, **STRIDE_4, output_size=3, layout="hwc")
    np.testing.assert_array_equal(found.roi_features, one_by_one(output_size=3))
    np.save("maps/2.npy", np.zeros((2, 3, 5, 5), np.float32))
    with pytest.raises(InputError, match="has 2 images, expected one map under each key"):
        roicli.align("maps/{image}.npy", ROIS, **STRIDE_4, layout="auto")


def test_maps_of_several_dtypes_are_computed_in_the_widest():
    np.save("maps/2.npy", MAPS["2"].astype(np.float16))
    np.save("maps/10.npy", MAPS["10"].astype(np.float64))
    found = roicli.align("maps/{image}.npy", ROIS, **STRIDE_4, output_size=3)
    assert found.roi_features.dtype == np.float64
    np.testing.assert_allclose(found.roi_features, one_by_one(output_size=3), atol=2e-3)


def test_memory_is_planned_for_the_largest_map():
    """With what another layout takes besides, whichever map is the first."""
    for key, values in MAPS.items():
        np.save(f"maps/{key}.npy", values.transpose(1, 2, 0).copy())
    reading = MapReading(layout="hwc")
    pyramid = open_pyramid("maps/{image}.npy", (), (0.25,), reading)
    pyramid.expect(np.arange(3))
    first = open_pyramid("maps/1.npy", (), (0.25,), reading)
    (size,), (alone,) = pyramid.buffer_bytes, first.buffer_bytes
    for opened in (pyramid, first):
        opened.close()
    assert pyramid.levels[0].shape == (3, 3, 16, 30)
    assert size == alone * (16 * 30) / (12 * 20)


@pytest.mark.parametrize("address", ["maps/{img}.npy", "maps/{}.npy", "maps/*.npy", "maps/%s.npy"])
def test_other_words_for_an_image_are_named(address):
    words = ("no such file", "one file an image is written {image} in its name")
    refuse("align", address, "rois.npy", words=words)


def test_a_folder_says_how_to_write_it():
    refuse("align", "maps", "rois.npy", words=("is a folder", "'maps/{image}.npy'"))
    succeed("align", "maps/{image}.npy", "rois.npy", "--spatial-scale", "1/4")
    assert Path("maps.align.h5").exists()


def test_a_file_that_changes_while_a_run_reads_is_noticed(monkeypatch):
    reading = MapReading.read

    def change(self, stored, tells=True):
        if not tells:
            np.save("maps/2.npy", MAPS["2"] + 1)
        return reading(self, stored, tells)

    monkeypatch.setattr(MapReading, "read", change)
    with pytest.raises(InputError, match=r"maps/2.npy: was changed while it was read"):
        roicli.align("maps/{image}.npy", ROIS, "o.h5", **STRIDE_4)
    assert not Path("o.h5").exists()


# RoIs under keys --------------------------------------------------------------------------------


def write_boxes(boxes=BOXES):
    """The RoIs of every image, in one file and in a folder of tables."""
    Path("tables").mkdir()
    with h5py.File("boxes.h5", "w") as file:
        for key, values in boxes.items():
            file.create_dataset(f"{key}/boxes", data=values, chunks=True, compression="gzip")
            rows = "\n".join(",".join(map(repr, row)) for row in values.tolist())
            Path(f"tables/{key}.csv").write_text(f"x1,y1,x2,y2\n{rows}\n")


def test_rois_of_each_image_under_its_key():
    """They are one table in the keys' order, whichever format has them."""
    write_boxes()
    expected = roicli.align("maps/{image}.npy", ROIS, **STRIDE_4, output_size=3)
    order = [
        int(np.flatnonzero((ROIS[:, 0] == int(key)) & (ROIS[:, 3] == box[2]))[0])
        for key in ORDER
        for box in BOXES[key]
    ]
    for pattern in ("boxes.h5::{image}/boxes", "tables/{image}.csv"):
        found = roicli.align("maps/{image}.npy", pattern, "o.h5", **STRIDE_4, output_size=3,
                             force=True)  # fmt: skip
        keys = [key.encode() for key in ORDER for _ in range(2)]
        with h5py.File("o.h5") as file:
            np.testing.assert_array_equal(file["roi_features"], expected.roi_features[order])
            assert file["rois_columns/image_key"][:].tolist() == keys
        assert found.errors.column("image_key").tolist() == keys
    outcome = succeed("errors", "maps/{image}.npy", "rois.npy", "--spatial-scale", "1/4",
                      "--format", "csv", "--group-by", "image_key")  # fmt: skip
    assert "image_key" in outcome.text.splitlines()[0]


def test_rois_under_numbers_go_with_an_array_of_maps():
    maps = np.stack([values[:, :7, :9] for values in MAPS.values()])
    np.save("maps.npy", maps)
    with h5py.File("boxes.h5", "w") as file:
        for number in range(3):
            file[f"box_{number}"] = np.array([[1, 2, 20, 25]] * number, np.float16)
        file["box_0"].attrs["empty"] = True
    found = roicli.align("maps.npy", "boxes.h5::box_{image}", **STRIDE_4, output_size=3)
    rois = np.array([[1, 1, 2, 20, 25], [2, 1, 2, 20, 25], [2, 1, 2, 20, 25]], np.float16)
    alone = roicli.align("maps.npy", rois, **STRIDE_4, output_size=3)
    np.testing.assert_array_equal(found.roi_features, alone.roi_features)
    assert found.errors.column("coordinate_error_px").max() > 0


def test_files_an_image_with_more_columns_and_with_nothing_in_them():
    """Columns are named as each file has them; a text of no bytes is an image without RoIs."""
    write_boxes()
    for key, boxes in BOXES.items():
        rows = "".join(" ".join(map(str, (7, *box))) + "\n" for box in boxes.tolist())
        Path(f"tables/{key}.txt").write_text(rows if key != "10" else "")
    arguments = ("align", "maps/{image}.npy", "tables/{image}.txt", "--spatial-scale", "1/4")
    words = ("RoIs of an image have 5 columns", "class,cx,cy,w,h", "YOLO's are read from their")
    refuse(*arguments, words=words)
    found = roicli.align(*arguments[1:3], **STRIDE_4, roi_columns="class,x1,y1,x2,y2")
    Path("tables/10.csv").write_text("x1,y1,x2,y2\n")
    expected = roicli.align("maps/{image}.npy", "tables/{image}.csv", **STRIDE_4)
    np.testing.assert_array_equal(found.roi_features, expected.roi_features)
    assert len(found.errors) == 4


@pytest.mark.parametrize("widths", [(11, 11, 11), (11, 14, 12)])
def test_maps_of_images_with_channels_last_are_told_so(widths):
    """No scale is blamed, whether the maps have one size or several."""
    rows = []
    for name, width in zip("abc", widths, strict=True):
        np.save(f"maps/{name}.npy", np.zeros((20, width, 3), np.float32))
        rows += [f"{name},8,{edge},{4 * width - 1},{edge + 9}\n" for edge in (3, 40, 70)]
    for key in KEYS:
        Path(f"maps/{key}.npy").unlink()
    Path("r.csv").write_text("file,x1,y1,x2,y2\n" + "".join(rows))
    words = ("maps with channels last put 9 of 9 inside: --layout hwc",)
    outcome = refuse("align", "maps/{image}.npy", "r.csv", "--spatial-scale", "1/4", words=words)
    assert "1/8" not in outcome.err
    roicli.align("maps/{image}.npy", "r.csv", **STRIDE_4, layout="hwc")


def test_rois_of_images_that_do_not_belong_together():
    write_boxes({**BOXES, "3": BOXES["1"]})
    with pytest.raises(InputError, match=r"image 3 is none of the maps' images"):
        roicli.align("maps/{image}.npy", "boxes.h5::{image}/boxes", **STRIDE_4)
    with h5py.File("boxes.h5", "a") as file:
        del file["3/boxes"], file["10/boxes"]
        file["3/boxes"] = np.ones((2, 6))
    with pytest.raises(InputError, match=r"boxes.h5::3/boxes: has 6 columns, expected 4 columns"):
        roicli.align("maps/{image}.npy", "boxes.h5::{image}/boxes", **STRIDE_4)
    with h5py.File("boxes.h5", "a") as file:
        del file["3/boxes"]
        file["3/boxes"] = np.ones((0, 6))
        file["10/boxes"] = BOXES["10"][0]
    found = roicli.align("maps/{image}.npy", "boxes.h5::{image}/boxes", **STRIDE_4)
    assert len(found.errors) == 5


def test_maps_that_tell_something_are_read_as_they_say():
    """What lies plainly beside others is looked at without being opened; these are not."""
    kinds = {
        "plain": {},
        "named": {"name": "x.jpg"},
        "packed": {"scale_factor": 2.0},
        "scaled": {"stride": 4},
        "of MATLAB": {"MATLAB_class": np.bytes_("single")},
    }
    maps = RNG.normal(size=(len(kinds), 2, 8, 8)).astype(np.float32)
    boxes = np.array([[1, 2, 20, 30]], np.float32)
    with h5py.File("kinds.h5", "w") as file:
        for number, attributes in enumerate(kinds.values()):
            file[f"{number}/map"] = maps[number]
            file[f"{number}/map"].attrs.update(attributes)
            file[f"{number}/boxes"] = boxes
        file["0/map"].parent.attrs["image_id"] = 0
    found = roicli.align("kinds.h5::{image}/map", "kinds.h5::{image}/boxes", **STRIDE_4)
    maps[2] *= 2
    maps[4] = maps[4].swapaxes(1, 2)
    for number, values in enumerate(maps):
        expected = roicli.align(values, boxes, **STRIDE_4).roi_features[0]
        np.testing.assert_allclose(found.roi_features[number], expected, rtol=1e-6, atol=1e-6)
    with pytest.raises(InputError, match=r"3/map: says 0\.25, and .*0/map says no scale"):
        roicli.align("kinds.h5::{image}/map", "kinds.h5::{image}/boxes")
