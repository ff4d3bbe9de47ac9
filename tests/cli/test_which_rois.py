"""Whose image a RoI is, and which RoIs there are: files as people have them.

Two maps of 8 x 24 x 32 at stride 16, fifteen RoIs, nine of them of the first map.
"""

import csv
import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import roicli
from roicli.core.exceptions import InputError, ParameterError
from tests.cli.running import refuse, save, save_h5, succeed

DATA = Path(__file__).parent / "field"
FEATS, ROIS, BASE = (np.load(DATA / f"{name}.npy") for name in ("feats", "rois", "base"))
STRIDE_16 = ("--spatial-scale", "1/16")
CORNERS, BATCH = ROIS[:, 1:], ROIS[:, 0]
IDS = np.where(BATCH == 0, 397133, 37777)
SCORES = np.round(np.linspace(0.05, 0.95, 15), 2)
CLASSES = ["person", "car", "dog"] * 5


@pytest.fixture(autouse=True)
def maps(folder: Path) -> None:
    save("feats.npy", FEATS)
    save("boxes4.npy", CORNERS)


def align(rois: str, *options: str, features: str = "feats.npy") -> tuple[Any, str]:
    """What ``roicli align`` gives, and what it says."""
    outcome = succeed(
        "align", features, rois, "-o", "out.npy", "--force", "--no-table", *STRIDE_16, *options
    )
    return np.load("out.npy"), outcome.err


def gives(rois: str, *options: str, expected: Any = BASE, features: str = "feats.npy") -> str:
    """See that the values are these; gives what was said."""
    found, said = align(rois, *options, features=features)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    return said


def with_image(image: Any, corners: Any = CORNERS, dtype: Any = np.float32) -> Any:
    return np.column_stack([image, corners]).astype(dtype)


def write_table(name: str = "r.csv", **columns: Any) -> str:
    """A CSV of all RoIs with these columns before x1 to y2."""
    with Path(name).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([*columns, "x1", "y1", "x2", "y2"])
        for row, corners in enumerate(CORNERS.tolist()):
            writer.writerow([*(values[row] for values in columns.values()), *corners])
    return name


# Which image: keys -----------------------------------------------------------------------------


def test_ids_are_matched_with_a_list() -> None:
    """In the maps' order, as a list of keys, or in a file of any kind."""
    save("r.npy", with_image(IDS))
    words = ("row 0, column 0 (batch_index): found 397133", "--images")
    refuse("align", "feats.npy", "r.npy", *STRIDE_16, words=words)
    assert "matched with --images" in gives("r.npy", "--images", "397133,37777")
    Path("ids.txt").write_text("000000397133.jpg\n000000037777.jpg\n")
    Path("ids.csv").write_text("image_id,width\n397133,500\n37777,400\n")
    Path("ids.json").write_text("[397133, 37777]")
    Path("coco.json").write_text(
        json.dumps({"images": [{"id": 397133, "file_name": "a.jpg"}, {"id": 37777}]})
    )
    save("ids.npy", np.array([397133, 37777]))
    save("texts.npy", np.array(["val/397133", "val/37777"]))
    save_h5("ids.h5", ids=np.array([397133, 37777]))
    for name in ("ids.txt", "ids.csv", "ids.json", "coco.json", "ids.npy", "texts.npy",
                 "ids.h5::/ids"):  # fmt: skip
        assert f"matched with {name}" in gives("r.npy", "--images", name)


def test_one_based_numbers_are_named_and_mended() -> None:
    save("r.npy", with_image(BATCH + 1))
    refuse("align", "feats.npy", "r.npy", *STRIDE_16, words=("one-based", "--images 1,2"))
    gives("r.npy", "--images", "1,2")
    gives("r.npy", "--images", "1..2")


def test_ids_beside_the_maps() -> None:
    """A dataset in their group or at the root, or an attribute, of numbers or texts."""
    save("r.npy", with_image(IDS))
    ids = np.array([397133, 37777])
    save_h5("f.h5", g__maps=FEATS, g__image_ids=ids)
    assert "matched with f.h5::g/image_ids" in gives("r.npy", features="f.h5::g/maps")
    save_h5("f.h5", g__maps=FEATS, image_ids=np.array([b"000397133.jpg", b"37777.jpg"]))
    gives("r.npy", features="f.h5::g/maps")
    save_h5("f.h5", {"image_ids": ids}, maps=FEATS)
    gives("r.npy", features="f.h5")
    np.savez("f.npz", maps=FEATS, image_ids=np.array(["397133.jpg", "37777.jpg"]))
    gives("r.npy", features="f.npz::maps")
    # Numbers of maps stay what they are, and ids of other images are no maps' numbers.
    save("n.npy", ROIS)
    gives("n.npy", features="f.h5")
    save("r.npy", with_image(IDS + 1))
    refuse("align", "f.h5", "r.npy", *STRIDE_16, words=("found 397134", "--images"))
    save_h5("f.h5", {"image_ids": ids[:1]}, maps=FEATS)
    save("r.npy", with_image(IDS))
    refuse("align", "f.h5", "r.npy", *STRIDE_16, words=("has 1 keys, and there are 2 maps",))


def test_texts_are_keys() -> None:
    names = np.where(BATCH == 0, "train/a.jpg", "train/b.jpg")
    write_table(file_name=names)
    refuse("align", "feats.npy", "r.csv", *STRIDE_16,
           words=("row 0, column file_name", "a.jpg", "--images LIST"))  # fmt: skip
    gives("r.csv", "--images", "a.jpg,b.jpg")
    gives("r.csv", "--images", "a.npy,b.npy")
    refuse("align", "feats.npy", "r.csv", *STRIDE_16, "--images", "a,c",
           words=("row 9, column file_name", "train/b.jpg", "is none of --images (2: a, c)")
    )  # fmt: skip
    refuse("align", "feats.npy", "r.csv", *STRIDE_16, "--images", "a,b,c",
           words=("3 keys, and there are 2 maps",))  # fmt: skip


def write_coco(ids: dict[int, str]) -> str:
    """The RoIs as COCO's annotations; ``ids`` are those of both images, with their file names."""
    boxes = [[x1, y1, x2 - x1, y2 - y1] for _, x1, y1, x2, y2 in ROIS.tolist()]
    document = {
        "images": [{"id": one, "file_name": name} for one, name in ids.items()],
        "annotations": [
            {"image_id": list(ids)[image], "bbox": box}
            for image, box in zip(BATCH.astype(int), boxes, strict=True)
        ],
    }
    Path("coco.json").write_text(json.dumps(document))
    return "coco.json"


def test_file_names_of_a_data_set_are_those_of_its_ids() -> None:
    rois = write_coco({7: "x/a.jpg", 8: "x/b.jpg"})
    gives(rois, "--images", "a.jpg,b.jpg")
    gives(write_coco({7: "a/1.jpg", 8: "b/1.jpg"}), "--images", "a/1.jpg,b/1.jpg")


def test_an_id_that_is_the_file_name_of_another_image() -> None:
    """File names count where they name every map's image, and ids do not."""
    Path("m").mkdir()
    for number, one in enumerate(FEATS, 1):
        save(f"m/{number}.npy", one)
    maps = "m/{image}.npy"
    gives(write_coco({0: "1.jpg", 1: "2.jpg"}), features=maps)
    gives(write_coco({1: "0.jpg", 2: "1.jpg"}), features=maps)
    gives(write_coco({0: "1.jpg", 1: "2.jpg", 5: "3.jpg"}), features=maps)
    refuse("align", maps, write_coco({2: "1.jpg", 1: "2.jpg"}), *STRIDE_16,
           words=("one image is called 2 and 1.jpg", "different ones"))  # fmt: skip


def test_a_row_without_an_image_is_left_out_or_refused() -> None:
    names = np.where(BATCH == 0, "a.jpg", "b.jpg").tolist()
    names[3] = ""
    write_table(file_name=names)
    given = ("--images", "a,b")
    refuse("align", "feats.npy", "r.csv", *STRIDE_16, *given, words=("row 3", "--drop-invalid"))
    said = gives("r.csv", *given, "--drop-invalid", expected=np.delete(BASE, 3, axis=0))
    assert "1 of no image" in said


def test_what_does_not_matter_in_a_key_makes_no_two_equal() -> None:
    """a/1 and b/1 are two images where they are named so, and none where only 1 is."""
    write_table(image=np.where(BATCH == 0, "a/1.jpg", "b/1.jpg"))
    gives("r.csv", "--images", "a/1.jpg,b/1.jpg")
    refuse("align", "feats.npy", "r.csv", *STRIDE_16, "--images", "1,2",
           words=("a/1.jpg and b/1.jpg are both 1",))  # fmt: skip
    write_table(image=np.where(BATCH == 0, "1", "2"))
    refuse("align", "feats.npy", "r.csv", *STRIDE_16, "--images", "a/1.jpg,b/1.jpg",
           words=("may be a/1.jpg or b/1.jpg",))  # fmt: skip


def test_an_id_that_the_dtype_may_have_lost() -> None:
    save("r.npy", with_image(np.where(BATCH == 0, 2**24, 2**24 + 2)))
    refuse("align", "feats.npy", "r.npy", *STRIDE_16, "--images", f"{2**24},{2**24 + 2}",
           words=("may be another image", "float32"))  # fmt: skip
    save("r.npy", with_image(np.where(BATCH == 0, 2**24, 2**24 + 2), dtype=np.float64))
    gives("r.npy", "--images", f"{2**24},{2**24 + 2}")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("1,,2", "separated by single commas"),
        ("nothing.csv", "no such file"),
        ("2..1", "FIRST..LAST"),
        ("two.csv", "has 2 columns"),
        ("bad.json", "is not JSON"),
        ("list.json", "item 1 is [3]"),
        ("no.json", "no list of keys"),
    ],
)
def test_what_is_no_list_of_keys(given: str, words: str) -> None:
    Path("two.csv").write_text("1,2\n3,4\n")
    Path("bad.json").write_text("[1, 2")
    Path("list.json").write_text("[1, [3]]")
    Path("no.json").write_text('{"a": 1}')
    save("r.npy", with_image(IDS))
    refuse("align", "feats.npy", "r.npy", *STRIDE_16, "--images", given, words=(words,))


# Which image: another array --------------------------------------------------------------------


def test_batch_indices_counts_starts_and_ranges_beside_the_boxes() -> None:
    refuse("align", "feats.npy", "boxes4.npy", *STRIDE_16, words=("2 images", "--image-from"))
    save("i.npy", BATCH.astype(np.int64))
    assert "i.npy: read as indices" in gives("boxes4.npy", "--image-from", "i.npy")
    save("n.npy", np.array([9, 6], np.int32))
    assert "n.npy: read as counts" in gives("boxes4.npy", "--image-from", "n.npy")
    assert "read as" not in gives("boxes4.npy", "--image-from", "n.npy:counts")
    save_h5("p.h5", rpn_rois=CORNERS, first=np.array([0, 9]), last=np.array([8, 14]),
            num=np.array([9, 6]), at=np.array([[0, 9], [9, 15]]))  # fmt: skip
    for address, kind in (
        ("p.h5::first", "starts"),
        ("p.h5::num", "counts"),
        ("p.h5::at", "ranges"),
        ("p.h5::first,last", "inclusive"),
        ("p.h5::first,p.h5::num", "lengths"),
    ):
        assert f"read as {kind}" in gives("p.h5", "--image-from", address)
    Path("n.csv").write_text("file\n" + "\n".join(f"{name}.jpg" for name in IDS) + "\n")
    gives("boxes4.npy", "--image-from", "n.csv", "--images", "397133,37777")
    # Indices may be ids, or begin with 1.
    save("i.npy", IDS)
    gives("boxes4.npy", "--image-from", "i.npy", "--images", "397133,37777")
    save("i.npy", BATCH.astype(np.int64) + 1)
    refuse("align", "feats.npy", "boxes4.npy", *STRIDE_16, "--image-from", "i.npy",
           words=("one-based", "--images 1,2"))  # fmt: skip


def test_what_says_whose_a_roi_is_twice_or_not_at_all() -> None:
    save("n.npy", np.array([9, 5]))
    refuse("align", "feats.npy", "boxes4.npy", *STRIDE_16, "--image-from", "n.npy",
           words=("n.npy: does not say whose the 15 RoIs", "their sum 14 would be 15"))  # fmt: skip
    save("r.npy", ROIS)
    refuse("align", "feats.npy", "r.npy", *STRIDE_16, "--image-from", "n.npy",
           words=("--image-from says it too",))  # fmt: skip
    # A RoI of no image is refused, or left out where that is asked for.
    save_h5("p.h5", at=np.array([[0, 9], [10, 15]]))
    refuse("align", "feats.npy", "boxes4.npy", *STRIDE_16, "--image-from", "p.h5::at:ranges",
           words=("row 9", "--drop-invalid"))  # fmt: skip
    kept = np.delete(BASE, 9, axis=0)
    gives("boxes4.npy", "--image-from", "p.h5::at:ranges", "--drop-invalid", expected=kept)


def padded(fill: float = 0.0) -> Any:
    """(2, 10, 4) boxes, image by image."""
    boxes = np.full((2, 10, 4), fill, np.float32)
    boxes[0, :9], boxes[1, :6] = CORNERS[:9], CORNERS[9:]
    return boxes


def test_boxes_image_by_image() -> None:
    """Counts drop their padding, and so does --drop-invalid; without either it is refused."""
    save("b.npy", padded())
    save("n.npy", np.array([9.0, 6.0], np.float32))
    gives("b.npy", "--image-from", "n.npy")
    assert "left out 5 of 20 rows as padding: 5 of zeros" in gives("b.npy", "--drop-invalid")
    refuse("align", "feats.npy", "b.npy", *STRIDE_16, words=("--drop-invalid",))
    save("b.npy", padded()[:, :6])
    boxes = np.concatenate([BASE[:6], BASE[9:]])
    assert "is read image by image, 6 RoIs each" in gives("b.npy", expected=boxes)
    refuse("align", "feats.npy", "b.npy", *STRIDE_16, "--image-from", "n.npy",
           words=("9 would be at most the 6",))  # fmt: skip
    save("three.npy", np.concatenate([FEATS, FEATS[:1]]))
    refuse("align", "three.npy", "b.npy", *STRIDE_16, words=("2 images", "3 maps"))


def test_boxes_image_by_image_with_a_score_are_named() -> None:
    scored = np.concatenate([padded(), np.full((2, 10, 1), 0.5, np.float32)], axis=2)
    save("b.npy", scored)
    refuse("align", "feats.npy", "b.npy", *STRIDE_16, words=("(2, 10, 5)",))
    gives("b.npy", "--roi-columns", "x1,y1,x2,y2,score", "--drop-invalid", "--where", "score > 0.1")


def test_normalized_boxes_of_tensorflow_with_their_counts() -> None:
    boxes = (padded()[..., [1, 0, 3, 2]] / [384, 512, 384, 512]).astype(np.float32)
    save_h5("tf.h5", detection_boxes=boxes, detection_scores=np.ones((2, 10), np.float32),
            num_detections=np.array([9.0, 6.0], np.float32))  # fmt: skip
    gives("tf.h5", "--image-from", "tf.h5::num_detections", "--roi-format", "yxyx",
          "--normalized", "--image-size", "384x512")  # fmt: skip


# Which RoIs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fill", "word"), [(0.0, "zeros"), (-1.0, "-1"), (np.nan, "NaN")])
def test_padding_is_refused_or_left_out(fill: float, word: str) -> None:
    """Wherever it stands; rows keep their numbers."""
    rows = np.insert(ROIS, [0, 4, 15, 15], fill, axis=0)
    save("r.npy", rows)
    refuse("align", "feats.npy", "r.npy", *STRIDE_16, words=("row 0", word, "--drop-invalid"))
    said = ("fill up the array", "--drop-invalid leaves them out")
    refuse("align", "feats.npy", "r.npy", *STRIDE_16, words=said)
    assert f"left out 4 of 19 rows as padding: 4 of {word}" in gives("r.npy", "--drop-invalid")
    assert roicli.check("feats.npy", "r.npy", spatial_scale="1/16").failed()
    assert not roicli.check("feats.npy", "r.npy", spatial_scale="1/16", drop_invalid=True).failed()
    result = roicli.align("feats.npy", "r.npy", spatial_scale="1/16", drop_invalid=True)
    kept = [row for row in range(19) if row not in (0, 5, 17, 18)]
    assert result.errors.column("roi").tolist() == kept


def test_a_row_that_is_partly_nan_is_no_padding() -> None:
    rows = ROIS.copy()
    rows[3, 2] = np.nan
    save("r.npy", rows)
    refuse("align", "feats.npy", "r.npy", *STRIDE_16, "--drop-invalid", words=("row 3", "nan"))


def test_where_keeps_rows_and_their_numbers() -> None:
    write_table(image=BATCH.astype(int), score=SCORES, **{"class": CLASSES})
    keep = (SCORES > 0.5) & (np.array(CLASSES) == "person")
    said = gives("r.csv", "--where", "score > 0.5 and class == 'person'", expected=BASE[keep])
    assert f"{keep.sum()} of 15 RoIs fulfil" in said
    refuse("align", "feats.npy", "r.csv", *STRIDE_16, "--where", "size > 1",
           words=("no column 'size'", "image, score, class, x1, y1, x2, y2"))  # fmt: skip
    refuse("align", "feats.npy", "r.csv", *STRIDE_16, "--where", "class > 1",
           words=("column class holds texts",))  # fmt: skip
    # Images that no map is of may be left out so.
    write_table(image=np.where(BATCH == 0, 0, 7))
    gives("r.csv", "--where", "image == 0", expected=BASE[:9])
    outcome = succeed("errors", "r.csv", *STRIDE_16, "--where", "image == 7", "--format", "csv")
    rows = list(csv.DictReader(outcome.out.decode().splitlines()))
    assert [row["roi"] for row in rows] == [str(row) for row in range(9, 15)]
    assert gives("r.csv", "--where", "x1 > 1e6", expected=BASE[:0])


def test_a_wrong_row_has_its_number_in_the_file() -> None:
    write_table(image=np.where(BATCH == 0, 0, 7))
    words = ("row 9", "found 7")
    refuse("align", "feats.npy", "r.csv", *STRIDE_16, "--where", "image > 0", words=words)
    crossed = ROIS.copy()
    crossed[12] = crossed[12][[0, 3, 4, 1, 2]]
    save("r.npy", crossed)
    refuse("align", "feats.npy", "r.npy", *STRIDE_16, "--where", "batch_index == 1",
           words=("row 12 has",))  # fmt: skip
    report = roicli.check("feats.npy", "r.npy", spatial_scale="1/16", where="image == 1")
    assert next(one for one in report.findings if one.rule == "R04").rows == (12,)


def test_levels_of_the_kept_rows() -> None:
    """A level number for every row of the file, of which those of the kept rows count."""
    maps = [FEATS, FEATS[:, :, ::2, ::2].copy()]
    level = np.arange(15) % 2 + 4
    options = {"spatial_scale": (1 / 16, 1 / 32), "where": "x1 > 200"}
    keep = ROIS[:, 1] > 200
    result = roicli.align(maps, ROIS, level_from=level, **options)
    assert result.errors.column("level").tolist() == level[keep].tolist()
    with pytest.raises(InputError, match="a level for every row"):
        roicli.align(maps, ROIS, level_from=level[keep], **options)


def test_every_command_that_reads_rois_chooses_them() -> None:
    """explain, draw, diagnose and sweep take rows by their numbers in the file."""
    save("r.npy", np.insert(ROIS, 4, 0.0, axis=0))
    chosen = (*STRIDE_16, "--drop-invalid")
    succeed("align", "feats.npy", "r.npy", *chosen, "-o", "out.npy", "-q")
    succeed("diagnose", "feats.npy", "r.npy", "out.npy", *chosen)
    succeed("sweep", "feats.npy", "r.npy", *chosen)
    outcome = succeed("explain", "feats.npy", "r.npy", "--roi", "5", *chosen, "--result", "out.npy",
                      "--format", "json")  # fmt: skip
    assert '"roi": 5' in outcome.out.decode()
    refuse("explain", "feats.npy", "r.npy", "--roi", "4", *chosen, words=("roi is 4", "left out"))
    succeed("draw", "feats.npy", "r.npy", "--roi", "15", *chosen)
    refuse("draw", "feats.npy", "r.npy", "--roi", "16", *chosen, words=("roi is 16",))


# Carried through -------------------------------------------------------------------------------


def test_other_columns_go_into_the_result_and_the_table() -> None:
    write_table(image_id=IDS, score=SCORES, id=np.arange(100, 115), **{"class": CLASSES})
    options = (*STRIDE_16, "--images", "397133,37777", "--where", "score > 0.3")
    succeed("align", "feats.npy", "r.csv", *options, "-o", "out.h5", "--errors-out", "e.csv", "-q")
    keep = SCORES > 0.3
    with h5py.File("out.h5") as file:
        columns = file["rois_columns"]
        np.testing.assert_array_equal(columns["score"][()], SCORES[keep])
        np.testing.assert_array_equal(columns["id"][()], np.arange(100, 115)[keep])
        np.testing.assert_array_equal(columns["image_id"][()], IDS[keep])
        assert columns["class"].asstr()[()].tolist() == np.array(CLASSES)[keep].tolist()
        np.testing.assert_array_equal(file["rois"][:, 0], BATCH[keep])
        np.testing.assert_array_equal(file["quantization_error"]["roi"], np.flatnonzero(keep))
    with Path("e.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["class"] for row in rows] == np.array(CLASSES)[keep].tolist()
    assert [float(row["score"]) for row in rows] == SCORES[keep].tolist()
    outcome = succeed("errors", "r.csv", *STRIDE_16, "--columns", "roi,class,score", "--sort",
                      "score", "--rows", "2", "--format", "md")  # fmt: skip
    assert "| 14 | dog | 0.950 |" in outcome.out.decode()
    refuse("errors", "r.csv", *STRIDE_16, "--columns", "roi,size", words=("no column 'size'",))
    refuse("errors", "r.csv", *STRIDE_16, "--fail-over", "class=1", words=("holds words",))


def test_texts_of_any_length_and_content_in_the_columns() -> None:
    """None of them is cut, and a column of very long ones stays behind, which is said."""
    notes = ["", "\u00e9" * 300, 'a,"b"', "=1+1", "::error::", *["x"] * 10]
    write_table(image=BATCH.astype(int), note=notes, polygon=["1 2 " * 400] * 15)
    given = ("align", "feats.npy", "r.csv", *STRIDE_16, "--no-table")
    said = succeed(*given, "-o", "out.h5", "--errors-out", "e.csv").err
    assert "column polygon does not go along: its texts have up to 1,599 bytes" in said
    with h5py.File("out.h5") as file:
        assert file["rois_columns/note"].asstr()[()].tolist() == notes
        assert "polygon" not in file["rois_columns"]
    with Path("e.csv").open(encoding="utf-8") as stream:
        found = [row["note"] for row in csv.DictReader(stream)]
    assert found[:4] == notes[:4]


def test_a_summary_of_each_value_of_a_column() -> None:
    write_table(image=BATCH.astype(int), score=SCORES, **{"class": CLASSES})
    given = ("r.csv", *STRIDE_16, "--group-by", "class", "--format", "json")
    document = json.loads(succeed("errors", *given).out)
    groups = document["summary_by_group"]
    assert groups["column"] == "class"
    assert {name: group["n"] for name, group in groups["groups"].items()} == dict.fromkeys(
        ("person", "car", "dog"), 5
    )
    people = [row["iou"] for row in document["rois"] if row["class"] == "person"]
    assert groups["groups"]["person"]["iou"]["mean"] == pytest.approx(np.mean(people))
    shown = succeed("errors", "r.csv", *STRIDE_16, "--group-by", "class").out.decode()
    assert re.search(r"worst +car +dog +person", shown)
    full = ("--group-by", "class", "--summary", "full")
    assert "class person" in succeed("errors", "r.csv", *STRIDE_16, *full).out.decode()
    refuse("errors", "r.csv", *STRIDE_16, "--group-by", "kind", words=("no column 'kind'",))


def test_a_class_is_found_by_what_it_means() -> None:
    """COCO has the number of a class and its name: what it is compared with says which is meant."""
    numbers = [1 + ["person", "car", "dog"].index(name) for name in CLASSES]
    write_table(image=BATCH.astype(int), category_id=numbers, category_name=CLASSES)
    people = np.array(CLASSES) == "person"
    gives("r.csv", "--where", "class == 'person'", expected=BASE[people])
    gives("r.csv", "--where", "class == 1", expected=BASE[people])
    gives("r.csv", "--where", "category_id in [1]", expected=BASE[people])
    given = ("r.csv", *STRIDE_16, "--group-by", "class", "--format", "json")
    groups = json.loads(succeed("errors", *given).out)["summary_by_group"]
    assert (groups["column"], set(groups["groups"])) == ("category_name", set(CLASSES))


def test_shards_and_the_whole_agree() -> None:
    """Kept rows are the run's RoIs: parts join to the bytes of one run."""
    write_table(image=BATCH.astype(int), score=SCORES, **{"class": CLASSES})
    given = ("align", "feats.npy", "r.csv", *STRIDE_16, "--where", "score > 0.2", "-q")
    succeed(*given, "-o", "whole.h5", SOURCE_DATE_EPOCH="0")
    for number in (1, 2):
        succeed(*given, "-o", f"p{number}.h5", "--shard", f"{number}/2", SOURCE_DATE_EPOCH="0")
    succeed("merge", "p1.h5", "p2.h5", "-o", "joined.h5", "-q", SOURCE_DATE_EPOCH="0")
    with h5py.File("whole.h5") as whole, h5py.File("joined.h5") as joined:
        assert sorted(whole) == sorted(joined)
        for name in ("roi_features", "rois", "quantization_error", "rois_columns/score",
                     "rois_columns/class"):  # fmt: skip
            np.testing.assert_array_equal(whole[name][()], joined[name][()])
        assert whole.attrs["where"] == joined.attrs["where"] == "score > 0.2"


def test_a_result_in_zarr_has_the_columns() -> None:
    zarr = pytest.importorskip("zarr")
    write_table(image=BATCH.astype(int), score=SCORES, **{"class": CLASSES})
    succeed("align", "feats.npy", "r.csv", *STRIDE_16, "-o", "out.zarr", "-q")
    group = zarr.open_group("out.zarr", mode="r")
    assert group["rois_columns/class"][:].tolist() == CLASSES
    np.testing.assert_array_equal(group["rois_columns/score"][:], SCORES)


def test_padding_of_boxes_without_an_image() -> None:
    """-1 can be computed with there, as RoIs outside; so it is refused by name, unless ignored."""
    save("one.npy", FEATS[:1])
    save("r.npy", np.vstack([CORNERS[:9], -np.ones((3, 4), np.float32)]))
    words = ("row 9: rows of -1 only fill up the array (3 such rows)", "--ignore R19")
    refuse("align", "one.npy", "r.npy", *STRIDE_16, words=words)
    gives("r.npy", "--drop-invalid", features="one.npy", expected=BASE[:9])
    succeed("align", "one.npy", "r.npy", *STRIDE_16, "--ignore", "R19", "-q")
    # Nothing but zeros is what somebody tries an operator with.
    save("r.npy", np.zeros((1, 5)))
    assert "zeros" not in succeed("align", "one.npy", "r.npy", *STRIDE_16, "-q", "--force").err
    save("r.npy", np.zeros((3, 5)))
    outcome = succeed("align", "one.npy", "r.npy", *STRIDE_16, "-q", "--force")
    assert "all 3 RoIs are zeros; where they only fill up the array, --drop-invalid" in outcome.err


def test_a_page_has_the_columns_and_the_rows_of_the_file() -> None:
    pytest.importorskip("jinja2")
    write_table(image=BATCH.astype(int), score=SCORES, **{"class": CLASSES})
    given = ("report", "feats.npy", "r.csv", *STRIDE_16, "--where", "image == 1", "-q")
    succeed(*given, "-o", "page.html", "--sort", "score")
    text = Path("page.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r"<script[^>]*json[^>]*>(.*?)</script>", text, re.DOTALL)[1])
    names, values = [column["name"] for column in data["columns"]], data["values"]
    assert {"score", "class"} <= set(names)
    assert sorted(values[names.index("roi")]) == list(range(9, 15))
    assert values[names.index("score")] == sorted(SCORES[9:].tolist(), reverse=True)
    refuse(*given, "-o", "other.html", "--sort", "size", words=("no column 'size'",))


def test_ids_beside_maps_in_zarr() -> None:
    zarr = pytest.importorskip("zarr")
    save("r.npy", with_image(IDS))
    group = zarr.create_group("f.zarr")
    group.create_array("maps", data=FEATS)
    group.create_array("image_ids", data=np.array([397133, 37777]))
    gives("r.npy", features="f.zarr::maps")


def test_arrays_and_lists_in_python() -> None:
    def run(rois: Any, **options: Any) -> Any:
        return roicli.align(FEATS, rois, spatial_scale="1/16", **options).roi_features

    for given in (BATCH.astype(int), np.array([9, 6]), ([0, 9], [8, 14])):
        arrays = tuple(map(np.array, given)) if isinstance(given, tuple) else given
        np.testing.assert_allclose(run(CORNERS, image_from=arrays), BASE, atol=1e-5)
    np.testing.assert_allclose(run(with_image(IDS), images=[397133, 37777]), BASE, atol=1e-5)
    np.testing.assert_allclose(run(padded(), image_from=np.array([9, 6])), BASE, atol=1e-5)
    np.testing.assert_allclose(run(ROIS, where="x1 > 200"), BASE[ROIS[:, 1] > 200], atol=1e-5)
    with pytest.raises(ParameterError, match="expected a condition"):
        run(ROIS, where="")


@pytest.mark.full
def test_a_cluster_and_one_machine_agree(dask: tuple[str, str]) -> None:
    """Blocks are of the kept rows; every address is found from another folder."""
    with Path("r.csv").open("w", encoding="utf-8") as stream:
        stream.write("score,class,x1,y1,x2,y2\n")
        for row, corners in enumerate(np.insert(CORNERS, 4, 0.0, axis=0).tolist()):
            name = CLASSES[row % 15]
            stream.write(",".join(map(str, [row / 20, name, *corners])) + "\n")
    save("i.npy", np.insert(IDS, 4, 0))
    Path("ids.txt").write_text("397133\n37777\n")
    given = (
        "align", "feats.npy", "r.csv", *STRIDE_16, "-q", "--image-from", "i.npy", "--images",
        "ids.txt", "--drop-invalid", "--where", "score > 0.1", "--values",
    )  # fmt: skip
    for name in ("whole", "parts"):
        more = dask if name == "parts" else ()
        succeed(*given, "-o", f"{name}.h5", "--errors-out", f"{name}.csv", *more)
    assert Path("whole.csv").read_bytes() == Path("parts.csv").read_bytes()
    succeed("merge", "parts.h5", "-o", "joined.h5", "-q")
    kept = [row for row in range(16) if row != 4 and row / 20 > 0.1]
    for other in ("parts.h5", "joined.h5"):
        with h5py.File("whole.h5") as whole, h5py.File(other) as parts:
            assert whole["quantization_error"]["roi"].tolist() == kept
            for name in ("roi_features", "rois", "quantization_error", "rois_columns/score",
                         "rois_columns/class", "rois_columns/image"):  # fmt: skip
                np.testing.assert_array_equal(whole[name][()], parts[name][()])


def test_a_run_that_is_resumed_has_the_same_rows() -> None:
    save("r.npy", np.insert(ROIS, 4, 0.0, axis=0))
    given = ("align", "feats.npy", "r.npy", *STRIDE_16, "--drop-invalid", "--resume", "-q")
    succeed(*given, "-o", "a.h5")
    with h5py.File("a.h5") as file:
        np.testing.assert_allclose(file["roi_features"][()], BASE, atol=1e-5)
        assert file["quantization_error"]["roi"].tolist() == [r for r in range(16) if r != 4]
        assert file.attrs["drop_invalid"]
