"""RoIs as people keep them: every kind of table gives what the plain array gives, or is named.

Two maps of 8 x 24 x 32 at stride 16, fifteen RoIs, and what RoI Align gives for them.
"""

import gzip
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import roicli
from roicli.core.declaration import settle
from roicli.core.exceptions import InputError
from roicli.pipeline.request import Reading
from roicli.pipeline.roi_source import choose_columns, open_source, read_rois
from tests.cli.running import refuse, run, save, succeed

DATA = Path(__file__).parent / "field"
FEATS, ROIS, BASE = (np.load(DATA / f"{name}.npy") for name in ("feats", "rois", "base"))
STRIDE_16 = ("--spatial-scale", "1/16")
IMAGE, CORNERS = ROIS[:, 0].astype(int), ROIS[:, 1:]
SIZES = np.column_stack([CORNERS[:, :2], CORNERS[:, 2:] - CORNERS[:, :2]])
SCORES = np.linspace(0.125, 1, 15)
CLASSES = [("cat", "dog")[row % 2] for row in range(15)]
RECORDS = np.array(
    [(i, *box, score, name.encode())
     for i, box, score, name in zip(IMAGE, CORNERS.tolist(), SCORES, CLASSES, strict=True)],
    [("image_id", "<i8"), ("x1", "<f4"), ("y1", "<f4"), ("x2", "<f4"), ("y2", "<f4"),
     ("score", "<f4"), ("class", "S3")],
)  # fmt: skip


@pytest.fixture(autouse=True)
def maps(folder: Path) -> None:
    """feats.npy has both maps, one.npy the first one."""
    save("feats.npy", FEATS)
    save("one.npy", FEATS[:1])


def align(features: str, rois: str, *options: str, stdin: bytes | None = None) -> Any:
    """What `roicli align` gives."""
    given = {} if stdin is None else {"stdin": stdin}
    succeed("align", features, rois, "-o", "out.npy", "--force", "-q", *options, **given)
    return np.load("out.npy")


def table(path: str, **options: Any) -> Any:
    """The RoIs of a source, before they are on their maps."""
    reading = settle(Reading, options)
    source = open_source(path, reading)
    try:
        return read_rois(source, choose_columns(source, reading, None), reading)
    finally:
        source.close()


def lines(header: str, *columns: Any, mark: str = ",") -> str:
    """A text with a header, every number in full."""
    rows = zip(*(np.asarray(one).tolist() for one in columns), strict=True)
    body = "".join(mark.join(map(str, row)) + "\n" for row in rows)
    return f"{header}\n{body}" if header else body


def write(name: str, text: str) -> str:
    Path(name).write_text(text)
    return name


def records(**more: Any) -> list[dict[str, Any]]:
    """One record a RoI, as COCO's results are."""
    return [
        {"image_id": int(image), "category_id": 1, "bbox": box, "score": score, **more}
        for image, box, score in zip(IMAGE, SIZES.tolist(), SCORES.tolist(), strict=True)
    ]


def as_hdf5(name: str, **datasets: Any) -> str:
    with h5py.File(name, "w") as file:
        for key, values in datasets.items():
            file[key] = values
    return name


def pack(name: str, data: bytes) -> str:
    Path(name).write_bytes(gzip.compress(data))
    return name


def as_npz(name: str, save_it: Callable[..., None]) -> str:
    save_it(name, feats=FEATS, boxes=RECORDS)
    return name


def saved(name: str, values: Any) -> str:
    save(name, values)
    return name


def by_image() -> dict[int, Any]:
    """A record an image, with lists of its boxes and scores."""
    return {
        n: {"boxes": CORNERS[n == IMAGE].tolist(), "score": SCORES[n == IMAGE].tolist()}
        for n in (0, 1)
    }


TEXT = lines("image_id,x1,y1,x2,y2,score", IMAGE, *CORNERS.T, SCORES)
COLUMNS = {"image": IMAGE.tolist(), "boxes": CORNERS.tolist(), "conf": SCORES.tolist()}
# Every kind; all give the base result, and carry the score.
KINDS: dict[str, Callable[[], str]] = {
    "csv": lambda: write("r.csv", TEXT),
    "tabs": lambda: write("r.tsv", TEXT.replace(",", "\t")),
    "semicolons": lambda: write("r.csv", TEXT.replace(",", ";")),
    "bars": lambda: write("r.csv", TEXT.replace(",", "|")),
    "blanks": lambda: write("r.txt", TEXT.replace(",", "  ")),
    "unknown ending": lambda: write("r.dat", TEXT),
    "no ending": lambda: write("boxes", TEXT),
    "savetxt": lambda: write("r.txt", "# " + TEXT.replace(",", " ")),
    "decimal comma": lambda: write("r.csv", TEXT.replace(",", ";").replace(".", ",")),
    "byte order mark": lambda: write("r.csv", "\ufeff" + TEXT),
    "without a header": lambda: write("r.csv", lines("", IMAGE, *CORNERS.T, SCORES)),
    "index of pandas": lambda: write(
        "r.csv", lines(",image_id,x1,y1,x2,y2,score", range(15), IMAGE, *CORNERS.T, SCORES)),
    "corner and size": lambda: write(
        "r.csv", lines("frame,bb_left,bb_top,bb_width,bb_height,conf", IMAGE, *SIZES.T, SCORES)),
    "counted from 0": lambda: write(
        "r.csv", lines("image,x0,y0,x1,y1,prob", IMAGE, *CORNERS.T, SCORES)),
    "as Open Images": lambda: write("r.csv", lines(
        "ImageID,Source,Confidence,XMin,XMax,YMin,YMax", IMAGE, CLASSES, SCORES,
        *CORNERS[:, [0, 2, 1, 3]].T)),
    "size of the image beside": lambda: write("r.csv", lines(
        "image,width,height,class,xmin,ymin,xmax,ymax,score", IMAGE, [512] * 15, [384] * 15,
        CLASSES, *CORNERS.T, SCORES)),
    "quoted boxes": lambda: write("r.csv", lines(
        "image_id,bbox,score", IMAGE, [f'"{box}"' for box in SIZES.tolist()], SCORES)),
    "quoted boxes without brackets": lambda: write("r.csv", lines(
        "image_id,bbox,score", IMAGE, [f'"{str(box)[1:-1]}"' for box in SIZES.tolist()], SCORES)),
    "coco results": lambda: write("r.json", json.dumps(records())),
    "coco lines": lambda: write("r.jsonl", "\n".join(map(json.dumps, records()))),
    "coco annotations": lambda: write("r.json", json.dumps(
        {"info": {}, "images": [{"id": 0, "file_name": "a.jpg"}], "licenses": [],
         "annotations": records(segmentation=[[1, 2, 3]], iscrowd=0),
         "categories": [{"id": 1, "name": "cat"}]})),
    "inner records": lambda: write("r.json", json.dumps([
        {"image": int(i), "box": dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)), "score": s}
        for i, box, s in zip(IMAGE, CORNERS.tolist(), SCORES, strict=True)])),
    "boxes by image": lambda: write("r.json", json.dumps(list(by_image().values()))),
    "boxes under keys": lambda: write("r.json", json.dumps(by_image())),
    "data set of Hugging Face": lambda: write("r.jsonl", "\n".join(json.dumps(
        {"image_id": n, "width": 512, "objects": {
            "bbox": SIZES[n == IMAGE].tolist(), "score": SCORES[n == IMAGE].tolist()}})
        for n in (0, 1))),
    "numbers as texts": lambda: write("r.json", json.dumps([
        {"image": str(i), **dict(zip(("x1", "y1", "x2", "y2"), map(str, box), strict=True)),
         "score": s} for i, box, s in zip(IMAGE, CORNERS.tolist(), SCORES, strict=True)])),
    "comments of MATLAB": lambda: write("r.txt", "% " + TEXT.replace(",", " ")),
    "words before corners": lambda: write("r.csv", lines(
        "rois_batch_index,bounding_box_x_from,bounding_box_y_from,bounding_box_x_to,"
        "bounding_box_y_to,score", IMAGE, *CORNERS.T, SCORES)),
    "columns as JSON": lambda: write("r.json", json.dumps(COLUMNS)),
    "columns of pandas": lambda: write("r.json", json.dumps({
        name: {str(row): value for row, value in enumerate(values)}
        for name, values in COLUMNS.items()})),
    "packed text": lambda: pack("r.csv.gz", TEXT.encode()),
    "packed JSON": lambda: pack("r.json.gz", json.dumps(records()).encode()),
    "array of records": lambda: saved("r.npy", RECORDS),
    "records of the other byte order": lambda: saved(
        "r.npy", RECORDS.astype(RECORDS.dtype.newbyteorder(">"))),
    "records with a box": lambda: saved("r.npy", np.array(
        list(zip(IMAGE, CORNERS, SCORES, strict=True)),
        [("im", "u2"), ("box", "f4", 4), ("score", "f8")])),
    "records in npz": lambda: as_npz("r.npz", np.savez) + "::boxes",
    "packed records in npz": lambda: as_npz("r.npz", np.savez_compressed),
    "compound": lambda: as_hdf5("r.h5", feats=FEATS, det=RECORDS),
    "compound by name": lambda: as_hdf5("r.h5", det=RECORDS, more=RECORDS) + "::det",
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table(kind: str) -> None:
    """The same RoIs, the same result; the score is carried."""
    path = KINDS[kind]()
    np.testing.assert_allclose(align("feats.npy", path, *STRIDE_16), BASE, atol=2e-5)
    score = [one for one in table(path).carried if one.name.lower() in
             ("score", "conf", "confidence", "prob")]  # fmt: skip
    if kind != "columns as JSON" or score:
        np.testing.assert_allclose(score[0].values, SCORES, rtol=1e-6)
    found = json.loads(succeed("inspect", path, "--format", "json").text)
    assert (found["rois"]["address"] is None) == (kind == "without a header"), found


@pytest.mark.parametrize("kind", ["csv", "coco results", "coco lines", "packed text"])
def test_a_table_through_a_pipe(kind: str) -> None:
    """On standard input, and through the end of a pipe that a shell opens."""
    data = Path(KINDS[kind]()).read_bytes()
    np.testing.assert_allclose(align("feats.npy", "-", *STRIDE_16, stdin=data), BASE, atol=2e-5)
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    try:
        roicli.align("feats.npy", f"/dev/fd/{reading}", "o.npy", spatial_scale=1 / 16)
        np.testing.assert_allclose(np.load("o.npy"), BASE, atol=2e-5)
    finally:
        os.close(reading)


def test_a_row_of_another_image_is_never_the_first_image() -> None:
    """The image's column is used whatever it is called, in every kind of table."""
    for kind in ("csv", "coco results", "array of records", "compound", "blanks"):
        refuse("align", "one.npy", KINDS[kind](), *STRIDE_16, words=("image_id", "found 1"))


PANDAS = Path(__file__).parents[1] / "storage" / "data"


@pytest.mark.parametrize("name", ["pandas_fixed.h5", "pandas_fixed_mixed.h5"])
def test_a_table_of_pandas(name: str) -> None:
    for address in (name, f"{name}::boxes"):
        found = align("feats.npy", str(PANDAS / address), *STRIDE_16)
        np.testing.assert_allclose(found, BASE, atol=1e-6)
    text = succeed("inspect", str(PANDAS / name)).text
    assert "1 dataset\n" in text
    assert "the image is batch_index" in text


def test_a_table_of_pandas_without_an_image() -> None:
    path = str(PANDAS / "pandas_fixed_score.h5")
    words = ("no column names the RoI's image", "x1, y1, x2, y2, score", "--roi-columns")
    refuse("align", "feats.npy", path, *STRIDE_16, words=words)
    assert table(path).carried[0].name == "score"


def test_a_table_of_pandas_with_pickled_names() -> None:
    """Its index tables are no candidates; the names are read and nothing is unpickled."""
    found = table(str(PANDAS / "pandas_table.h5"))
    assert found.corners.tolist() == [[1, 1, 3, 5], [2, 2, 4, 6]]
    assert found.batch.tolist() == [0, 1]
    assert [one.name for one in found.carried] == ["score", "label"]
    assert found.carried[1].values.tolist() == ["cat", "dog"]


def test_names_of_pandas_that_are_no_list_are_refused(tmp_path: Path) -> None:
    from roicli.storage.formats.hdf5.frames import read_names

    assert read_names(b"(lp0\nVx1\np1\naVy1\np2\na.", "t") == ["x1", "y1"]
    with pytest.raises(InputError, match="a pickle is never loaded"):
        read_names(b"cposix\nsystem\n(S'true'\ntR.", "t")


# Names and formats -------------------------------------------------------------------------------


SIX = np.column_stack([ROIS, SCORES]).astype(np.float32)
YXYX = CORNERS[:, [1, 0, 3, 2]]
FRACTIONS = (CORNERS / [512, 384, 512, 384]).astype(np.float32)
NAMED: dict[str, tuple[Any, tuple[str, ...], tuple[str, ...]]] = {
    "score last": (SIX, ("--roi-columns", "image,x1,y1,x2,y2,score"), ("(15, 6)",)),
    "left out": (SIX, ("--roi-columns", "image,x1,y1,x2,y2,_"), ("--roi-columns",)),
    "class and score before the image": (
        np.column_stack([CORNERS, SCORES, IMAGE]).astype(np.float32),
        ("--roi-columns", "xmin,ymin,xmax,ymax,score,batch"), ("(15, 6)",)),
    "image last": (np.roll(ROIS, -1, axis=1), ("--roi-columns", "x1,y1,x2,y2,image"),
                   ("--roi-columns x1,y1,x2,y2,image",)),
    "centre and size": (
        np.column_stack([IMAGE, CORNERS[:, :2] + SIZES[:, 2:] / 2, SIZES[:, 2:]]),
        ("--roi-columns", "image,cx,cy,w,h"), ("crossed",)),
}  # fmt: skip


@pytest.mark.parametrize("kind", NAMED)
def test_columns_of_an_array_are_named(kind: str) -> None:
    """Refused with the option in three lines at most, and right with it."""
    values, said, words = NAMED[kind]
    save("r.npy", values)
    outcome = refuse("align", "feats.npy", "r.npy", *STRIDE_16, words=words)
    assert len(outcome.err) < 3 * 160
    np.testing.assert_allclose(align("feats.npy", "r.npy", *STRIDE_16, *said), BASE, atol=1e-5)


def test_five_columns_that_end_in_a_score_or_an_area() -> None:
    save("r.npy", np.column_stack([CORNERS, SCORES])[:9].astype(np.float32))
    said = ("--roi-columns", "x1,y1,x2,y2,score")
    refuse("align", "one.npy", "r.npy", *STRIDE_16, words=(" ".join(said),))
    np.testing.assert_array_equal(align("one.npy", "r.npy", *STRIDE_16, *said), BASE[:9])
    save("r.npy", np.column_stack([FRACTIONS, SCORES / 8])[:9].astype(np.float32))
    refuse("align", "one.npy", "r.npy", *STRIDE_16, words=(*said, "--normalized"))
    sized = (*said, "--normalized", "--image-size", "384x512")
    np.testing.assert_allclose(align("one.npy", "r.npy", *STRIDE_16, *sized), BASE[:9], atol=1e-5)


def test_tensorflows_order() -> None:
    save("r.npy", YXYX[:9])
    for said in (("--roi-format", "yxyx"), ("--roi-columns", "y1,x1,y2,x2")):
        np.testing.assert_array_equal(align("one.npy", "r.npy", *STRIDE_16, *said), BASE[:9])
    save("r.npy", FRACTIONS[:9, [1, 0, 3, 2]])
    said = ("--roi-format", "yxyx", "--normalized", "--image-size", "384x512")
    np.testing.assert_allclose(align("one.npy", "r.npy", *STRIDE_16, *said), BASE[:9], atol=1e-5)
    told = " ".join(run("check", "one.npy", "r.npy", *STRIDE_16).text.split())
    assert "x1, y1, x2, y2" in told
    assert "--roi-format yxyx" in told


def test_a_header_is_overridden() -> None:
    write("r.csv", lines("a,b,c,d,e,image_id", IMAGE, *CORNERS.T, [7] * 15))
    refuse("align", "feats.npy", "r.csv", *STRIDE_16, words=("a, b, c, d, e, image_id",
                                                            "--roi-columns"))  # fmt: skip
    said = ("--roi-columns", "image,x1,y1,x2,y2,_")
    np.testing.assert_allclose(align("feats.npy", "r.csv", *STRIDE_16, *said), BASE, atol=2e-5)
    words = ("names 3 columns (image, x1, y1)", "6 columns: a, b")
    refuse("align", "feats.npy", "r.csv", "--roi-columns", "image,x1,y1", words=words)


def test_a_corner_or_a_centre_is_not_guessed() -> None:
    write("r.csv", lines("image,x,y,w,h", IMAGE, *SIZES.T))
    words = ("corner or the centre", "--roi-format xywh or --roi-format cxcywh")
    refuse("align", "feats.npy", "r.csv", *STRIDE_16, words=words)
    said = ("--roi-format", "xywh")
    np.testing.assert_allclose(align("feats.npy", "r.csv", *STRIDE_16, *said), BASE, atol=2e-5)


def test_a_column_of_boxes_says_how_it_is_read(caplog: pytest.LogCaptureFixture) -> None:
    """COCO's have x, y, width and height; what is no COCO's is said."""
    found = [{"image": 0, "bbox": [1, 2, 3, 4]}]
    write("r.json", json.dumps(found))
    assert table("r.json").corners.tolist() == [[1, 2, 4, 6]]
    outcome = succeed("align", "one.npy", "r.json", "-o", "out.npy", "--no-table")
    assert "bbox is read as x, y, width, height" in outcome.err
    assert table("r.json", roi_format="xyxy").corners.tolist() == [[1, 2, 3, 4]]
    write("r.json", json.dumps([{"image": 0, "xyxy": [1, 2, 3, 4]}]))
    assert table("r.json").corners.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x1;y1;x2;y2\n1,5;2.5;3;4\n1,5;2;3;4.5\n1.234,5;2;3;4\n", ("1,5", "decimal comma")),
        ("x1\ty1\tx2\ty2\n1,500\t2\t3\t4\n", ("1,500", "decimal comma", "thousands")),
        ("batch,x1,y1,x2,y2\n0,1,2,3,4\nbatch,x1,y1,x2,y2\n", ("row 1", "'batch'", "header")),
        ("x1,y1,x2,y2,x3,y3,x4,y4\n1,1,9,1,9,9,1,9\n", ("polygons", "image,x1,y1,_,_,x2,y2")),
        ("x1,y1,x2,y2\nr1,1,2,3,4\n", ("5 columns, expected 4", "write.table")),
        ("frame,image_id,x1,y1,x2,y2\n0,0,1,2,3,4\n0,1,1,2,3,4\n", ("frame and image_id", "row 1")),
    ],
)  # fmt: skip
def test_a_text_in_doubt_is_refused(text: str, words: tuple[str, ...]) -> None:
    refuse("align", "one.npy", write("r.csv", text), words=("r.csv", *words))


def test_of_columns_of_images_the_one_counts_that_names_maps() -> None:
    """Keys before numbers; where two name different images nothing is computed."""
    names = ["ab"[image] + ".jpg" for image in IMAGE]
    Path("maps").mkdir()
    save("maps/a.npy", FEATS[0])
    save("maps/b.npy", FEATS[1])
    write("r.csv", lines("image_id,file_name,x1,y1,x2,y2", IMAGE + 7, names, *CORNERS.T))
    write("n.csv", lines("file_name,image_id,x1,y1,x2,y2", names, IMAGE, *CORNERS.T))
    for rois, maps, options in (
        ("r.csv", "maps/{image}.npy", ()), ("r.csv", "feats.npy", ("--images", "a,b")),
        ("r.csv", "feats.npy", ("--images", "7,8")), ("n.csv", "feats.npy", ()),
        ("n.csv", "maps/{image}.npy", ()),
    ):  # fmt: skip
        np.testing.assert_allclose(align(maps, rois, *STRIDE_16, *options), BASE, atol=1e-6)
    refuse("align", "feats.npy", "r.csv", *STRIDE_16, words=("file_name", "'a.jpg'", "--images"))
    refuse("align", "one.npy", "n.csv", *STRIDE_16, words=("'a.jpg'", "--images"))
    write("r.csv", lines("image_id,batch,x1,y1,x2,y2", 1 - IMAGE, IMAGE, *CORNERS.T))
    refuse("align", "feats.npy", "r.csv", *STRIDE_16, words=("image_id and batch", "row 0"))
    assert "the image is image_id or batch" in succeed("inspect", "r.csv").text


@pytest.mark.parametrize("shape", [(0,), (0, 4), (0, 5), (0, 6)])
def test_no_detections_are_an_empty_result(shape: tuple[int, ...]) -> None:
    save("r.npy", np.empty(shape, np.float32))
    assert align("feats.npy", "r.npy", *STRIDE_16).shape == (0, 8, 7, 7)
    empties = [
        "[]", '{"images": [], "annotations": []}', '{"boxes": [], "scores": []}',
        '[{"boxes": []}, {"boxes": []}]', '{"a.jpg": [], "b.jpg": []}',
        '[{"image": 1, "objects": {"bbox": []}}]',
    ]  # fmt: skip
    for empty in empties:
        write("r.json", empty)
        assert align("feats.npy", "r.json", *STRIDE_16).shape == (0, 8, 7, 7)


def test_no_detections_in_columns_that_are_named_and_of_matlab() -> None:
    save("r.npy", np.empty(0, np.float32))
    said = ("--roi-columns", "image,x1,y1,x2,y2,score")
    assert len(align("feats.npy", "r.npy", *STRIDE_16, *said)) == 0
    as_hdf5("r.h5", rois=np.empty(0, np.float32))
    assert len(align("feats.npy", "r.h5", *STRIDE_16)) == 0
    with h5py.File("m.mat", "w") as file:
        file["rois"] = np.array([0, 5], np.uint64)
        file["rois"].attrs.update(MATLAB_class=np.bytes_("double"), MATLAB_empty=np.uint8(1))
    assert len(align("feats.npy", "m.mat::rois", *STRIDE_16)) == 0


@pytest.mark.parametrize("name", ["document_id", "dataset_index", "b", "i"])
def test_a_column_that_may_name_images_is_not_passed_over(name: str) -> None:
    """Where there is one map, all RoIs would be on it without a word."""
    write("r.csv", lines(f"{name},x1,y1,x2,y2,score", IMAGE, *CORNERS.T, SCORES))
    words = (f"column {name} may name the RoI's image", "one map", "it has 2 values", "score")
    refuse("align", "one.npy", "r.csv", *STRIDE_16, words=words)
    said = ("--roi-columns", "image,x1,y1,x2,y2,score")
    np.testing.assert_array_equal(align("feats.npy", "r.csv", *STRIDE_16, *said), BASE)
    said = ("--roi-columns", "cluster,x1,y1,x2,y2,score")
    assert len(align("one.npy", "r.csv", *STRIDE_16, *said)) == 15
    write("r.csv", lines(f"{name},x1,y1,x2,y2,score", range(15), *CORNERS.T, SCORES))
    assert len(align("one.npy", "r.csv", *STRIDE_16)) == 15  # rows have numbers, too


def test_boxes_that_tensorflow_calls_so_are_said_to_be_read_otherwise() -> None:
    as_hdf5("r.h5", detection_boxes=CORNERS[:9])
    outcome = succeed("align", "one.npy", "r.h5::detection_boxes", *STRIDE_16, "-o", "o.npy")
    assert "TensorFlow's models are y1, x1, y2, x2" in outcome.err
    said = ("--roi-format", "xyxy", "--force")
    outcome = succeed("align", "one.npy", "r.h5::detection_boxes", *STRIDE_16, "-o", "o.npy", *said)
    assert "TensorFlow" not in outcome.err


def test_coco_lists_its_images() -> None:
    write("r.json", json.dumps(
        {"images": [{"id": 9, "file_name": "a.jpg", "height": 384, "width": 512},
                    {"id": 10, "coco_url": "http://images.example/val/b.jpg"}],
         "annotations": records(), "categories": [{"id": 1, "name": "cat"}]}))  # fmt: skip
    found = table("r.json")
    assert [tuple(one) for one in found.listed] == [
        ("9", "a.jpg", (384, 512)), ("10", "b.jpg", None)]  # fmt: skip
    assert found.carried[-1].values.tolist() == ["cat"] * 15


# Hostile -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"[" * 100_000, "cannot be read as JSON"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "JSON"),
        (b'[{"bbox": [1, 2, 3, 4]}, 5]', "record 1: is a int, expected a record"),
        (b'{"a": 1}\n{"a":\n', "line 2: is no JSON"),
        (b'"text"', "one JSON value"),
        (b'{"version": 1, "refs": {".zgroup": "{}"}}', "a set of references to other files"),
        (b'{"a": [{}], "b": [{}]}', "several lists of records"),
        (b'{"x1": [1, 2], "y1": [1]}', "no column"),
    ],
)
def test_json_that_is_no_table(data: bytes, words: str) -> None:
    Path("r.json").write_bytes(data)
    refuse("align", "one.npy", "r.json", words=("r.json", words))


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    from roicli.storage.formats import gzip_stream

    monkeypatch.setattr(gzip_stream, "available_bytes", lambda: 80_000_000)
    pack("r.csv.gz", b"0" * 20_000_000)
    refuse("align", "one.npy", "r.csv.gz", words=("unpacks to more than 10,000,000 bytes",))
    Path("r.csv.gz").write_bytes(Path("r.csv.gz").read_bytes()[:-4000])
    Path("r.gz").write_bytes(gzip.compress(gzip.compress(TEXT.encode())))
    refuse("align", "one.npy", "r.gz", words=("packed twice",))
    Path("r.gz").write_bytes(gzip.compress(TEXT.encode())[:-9])
    refuse("align", "one.npy", "r.gz", words=("cut short",))
    Path("r.gz").write_bytes(gzip.compress(TEXT.encode()) + b"\0" * 512)
    assert align("feats.npy", "r.gz", *STRIDE_16).shape == BASE.shape


def test_members_of_gzip_follow_one_another() -> None:
    from roicli.storage.formats.gzip_stream import unpack

    data = gzip.compress(b"ab" * 2_000_000) + gzip.compress(b"cd")
    assert unpack(io.BytesIO(data), "x") == b"ab" * 2_000_000 + b"cd"


def test_gigabytes_of_json_are_refused() -> None:
    with open("r.json", "wb") as stream:
        stream.write(b"[")
        stream.truncate(1 << 42)
    refuse("align", "one.npy", "r.json", words=("r.json", "its JSON", "are free"))


# What inspect says -------------------------------------------------------------------------------


def test_inspect_calls_boxes_boxes() -> None:
    as_hdf5("r.h5", image_bb=np.zeros((2, 18, 4)), feats=FEATS, wide=SIX, det=RECORDS)
    found = {
        one["address"].rpartition("/")[2]: one
        for one in json.loads(succeed("inspect", "r.h5", "--format", "json").text)["datasets"]
    }
    assert found["image_bb"]["usable_as"] == "rois"
    assert "boxes (N, M, 4), image by image" in found["image_bb"]["why"]
    assert "--roi-columns" in found["wide"]["why"]
    assert found["det"]["columns"] == list(RECORDS.dtype.names)
    assert "the image is image_id" in found["det"]["why"]
    assert "carried: score, class" in found["det"]["why"]


def test_text_without_a_header_is_named() -> None:
    write("r.csv", lines("", *CORNERS.T, SCORES, IMAGE))
    refuse("align", "feats.npy", "r.csv", *STRIDE_16, words=("(15, 6)", "--roi-columns"))
    said = ("--roi-columns", "x1,y1,x2,y2,score,image")
    np.testing.assert_allclose(align("feats.npy", "r.csv", *STRIDE_16, *said), BASE, atol=2e-5)


@pytest.mark.parametrize("chunks", [None, (4,)])
def test_texts_of_any_length_in_a_compound_are_left_out(chunks: tuple[int] | None) -> None:
    """And said; the boxes beside them are read, from where they lie and through chunks."""
    kind = np.dtype([*RECORDS.dtype.descr[:6], ("label", h5py.string_dtype())])
    values = np.zeros(15, kind)
    for name in RECORDS.dtype.names[:6]:
        values[name] = RECORDS[name]
    values["label"] = "cat"
    with h5py.File("r.h5", "w") as file:
        file.create_dataset("det", data=values, chunks=chunks)
    outcome = succeed("align", "feats.npy", "r.h5", *STRIDE_16, "-o", "out.npy", "--no-table")
    assert "texts of any length are left out: label" in outcome.err
    np.testing.assert_allclose(np.load("out.npy"), BASE, atol=1e-5)
    assert [one.name for one in table("r.h5").carried] == ["score"]


def test_texts_in_other_encodings(maps: None) -> None:
    """A mark says which it is, also of JSON and in gzip; without one it has to be UTF-8."""
    text = "image,x1,y1,x2,y2,who\n0,1,1,20,20,Zoë\n"
    record = '[{"image": 0, "x1": 1, "y1": 1, "x2": 20, "y2": 20, "who": "Zoë"}]'
    for encoding in ("utf-8-sig", "utf-16", "utf-16-be"):
        mark = "\ufeff" if encoding == "utf-16-be" else ""
        Path("wide.csv").write_text(mark + text, encoding)
        Path("wide.csv.gz").write_bytes(gzip.compress((mark + text).encode(encoding)))
        Path("wide.json").write_text(mark + record, encoding)
        for name in ("wide.csv", "wide.csv.gz", "wide.json"):
            found = table(name)
            assert found.corners.tolist() == [[1, 1, 20, 20]]
            assert found.carried[0].values.tolist() == ["Zoë"]
    Path("wide.csv").write_text(text, "utf-16-le")
    refuse("align", "feats.npy", "wide.csv", *STRIDE_16, words=("-f UTF-16LE -t UTF-8",))
    Path("wide.csv").write_text(text.replace("ë", "e"), "utf-16-be")
    refuse("align", "feats.npy", "wide.csv", *STRIDE_16, words=("NUL bytes", "without a mark"))
    Path("western.csv").write_text(text, "cp1252")
    refuse("align", "feats.npy", "western.csv", *STRIDE_16, words=("not UTF-8", "CP1252"))


@pytest.mark.parametrize("spoiled", [None, [], [1, 2, 3]])
def test_annotations_without_a_box_are_named(maps: None, spoiled: Any) -> None:
    """Polygons alone, or an empty box among others, which would leave no column of boxes."""
    records = [{"image_id": 0, "category_id": 1, "bbox": [1, 1, 20, 20]} for _ in range(3)]
    records[1]["bbox"] = spoiled
    if spoiled is None:
        del records[1]["bbox"]
    Path("some.json").write_text(json.dumps(records))
    words = ("record 1: bbox is", "expected four numbers", "1 such records")
    refuse("align", "feats.npy", "some.json", *STRIDE_16, words=words)
    polygon = {"image_id": 0, "category_id": 1, "segmentation": [[1, 1, 20, 1, 20, 20]]}
    Path("polygons.json").write_text(json.dumps([polygon]))
    refuse("align", "feats.npy", "polygons.json", *STRIDE_16, words=("a segmentation and no bbox",))


def test_a_time_in_a_record_is_carried_as_a_text() -> None:
    when = [*RECORDS.dtype.descr[:-1], ("when", "<M8[s]")]
    records = np.zeros(15, when)
    for name in ("image_id", "x1", "y1", "x2", "y2"):
        records[name] = RECORDS[name]
    save("r.npy", records)
    np.testing.assert_allclose(align("feats.npy", "r.npy", *STRIDE_16), BASE, atol=1e-6)
    assert [one.name for one in table("r.npy").carried if one.is_text] == ["when"]


def test_arrays_one_an_image_are_named_as_such() -> None:
    boxes = {f"box_{n}": CORNERS[n == IMAGE] for n in (0, 1)}
    path = as_hdf5("r.h5", **boxes)
    refuse("align", "feats.npy", path, *STRIDE_16, words=("'r.h5::box_{image}'",))
    np.testing.assert_allclose(align("feats.npy", path + "::box_{image}", *STRIDE_16), BASE)


def test_a_dtype_that_cannot_hold_the_image_is_named() -> None:
    save("r.npy", np.round(ROIS).astype(np.uint8))
    words = ("crossed corners", "uint8 holds numbers up to 255 only: save RoIs as float32")
    refuse("align", "feats.npy", "r.npy", *STRIDE_16, words=words)
