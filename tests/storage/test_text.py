"""RoIs as text: headers in any order, and errors with the number of the line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roicli.core.exceptions import InputError
from roicli.storage.formats.text import open_text, parse_text

CORNERS = ("x1", "y1", "x2", "y2")


def parse(text, names=CORNERS, delimiter=","):
    return parse_text(text, "boxes.csv", delimiter, names)[0].tolist()


@pytest.mark.parametrize(
    "text",
    [
        "0,1,2,3,4\n1,5,6,7,8\n",
        "0,1,2,3,4\r\n1,5,6,7,8",
        "batch_index,x1,y1,x2,y2\n0,1,2,3,4\n1,5,6,7,8\n",
        "y2,x2,y1,x1,batch\n4,3,2,1,0\n8,7,6,5,1\n",
        " X1 , Y1 ,x2,y2, Image\n1,2,3,4,0\n5,6,7,8,1\n",
        "name,x1,y1,x2,y2,score,batch_id\ncat,1,2,3,4,0.5,0\n'a',5,6,7,8,,1\n",
        "\n0,1,2,3,4\n\n , ,,,\n1,5,6,7,8\n\n",
        '"0","1","2","3","4"\n"1","5","6","7","8"\n',
        "# batch_index,x1,y1,x2,y2\n0,1,2,3,4\n1,5,6,7,8\n",
        "# made by a tool\n# x1 y1 x2 y2 frame\n# v2, of 3 images\n1,2,3,4,0\n# more\n5,6,7,8,1\n",
        "# made by a tool, version 1\nimage_id,x1,y1,x2,y2\n0,1,2,3,4\n1,5,6,7,8\n",
        "image_index,XMin,XMax,YMin,YMax,label\n0,1,3,2,4,a\n1,5,7,6,8,b\n",
        "left,top,right,bottom,Frame No.\n1,2,3,4,0\n5,6,7,8,1\n",
    ],
)
def test_every_spelling_of_the_same_rois(text):
    assert parse(text) == [[0, 1, 2, 3, 4], [1, 5, 6, 7, 8]]


def test_tabs_separate_tsv():
    assert parse("x1\ty1\tx2\ty2\n1\t2\t3\t4\n", delimiter="\t") == [[1, 2, 3, 4]]


def test_four_columns_stay_four():
    assert parse("1,2,3,4\n") == [[1, 2, 3, 4]]
    assert parse("x2,y2,x1,y1\n3,4,1,2\n") == [[1, 2, 3, 4]]


def test_a_header_alone_is_no_rois():
    assert parse_text("batch,x1,y1,x2,y2\n", "b", ",", CORNERS)[0].shape == (0, 5)
    assert parse_text("x1,y1,x2,y2", "b", ",", CORNERS)[0].shape == (0, 4)


def test_the_header_has_the_names_of_the_format():
    assert parse("h,w,y,x\n4,3,2,1\n", ("x", "y", "w", "h")) == [[1, 2, 3, 4]]
    with pytest.raises(InputError, match="the header has no column 'x1', found: h, w, y, x"):
        parse("h,w,y,x\n4,3,2,1\n")


@given(
    st.lists(
        st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=5, max_size=5),
        min_size=1,
    )
)
def test_every_double_survives_its_text(rows):
    text = "\n".join(",".join(map(repr, row)) for row in rows)
    assert parse(text) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,1,2,3,4\n0,1,2,3\n", "line 2: 4 columns, expected 5"),
        ("0,1,2,3,4\n\n\n0,1,2,3,4,5\n", "line 4: 6 columns, expected 5"),
        ("batch,x1,y1,x2,y2\n0,1,2,3,4\n0,1,2,3\n", "line 3: 4 columns"),
        ("0,1,2,3,4\n0,1,2,three,4\n", "line 2"),
        ("x1,y1,x2,y2\n1,2,3,\n", "line 2"),
        ('x1,"y\nn",x2,y2\n', "has no column 'y1'"),
        ("1,2,3,4\n\0", "NUL"),
    ],
)
def test_a_bad_line_is_named(text, message):
    with pytest.raises(InputError) as caught:
        parse(text)
    assert str(caught.value).startswith("boxes.csv: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "\n\n", " , \n"])
def test_a_text_of_nothing_is_refused(text):
    with pytest.raises(InputError, match=r"boxes\.csv: "):
        parse(text)


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path):
    path = tmp_path / "b.csv"
    path.write_text("x1,y1,x2,y2\n1,2,3,4\n", encoding="utf-8-sig")
    stored = open_text(str(path), ",", CORNERS)
    assert stored.read_all().tolist() == [[1, 2, 3, 4]]
    assert stored.dtype == np.float64


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "b.csv"
    path.write_bytes(b"1,2,3,4\n1,2,\xff,4\n")
    with pytest.raises(InputError, match=r"b\.csv: is not UTF-8 text \(byte 12\)"):
        open_text(str(path), ",", CORNERS)


@pytest.mark.parametrize(
    "name",
    ["batch_index", "batch_idx", "batch", "image", "image_id", "ImageID", "img_id", "img-idx",
     "frame", "Frame Number", "image_index", "im_id", "sample_idx", "file_name", "image.path"],
)  # fmt: skip
def test_a_column_that_names_images_is_used(name):
    """It is never passed over, which would give every RoI to the first image."""
    values, columns = parse_text(f"x1,y1,x2,y2,{name}\n1,2,3,4,7\n", "b.csv", ",", CORNERS)
    assert values.tolist() == [[7, 1, 2, 3, 4]]
    assert columns.image_name == name


@pytest.mark.parametrize("name", ["batch_size", "image_width", "frame_rate", "id", "class", "n"])
def test_a_column_that_names_no_images_is_passed_over(name):
    assert parse(f"x1,y1,x2,y2,{name}\n1,2,3,4,7\n") == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("image_id,batch_index,x1,y1,x2,y2", "2 columns for the image: image_id and batch_index"),
        ("image_id,x1,y1,x2,y2,file_name", "2 columns for the image: image_id and file_name"),
        ("batch,x1,y1,x2,y2,xmin", "2 columns for x1: x1 and xmin"),
        ("batch,x1,y1,x2,y2,x2", "2 columns for x2: x2 and x2"),
        ("# batch,x1,y1,x2,y2,image", "2 columns for the image: batch and image"),
    ],
)
def test_two_columns_of_one_meaning_are_refused(header, words):
    with pytest.raises(InputError, match=f"the header has {words}; keep one"):
        parse(f"{header}\n0,0,1,2,3,4\n")


@pytest.mark.parametrize(
    ("header", "word"),
    [("image,left,top,width,height", "xywh"), ("image,x_center,y_center,w,h", "cxcywh"),
     ("# image,x,y,w,h", "xywh")],
)  # fmt: skip
def test_another_format_is_named(header, word):
    with pytest.raises(InputError, match=f"has no column 'x[12]', .*; add --roi-format {word}"):
        parse(f"{header}\n0,1,2,3,4\n")


def test_images_by_name_say_what_to_do():
    with pytest.raises(
        InputError, match=r"line 2, column 0: found 'a\.jpg', expected the number of"
    ):
        parse("image,x1,y1,x2,y2\na.jpg,1,2,3,4\n")
