"""Inputs as people have them: computed right, or refused in one line that says what they are.

Two maps of 8 x 24 x 32 at stride 16, fifteen RoIs, and what RoI Align gives for them.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest

import roicli
from roicli.core.declaration import declarations
from roicli.core.operator_table import RunOptions
from tests.cli.running import Outcome, refuse, run, save, succeed
from tests.options import some

DATA = Path(__file__).parent / "field"
FEATS, ROIS, BASE = (np.load(DATA / f"{name}.npy") for name in ("feats", "rois", "base"))
STRIDE_16 = ("--spatial-scale", "1/16")
CORNERS = ROIS[:, 1:]
KNOWN_OPTIONS = {
    flag
    for declared in declarations(RunOptions).values()
    for flag in re.findall(r"--[a-z-]+", getattr(declared.opt, "flags", ""))
}


@pytest.fixture(autouse=True)
def maps(folder: Path) -> None:
    """feats.npy has both maps, one.npy the first one, rois.npy all RoIs."""
    save("feats.npy", FEATS)
    save("one.npy", FEATS[:1])
    save("rois.npy", ROIS)


def align(features: str, rois: str, *options: str) -> Any:
    """What `roicli align` gives; its warnings are none."""
    outcome = succeed("align", features, rois, "-o", "out.npy", "--force", "-q", *options)
    assert outcome.err == ""
    return np.load("out.npy")


def write_text(name: str, header: str, columns: Any, before: str = "", delimiter: str = ",") -> str:
    """A text of these columns, every number in full."""
    lines = [delimiter.join(map(repr, row)) for row in np.asarray(columns, float).tolist()]
    Path(name).write_text("\n".join([*([before + header] if header else []), *lines]) + "\n")
    return name


# A RoI's image ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["image_id", "batch_idx", "frame", "image_index", "img_id", "ImageID", "Frame No."]
)
@pytest.mark.parametrize("before", ["", "# ", "#"])
def test_a_column_that_names_images(name: str, before: str) -> None:
    """It is read whatever it is called, and never taken for the first image's."""
    columns = np.column_stack([CORNERS, np.linspace(0, 1, 15), ROIS[:, 0]])
    write_text("r.csv", f"x1,y1,x2,y2,score,{name}", columns, before)
    np.testing.assert_allclose(align("feats.npy", "r.csv", *STRIDE_16), BASE, atol=1e-6)
    refuse("align", "one.npy", "r.csv", *STRIDE_16, words=("row 9", name, "found 1", "from 0 to 0"))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("command", ["align", "pool", "errors"])
def test_a_batch_index_that_the_dtype_has_for_another_image(command: str, dtype: Any) -> None:
    """2049 is 2048 in float16, 257 is 256 in bfloat16: neither may be computed as the other."""
    last = {"float16": 2048, "bfloat16": 256}[np.dtype(dtype).name]
    save("many.npy", np.ones((last + 2, 1, 4, 4), np.float32))
    rois = np.array([[3, 8, 8, 40, 40], [last, 8, 8, 40, 40]])
    save("r.npy", rois.astype(dtype))
    words = ("row 1, column 0", f"holds whole numbers up to {last} only", "float32")
    refuse(command, "many.npy", "r.npy", *STRIDE_16, words=words)
    # Where there is no later image, nothing can have been lost.
    save("many.npy", np.ones((last + 1, 1, 4, 4), np.float32))
    outcome = run(command, "many.npy", "r.npy", *STRIDE_16, "--force")
    assert outcome.code == 0, outcome.err


def test_labels_of_yolo_have_a_class_where_the_image_belongs() -> None:
    """Read as documented they would be RoIs of image number class."""
    size = np.array([512, 384, 512, 384])
    x1, y1, x2, y2 = (CORNERS / size).T
    boxes = np.column_stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])
    write_text("r.tsv", "", np.column_stack([ROIS[:, 0], boxes]), delimiter="\t")
    refuse("align", "feats.npy", "r.tsv", *STRIDE_16, words=("normalized", "class", "cxcywh"))
    said = (*STRIDE_16, "--normalized", "--image-size", "384x512", "--roi-format", "cxcywh")
    refuse(
        "align",
        "feats.npy",
        "r.tsv",
        *said,
        words=("no header", "class", "--roi-columns image,cx,cy"),
    )
    write_text("r.tsv", "batch_index\tcx\tcy\tw\th", np.column_stack([ROIS[:, 0], boxes]),
               delimiter="\t")  # fmt: skip
    np.testing.assert_allclose(align("feats.npy", "r.tsv", *said), BASE, atol=1e-4)
    write_text("r.tsv", "class\tcx\tcy\tw\th", np.column_stack([ROIS[:, 0], boxes]),
               delimiter="\t")  # fmt: skip
    refuse(
        "align", "feats.npy", "r.tsv", *said, words=("no column names the RoI's image", "2 images")
    )
    found = align("one.npy", "r.tsv", *said)
    np.testing.assert_allclose(found[:9], BASE[:9], atol=1e-4)


# What is refused, and in which words -----------------------------------------------------------


def with_image(image: Any, corners: Any = CORNERS) -> Any:
    """(K, 5) of an image column and corners."""
    return np.column_stack([image, corners]).astype(np.float32)


SCORES = np.linspace(0.1, 0.9, 15)
SIZE = np.array([512, 384, 512, 384])
XYXY = ("x1", "y1", "x2", "y2")
REFUSED: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "score last": ("one.npy", np.column_stack([CORNERS, SCORES]),
                   ("the last column is no coordinate", "x1, y1, x2, y2 and a score")),
    "one box with a score": ("one.npy", np.array([[0, 40, 300, 200, 0.93]]),
                             ("the last column is no coordinate",)),
    "area last, normalized": ("one.npy", np.column_stack([CORNERS / SIZE, SCORES / 9]),
                              ("the last column is no coordinate", "normalized")),
    "class last": ("one.npy", np.column_stack([CORNERS, np.arange(15) % 3]),
                   ("the last column is no coordinate", "--roi-columns x1,y1,x2,y2,_")),
    "area last": ("one.npy", np.column_stack([CORNERS, np.arange(15) * 999 + 50]),
                  ("the last column is no coordinate", "--roi-columns x1,y1,x2,y2,_")),
    "score behind a size": ("one.npy", np.column_stack(
        [CORNERS[:, :2], CORNERS[:, 2:] - CORNERS[:, :2], SCORES]),
        ("the last column is no coordinate", "--roi-columns x,y,w,h,score")),
    "score first": ("one.npy", np.column_stack([SCORES, CORNERS]),
                    ("found 0.1", "--roi-columns class,x1,y1,x2,y2")),
    "six columns": ("feats.npy", np.column_stack([ROIS, SCORES]),
                    ("(15, 6)", "scores", "angle", "--roi-columns image,x1")),
    "seven columns": ("feats.npy", np.column_stack([ROIS, SCORES, SCORES]), ("(15, 7)", "angle")),
    "ids": ("feats.npy", with_image(np.where(ROIS[:, 0], 37777, 397133)), ("397133", "ids")),
    "one-based": ("feats.npy", with_image(ROIS[:, 0] + 1), ("one-based", "--images 1,2")),
    "index last": ("feats.npy", np.roll(ROIS, -1, axis=1),
                   ("last column", "--roi-columns x1,y1,x2,y2,image")),
    "transposed": ("feats.npy", ROIS.T, ("(5, 15)", "MATLAB", "rois.T")),
    "image by image": ("feats.npy", np.zeros((2, 8, 5)), ("(2, 8, 5)", "expected (K, 5)")),
    "no image": ("feats.npy", CORNERS, ("4 columns and there are 2 images",)),
    "padded with -1": ("feats.npy", np.vstack([ROIS, -np.ones((5, 5))]), ("row 15", "fill up")),
    "padded with NaN": ("feats.npy", np.vstack([ROIS, np.full((5, 5), np.nan)]), ("fill up",)),
    "normalized": ("one.npy", CORNERS / SIZE, ("x1, y1, x2, y2", "y1, x1, y2, x2", "--normalized")),
    "normalized, y first": ("one.npy", (CORNERS / SIZE)[:, [1, 0, 3, 2]],
                            ("x1, y1, x2, y2", "y1, x1, y2, x2", "--normalized")),
    "corners of a size": ("feats.npy", with_image(ROIS[:, 0], np.column_stack(
        [CORNERS[:, :2], CORNERS[:, 2:] - CORNERS[:, :2]])), ("crossed", "--roi-format xywh")),
    "four times too large": ("feats.npy", with_image(ROIS[:, 0], CORNERS * 4),
                             ("--spatial-scale is 1/16; 1/64 puts 15", "before it was resized")),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_it_is_is_said(kind: str) -> None:
    """In one line, which names no option that there is not."""
    features, rois, words = REFUSED[kind]
    save("r.npy", rois)
    for command in ("align", "pool", "errors"):
        outcome = refuse(command, features, "r.npy", *STRIDE_16, words=words)
        assert set(re.findall(r"--[a-z-]+", outcome.err)) <= KNOWN_OPTIONS
    assert run("check", features, "r.npy", *STRIDE_16).code == 1


# Maps and scales -------------------------------------------------------------------------------


def scales_of(outcome: Outcome) -> set[str]:
    """The scales that a message names."""
    return set(re.findall(r"1/\d+", outcome.err))


OUTSIDE = [
    ("align",), ("sweep",), ("pool",), ("report", "-o", "r.html"), ("errors",),
    ("explain", "--roi", "3"), ("draw", "--roi", "3"), ("diagnose",),
]  # fmt: skip


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        ((), "no --spatial-scale was given; 1/16 puts 15 of 15 inside"),
        (("--spatial-scale", "16"), "--spatial-scale 16 is over 1; 1/16 puts 15 of 15 inside"),
        (("--spatial-scale", "1/4"), "--spatial-scale is 1/4; 1/16 puts 15 of 15 inside; or the"),
    ],
)
@some(
    "command",
    [(one,) for one in OUTSIDE],
    *[(one,) for one in (*OUTSIDE[::2], OUTSIDE[7])],
    ids=str,
)
def test_rois_wholly_outside(command: tuple[str, ...], scale: tuple[str, ...], words: str) -> None:
    """A scale left out, a stride given as a scale, another map's scale."""
    name, *options = command
    inputs = ["feats.npy", "rois.npy", *([str(DATA / "base.npy")] if name == "diagnose" else [])]
    arguments = (name, *inputs, *options, *scale, "-q")
    refuse(*arguments, words=("rois.npy: 1", "lie wholly outside", words))
    if name == "diagnose":
        return  # which has no match for nonsense
    outcome = run(*arguments, "--ignore", "R05")
    assert (outcome.code, outcome.err) == (0, "")


def test_rois_wholly_outside_a_map_that_is_only_named() -> None:
    """The table of boxes alone knows the map's size, too."""
    arguments = ("errors", "rois.npy", "--map-size", "24x32")
    refuse(*arguments, words=("14 of 15 RoIs lie wholly outside", "1/16 puts 15 of 15 inside"))
    succeed(*arguments, "--ignore", "r05")
    succeed("errors", "rois.npy")


@pytest.mark.parametrize("scale", [STRIDE_16, ()])
def test_rois_outside_maps_with_their_channels_last(scale: tuple[str, ...]) -> None:
    """No scale is blamed that would give wrong numbers."""
    save("nhwc.npy", FEATS.transpose(0, 2, 3, 1))
    words = ("maps with channels last put 15 of 15 inside", "--layout nhwc")
    outcome = refuse("align", "nhwc.npy", "rois.npy", *scale, words=words)
    assert scales_of(outcome) == (set() if scale else {"1/16"})


MANY = np.random.default_rng(0).normal(size=(2, 64, 24, 32)).astype(np.float32)


@pytest.mark.parametrize("stored", [FEATS, MANY], ids=["few channels", "many"])
@pytest.mark.parametrize("layout", ["nhwc", "nwhc", "hwcn", "nhcw", "chwn"])
def test_rois_tell_the_order_of_the_axes(layout: str, stored: Any) -> None:
    """Inside the maps as they are read or not: what RoIs leave empty and fill says it."""
    if layout == "nhcw" and stored is MANY:
        return  # as high as the image, and twice as wide: nothing tells
    save("m.npy", stored.transpose(["nchw".index(axis) for axis in layout]).copy())
    refuse("align", "m.npy", "rois.npy", *STRIDE_16, words=(f"--layout {layout}",))
    align("m.npy", "rois.npy", *STRIDE_16, "--layout", layout)
    save("m.npy", stored)
    align("m.npy", "rois.npy", *STRIDE_16)


def reverse(attributes: dict[str, Any]) -> None:
    """What a program with reversed axes writes: the maps (N, C, W, H)."""
    with h5py.File("reversed.h5", "w") as file:
        file["feats"] = FEATS.transpose(0, 1, 3, 2)
        file["feats"].attrs.update(attributes)
        file["rois"] = ROIS.T


def test_reversed_axes_are_not_blamed_on_the_rois_alone() -> None:
    """Exchanged x and y explain the same: both are named, whichever of the two it was."""
    reverse({})
    words = ("look as if x and y were exchanged", "--layout ncwh", "as TensorFlow's")
    refuse("pool", "reversed.h5::feats", "rois.npy", *STRIDE_16, words=words)
    refuse("align", "feats.npy", "reversed.h5", *STRIDE_16, words=("/rois", "reversed", "MATLAB"))
    words = ("1/16", "x and y exchanged", "--layout ncwh", "TensorFlow")
    refuse("align", "reversed.h5::feats", "rois.npy", words=words)


def test_axes_that_matlab_reverses_are_read_so() -> None:
    """Of the maps and of the RoIs; whoever wrote the maps for others says --layout nchw."""
    reverse({"MATLAB_class": np.bytes_("single")})
    with h5py.File("reversed.h5", "a") as file:
        file["rois"].attrs["MATLAB_class"] = np.bytes_("double")
    outcome = succeed("align", "reversed.h5", "reversed.h5", *STRIDE_16, "-o", "out.npy")
    np.testing.assert_allclose(np.load("out.npy"), BASE, atol=1e-6)
    assert "reversed.h5::/feats: read as --layout ncwh: MATLAB wrote it" in outcome.err
    assert "reversed.h5::/rois: MATLAB wrote it, so its axes are read as (15, 5)" in outcome.err
    said = (*STRIDE_16, "--layout", "nchw")
    words = ("give --layout ncwh (MATLAB wrote this file", "TensorFlow")
    refuse("align", "reversed.h5::feats", "rois.npy", *said, words=words)


@pytest.mark.parametrize("count", [3, 12])
@pytest.mark.parametrize("shape", [(1, 14, 14, 256), (2, 7, 7, 2048), (14, 14, 256)])
def test_channels_last_by_their_shape(shape: tuple[int, ...], count: int) -> None:
    """RoIs that fill less than all of the maps, or are few, tell it where the shape does, too."""
    side = 16 * shape[-2]
    corners = np.linspace(0.1, 0.4, count)[:, None] * side + np.array([0, 0, 0.3, 0.4]) * side
    save("r.npy", np.column_stack([np.zeros(count), corners]))
    save("m.npy", np.zeros(shape, np.float32))
    arguments = ("align", "m.npy", "r.npy", *STRIDE_16, "-o", "o.npy")
    advice = f"add --layout {'nhwc'[-len(shape) :]}"
    if count > 10:
        refuse(*arguments, words=("another order", "channels last fit", advice))
    else:
        assert advice in succeed(*arguments).err
    align("m.npy", "r.npy", *STRIDE_16, "--layout", "nhwc"[-len(shape) :])


def test_channels_last_where_rois_fill_most_of_them() -> None:
    wide = np.zeros((2, 24, 32, 256), np.float32)
    save("m.npy", wide)
    save("r.npy", ROIS * np.float32([1, 0.8, 0.8, 0.8, 0.8]))
    refuse("align", "m.npy", "r.npy", *STRIDE_16, words=("another order", "--layout nhwc"))
    save("m.npy", wide.transpose(0, 3, 1, 2))
    align("m.npy", "r.npy", *STRIDE_16)
    # All of the image, which is just half of the maps as they are read; or three quarters of them.
    save("r.npy", np.concatenate([ROIS, [[0, 0, 0, 512, 384]]]).astype(np.float32))
    save("m.npy", wide[..., :64])
    refuse("align", "m.npy", "r.npy", *STRIDE_16, words=("50 % of a side", "--layout nhwc"))
    save("m.npy", wide[:, :23, :, :42])
    outcome = succeed("align", "m.npy", "r.npy", *STRIDE_16, "-o", "o.npy")
    assert "add --layout nhwc where that is their order" in outcome.err
    # A few that reach past the maps as they are read.
    save("r.npy", ROIS[[0, 1, 2, 9, 10, 11]])
    save("m.npy", np.zeros((2, 24, 32, 200), np.float32))
    outcome = run("align", "m.npy", "r.npy", *STRIDE_16, "-o", "o.npy", "--force")
    assert "--layout nhwc" in outcome.err


LAYOUTS: dict[str, tuple[str, tuple[int, ...]]] = {
    "nhwc": ("feats", (0, 2, 3, 1)),
    "ncwh": ("feats", (0, 1, 3, 2)),
    "reversed": ("feats", (0, 1, 3, 2)),
    "hwc": ("one", (1, 2, 0)),
    "cwh": ("one", (0, 2, 1)),
    "chw": ("one", (0, 1, 2)),
    "hwcn": ("feats", (2, 3, 1, 0)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_that_is_said(layout: str) -> None:
    """The values are those of (N, C, H, W), whichever order the file has."""
    which, axes = LAYOUTS[layout]
    save("m.npy", (FEATS if which == "feats" else FEATS[0]).transpose(axes).copy())
    save("r.npy", ROIS if which == "feats" else ROIS[:9])
    found = align("m.npy", "r.npy", *STRIDE_16, "--layout", layout)
    np.testing.assert_array_equal(found, BASE[: len(found)])


NAMED = [("Batch", "LAT", "longitudes", "bands"), ("", "row", "col", "channel"), tuple("nyxc")]


@pytest.mark.parametrize("names", NAMED)
def test_a_layout_that_the_names_of_dimensions_tell(names: tuple[str, ...]) -> None:
    """Labels of HDF5, or the dimensions' scales, as netCDF has them."""
    for way in ("label", "scale"):
        with h5py.File("m.h5", "w") as file:
            maps = file.create_dataset("feats", data=FEATS.transpose(0, 2, 3, 1))
            for axis, name in enumerate(names):
                if way == "label":
                    maps.dims[axis].label = name
                elif name:
                    scale = file.create_dataset(f"g/{name}", data=np.zeros(maps.shape[axis]))
                    scale.make_scale()
                    maps.dims[axis].attach_scale(scale)
        outcome = succeed("align", "m.h5", "rois.npy", *STRIDE_16, "-o", "o.npy", "--force")
        np.testing.assert_array_equal(np.load("o.npy"), BASE)
        assert "read as --layout nhwc: its dimensions are" in outcome.err


def test_half_a_layout_is_no_layout() -> None:
    """Names that contradict the usual order and do not tell another are refused."""
    with h5py.File("m.h5", "w") as file:
        maps = file.create_dataset("feats", data=FEATS.transpose(0, 2, 3, 1))
        maps.dims[3].label = "channel"
    refuse("align", "m.h5", "rois.npy", *STRIDE_16, words=("does not tell its layout", "--layout"))
    succeed("align", "m.h5", "rois.npy", *STRIDE_16, "--layout", "nhwc", "-o", "o.npy")
    refuse("align", "m.h5", "rois.npy", "--layout", "hwcd", words=("layout is 'hwcd'", "nhwc"))
    refuse("align", "m.h5", "rois.npy", "--layout", "chw", words=("--layout chw does not fit",))


def test_a_layout_that_zarr_names() -> None:
    """Zarr 3 has names of dimensions, xarray's attribute has them in Zarr 2."""
    zarr = pytest.importorskip("zarr")
    values = FEATS.transpose(0, 2, 3, 1)
    names = ["sample", "y", "x", "feature"]
    zarr.create_array("three.zarr", data=values, dimension_names=names)
    zarr.create_array("two.zarr", data=values, zarr_format=2).attrs["_ARRAY_DIMENSIONS"] = names
    for store in ("two.zarr", "three.zarr"):
        np.testing.assert_array_equal(align(store, "rois.npy", *STRIDE_16), BASE)


def test_axes_of_one_and_records_of_any_shape() -> None:
    """What a model's batch axis adds to RoIs is no image; (1, M, 4) stays image by image."""
    scored = np.column_stack([ROIS, SCORES])
    named = ("--roi-columns", "image,x1,y1,x2,y2,score")
    records = np.array(list(map(tuple, ROIS)), [(name, "<f4") for name in ("image", *XYXY)])
    for rois, options in (
        (ROIS[None], ()), (ROIS[:, None], ()), (ROIS[..., None], ()), (records[None], ()),
        (records[:, None], ()), (scored[None, None], named), (scored[None], named),
    ):  # fmt: skip
        np.testing.assert_array_equal(align("feats.npy", save("r.npy", rois), *STRIDE_16, *options),
                                      BASE)  # fmt: skip
    save("r.npy", CORNERS[None, :9])
    np.testing.assert_array_equal(align("one.npy", "r.npy", *STRIDE_16), BASE[:9])


@pytest.mark.parametrize("names", ["x1,x2,y1,y2", "x2,y2,x1,y1", "y1,y2,x1,x2"])
def test_corners_in_an_order_that_no_format_has(names: str) -> None:
    corners = CORNERS[:, [XYXY.index(name) for name in names.split(",")]]
    save("r.npy", with_image(ROIS[:, 0], corners))
    advice = f"--roi-columns image,{names}"
    refuse("align", "feats.npy", "r.npy", *STRIDE_16, words=("crossed corners", advice))
    np.testing.assert_array_equal(align("feats.npy", "r.npy", *STRIDE_16, *advice.split()), BASE)


@pytest.mark.parametrize("names", ["y,x,h,w", "cy,cx,h,w"])
def test_sizes_in_an_order_that_no_format_has(names: str) -> None:
    size = CORNERS[:, 2:] - CORNERS[:, :2]
    first = CORNERS[:, :2] + (size / 2 if names[0] == "c" else 0)
    save("r.npy", with_image(ROIS[:, 0], np.column_stack([first[:, ::-1], size[:, ::-1]])))
    advice = f"--roi-columns image,{names}"
    refuse("align", "feats.npy", "r.npy", *STRIDE_16, words=("crossed corners", advice))
    found = align("feats.npy", "r.npy", *STRIDE_16, *advice.split())
    np.testing.assert_allclose(found, BASE, atol=1e-4)


def test_fractions_of_something_else() -> None:
    """From -1 to 1, of an exchanged image size, and percent, of which a warning tells."""
    save("r.npy", with_image(ROIS[:, 0], CORNERS / SIZE * 2 - 1))
    refuse("align", "feats.npy", "r.npy", *STRIDE_16, words=("normalized", "(numbers + 1) / 2"))
    save("r.npy", with_image(ROIS[:, 0], CORNERS / SIZE))
    said = ("--normalized", "--image-size", "512x384")
    words = ("512 x 384 (height x width) is exchanged", "--image-size 384x512")
    refuse("align", "feats.npy", "r.npy", *STRIDE_16, *said, words=words)
    save("r.npy", with_image(ROIS[:, 0], CORNERS / SIZE * 100))
    outcome = succeed("align", "feats.npy", "r.npy", *STRIDE_16, "-o", "out.npy")
    assert "look like percent of the image" in outcome.err
    assert "--roi-scale" in outcome.err
    assert "5.12,3.84" in outcome.err
    found = align("feats.npy", "r.npy", *STRIDE_16, "--roi-scale", "5.12,3.84")
    np.testing.assert_allclose(found, BASE, atol=1e-4)


@pytest.mark.parametrize("roi_format", ["xyxy", "yxyx"])
def test_thousandths_of_the_image(roi_format: str) -> None:
    """No other scale of the maps is blamed."""
    order = [0, 1, 2, 3] if roi_format == "xyxy" else [1, 0, 3, 2]
    save("r.npy", with_image(ROIS[:, 0], (CORNERS / SIZE * 1000)[:, order]))
    words = ("look like thousandths", "--roi-scale", "0.512,0.384", "--roi-format yxyx")
    assert scales_of(refuse("align", "feats.npy", "r.npy", *STRIDE_16, words=words)) == set()
    said = ("--roi-scale", "0.512,0.384", "--roi-format", roi_format)
    np.testing.assert_allclose(align("feats.npy", "r.npy", *STRIDE_16, *said), BASE, atol=1e-4)


def test_several_arrays_in_one_npy_are_refused() -> None:
    """NumPy would read the first of them without a word."""
    data = Path("rois.npy").read_bytes()
    Path("r.npy").write_bytes(data + data)
    refuse("align", "feats.npy", "r.npy", *STRIDE_16, words=("several arrays", "numpy.savez"))


@pytest.mark.parametrize(
    ("layout", "advice"),
    [("chwn", "--layout chwn or --layout nhwc"), ("hwnc", "--layout hwnc or --layout hwcn"),
     ("nhwc", "--layout nhwc;"), ("hwcn", "--layout hwcn;")],
)  # fmt: skip
def test_of_layouts_that_fit_both_are_named(layout: str, advice: str) -> None:
    """The likelier first: every image has RoIs."""
    save("m.npy", FEATS.transpose(["nchw".index(axis) for axis in layout]))
    refuse("align", "m.npy", "rois.npy", *STRIDE_16, words=(advice,))
    found = align("m.npy", "rois.npy", *STRIDE_16, "--layout", layout)
    np.testing.assert_array_equal(found, BASE)


def test_maps_of_three_axes_that_are_no_tokens() -> None:
    """RoIs reach over more cells than there would be tokens."""
    save("m.npy", FEATS[:, 0])
    words = ("one image of 2 channels", "of one channel (N, 1, H, W)")
    refuse("align", "m.npy", "rois.npy", *STRIDE_16, words=words)
    save("m.npy", FEATS[:, None])
    refuse("align", "m.npy", "rois.npy", *STRIDE_16, words=("without axes of one",))


@pytest.mark.parametrize(("floats", "integers"), [("float32", "u4"), ("float64", "i8")])
def test_floats_kept_as_integers_of_as_many_bytes(floats: str, integers: str) -> None:
    save("m.npy", FEATS.astype(floats).view(integers))
    words = (f"look like the bits of {floats}", f".view('{floats}')", "--no-decode")
    refuse("align", "m.npy", "rois.npy", *STRIDE_16, words=words)
    save("m.npy", np.round(FEATS * 1000).astype(integers[0].replace("u", "i") + integers[1]))
    align("m.npy", "rois.npy", *STRIDE_16)


def test_images_of_boxes_as_files_have_them() -> None:
    """Names beside the boxes, ranges from 1, and records whose image would be left out."""
    Path("maps").mkdir()
    save("maps/a.npy", FEATS[0])
    save("maps/b.npy", FEATS[1])
    names = ["ab"[int(image)] + ".jpg" for image in ROIS[:, 0]]
    kinds = [("file", h5py.string_dtype()), *((name, "<f4") for name in XYXY)]
    padded = np.zeros((2, 9, 4), np.float32)
    padded[0], padded[1, :6] = CORNERS[:9], CORNERS[9:]
    with h5py.File("b.h5", "w") as file:
        file["matlab"] = padded.T
        file["matlab"].attrs["MATLAB_class"] = np.bytes_("single")
        file["boxes"], file["names"], file["ranges"] = CORNERS, names, [[1, 9], [10, 15]]
        records = [(name, *box) for name, box in zip(names, CORNERS.tolist(), strict=True)]
        file["records"] = np.array(records, kinds)
    found = align("feats.npy", "b.h5::matlab", *STRIDE_16, "--drop-invalid")
    np.testing.assert_array_equal(found, BASE)
    said = ("b.h5::boxes", *STRIDE_16, "--image-from")
    found = align("maps/{image}.npy", *said, "b.h5::names")
    np.testing.assert_array_equal(found, BASE)
    refuse("align", "feats.npy", *said, "b.h5::ranges", words=("numbered from 0", "fit from 1"))
    refuse("align", "one.npy", "b.h5::records", words=("column file", "any length", "NumPy's S"))


def test_tokens_need_a_grid() -> None:
    """(N, L, D) is seen as such by the RoIs' images, or by the sides of usual transformers."""
    tokens = FEATS.transpose(0, 2, 3, 1).reshape(2, 24 * 32, 8)
    save("t.npy", tokens)
    refuse("align", "t.npy", "rois.npy", *STRIDE_16, words=("tokens:HxW, 768 being H x W",))
    found = align("t.npy", "rois.npy", *STRIDE_16, "--layout", "tokens:24x32")
    np.testing.assert_array_equal(found, BASE)
    save("t.npy", tokens[0])
    result = roicli.align("t.npy", ROIS[:9], spatial_scale=1 / 16, layout="tokens:24x32")
    np.testing.assert_array_equal(result.roi_features, BASE[:9])
    save("t.npy", tokens)
    words = ("height and width are exchanged, give --layout tokens:24x32",)
    refuse("align", "t.npy", "rois.npy", *STRIDE_16, "--layout", "tokens:32x24", words=words)
    found = roicli.check("t.npy", "rois.npy", spatial_scale=1 / 16, layout="tokens:24x32").findings
    assert not any("--layout" in one.advice for one in found)
    words = ("768 tokens an image, expected 24 x 31 = 744",)
    refuse("align", "t.npy", "rois.npy", "--layout", "tokens:24x31", words=words)
    for shape, grid in (((2, 197, 768), "14x14"), ((1, 196, 384), "14x14"), ((4, 50, 768), "7x7")):
        save("t.npy", np.zeros(shape, np.float32))
        words = ("looks like tokens (N, L, D)", f"--layout tokens:{grid}", "--layout chw")
        refuse("align", "t.npy", "rois.npy", words=words)


def test_tokens_of_one_image_are_told_by_the_grid_that_rois_fill() -> None:
    """Read as one map of 768 rows they would be computed without a word."""
    flat = FEATS.transpose(0, 2, 3, 1).reshape(2, 24 * 32, 8)[:1].repeat(8, axis=2)
    rois = np.concatenate([ROIS[:9], ROIS[:9] + np.float32([0, 1, 1, 1, 1])])
    save("r.npy", rois)
    for tokens, advice in (
        (flat, "add --layout tokens:24x32 where"),
        (np.concatenate([flat[:, :1], flat], axis=1), "tokens:24x32, saved without the 1 that"),
        (flat.transpose(0, 2, 1), "(N, C, H, W): (1, 64, 24, 32)"),
    ):
        save("t.npy", tokens)
        refuse("align", "t.npy", "r.npy", *STRIDE_16, words=("24 x 32 cells", advice))
    save("t.npy", flat)
    findings = roicli.check("t.npy", "r.npy", spatial_scale=1 / 16).findings
    assert [one.rule for one in findings if "tokens:24x32" in one.advice] == ["R14"]
    save("r.npy", ROIS[:9])
    found = align("t.npy", "r.npy", *STRIDE_16, "--layout", "tokens:24x32")
    np.testing.assert_array_equal(found[:, ::8], BASE[:9])


def test_the_only_map_of_a_file_is_said() -> None:
    """A file without maps of four axes may have one of three."""
    with h5py.File("m.h5", "w") as file:
        file["feats"] = FEATS[0]
        file["rois"] = ROIS
    save("r.npy", ROIS[:9])
    outcome = succeed("align", "m.h5", "r.npy", *STRIDE_16, "-o", "o.npy")
    assert "taking /feats (8, 24, 32) float32" in outcome.err
    np.testing.assert_array_equal(np.load("o.npy"), BASE[:9])
    with h5py.File("m.h5", "a") as file:
        file["result"] = BASE[:9]
    outcome = run("align", "m.h5", "r.npy", *STRIDE_16, "-o", "p.npy")
    assert "taking /result (9, 8, 7, 7) float32, not /feats" in outcome.err


def write_maps(write: Callable[[h5py.File, h5py.Dataset], None]) -> str:
    """maps.h5::g/feats, with the attributes that ``write`` gives."""
    with h5py.File("maps.h5", "w") as file:
        write(file, file.create_dataset("g/feats", data=FEATS))
    return "maps.h5"


SAID: dict[str, Callable[[h5py.File, h5py.Dataset], None]] = {
    "number": lambda file, maps: maps.attrs.update(spatial_scale=1 / 16),
    "array of one": lambda file, maps: maps.attrs.update(spatial_scale=[[1 / 16]]),
    "text": lambda file, maps: maps.attrs.update(spatial_scale="0.0625"),
    "fraction": lambda file, maps: maps.attrs.update(spatial_scale="1/16"),
    "bytes": lambda file, maps: maps.attrs.update(spatial_scale=np.bytes_(" 1/16")),
    "array of text": lambda file, maps: maps.attrs.create("spatial_scale", ["1/16"]),
    "stride": lambda file, maps: maps.attrs.update(stride=16),
    "stride of the group": lambda file, maps: file["g"].attrs.update(stride=np.int64(16)),
    "scale of the file": lambda file, maps: file.attrs.update(spatial_scale=1 / 16, stride=16),
    "the nearest": lambda file, maps: (
        maps.attrs.update(stride=16), file["g"].attrs.update(stride=4),
        file.attrs.update(spatial_scale=1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", SAID)
def test_every_way_to_say_a_scale(way: str) -> None:
    """The dataset's, the group's, the file's; a scale or a stride, a number or its text."""
    np.testing.assert_allclose(align(write_maps(SAID[way]), "rois.npy"), BASE, atol=1e-6)


UNREADABLE: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"spatial_scale": [1 / 32, 0.0315]}, ("2 numbers", "one scale for x and y")),
    ({"spatial_scale": h5py.Empty("f8")}, ("Empty", "expected a number")),
    ({"spatial_scale": np.zeros(0)}, ("0 numbers", "expected one")),
    ({"spatial_scale": "sixteen"}, ("'sixteen'", "like 0.0625 or 1/16")),
    ({"stride": "16 px"}, ("stride", "'16 px'")),
    ({"stride": 0}, ("stride is 0", "positive")),
    ({"spatial_scale": 1 / 16, "stride": 8}, ("0.0625", "stride is 8", "inverse")),
]


@pytest.mark.parametrize(("attributes", "words"), UNREADABLE, ids=str)
@pytest.mark.parametrize("command", ["align", "pool", "errors"])
def test_a_scale_that_is_there_and_cannot_be_read(
    command: str, attributes: dict[str, Any], words: tuple[str, ...]
) -> None:
    """It is no scale of 1."""
    maps = write_maps(lambda file, dataset: dataset.attrs.update(attributes))
    refuse(command, maps, "rois.npy", words=("maps.h5::/g/feats: attribute", *words))
    assert align(maps, "rois.npy", *STRIDE_16).shape == BASE.shape


def test_a_stored_scale_that_is_a_stride() -> None:
    """What says so is named, and the scale that fits."""
    maps = write_maps(lambda file, dataset: dataset.attrs.update(spatial_scale=16.0))
    words = ("attribute spatial_scale 16 is over 1; 1/16 puts 15 of 15 inside",)
    refuse("align", maps, "rois.npy", words=words)


def test_few_rois_outside_are_computed_with_a_warning() -> None:
    """Operators' own test cases have such; -q keeps what may be a mistake."""
    save("few.npy", ROIS[:9] + np.float32([0, 600, 0, 600, 0]))
    outcome = succeed("pool", "feats.npy", "few.npy", *STRIDE_16, "-q", "-o", "o.npy")
    assert outcome.errors[0].startswith("roicli: warning: few.npy: 9 of 9 RoIs lie wholly outside")
    assert not np.load("o.npy").any()


def test_in_python_it_is_an_error() -> None:
    """With the same words, and the same keyword to go on."""
    with pytest.raises(roicli.InputError, match="no --spatial-scale was given; 1/16 puts"):
        roicli.align(FEATS, ROIS)
    assert roicli.align(FEATS, ROIS, ignore=["R05"]).roi_features is not None
