"""Every way to store maps and RoIs gives what the plain .npy gives."""

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.cli.conftest import Arrays
from tests.cli.running import FEATURES, ROIS, SCALE, refuse, run, save, save_h5, succeed
from tests.strategies import ort_max_roi_pool, ort_roi_align

OUT = ("-o", "out.npy", "--force", "-q")


def align(features: str, rois: str, *options: str, stdin: bytes = b"") -> NDArray[Any]:
    """The result of ``roicli align``."""
    succeed("align", features, rois, *SCALE, *OUT, *options, stdin=stdin)
    return np.asarray(np.load("out.npy"))


def pool(features: str, rois: str, *options: str) -> NDArray[Any]:
    """The result of ``roicli pool``."""
    succeed("pool", features, rois, *SCALE, *OUT, *options)
    return np.asarray(np.load("out.npy"))


def test_bare_onnx_runtime_gives_the_same_bits(inputs: Arrays) -> None:
    features, rois = inputs
    expected = ort_roi_align(features, rois, (7, 7), spatial_scale=0.25, sampling_ratio=2)
    assert np.array_equal(align(FEATURES, ROIS), expected)
    expected = ort_max_roi_pool(features, rois, (7, 5), 0.25)
    assert np.array_equal(pool(FEATURES, ROIS, "--output-size", "7x5"), expected)
    expected = ort_roi_align(
        features, rois, (7, 7), spatial_scale=0.25, sampling_ratio=0,
        coordinate_transformation_mode="output_half_pixel",
    )  # fmt: skip
    assert np.array_equal(align(FEATURES, ROIS, "--sampling-ratio=0", "--no-aligned"), expected)


LAYOUTS: dict[str, Any] = {
    "big-endian": lambda f: f.astype(">f4"),
    "fortran": np.asfortranarray,
    "big-endian fortran": lambda f: np.asfortranarray(f.astype(">f4")),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_npy(inputs: Arrays, layout: str) -> None:
    features, rois = inputs
    expected = align(FEATURES, ROIS)
    save("other.npy", LAYOUTS[layout](features))
    save("boxes.npy", LAYOUTS[layout](rois))
    assert np.array_equal(align("other.npy", "boxes.npy"), expected)
    save_h5("other.h5", maps=features.astype(">f4"), boxes=rois.astype(">f4"))
    assert np.array_equal(align("other.h5", "other.h5"), expected)


def test_versions_of_the_npy_header(inputs: Arrays) -> None:
    expected = align(FEATURES, ROIS)
    for version in ((1, 0), (2, 0), (3, 0)):
        with open("other.npy", "wb") as stream:
            np.lib.format.write_array(stream, inputs[0], version=version)
        assert np.array_equal(align("other.npy", ROIS), expected)


@pytest.mark.parametrize("dtype", ["f2", ">f2", "i1", "u1", "i2", ">i4", "u8", "i8"])
def test_narrow_and_whole_numbers_are_upcast_once(inputs: Arrays, dtype: str) -> None:
    features = (inputs[0] * 20).astype(dtype)
    save("narrow.npy", features)
    save("wide.npy", features.astype(np.float32))
    save_h5("narrow.h5", maps=features)
    for operator in (align, pool):
        expected = operator("wide.npy", ROIS)
        assert expected.dtype == np.float32
        assert np.array_equal(operator("narrow.npy", ROIS), expected)
        assert np.array_equal(operator("narrow.h5", ROIS), expected)


@pytest.mark.parametrize("dtype", ["f8", ">f8"])
def test_float64_stays_float64(inputs: Arrays, dtype: str) -> None:
    features, rois = inputs
    save("double.npy", features.astype(dtype) + 1e-9)
    expected = ort_roi_align(
        features.astype("f8") + 1e-9, rois, (7, 7), spatial_scale=0.25, sampling_ratio=2
    )
    found = align("double.npy", ROIS)
    assert found.dtype == np.float64
    assert np.array_equal(found, expected)
    pooled = pool("double.npy", ROIS)
    assert pooled.dtype == np.float64
    expected = ort_max_roi_pool(features, rois, (7, 7), 0.25)
    assert np.allclose(pooled, expected, atol=1e-6)
    assert not np.array_equal(pooled, pooled.astype(np.float32))


@pytest.mark.parametrize("dtype", ["f2", "f8", "i4", "u2", ">f8"])
def test_dtypes_of_rois(inputs: Arrays, dtype: str) -> None:
    whole = np.round(inputs[1])
    save("whole.npy", whole)
    save("other.npy", whole.astype(dtype))
    assert np.array_equal(align(FEATURES, "other.npy"), align(FEATURES, "whole.npy"))


def test_bfloat16_as_ml_dtypes_saves_it(inputs: Arrays) -> None:
    bits = (np.ascontiguousarray(inputs[0]).view(np.uint32) >> 16).astype(np.uint16)
    save("brain.npy", bits.view("V2"))
    save("wide.npy", (bits.astype(np.uint32) << 16).view(np.float32))
    for operator in (align, pool):
        assert np.array_equal(operator("brain.npy", ROIS), operator("wide.npy", ROIS))


def test_one_image_without_its_axis_and_rois_without_theirs(inputs: Arrays) -> None:
    features, rois = inputs
    first = rois[rois[:, 0] == 0]
    save("chw.npy", features[0])
    save("nchw.npy", features[:1])
    save("first.npy", first)
    save("corners.npy", first[:, 1:])
    save_h5("chw.h5", maps=features[0])
    expected = align("nchw.npy", "first.npy")
    for maps in ("chw.npy", "chw.h5::maps", "nchw.npy"):
        for boxes in ("first.npy", "corners.npy"):
            assert np.array_equal(align(maps, boxes), expected)


@pytest.mark.parametrize("compression", ["gzip", "lzf", None])
def test_chunked_and_compressed_hdf5(inputs: Arrays, compression: str | None) -> None:
    features, rois = inputs
    with h5py.File("c.h5", "w") as file:
        options = {"compression": compression, "shuffle": True, "fletcher32": True}
        group = file.create_group("deep")
        group.create_dataset("maps", data=features, chunks=(1, 2, 5, 7), **options)
        group.create_dataset("boxes", data=rois, chunks=(2, 3), **options)
        group["maps"].attrs["spatial_scale"] = np.float32(0.25)
    for address in ("c.h5", "c.h5::deep", "c.h5::/deep/maps", "c.h5::deep/maps"):
        succeed("align", address, "c.h5", *OUT)
        assert np.array_equal(np.load("out.npy"), align(FEATURES, ROIS))


def test_a_file_whose_name_has_a_comma(inputs: Arrays) -> None:
    save_h5("a, b.h5", maps=inputs[0])
    assert np.array_equal(align("a, b.h5::maps", ROIS), align(FEATURES, ROIS))


def test_a_dataset_whose_name_is_not_ascii(inputs: Arrays) -> None:
    save_h5("größe.h5", kärtchen=inputs[0])
    assert np.array_equal(align("größe.h5::kärtchen", ROIS), align(FEATURES, ROIS))


@pytest.mark.parametrize("kind", ["npy", "hdf5"])
def test_stdin_for_either(inputs: Arrays, kind: str) -> None:
    expected = align(FEATURES, ROIS)
    for which, values in enumerate(inputs):
        if kind == "npy":
            stream = io.BytesIO()
            np.save(stream, values)
            data = stream.getvalue()
        else:
            data = Path(save_h5("piped.h5", values=values)).read_bytes()
        arguments = [FEATURES, ROIS]
        arguments[which] = "-"
        assert np.array_equal(align(*arguments, stdin=data), expected)


def test_stdin_names_the_default_output(inputs: Arrays) -> None:
    data = Path(FEATURES).read_bytes()
    outcome = succeed("align", "-", ROIS, *SCALE, stdin=data)
    assert "stdin.align.h5" in outcome.err
    with h5py.File("stdin.align.h5") as file:
        assert file["roi_features"].shape == (5, 3, 7, 7)
        assert file.attrs["features_name"] == "stdin"


TEXTS = {
    "plain.csv": "0,0,0,20,20\n0,8,8,55,40\n",
    "header.csv": "batch_index,x1,y1,x2,y2\n0,0,0,20,20\n0,8,8,55,40\n",
    "order.csv": "y2,name,x1,x2,y1,image\n20,cat,0,20,0,0\n40,dog,8,55,8,0\n",
    "four.csv": "X1,Y1,X2,Y2\r\n0,0,20,20\r\n8,8,55,40\r\n",
    "quoted.csv": '\ufeff"x1","y1","x2","y2"\n"0","0","20","20"\n\n" 8",8,55.0,4e1\n',
    "plain.tsv": "0\t0\t0\t20\t20\n0\t8\t8\t55\t40\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_rois_as_text(inputs: Arrays, name: str) -> None:
    save("one.npy", inputs[0][:1])
    save("two.npy", inputs[1][[0, 2]])
    Path(name).write_text(TEXTS[name], encoding="utf-8")
    assert np.array_equal(align("one.npy", name), align("one.npy", "two.npy"))


def test_roi_formats(inputs: Arrays) -> None:
    corners = inputs[1].astype(np.float64)
    size = corners[:, 3:] - corners[:, 1:3]
    xywh = np.column_stack([corners[:, :3], size])
    cxcywh = np.column_stack([corners[:, :1], corners[:, 1:3] + size / 2, size])
    expected = align(FEATURES, ROIS)
    for name, values in (("xywh", xywh), ("cxcywh", cxcywh)):
        save("boxes.npy", values)
        found = align(FEATURES, "boxes.npy", "--roi-format", name)
        assert np.allclose(found, expected, atol=1e-5)
        scale = np.array([1, 64, 48, 64, 48])
        save("unit.npy", values / scale)
        normalized = ("--roi-format", name, "--normalized", "--image-size", "48x64")
        assert np.allclose(align(FEATURES, "unit.npy", *normalized), expected, atol=1e-5)
    header = ("image,w,h,x,y", *(f"{b:g},{w},{h},{x},{y}" for b, x, y, w, h in xywh.tolist()))
    Path("boxes.csv").write_text("\n".join(header))
    found = align(FEATURES, "boxes.csv", "--roi-format", "xywh")
    assert np.allclose(found, expected, atol=1e-5)


FORMATS = ("table", "json", "jsonl", "csv", "tsv", "md")


@pytest.mark.parametrize("table_format", FORMATS)
@pytest.mark.parametrize("columns", [4, 5])
def test_no_rois_at_all(inputs: Arrays, columns: int, table_format: str) -> None:
    save("one.npy", inputs[0][:1])
    save("none.npy", np.zeros((0, columns), np.float32))
    for command in ("align", "pool"):
        options = ("--values", "--format", table_format, "-o", f"{command}.h5", "--force")
        outcome = succeed(command, "one.npy", "none.npy", *SCALE, *options)
        assert outcome.text.count("nan") == 0
        with h5py.File(f"{command}.h5") as file:
            assert file["roi_features"].shape == (0, 3, 7, 7)
            assert file["rois"].shape == (0, 5)
            assert file["quantization_error"].shape == (0,)
    assert succeed("errors", "none.npy", *SCALE, "--format", table_format).code == 0
    assert succeed("errors", "one.npy", "none.npy", *SCALE, "--format", table_format).code == 0


def test_no_rois_to_npy_to_stdout_and_compressed(inputs: Arrays) -> None:
    save("none.npy", np.zeros((0, 5)))
    Path("none.csv").write_text("batch_index,x1,y1,x2,y2\n")
    for rois in ("none.npy", "none.csv"):
        assert align(FEATURES, rois).shape == (0, 3, 7, 7)
        outcome = succeed("pool", FEATURES, rois, *SCALE, "-o", "-")
        assert np.load(io.BytesIO(outcome.out)).shape == (0, 3, 7, 7)
    for compression in ("gzip", "lzf"):
        options = ("--compression", compression, "-o", f"{compression}.h5")
        succeed("align", FEATURES, "none.npy", *SCALE, *options)
        with h5py.File(f"{compression}.h5") as file:
            assert file["roi_features"].shape == (0, 3, 7, 7)


def test_crossed_corners_and_boxes_outside_are_computed_and_counted(inputs: Arrays) -> None:
    features, _ = inputs
    boxes = [[0, 30, 30, 10, 10], [0, -40, 0, -20, 20], [1, 50, 30, 90, 60], [1, 0, 0, 20, 20]]
    rois = np.array(boxes, np.float32)
    save("odd.npy", rois)
    words = ("odd.npy: 1 of 4 RoIs have crossed corners", "--ignore R04 computes all the same")
    refuse("align", FEATURES, "odd.npy", *SCALE, words=words)
    crossed = (*SCALE, "--ignore", "R04")
    outcome = succeed("align", FEATURES, "odd.npy", *crossed, "-o", "odd.out.npy")
    assert outcome.errors[0].startswith("roicli: warning: odd.npy: 1 of 4 RoIs lie wholly outside")
    expected = ort_roi_align(features, rois, (7, 7), spatial_scale=0.25, sampling_ratio=2)
    assert np.array_equal(np.load("odd.out.npy"), expected)
    expected = ort_max_roi_pool(features, rois, (7, 7), 0.25)
    assert np.array_equal(pool(FEATURES, "odd.npy", "--ignore", "R04"), expected)
    quiet = run("pool", FEATURES, "odd.npy", *crossed, "-q", "--force")
    assert (quiet.code, quiet.out, quiet.errors) == (0, b"", outcome.errors[:1])
    silent = run("pool", FEATURES, "odd.npy", *SCALE, "-q", "--force", "--ignore", "R04,R05")
    assert (silent.code, silent.out, silent.err) == (0, b"", "")


def test_a_scale_that_the_file_does_not_say_is_noted(inputs: Arrays) -> None:
    for attribute, other in (("spatial_scale", 0.125), ("stride", 8)):
        save_h5("said.h5", {attribute: other}, maps=inputs[0])
        outcome = succeed("align", "said.h5", ROIS, *SCALE, "--force", "-o", "said.npy")
        said = f"said.h5::/maps: attribute {attribute} says a scale of 0.125, and 0.25"
        assert outcome.errors[0].startswith(f"roicli: note: {said}")
        assert np.array_equal(np.load("said.npy"), align(FEATURES, ROIS))
    save_h5("said.h5", {"spatial_scale": "1/4"}, maps=inputs[0])
    outcome = succeed("align", "said.h5", ROIS, *SCALE, "--force", "-o", "said.npy")
    assert len(outcome.errors) == 1


def test_no_scale_is_said(inputs: Arrays) -> None:
    outcome = succeed("align", FEATURES, ROIS)
    assert outcome.errors[0] == (
        "roicli: note: f.npy: no attribute spatial_scale, taking --spatial-scale 1.0"
    )
    with h5py.File("f.align.h5") as file:
        assert file.attrs["spatial_scale"] == 1.0
