"""Formats of tables beside texts: Parquet, Feather, YOLO's folders, Pascal VOC."""

import csv
import json
import pickle
import shutil
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from roicli.core.declaration import settle
from roicli.core.exceptions import InputError, ParameterError
from roicli.pipeline.request import Reading
from roicli.pipeline.roi_source import choose_columns, open_source, read_rois
from tests.cli.running import refuse, save, succeed

DATA = Path(__file__).parent / "data"
FIELD = Path(__file__).parents[1] / "cli" / "field"
FEATS, ROIS, BASE = (np.load(FIELD / f"{name}.npy") for name in ("feats", "rois", "base"))
STRIDE_16 = ("--spatial-scale", "1/16")
IMAGES, CORNERS = ROIS[:, 0].astype(int), ROIS[:, 1:].astype(float)
SIZES = np.column_stack([CORNERS[:, :2], CORNERS[:, 2:] - CORNERS[:, :2]])
CENTRES = np.column_stack([(CORNERS[:, :2] + CORNERS[:, 2:]) / 2, SIZES[:, 2:]])
PIXELS = np.array([512, 384, 512, 384])
XYWH, XYXY = ("x", "y", "width", "height"), ("x1", "y1", "x2", "y2")


@pytest.fixture(autouse=True)
def maps(tmp_path, monkeypatch):
    """feats.npy has both maps, maps/a.npy and maps/b.npy one each."""
    monkeypatch.chdir(tmp_path)
    Path("maps").mkdir()
    save("feats.npy", FEATS)
    save("maps/a.npy", FEATS[0])
    save("maps/b.npy", FEATS[1])


def table(path, **options):
    """The RoIs of a source, before they are on their maps."""
    reading = settle(Reading, {"images": "a,b", **options})
    source = open_source(str(path), reading)
    return read_rois(source, choose_columns(source, reading, None), reading)


def align(features, rois, *options, **more):
    succeed("align", features, rois, "-o", "out.npy", "--force", "-q", *STRIDE_16, *options, **more)
    return np.load("out.npy")


# Parquet and Feather -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["boxes.parquet", "boxes.feather"])
def test_arrows_files(name):
    pytest.importorskip("pyarrow")
    path = str(DATA / name)
    np.testing.assert_allclose(align("feats.npy", path), BASE, atol=1e-6)
    data = Path(path).read_bytes()
    np.testing.assert_allclose(align("feats.npy", "-", stdin=data), BASE, atol=1e-6)
    assert "the image is batch_index" in succeed("inspect", path).text
    shutil.copy(path, "no_ending")
    assert len(table("no_ending", images=None)) == 15
    for cut in (0.5, 0.98):
        Path("cut").write_bytes(data[: int(len(data) * cut)])
        refuse("align", "feats.npy", "cut", words=("cut", "cannot be read"))


def test_types_of_arrow():
    pa = pytest.importorskip("pyarrow")
    from pyarrow import feather, parquet

    found = pa.table({
        "image": pa.array(["a", "b", "a"]).dictionary_encode(),
        "bbox": pa.array([[1, 2, 3, 4]] * 3, pa.list_(pa.float32(), 4)),
        "score": pa.array([0.5, None, 1.0], pa.float64()),
        "id": pa.array([2**60 + 1, 2, 3], pa.int64()),
        "crowd": pa.array([True, False, True]),
        "label": pa.array(["cat", None, "dog"]),
        "png": pa.array([b"\x89PNG"] * 3, pa.binary()),
        "mask": pa.array([[[1.0]], [], [[2.0]]]),
        "points": pa.array([[1, 2], [3], []], pa.list_(pa.int32())),
        "when": pa.array([0, 1, 2], pa.timestamp("s")),
    })  # fmt: skip
    parquet.write_table(found, "x.parquet")
    feather.write_feather(found, "x.feather")
    for name in ("x.parquet", "x.feather"):
        rois = table(name)
        assert rois.batch.tolist() == [0, 1, 0]
        assert rois.corners.tolist() == [[1, 2, 4, 6]] * 3
        assert rois.precision.name == "float32"
        carried = {one.name: one.values.tolist() for one in rois.carried}
        assert carried["id"] == [2**60 + 1, 2, 3]
        assert carried["label"] == ["cat", None, "dog"]
        assert carried["crowd"] == [1, 0, 1]
        assert np.isnan(carried["score"][1])
        assert not {"png", "mask", "points"} & carried.keys()


def test_records_of_arrow_are_columns():
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    boxes = [{"xmin": 1.0, "ymin": 2.0, "xmax": 3.0, "ymax": 4.0}] * 2
    parquet.write_table(pa.table({"image": [0, 0], "bbox": boxes}), "x.parquet")
    assert table("x.parquet", images=None).corners.tolist() == [[1, 2, 3, 4]] * 2


@pytest.mark.parametrize("library", ["pandas", "polars", "duckdb"])
def test_tables_of_libraries(library):
    """What each writes is read with equal values."""
    pytest.importorskip("pyarrow")
    module = pytest.importorskip(library)
    names = ("batch_index", "x1", "y1", "x2", "y2")
    if library == "pandas":
        module.DataFrame(ROIS, columns=names).to_parquet("x.parquet")
    elif library == "polars":
        module.DataFrame(ROIS, schema=list(names)).write_parquet("x.parquet")
    else:
        values = ", ".join(f"({', '.join(map(repr, row))})" for row in ROIS.tolist())
        columns = ", ".join(names)
        query = f"COPY (SELECT * FROM (VALUES {values}) AS t({columns})) TO 'x.parquet'"
        module.execute(query)
    np.testing.assert_array_equal(table("x.parquet", images=None).numbers, ROIS[:, 1:])


# YOLO --------------------------------------------------------------------------------------------


def write_labels(*, scores=False):
    """A folder of labels, one text an image, beside a list of the classes."""
    Path("labels").mkdir(exist_ok=True)
    Path("labels/classes.txt").write_text("cat\ndog\n")
    size = np.array([512, 384, 512, 384])
    for image, name in enumerate("ab"):
        lines = []
        for row, box in enumerate(ROIS[ROIS[:, 0] == image][:, 1:].astype(float) / size):
            cx, cy, w, h = (*(box[:2] + box[2:]) / 2, *(box[2:] - box[:2]))
            lines.append(f"{row % 2} {cx!r} {cy!r} {w!r} {h!r}" + " 0.5" * scores)
        text = "\n".join(lines).replace("np.float64(", "").replace(")", "")
        Path(f"labels/{name}.txt").write_text(text + "\n")


@pytest.mark.parametrize("scores", [False, True])
def test_a_folder_of_yolo(scores):
    write_labels(scores=scores)
    Path("labels/none.txt").write_text("")
    refuse("align", "maps/{image}.npy", "labels", *STRIDE_16, words=("--image-size",))
    said = ("--image-size", "384x512")
    found = align("maps/{image}.npy", "labels", *said)
    np.testing.assert_allclose(found, BASE, atol=1e-4)
    rois = table("labels", image_size="384x512")
    names = [one.name for one in rois.carried if one.name != "image"]
    assert names == ["class", "score"][: 1 + scores]
    assert [one.id for one in rois.listed] == ["a", "b", "none"]
    assert "cx, cy, w, h" in succeed("inspect", "labels").text


@pytest.mark.parametrize(
    ("line", "words"),
    [("0 0.5 0.5 0.1", "4 numbers"), ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.1 0.3", "a polygon"),
     ("cat 0.5 0.5 0.1 0.1", "expected numbers"), ("0.5 0.5 0.5 0.1 0.1", "class 0.5"),
     ("nan 0.5 0.5 0.1 0.1", "class nan"), ("0 120 40 310 90", "310, expected fractions"),
     ("1 12.5 0.5 0.1 0.1", "12.5, expected fractions")],
)  # fmt: skip
def test_labels_that_are_no_boxes(line, words):
    Path("labels").mkdir()
    Path("labels/a.txt").write_text(f"0 0.5 0.5 0.1 0.1\n\n{line}\n")
    with pytest.raises(InputError, match=rf"labels/a\.txt: line 3: .*{words}"):
        table("labels", image_size="384x512")


def test_a_folder_of_arrays_or_of_two_kinds_is_no_table():
    refuse("align", "feats.npy", "maps", words=("is a folder", "{image}.npy"))
    write_labels()
    Path("labels/a.xml").write_text("<annotation/>")
    refuse("align", "feats.npy", "labels", words=("is a folder",))


# Pascal VOC --------------------------------------------------------------------------------------


def write_voc(name, image):
    objects = "".join(
        f"<object><name>cat</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
        f"<ymax>{y2}</ymax></bndbox></object>"
        for i, x1, y1, x2, y2 in ROIS.tolist() if i == image
    )  # fmt: skip
    Path(name).write_text(
        f"<annotation><filename>{'ab'[image]}.jpg</filename><size><width>512</width>"
        f"<height>384</height><depth>3</depth></size>{objects}</annotation>"
    )


def test_pascal_voc():
    pytest.importorskip("defusedxml")
    Path("voc").mkdir()
    write_voc("voc/1.xml", 0)
    write_voc("voc/2.xml", 1)
    np.testing.assert_allclose(align("maps/{image}.npy", "voc"), BASE, atol=1e-5)
    rois = table("voc")
    assert rois.listed[1] == ("b", "b.jpg", (384, 512))
    assert {one.name for one in rois.carried} >= {"class"}
    outcome = succeed("align", "maps/{image}.npy", "voc/1.xml", "-o", "o.npy", *STRIDE_16)
    assert "counts pixels from 1" in outcome.err
    np.testing.assert_allclose(np.load("o.npy"), BASE[:9], atol=1e-5)


ENTITY = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotation>&b;</annotation>'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ENTITY, "entities"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "refused"),
        ("<annotation>", "cannot be read as XML"),
        ("<svg/>", "XML of 'svg'"),
        ("<annotation><object><bndbox><xmin>1</xmin></bndbox></object></annotation>", "ymin"),
        ("<a>" * 50_000, "XML"),
    ],
)
def test_xml_that_is_refused(text, words):
    pytest.importorskip("defusedxml")
    Path("x.xml").write_text(text)
    refuse("align", "feats.npy", "x.xml", words=("x.xml", words))


def test_a_missing_library_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "defusedxml", None)
    Path("x.xml").write_text("<annotation/>")
    refuse("align", "feats.npy", "x.xml", words=("defusedxml", "pip install 'roicli[voc]'"), code=3)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    shutil.copy(DATA / "boxes.parquet", "x.parquet")
    refuse(
        "align",
        "feats.npy",
        "x.parquet",
        words=("pyarrow", "pip install 'roicli[parquet]'"),
        code=3,
    )


def test_coco_of_pycocotools():
    """Its results have the same boxes as those that are read of the file."""
    coco = pytest.importorskip("pycocotools.coco")
    import contextlib
    import io
    import json

    records = [
        {"id": row, "image_id": int(image) + 7, "category_id": 1,
         "bbox": [x1, y1, x2 - x1, y2 - y1], "area": 1.0, "iscrowd": 0}
        for row, (image, x1, y1, x2, y2) in enumerate(ROIS.tolist())
    ]  # fmt: skip
    images = [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}]
    document = {"images": images, "annotations": records, "categories": [{"id": 1, "name": "x"}]}
    Path("gt.json").write_text(json.dumps(document))
    with contextlib.redirect_stdout(io.StringIO()):
        loaded = coco.COCO("gt.json")
    theirs = np.array([one["bbox"] for one in loaded.loadAnns(loaded.getAnnIds())])
    ours = table("gt.json", images="7,8")
    np.testing.assert_allclose(ours.numbers, theirs)
    np.testing.assert_allclose(align("maps/{image}.npy", "gt.json"), BASE, atol=1e-5)


def test_sizes_of_fractions_are_needed():
    write_labels()
    with pytest.raises(ParameterError, match="--image-size"):
        table("labels")


# Tables of our own -------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "jsonl", "parquet", "feather", "h5"])
def test_a_table_of_our_own_is_read_back(ending):
    """The same RoIs, the same result."""
    if ending in ("parquet", "feather"):
        pytest.importorskip("pyarrow")
    save("rois.npy", ROIS)
    name = f"t.{ending}"
    said = ("-o", name) if ending == "h5" else ("-o", "o.npy", "--errors-out", name)
    succeed("align", "feats.npy", "rois.npy", *STRIDE_16, *said, "--no-table")
    np.testing.assert_array_equal(align("feats.npy", name), BASE)


@pytest.mark.parametrize("library", ["pandas", "polars", "duckdb"])
def test_libraries_read_the_table(library):
    """As Parquet, with the values that the CSV has."""
    pytest.importorskip("pyarrow")
    module = pytest.importorskip(library)
    save("rois.npy", ROIS)
    for name in ("t.parquet", "t.csv"):
        succeed("errors", "feats.npy", "rois.npy", *STRIDE_16, "--errors-out", name)
    lines = [line.split(",") for line in Path("t.csv").read_text().splitlines()]
    if library == "duckdb":
        found = module.sql("SELECT * FROM 't.parquet'")
        names, rows = found.columns, found.fetchall()
    elif library == "polars":
        frame = module.read_parquet("t.parquet")
        names, rows = frame.columns, frame.rows()
    else:
        frame = module.read_parquet("t.parquet")
        names, rows = list(frame.columns), frame.to_numpy(object).tolist()
    assert list(names) == lines[0]
    for ours, theirs in zip(lines[1:], rows, strict=True):
        for text, value in zip(ours, theirs, strict=True):
            missing = value is None or value != value  # noqa: PLR0124 - NaN
            assert (missing and text == "") or str(value) == text or float(text) == value


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_detections_of_supervision_come_and_go(tmp_path, ending):
    """What its sinks write is read; what ``errors`` writes makes the same detections again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of OpenCV, which is not needed here
        supervision = pytest.importorskip("supervision")
    corners = np.array([[1, 2, 30.5, 40], [5, 6, 70, 80.25]], np.float32)
    detections = supervision.Detections(
        xyxy=corners,
        confidence=np.array([0.5, 0.75]),
        class_id=np.array([1, 2]),
        data={"class_name": np.array(["a", "b"])},
    )
    path = str(tmp_path / f"x.{ending}")
    sink = supervision.CSVSink if ending == "csv" else supervision.JSONSink
    with sink(path) as written:
        for frame in range(2):
            written.append(detections, custom_data={"frame_index": frame})
    succeed("errors", path, "--spatial-scale", "1", "--errors-out", "out.csv", "--no-table")
    with open("out.csv", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["batch_index"]) for row in rows] == [0, 0, 1, 1]
    again = supervision.Detections(
        xyxy=np.array([[float(row[name]) for name in ("x1", "y1", "x2", "y2")] for row in rows]),
        confidence=np.array([float(row["confidence"]) for row in rows]),
        class_id=np.array([int(row["class_id"]) for row in rows]),
        data={"class_name": np.array([row["class_name"] for row in rows])},
    )
    assert again == supervision.Detections.merge([detections, detections])


@pytest.mark.parametrize("form", ["lists", "struct of lists", "list of structs"])
def test_an_image_a_row_with_lists_of_boxes(form):
    """As data sets on the hub have objects."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    boxes = [of_image(number, SIZES, list) for number in (0, 1)]
    labels = [[1] * len(one) for one in boxes]
    objects = {
        "struct of lists": [{"bbox": b, "category": c} for b, c in zip(boxes, labels, strict=True)],
        "list of structs": [[{"bbox": one, "category": 1} for one in some] for some in boxes],
    }
    more = {"objects": objects[form]} if form in objects else {"bbox": boxes, "category": labels}
    parquet.write_table(
        pa.table({"image_id": ["a", "b"], "width": [512, 512], **more}), "r.parquet"
    )
    found = align("maps/{image}.npy", "r.parquet", "--roi-format", "xywh")
    np.testing.assert_allclose(found, BASE, atol=1e-4)


# pandas in HDF5 ----------------------------------------------------------------------------------


def write_fixed(names, values, rows="N.", objects=()):
    """A frame as pandas' fixed layout has it: one block of numbers, one of objects."""
    with h5py.File("p.h5", "w") as file:
        group = file.create_group("t")
        group.attrs.update(pandas_type=np.bytes_("frame"), nblocks=1 + bool(objects))
        group["axis0"] = np.array([*names, *objects], "S")
        group["axis1"] = IMAGES
        group["axis1"].attrs["name"] = np.bytes_(rows)
        group["block0_items"], group["block0_values"] = np.array(names, "S"), values
        if objects:
            group["block1_items"] = np.array(objects, "S")
            group.create_dataset("block1_values", (1,), h5py.vlen_dtype("u1"))


def test_rows_of_pandas_that_have_a_name_are_a_column():
    write_fixed(XYXY, CORNERS, rows="batch_index")
    np.testing.assert_allclose(align("feats.npy", "p.h5"), BASE, atol=1e-6)
    assert "the image is batch_index" in succeed("inspect", "p.h5").text
    write_fixed(XYXY, CORNERS)
    refuse("align", "feats.npy", "p.h5", *STRIDE_16, words=("no column names the RoI's image",))


def test_images_that_pandas_keeps_as_objects_or_codes_are_not_passed_over():
    """Without them the RoIs would be the first image's."""
    save("one.npy", FEATS[:1])
    words = ("column file_name", "pickle", "codes", ".parquet")
    write_fixed(XYXY, CORNERS, objects=["file_name"])
    refuse("align", "one.npy", "p.h5", *STRIDE_16, words=words)
    write_fixed(XYXY, CORNERS, objects=["owner"])
    assert len(align("one.npy", "p.h5")) == 15
    rows = np.zeros(15, [("index", "i8"), ("values_block_0", "f8", (4,)), ("values_block_1", "i1")])
    rows["values_block_0"] = CORNERS
    with h5py.File("p.h5", "w") as file:
        file["t/table"] = rows
        file["t"].attrs["pandas_type"] = np.bytes_("frame_table")
        file["t"].attrs["info"] = np.bytes_(pickle.dumps({"index": {"index_name": None}}, 0))
        marks = file["t/table"].attrs
        marks["values_block_0_kind"] = np.bytes_(pickle.dumps(list(XYXY), 0))
        marks["values_block_1_kind"] = np.bytes_(pickle.dumps(["file_name"], 0))
        marks["values_block_1_meta"] = np.bytes_("category")
    refuse("align", "one.npy", "p.h5", *STRIDE_16, words=words)
    rows["index"] = IMAGES
    with h5py.File("p.h5", "r+") as file:
        del file["t/table"].attrs["values_block_1_kind"]
        file["t/table"][...] = rows
        file["t"].attrs["info"] = np.bytes_(pickle.dumps({"index": {"index_name": "image"}}, 0))
    np.testing.assert_allclose(align("feats.npy", "p.h5"), BASE, atol=1e-6)


def test_an_empty_table_of_pandas():
    """Its arrays have one row, and say so."""
    write_fixed(XYXY, np.zeros((1, 1)))
    with h5py.File("p.h5", "r+") as file:
        del file["t/axis1"]
        file["t/axis1"] = [0.0]
        file["t/axis1"].attrs["shape"] = np.bytes_("(I0\ntp0\n.")
    assert len(table("p.h5", images=None)) == 0


# JSON of annotation tools ------------------------------------------------------------------------


def of_image(number, boxes, make):
    """The objects of an image, each made of its four numbers."""
    rows = zip(IMAGES.tolist(), boxes.tolist(), strict=True)
    return [make(box) for image, box in rows if image == number]


def of_both(boxes, make, objects, **named):
    """An image's record each, with what it is called and its objects."""
    return [
        {key: value.format("ab"[number], number + 7) for key, value in named.items()}
        | {objects: of_image(number, boxes, make)}
        for number in (0, 1)
    ]


def rectangle(box):
    x1, y1, x2, y2 = box
    return {"label": "c", "points": [[x2, y1], [x1, y2]], "shape_type": "rectangle", "flags": {}}


def percent(box):
    numbers = dict(zip(XYWH, (np.array(box) / PIXELS * 100).tolist(), strict=True))
    return {**numbers, "rotation": 0, "original_width": 512, "original_height": 384}


VIA = {
    record["filename"] + "99": record
    for record in of_both(
        SIZES,
        lambda box: {"shape_attributes": {"name": "rect", **dict(zip(XYWH, box, strict=True))}},
        "regions", filename="{0}.jpg",
    )
}  # fmt: skip
FIFTYONE = of_both(
    SIZES / PIXELS, lambda box: {"_cls": "Detection", "label": "c", "bounding_box": box},
    "detections",
)  # fmt: skip
TOOLS = {
    "detectron2": of_both(
        CORNERS, lambda box: {"bbox": box, "bbox_mode": 0, "category_id": 1}, "annotations",
        file_name="/data/{0}.jpg", image_id="{1}",
    ),
    "detectron2, sizes": of_both(
        SIZES, lambda box: {"bbox": box, "bbox_mode": 1}, "annotations", file_name="{0}.png",
    ),
    "createml": of_both(
        CENTRES, lambda box: {"label": "c", "coordinates": dict(zip(XYWH, box, strict=True))},
        "annotations", image="{0}.jpg",
    ),
    "bdd100k": of_both(
        CORNERS, lambda box: {"category": "c", "box2d": dict(zip(XYXY, box, strict=True))},
        "labels", name="{0}.jpg",
    ),
    "via": VIA,
    "via, a project": {"_via_settings": {}, "_via_img_metadata": VIA},
    "label studio": of_both(SIZES, percent, "label", image="/data/{0}.jpg"),
    "supervisely": of_both(
        CORNERS,
        lambda b: {"geometryType": "rectangle", "points": {"exterior": [b[:2], b[2:]]}},
        "objects", name="{0}.jpg",
    ),
    "fiftyone": {"samples": [
        {"filepath": f"/d/{'ab'[number]}.jpg", "tags": [], "ground_truth": {**detections}}
        for number, detections in enumerate(FIFTYONE)
    ]},
    "fiftyone, by image": {"classes": ["c"], "labels": {
        "ab"[number]: [
            {key: value for key, value in one.items() if key != "_cls"} for one in
            detections["detections"]
        ] for number, detections in enumerate(FIFTYONE)
    }},
}  # fmt: skip


TOOLS |= {
    "frames": {"version": 1, "frames": of_both(
        CORNERS, lambda box: {"box2d": dict(zip(XYXY, box, strict=True)), "poly2d": [{"a": 1}]},
        "objects", frame="{0}",
    )},
    "lists of objects": [
        of_image(number, CORNERS, lambda box: {"box": dict(zip(XYXY, box, strict=True))})
        for number in (0, 1)
    ],
    "label studio, whole": [
        {"data": {"image": f"{'ab'[number]}.jpg"}, "annotations": [{"result": of_image(
            number, SIZES, lambda box: {"value": percent(box), "original_width": 512,
                                        "original_height": 384},
        )}]} for number in (0, 1)
    ],
    "rows of pandas": {
        str(row): {"image": "ab"[image], **dict(zip(XYXY, box, strict=True))}
        for row, (image, box) in enumerate(zip(IMAGES.tolist(), CORNERS.tolist(), strict=True))
    },
}  # fmt: skip


@pytest.mark.parametrize("tool", list(TOOLS))
def test_json_of_annotation_tools(tool):
    Path("r.json").write_text(json.dumps(TOOLS[tool]))
    size = ("--image-size", "384x512") if "fiftyone" in tool else ()
    maps = "feats.npy" if tool == "lists of objects" else "maps/{image}.npy"
    np.testing.assert_allclose(align(maps, "r.json", *size), BASE, atol=1e-4)


def test_labelme_has_a_file_an_image():
    """A polygon has no box: its row is NaN, which is refused unless it is to be left out."""
    Path("lm").mkdir()
    for number in (0, 1):
        shapes = of_image(number, CORNERS, rectangle)
        record = {"shapes": shapes, "imagePath": f"..\\{'ab'[number]}.jpg", "imageHeight": 384}
        Path(f"lm/{'ab'[number]}.json").write_text(json.dumps(record))
    np.testing.assert_allclose(align("maps/{image}.npy", "lm/{image}.json"), BASE, atol=1e-6)
    found = table("lm/a.json", images="a")
    assert found.corners.shape == (9, 4)
    assert {column.name for column in found.carried} == {"label", "shape_type", "imagePath"}
    shapes.append({"label": "c", "points": [[1, 2], [3, 4], [5, 9]], "shape_type": "polygon"})
    Path("lm/b.json").write_text(json.dumps({**record, "shapes": shapes}))
    maps = "maps/{image}.npy"
    refuse("align", maps, "lm/{image}.json", *STRIDE_16, words=("NaN", "--drop-invalid"))
    found = align(maps, "lm/{image}.json", "--drop-invalid")
    np.testing.assert_allclose(found, BASE, atol=1e-6)


def test_objects_of_images_that_are_no_known_tools():
    """Their names say what they are; several lists, or another kind of box, are refused."""
    centres = of_both(CENTRES, lambda box: dict(zip(XYWH, box, strict=True)), "predictions",
                      image="{0}.jpg")  # fmt: skip
    Path("r.json").write_text(json.dumps(centres))
    maps = "maps/{image}.npy"
    refuse("align", maps, "r.json", *STRIDE_16, words=("x and y", "--roi-format cxcywh"))
    found = align(maps, "r.json", "--roi-format", "cxcywh")
    np.testing.assert_allclose(found, BASE, atol=1e-4)
    turned = of_both(CENTRES, lambda box: {"bbox": [*box, 9], "bbox_mode": 4}, "annotations")
    Path("r.json").write_text(json.dumps(turned))
    refuse("align", maps, "r.json", *STRIDE_16, words=("bbox_mode is 4", "BoxMode.convert"))
    several = [{**one, "truth": [{"x": 1}]} for one in centres]
    Path("r.json").write_text(json.dumps(several))
    refuse("align", maps, "r.json", *STRIDE_16, words=("lists of objects (predictions, truth)",))
    Path("r.json").write_text(json.dumps([{"file_name": "a.jpg", "annotations": []}]))
    assert len(table("r.json")) == 0


@pytest.mark.parametrize("library", ["np", "numpy"])
def test_numbers_as_numpy_shows_them(library):
    pytest.importorskip("defusedxml")
    Path("yolo").mkdir()
    Path("voc").mkdir()
    edges = ("xmin", "ymin", "xmax", "ymax")

    def as_xml(box):
        pairs = zip(edges, box, strict=True)
        return "".join(f"<{edge}>{library}.float32({x})</{edge}>" for edge, x in pairs)

    for number in (0, 1):
        shown = of_image(number, CENTRES / PIXELS, lambda b: [f"{library}.float64({x})" for x in b])
        Path(f"yolo/{'ab'[number]}.txt").write_text("".join(f"0 {' '.join(b)}\n" for b in shown))
        objects = of_image(number, CORNERS, as_xml)
        boxes = "".join(f"<object><bndbox>{one}</bndbox></object>" for one in objects)
        Path(f"voc/{'ab'[number]}.xml").write_text(f"<annotation>{boxes}</annotation>")
    maps = "maps/{image}.npy"
    np.testing.assert_allclose(align(maps, "yolo", "--image-size", "384x512"), BASE, atol=1e-4)
    np.testing.assert_allclose(align(maps, "voc"), BASE, atol=1e-5)
