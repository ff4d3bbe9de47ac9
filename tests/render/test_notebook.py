"""What a notebook shows of results and pictures, and results as tables of other libraries."""

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import roicli
from roicli.core.shown import Drawn, Shown
from roicli.render.notebook import PRINTERS
from tests.strategies import normal_map

SAMPLES = Path(__file__).parents[2] / "sample_data"
FPN, ROIS = f"{SAMPLES}/text_fpn.h5", f"{SAMPLES}/text_rois.npy"
P3 = f"{FPN}::p3"
# What a repr must not be longer than: some lines of a cell.
LONGEST = 500


@pytest.fixture(scope="module")
def result():
    """The errors of the sample's RoIs, measured on its map."""
    return roicli.errors(P3, ROIS, provider="cpu")


class Words(HTMLParser):
    """The text of a page, and whether every element is closed."""

    def __init__(self, page):
        super().__init__()
        self.text, self.open = "", []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in ("br", "rect", "path", "circle", "image", "use"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data):
        self.text += f" {data}"


def test_a_result_is_its_verdict_its_worst_rows_and_the_summary(result):
    text = Words(result._repr_html_()).text
    assert "RoI Pool (caffe, overlap) would move the worst edge of a box by 9.8 px" in text
    assert "5 of 102 RoIs, largest edge error first" in text
    assert [name in text for name in ("IoU", "shift", "median")] == [True] * 3
    assert 'title="stage 1: largest of the four absolute edge errors"' in result._repr_html_()
    table = Words(result.errors._repr_html_()).text
    assert "would move" not in table
    assert "5 of 102 RoIs" in table


def test_what_others_wrote_is_escaped():
    rois = {"x1": [1.0], "y1": [1.0], "x2": [9.0], "y2": [9.0], "<b>name": ["<script>"]}
    page = roicli.errors(rois, spatial_scale=1 / 4)._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_records_are_what_their_commands_print(tmp_path):
    np.save(tmp_path / "a.npy", normal_map((3, 2, 2, 2)))
    records = [
        roicli.check(P3, ROIS),
        roicli.compare(tmp_path / "a.npy", tmp_path / "a.npy"),
        roicli.inspect(FPN),
        roicli.sweep(P3, ROIS, sample=8),
        roicli.explain(P3, ROIS, roi=37),
    ]
    for record in records:
        page = record._repr_html_()
        assert "<pre style" in page
        assert len(re.sub("<[^>]*>", "", page).strip()) > 80
        assert len(repr(record)) < LONGEST
    assert {type(record) for record in records} < set(PRINTERS)
    assert set(PRINTERS) == set(Shown.__subclasses__()) - {
        roicli.Result, roicli.ErrorTable, type(roicli.rules())
    }  # fmt: skip


def test_a_notebook_has_no_escape_sequences(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as its kernel does
    shown = roicli.check(P3, ROIS, ignore="R15")._repr_html_()
    assert "R12" in Words(shown).text
    assert "\x1b" not in shown


def test_listings_are_tables_and_lists():
    for name in ("presets", "rules", "columns", "providers"):
        rows = getattr(roicli, name)()
        text = Words(rows._repr_html_()).text
        assert all(str(next(iter(row.values()))) in text for row in rows)
    (rule,) = roicli.rules("r05")
    assert rule["name"] == "wholly outside"
    assert [row["name"] for row in roicli.columns("iou")] == ["iou"]
    assert all("openvino" in str(row).lower() for row in roicli.presets("OpenVINO"))
    with pytest.raises(roicli.ParameterError, match=r"no column 'iuo'.*iou"):
        roicli.columns("iuo")
    with pytest.raises(roicli.ParameterError, match="no preset has 'nobody'"):
        roicli.presets("nobody")


@pytest.mark.parametrize("aligned", [True, False])
def test_pictures_are_svg(aligned):
    """The close-up of an explanation is that of a drawing of the same bin and channel."""
    given = {"roi": 37, "bin_index": (2, 3), "channel": 4, "aligned": aligned}
    picture, explanation = roicli.draw(P3, ROIS, **given), roicli.explain(P3, ROIS, **given)
    texts = []
    for record in (picture, explanation):
        assert isinstance(record, Drawn)
        root = ElementTree.fromstring(record._repr_svg_())
        assert root.tag.endswith("svg")
        texts.append({one.text for one in root.iter() if one.tag.endswith("text")})
        assert len(repr(record)) < LONGEST
    own = {text for text in texts[1] if text and text.startswith(("Bin 2,3", "cell ("))}
    assert len(own) == 5
    assert own < texts[0]


# --- tables -----------------------------------------------------------------------------------


def test_columns_rows_and_parts_of_a_table(result):
    table = result.errors
    assert len(result) == len(table) == len(list(result)) == 102
    np.testing.assert_array_equal(result["iou"], table.column("iou"))
    assert result["size_class"][:2].tolist() == ["large", "medium"]
    rows = list(table)
    assert table[3] == rows[3] == result[3]
    assert table[-1] == rows[-1]
    assert list(rows[0]) == [column.name for column in table.columns]
    for chosen in (slice(3, 9, 2), [5, 3], table["iou"] < 0.3, np.array([7])):
        part = table[chosen]
        places = np.arange(102)[chosen]
        assert part["roi"].tolist() == places.tolist()
        assert list(part) == [rows[place] for place in places]
        assert f"of {len(part)} RoIs" in part._repr_html_()
    with pytest.raises(IndexError, match="no row 102"):
        table[102]
    with pytest.raises(roicli.ParameterError, match="there is no column 'iuo'"):
        result["iuo"]
    assert repr(table) == f"ErrorTable(102 RoIs, {len(table.columns)} columns)"


def test_reprs_of_results_are_short():
    found = roicli.align(P3, ROIS, provider="cpu")
    assert repr(found) == "Result(align: 102 RoIs, roi_features (102, 24, 7, 7) float32)"
    assert bool(roicli.errors(np.empty((0, 5)), spatial_scale=1))


def test_a_table_without_rows_is_shown_too():
    empty = roicli.errors(np.empty((0, 5)), spatial_scale=1)
    assert "There are no RoIs." in empty._repr_html_()
    assert empty["size_class"].shape == (0,)
    assert list(empty) == []


def test_tables_of_other_libraries(result):
    pandas = pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    polars = pytest.importorskip("polars")
    frame = result.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    arrow = result.to_arrow()
    for found in (frame, arrow.to_pandas(), polars.DataFrame(result.errors), pyarrow.table(result)):
        assert len(found) == 102
        np.testing.assert_array_equal(np.asarray(found["iou"]), result["iou"])
        assert list(np.asarray(found["size_class"])) == list(result["size_class"])
    # And back: an error table is a table of RoIs.
    boxes = arrow.select(["batch_index", "x1", "y1", "x2", "y2"])
    again = roicli.errors(boxes, spatial_scale=1 / 8)
    np.testing.assert_array_equal(again["iou"], result["iou"])
