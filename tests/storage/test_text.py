"""RoIs as text: headers in any order, and errors with the number of the line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roicli.core.declaration import settle
from roicli.core.exceptions import InputError
from roicli.pipeline.request import Reading
from roicli.pipeline.roi_source import choose_columns, read_rois
from roicli.storage.address import Address
from roicli.storage.formats.text import open_table, parse_text


def read(text, **options):
    """The RoIs of a text, as a run reads them."""
    table, reading = parse_text(text, "boxes.csv"), settle(Reading, options)
    return read_rois(table, choose_columns(table, reading, None), reading)


def parse(text, **options):
    """(K, 5) or (K, 4) of a text."""
    found = read(text, **options)
    images = [] if found.image is None else [found.batch]
    return np.column_stack([*images, found.numbers]).tolist()


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
    assert parse("x1\ty1\tx2\ty2\n1\t2\t3\t4\n") == [[1, 2, 3, 4]]


def test_four_columns_stay_four():
    assert parse("1,2,3,4\n") == [[1, 2, 3, 4]]
    assert parse("x2,y2,x1,y1\n3,4,1,2\n") == [[1, 2, 3, 4]]


def test_a_header_alone_is_no_rois():
    assert len(read("batch,x1,y1,x2,y2\n")) == 0
    assert read("x1,y1,x2,y2").image is None


def test_the_header_has_the_names_of_the_format():
    assert parse("h,w,y,x\n4,3,2,1\n", roi_format="xywh") == [[1, 2, 3, 4]]
    assert parse("h,w,y,x\n4,3,2,1\n", roi_format="cxcywh") == [[1, 2, 3, 4]]
    with pytest.raises(InputError, match=r"a corner or the centre of the box, found: h, w, y, x"):
        parse("h,w,y,x\n4,3,2,1\n")
    with pytest.raises(InputError, match="has no column 'x1', found: h, w, y, x"):
        parse("h,w,y,x\n4,3,2,1\n", roi_format="xyxy")


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
    table = open_table(Address(str(path)))
    assert [one.name for one in table.columns] == ["x1", "y1", "x2", "y2"]
    assert table.stored_as == "float64"


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "b.csv"
    path.write_bytes(b"1,2,3,4\n1,2,\xff,4\n")
    with pytest.raises(InputError, match=r"b\.csv: is not UTF-8 text \(byte 12\)"):
        open_table(Address(str(path)))


@pytest.mark.parametrize(
    "name",
    ["batch_index", "batch_idx", "batch", "image", "image_id", "ImageID", "img_id", "img-idx",
     "frame", "Frame Number", "image_index", "im_id", "sample_idx", "file_name", "image.path"],
)  # fmt: skip
def test_a_column_that_names_images_is_used(name):
    """It is never passed over, which would give every RoI to the first image."""
    found = read(f"x1,y1,x2,y2,{name}\n1,2,3,4,7\n")
    assert (found.batch, found.image.name) == ([7], name)
    assert found.numbers.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize("name", ["batch_size", "image_width", "frame_rate", "id", "class", "n"])
def test_a_column_that_names_no_images_is_passed_over(name):
    assert parse(f"x1,y1,x2,y2,{name}\n1,2,3,4,7\n") == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    "text",
    [
        "x1\ty1\tx2\ty2\n1,5\t2\t3,25\t4\n",
        "'x1','y1','x2','y2'\n'1.5','2','3.25','4'\n",
        'x1,y1,x2,y2\n"1,5","2","3,25","4"\n',
        'x1, "y1", x2, y2\n1.5, "2", 3.25, 4\n',
    ],
)
def test_numbers_as_others_write_them(text):
    assert parse(text) == [[1.5, 2, 3.25, 4]]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("batch,x1,y1,x2,y2,xmin", "2 columns for x1: x1 and xmin"),
        ("batch,x1,y1,x2,y2,x2", "2 columns for x2: x2 and x2"),
    ],
)
def test_two_columns_of_one_meaning_are_refused(header, words):
    with pytest.raises(InputError, match=f"the header has {words}; keep one"):
        parse(f"{header}\n0,0,1,2,3,4\n")


@pytest.mark.parametrize(
    ("header", "word"),
    [("image,left,top,width,height", "xywh"), ("image,x_center,y_center,w,h", "cxcywh"),
     ("# image,xmin,ymin,w,h", "xywh"), ("image,bb_left,bb_top,bb_width,bb_height", "xywh"),
     ("image,x0,y0,x1,y1", "xyxy"), ("image,bbox_x1,bbox_y1,bbox_x2,bbox_y2", "xyxy")],
)  # fmt: skip
def test_the_names_say_the_format(header, word):
    assert read(f"{header}\n0,1,2,3,4\n").roi_format == word
    other = "cxcywh" if word != "cxcywh" else "xywh"
    with pytest.raises(InputError, match=f"drop --roi-format {other}: the names say {word}"):
        parse(f"{header}\n0,1,2,3,4\n", roi_format=other)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("0,1,2,3,4\n0,5.5,6,70,80\n", 1),  # pandas, without names
        (",0,1,2,3,4\n0,0,5.5,6,70,80\n1,1,5,6,70,80\n", 2),  # and with its index
        (",0,1,2,3,4\n0,0,5,6,70,80\n", 1),
        ("0,1,2,3,4\n0,5,6,70,80\n", 2),  # boxes of a made-up image
        ("sep=;\n0;5;6;70;80\n", 1),  # Excel
        ("0,5,6,70,80\r1,5,6,70,80\r", 2),  # old Macs
        ("0,np.float32(5.5),6,np.int64(70),80\n", 1),  # repr() of NumPy 2
    ],
)
def test_lines_that_are_no_rois(text, rows):
    table = parse_text(text, "boxes.csv")
    assert table.shape == (rows, 5)
    assert not table.is_named


def test_a_line_that_may_count_the_columns_is_refused():
    with pytest.raises(InputError, match="line 1: 0,1,2,3,4 may be a RoI, or count"):
        parse_text("0,1,2,3,4\n0,5,6,700,80\n", "boxes.csv")


@pytest.mark.parametrize("word", ["NA", "null", "None", "N/A", "<NA>", ""])
def test_what_is_no_number_is_nan(word):
    column = parse_text(f"x1,image\n1.5,0\n{word},1\n", "boxes.csv").columns[0]
    np.testing.assert_array_equal(column.values, [1.5, np.nan])


@pytest.mark.parametrize(
    "names",
    [
        "tl_x,tl_y,br_x,br_y", "x_left,y_top,x_right,y_bottom", "upper_left_x,upper_left_y,lrx,lry",
        "startX,startY,endX,endY", "col_min,row_min,col_max,row_max", "Left,Upper,Right,Lower",
        "l,t,r,b", "x,y,x2,y2", "det_x1,det_y1,det_x2,det_y2", "x1 (px),y1 (px),x2 (px),y2 (px)",
    ],
)  # fmt: skip
@pytest.mark.parametrize("image", ["batch_inds", "image_ids", "image_url", "photo", "page"])
def test_names_as_people_have_them(image, names):
    table = read(f"{names},{image}\n1,2,30,40,1\n")
    np.testing.assert_array_equal(table.corners, [[1, 2, 30, 40]])
    assert table.batch.tolist() == [1]


def test_names_of_two_kinds_of_boxes_are_not_guessed():
    with pytest.raises(InputError, match="no column 'x1'"):
        parse("image,a_x1,a_y1,a_x2,a_y2,b_x1,b_y1,b_x2,b_y2\n0,1,2,3,4,1,2,3,4\n")
