"""The page: its data against the error table, its charts, what a hostile name can do to it."""

import base64
import io
import json
import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import roicli
from roicli.analysis import page as report_page
from roicli.analysis.picture import round_ticks
from roicli.render.html import page as html_page
from roicli.render.shapes import COLORS
from tests.drawn import outline, read_drawing

pytest.importorskip("jinja2")

SAMPLES = Path(__file__).parents[2] / "sample_data"
FPN, ROIS = SAMPLES / "text_fpn.h5", SAMPLES / "text_rois.npy"
PYRAMID = {"levels": "p3,p4,p5"}


class Elements(HTMLParser):
    """Every element with its attributes, and the text of each kind."""

    def __init__(self, text):
        super().__init__()
        self.seen, self.text, self._open = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data):
        if self._open:
            self.text[self._open[-1]] = self.text.get(self._open[-1], "") + data


def read_script(path, name):
    text = path.read_text(encoding="utf-8")
    return re.search(rf'id="{name}">(.*?)</script>', text, re.DOTALL)[1]


def read_data(path):
    return json.loads(read_script(path, "data"))


def read_drawings(path):
    """The drawings as they stand, the first row's first."""
    text = read_script(path, "drawings")
    return text.split("\n") if text else []


def read_worst(path):
    """The RoIs whose drawings are on the page."""
    text = path.read_text(encoding="utf-8")
    return [int(roi) for roi in re.findall(r'<figure tabindex="0" data-roi="(\d+)">', text)]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of the real data over three levels: its path and the result."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    return path, roicli.report(FPN, ROIS, path, **PYRAMID)


def test_rows_are_the_error_tables(page):
    path, result = page
    table = roicli.errors(FPN, ROIS, **PYRAMID).errors
    data = read_data(path)
    names = [column["name"] for column in data["columns"]]
    rois = data["values"][names.index("roi")]
    assert sorted(rois) == list(range(102))
    for name, values in zip(names, data["values"], strict=True):
        expected = table.column(name)[rois]
        if name == "size_class":
            assert values == [value.decode() for value in expected]
        else:
            found = np.array([math.nan if v is None else v for v in values], float)
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-12)
    assert result.operator == result.parameters["operator"] == "report"


def test_the_worst_come_first(page):
    data = read_data(page[0])
    iou = data["values"][[c["name"] for c in data["columns"]].index("iou")]
    assert iou == sorted(iou)
    worst = read_worst(page[0])
    assert worst == [int(roi) for roi in page[1].errors.worst_first("iou", 6)]
    text, drawings = page[0].read_text(encoding="utf-8"), read_drawings(page[0])
    for place, roi in enumerate(worst):
        assert f'<figure tabindex="0" data-roi="{roi}">{drawings[place]}' in text
        assert f"RoI {roi}: IoU {iou[place]:.3f}, an edge up to " in text


def test_drawings_are_pictures(page):
    rois, drawings = read_data(page[0])["values"][0], read_drawings(page[0])
    assert len(drawings) == len(rois)
    for roi in (3, 37, 96):
        text = drawings[rois.index(roi)]
        picture, drawing = roicli.draw(FPN, ROIS, roi=roi, **PYRAMID), read_drawing(text)
        np.testing.assert_allclose(drawing.window, picture.window, atol=1e-3)
        near = {"atol": 3e-4 * (picture.window[2] - picture.window[0])}
        for look, box in (("real", picture.real), ("rounded", picture.quantized)):
            np.testing.assert_allclose(drawing.lines[look], [outline(box)], **near)
        points = [(x, y) for y in picture.points_y for x in picture.points_x]
        np.testing.assert_allclose(drawing.lines["point"][0], [*points, points[-1]], **near)
        for look, xs in (
            ("align-bins", picture.align_x),
            ("pool-bins", sorted({edge for pair in picture.pool_x for edge in pair})),
        ):
            found = [line[0][0] for line in drawing.lines[look][: len(xs)]]
            np.testing.assert_allclose(found, xs, **near)
        # The numbers above are those of the image: a cell's times the stride.
        low, high = (edge * picture.stride for edge in picture.window[::2])
        across = drawing.words["above"]
        pixels = [float(text) for text in across[across.index("px of the image") + 1 :]]
        assert len(pixels) > 1
        assert all(low - 1e-6 <= pixel <= high + 1e-6 for pixel in pixels)


def test_what_drawings_refer_to_is_on_the_page(page):
    """The map of each level and image once; and every class, hatch and marker."""
    text = page[0].read_text(encoding="utf-8")
    ids = [attributes["id"] for _, attributes in Elements(text).seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    drawings = "".join(read_drawings(page[0]))
    maps = set(re.findall(r'href="#([^"]+)"', drawings))
    assert len(maps) == 3
    assert maps | set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)
    for look in set(re.findall(r'class="([^"]+)"', drawings)) - {"drawing"}:
        assert f".drawing .{look}{{" in text
    # The style names colours, and the page has them, in the light and in the dark.
    for name in set(re.findall(r"var\(--([\w-]+)\)", text)):
        assert text.count(f"--{name}:") == 2, name


def test_colors_are_those_of_figures(page):
    text = page[0].read_text(encoding="utf-8")
    light = text[text.index(":root {") : text.index(":root[data-theme")]
    for name in ("paper", "panel", "ink", "quiet", "real", "rounded", "gained", "lost"):
        assert f"--{name}: {COLORS[name]};" in light


def test_a_legacy_map_lies_half_a_cell_before(tmp_path):
    path = tmp_path / "report.html"
    roicli.report(f"{FPN}::p4", ROIS, path, aligned=False)
    text = path.read_text(encoding="utf-8")
    assert 'id="map-0" class="cells" x="-0.5" y="-0.5" width="32" height="32"' in text


def test_maps_are_greys_of_the_mean(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    features = np.stack([np.arange(12.0).reshape(3, 4), np.zeros((3, 4))])[None]
    features[0, 0, 0, 0] = np.nan
    path = tmp_path / "report.html"
    rois = np.array([[0, 1, 1, 3, 3], [0, 0, 0, 2.5, 3]], np.float32)
    roicli.report(features, rois, path, spatial_scale=1.0, ignore="R04,R05")
    (data,) = re.findall(r'id="map-0"[^>]* href="data:image/png;base64,([^"]*)"', path.read_text())
    pixels = np.rint(255 * image.imread(io.BytesIO(base64.b64decode(data))))
    expected = np.rint(116 * (np.arange(12) - 1) / 10).reshape(3, 4)
    expected[0, 0] = 10
    np.testing.assert_array_equal(pixels[..., 3], expected)


def test_the_page_needs_nothing_but_itself(page):
    text = page[0].read_text(encoding="utf-8")
    elements = Elements(text)
    assert {tag for tag, _ in elements.seen} >= {"svg", "table", "dialog", "style", "script"}
    for tag, attributes in elements.seen:
        assert tag not in ("link", "iframe", "img", "object")
        assert "src" not in attributes
        assert not any(name.startswith("on") for name in attributes)
    outside = set(re.findall(r"https?://[^\s\"'<)]+", text))
    assert outside <= {"http://www.w3.org/2000/svg"}
    policy = dict(elements.seen)["meta"]
    assert "default-src 'none'" in policy.get("content", "") or "default-src 'none'" in text


def test_shares_and_counts_are_written(page):
    text = page[0].read_text(encoding="utf-8")
    for words in (
        "rounding the box",
        "rounding the bins",
        "maximum, not mean",
        "101 RoIs",
        "level 4",
    ):
        assert words in text
    for key, value in page[1].parameters.items():
        assert f"<dt>{key}</dt>" in text or value == ""


def test_hostile_names_are_text(tmp_path):
    hostile = tmp_path / "<img src=x onerror=alert(1)>{{7*7}}&\"'.npy"
    np.save(hostile, np.load(ROIS)[:5])
    path = tmp_path / "report.html"
    roicli.report(f"{FPN}::p3", hostile, path)
    text = path.read_text(encoding="utf-8")
    elements = Elements(text)
    assert not [tag for tag, _ in elements.seen if tag == "img"]
    assert "&lt;img src=x onerror=alert(1)&gt;{{7*7}}&amp;" in text
    assert "<" not in re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1]


def test_one_map_has_no_level_column(tmp_path):
    path = tmp_path / "report.htm"
    roicli.report(f"{FPN}::p4", ROIS, path, sort="shift_px", quantization="floor")
    data = read_data(path)
    assert "level" not in [column["name"] for column in data["columns"]]
    assert data["sort"] == "shift_px"
    assert "floor, overlap" in path.read_text(encoding="utf-8")


def test_no_rois_is_a_page_too(tmp_path):
    path = tmp_path / "report.html"
    roicli.report(f"{FPN}::p3", np.empty((0, 5), np.float32), path)
    assert read_worst(path) == read_drawings(path) == []
    assert "no RoIs" in path.read_text(encoding="utf-8")


def test_odd_boxes_and_missing_values(tmp_path):
    features = np.zeros((1, 2, 8, 8), np.float32)
    features[0, 0, 0, 0] = np.nan
    rois = np.array([[0, 5, 5, 5, 5], [0, 20, 20, 3, 3], [0, 500, 500, 520, 520]], np.float32)
    path = tmp_path / "report.html"
    roicli.report(features, rois, path, spatial_scale=0.25, ignore="R04,R05")
    data = read_data(path)
    assert len(read_drawings(path)) == 3
    assert (
        None
        in data["values"][[c["name"] for c in data["columns"]].index("value_error_relative_l2")]
    )


def test_more_than_fits(tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "LISTED_ROWS", 20)
    monkeypatch.setattr(html_page, "DRAWN_BYTES", 30_000)
    monkeypatch.setattr(report_page, "CHARTED_POINTS", 7)
    monkeypatch.setattr(report_page, "SHADED_CELLS", 5000)
    path = tmp_path / "report.html"
    roicli.report(f"{FPN}::p3", ROIS, path)
    data, text = read_data(path), path.read_text(encoding="utf-8")
    assert len(data["values"][0]) == 20
    assert "The 20 worst of 102 are listed" in text
    drawings = read_drawings(path)
    assert 0 < len(drawings) < 20
    assert sum(map(len, drawings)) <= 30_000
    assert f"The {len(drawings)} worst have drawings" in text
    # The drawings are the first rows', in their order.
    found = [int(re.search(r'aria-label="RoI (\d+)"', drawing)[1]) for drawing in drawings]
    assert found == data["values"][0][: len(drawings)]
    assert 0 < len(re.findall(r"<circle [^>]*data-roi=", text)) <= 2 * 7
    assert text.count('id="map-') == 1
    assert set(re.findall(r'href="#([^"]+)"', "".join(drawings))) <= {"map-0"}


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-0.2, 1, None),
        (3, 3, [3]),
    ],
)
def test_round_ticks(low, high, ticks):
    found = round_ticks(low, high)
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)
    if ticks is not None:
        assert found == pytest.approx(ticks)


def test_refusals(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("kept")
    with pytest.raises(roicli.OutputError, match="--force"):
        roicli.report(f"{FPN}::p3", ROIS, path)
    with pytest.raises(roicli.OutputError, match=r"\.html"):
        roicli.report(f"{FPN}::p3", ROIS, tmp_path / "report.pdf")
    with pytest.raises(roicli.ParameterError, match="no column 'size'"):
        roicli.report(f"{FPN}::p3", ROIS, path, sort="size", force=True)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(roicli.MissingPackageError, match=r"pip install 'roicli\[report\]'"):
        roicli.report(f"{FPN}::p3", ROIS, path, force=True)
    assert path.read_text() == "kept"
