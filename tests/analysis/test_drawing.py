"""A picture as data against the oracle and the error table, and its two renderings."""

import re
import sys
from io import BytesIO, StringIO
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import roicli
from roicli.analysis.picture import frame, measure_area, subtract
from roicli.render.close_up import frame_close_up, shape_close_up
from roicli.render.draw import place_image
from roicli.render.figure import Photo, blacken, crop
from roicli.render.shapes import Frame, Lines, Sheet
from roicli.render.svg import encode_png, write_element
from roicli.render.terminal_picture import SHADES, Canvas, print_picture
from tests import oracle
from tests.drawn import outline, read_drawing, read_path
from tests.log import logged
from tests.options import some

SAMPLES = Path(__file__).parents[2] / "sample_data"
FPN, ROIS = f"{SAMPLES}/text_fpn.h5::p3", SAMPLES / "text_rois.npy"

places = st.integers(-4, 12).map(lambda n: n / 2)
boxes = st.tuples(places, places, places, places)


def draw(**options):
    return roicli.draw(FPN, ROIS, **({"roi": 37} | options))


@given(box=boxes, other=boxes)
def test_subtract_tiles_what_is_left(box, other):
    parts = subtract(box, other)
    middles = np.arange(-4, 12) / 2 + 0.25
    for x in middles:
        for y in middles:
            inside, outside = ((b[0] < x < b[2] and b[1] < y < b[3]) for b in (box, other))
            covered = sum(p[0] < x < p[2] and p[1] < y < p[3] for p in parts)
            assert covered == (inside and not outside)
    assert all(measure_area(part) > 0 for part in parts)


@given(box=boxes, other=boxes)
def test_frame_shows_everything(box, other):
    x1, y1, x2, y2 = frame((box, other))
    assert x1 < min(box[0], other[2]) <= max(box[0], other[2]) < x2
    assert y1 < min(box[1], other[3]) <= max(box[1], other[3]) < y2
    assert 1 / 2.41 < (x2 - x1) / (y2 - y1) < 2.41


@pytest.mark.parametrize("options", [
    {}, {"quantization": "floor", "partition": "floor-size"}, {"aligned": False},
    {"quantization": "mmcv"},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("roi", [0, 3, 37, 96])
def test_numbers_are_those_of_the_error_table(roi, options):
    picture = draw(roi=roi, **options)
    model = "legacy" if options.get("aligned") is False else "half-pixel"
    rules = {key: value for key, value in options.items() if key != "aligned"}
    table = roicli.errors(None, ROIS, spatial_scale="1/8", pixel_model=model, **rules).errors
    row = table.records(slice(roi, roi + 1))[0]
    assert picture.iou == pytest.approx(row["iou"])
    assert picture.edge_error_max_px == pytest.approx(row["edge_error_max_px"])
    assert picture.area_lost == pytest.approx(row["area_lost_cells"])
    assert picture.area_gained == pytest.approx(row["area_gained_cells"])
    assert picture.quantized == tuple(row[f"quantized_{e}"] for e in ("x1", "y1", "x2", "y2"))


@pytest.mark.parametrize("aligned", [True, False])
def test_points_lie_where_the_oracle_samples(aligned):
    picture = draw(aligned=aligned)
    roi = np.load(ROIS)[37]
    ys, xs = oracle.sampling_points(roi, (7, 7), 0.125, 2, aligned)
    shift = 0.5 if aligned else 0.0
    np.testing.assert_allclose(picture.points_x, xs.reshape(-1) + shift, atol=1e-4)
    np.testing.assert_allclose(picture.points_y, ys.reshape(-1) + shift, atol=1e-4)
    np.testing.assert_allclose(picture.align_x[0], roi[1] / 8, atol=1e-5)
    np.testing.assert_allclose(picture.align_y[-1], roi[4] / 8, atol=1e-5)


def test_legacy_cells_are_centred_at_their_number():
    legacy, half = draw(aligned=False), draw()
    assert (legacy.cell_offset, half.cell_offset) == (-0.5, 0.0)
    assert legacy.real == half.real
    assert legacy.pool_x[0][0] == half.pool_x[0][0] - 0.5


def test_cells_are_the_maps():
    import h5py

    with h5py.File(SAMPLES / "text_fpn.h5") as file:
        features = file["p3"][1]
    picture = draw(channel=4)
    top, left = picture.first_cell
    height, width = picture.cells.shape
    np.testing.assert_array_equal(
        picture.cells, features[4, top : top + height, left : left + width]
    )
    np.testing.assert_allclose(
        draw().cells,
        features.mean(axis=0, dtype=np.float64)[top : top + height, left : left + width],
    )


def test_close_up_is_the_explanation():
    picture = draw(channel=4, bin_index=(2, 3))
    explanation = roicli.explain(FPN, ROIS, roi=37, channel=4, bin_index=(2, 3))
    assert picture.close_up == explanation.align


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"roi": 999}, "expected 0 to 101"),
        ({"channel": 99}, "expected 0 to 23"),
        ({"bin_index": (0, 9)}, "expected row,column from 0,0 to 6,6"),
        ({"compare": "pool,warp"}, "compare is 'warp'"),
        ({"compare": "precise-pool"}, "compare is 'precise-pool'"),
        ({"image": "photo.jpg"}, "figures only"),
    ],
)
def test_bad_requests(given, words):
    with pytest.raises(roicli.ParameterError, match=words):
        draw(**given)


# Figures ---------------------------------------------------------------------------------------


@pytest.fixture
def matplotlib():
    return pytest.importorskip("matplotlib")


@pytest.mark.usefixtures("matplotlib")
@some("options", [
    ({},), ({"compare": "pool,align"},), ({"bin_index": (2, 3)},),
    ({"image": SAMPLES / "image1.jpg"},),
    ({"roi": 96, "compare": ("align",), "bin_index": (6, 6)},), ({"aligned": False, "roi": 3},),
    ({"output_size": 64, "sampling_ratio": 0},),
], ({"image": SAMPLES / "image1.jpg"},),
    ({"roi": 96, "compare": ("align",), "bin_index": (6, 6)},))  # fmt: skip
def test_figures_are_drawn(tmp_path, options):
    path = tmp_path / "figure.png"
    draw(output=path, **options)
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    width = int.from_bytes(data[16:20], "big")
    assert 1100 < width < 1800


def draw_svg(tmp_path, **options):
    """What ``draw -o .svg`` wrote, as text."""
    path = tmp_path / "figure.svg"
    draw(output=path, force=True, **options)
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("options", [{}, {"aligned": False, "roi": 96}, {"roi": 3}], ids=str)
def test_lines_lie_where_the_picture_says(tmp_path, options):
    picture, drawing = draw(**options), read_drawing(draw_svg(tmp_path, **options))
    np.testing.assert_allclose(drawing.window, picture.window, atol=1e-3)
    # Places are tenths of a pixel, and a panel is about 500 wide.
    near = {"atol": 2e-4 * (picture.window[2] - picture.window[0])}
    for look, boxes in {
        "real": (picture.real,), "rounded": (picture.quantized,), "lost": picture.lost,
        "gained": picture.gained, "rim": (picture.quantized, picture.real),
    }.items():  # fmt: skip
        found = drawing.lines.get(look, [])[: len(boxes)]  # then its sample in the legend
        np.testing.assert_allclose(found, [*map(outline, boxes)] or np.empty(0), **near)
    points = [(x, y) for y in picture.points_y for x in picture.points_x]
    np.testing.assert_allclose(drawing.lines["point"][0][: len(points)], points, **near)
    for look, xs, ys in (
        ("align-bins", picture.align_x, picture.align_y),
        ("pool-bins", *(sorted({edge for pair in bins for edge in pair})
                        for bins in (picture.pool_x, picture.pool_y))),
    ):  # fmt: skip
        lines = [[(x, ys[0]), (x, ys[-1])] for x in xs] + [[(xs[0], y), (xs[-1], y)] for y in ys]
        np.testing.assert_allclose(drawing.lines[look][: len(lines)], lines, **near)
    assert drawing.words["title"] == list(picture.describe())


def test_places_do_not_drift_and_lines_may_lean():
    """A path is steps of tenths: ten thousand of them end where they should."""
    spiral = tuple((5 * n**0.5 * np.cos(n / 7), 5 * n**0.5 * np.sin(n / 7)) for n in range(9999))
    square = ((100.0, 50.0), (150.04, 100.0), (100.0, 150.0), (50.0, 100.0))
    shapes = (Lines("real", (spiral, square)), Lines("lost", (square, square), closed=True))
    text = write_element(Sheet("", 200, 200, shapes))
    paths = re.findall(r' d="([^"]*)"', text)
    assert [path.count("z") for path in paths] == [0, 2]
    found = [line for path in paths for line in read_path(path)]
    for line, expected in zip(found, (spiral, square, square, square), strict=True):
        np.testing.assert_allclose(line, expected, atol=0.0501)


def test_an_svg_needs_no_matplotlib_and_no_font(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = draw_svg(tmp_path, compare="pool,align", bin_index=(2, 3))
    root = ElementTree.fromstring(text)
    style = root.find(".//{*}style").text
    for element in root.iter():
        for name in (element.get("class") or "drawing").split():
            assert f".{name}{{" in style
    # All that the style and the elements refer to is there.
    wanted = set(re.findall(r"url\(#([^)]*)\)", text))
    assert wanted >= {"gained", "weight-1", "point"}
    assert wanted <= {element.get("id") for element in root.iter()}
    assert len(text) < 20_000
    # What the letters say can be found and read out.
    assert "sampling points" in text
    assert root.get("aria-label").startswith("RoI 37 on image 1")


@pytest.mark.usefixtures("matplotlib")
@pytest.mark.parametrize("channels", [3, 4])
def test_png_of_our_own_is_read_by_others(channels):
    from matplotlib import image

    pixels = np.random.default_rng(3).integers(0, 256, (5, 7, channels), np.uint8)
    read = np.round(255 * image.imread(BytesIO(encode_png(pixels))))
    np.testing.assert_array_equal(read, pixels)


def test_cells_are_the_darker_the_larger():
    values = np.array([[1.0, 2.0], [np.nan, 3.0]], np.float32)
    assert blacken(values)[..., 3].tolist() == [[0, 58], [10, 116]]
    assert not blacken(values)[..., :3].any()
    assert blacken(np.full((1, 2), np.inf))[..., 3].tolist() == [[10, 10]]
    for huge in (np.array([[-3e38, 3e38]], np.float32), np.array([[-1e308, 1e308]])):
        assert blacken(huge)[..., 3].tolist() == [[0, 116]]


def test_a_close_up_says_each_cell_once(tmp_path):
    """At the map's edge a sample reads one row of cells: two cells, whose weights add up to 1."""
    options = {"bin_index": (6, 6), "aligned": False, "compare": "align"}
    sample = draw(**options).close_up.samples[0]
    assert {corner.y for corner in sample.corners} == {63}
    text = draw_svg(tmp_path, **options)
    expected = {(c.y, c.x): f"{c.value:.5g} x {c.weight:.4f}" for c in sample.corners if c.weight}
    assert len(expected) == 2
    for (y, x), words in expected.items():
        assert text.count(f">cell ({y}, {x})<") == 1
        assert text.count(f">{words}<") == 1
    assert text.count(">cell (") == 2


def test_an_area_is_a_weight(tmp_path):
    """Each corner's area on the sheet is its weight, in cells."""
    picture = draw(bin_index=(2, 3))
    window = frame_close_up(picture)
    shapes = shape_close_up(picture, Frame(window, 0, 0, 100.0))
    areas = {shape.look: shape.lines[0] for shape in shapes if shape.look.startswith("weight-")}
    found = next(sample for sample in picture.close_up.samples if sample.corners)
    for index, corner in enumerate(found.corners):
        (x1, y1), _, (x2, y2), _ = areas[f"weight-{index}"]
        assert abs((x2 - x1) * (y2 - y1)) / 100**2 == pytest.approx(corner.weight, abs=1e-6)


@pytest.mark.usefixtures("matplotlib")
def test_vector_formats_and_the_same_bytes_twice(tmp_path, monkeypatch):
    for ending, start in ((".svg", b"<?xml"), (".pdf", b"%PDF")):
        made = []
        for number in range(2):
            path = tmp_path / f"{number}{ending}"
            draw(output=path, roi=96)
            made.append(path.read_bytes())
        assert made[0] == made[1]
        assert made[0].startswith(start)


def test_a_figure_is_not_replaced_without_force(tmp_path):
    path = tmp_path / "figure.svg"
    path.write_text("kept")
    with pytest.raises(roicli.OutputError, match="--force"):
        draw(output=path)
    assert path.read_text() == "kept"
    draw(output=path, force=True)
    assert path.read_text() != "kept"


@pytest.mark.usefixtures("matplotlib")
@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_sample_off_the_map_has_no_close_up(tmp_path, ending):
    features = np.ones((1, 1, 8, 8), np.float32)
    roi = np.array([[0, 30, 30, 60, 60]], np.float32)
    path = tmp_path / f"f.{ending}"
    roicli.draw(features, roi, path, roi=0, spatial_scale=1.0, bin_index=(6, 6))
    assert path.stat().st_size > 1000
    if ending == "svg":
        assert ">no sampling point on the map<" in path.read_text()


def test_without_matplotlib_the_install_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for more in ({"output": "f.png"}, {"output": "f.svg", "image": SAMPLES / "image1.jpg"}):
        with pytest.raises(roicli.MissingPackageError, match=r"pip install 'roicli\[figures\]'"):
            draw(**more | {"output": tmp_path / more["output"]})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("matplotlib")
def test_an_image_that_is_none(tmp_path):
    (tmp_path / "photo.jpg").write_text("not a photo")
    with pytest.raises(roicli.InputError, match="cannot be read as an image"):
        draw(output=tmp_path / "f.png", image=tmp_path / "photo.jpg")


@pytest.mark.usefixtures("matplotlib")
@pytest.mark.parametrize(
    ("size", "most"), [((1, 1), (1, 1)), ((512, 512), (80, 80)), ((4000, 3000), (620, 470))]
)
def test_only_the_part_of_an_image_that_is_seen_is_kept(size, most):
    picture = draw()
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.indices(size) * 255 // max(size)
    shape = crop(Photo(pixels, (0.0, 0.0, 64.0, 64.0)), Frame(picture.window, 0, 0, 1.0))
    assert 0 < shape.pixels.shape[0] <= most[0]
    assert 0 < shape.pixels.shape[1] <= most[1]
    x1, y1, x2, y2 = shape.extent
    cell = 64 / size[1], 64 / size[0]
    assert x1 <= max(picture.window[0], 0) < x1 + 2 * cell[0]
    assert x2 >= min(picture.window[2], 64)
    assert y2 >= min(picture.window[3], 64)
    # Its first pixel is the one that lay there.
    first = round(y1 / cell[1]), round(x1 / cell[0])
    np.testing.assert_array_equal(shape.pixels[0, 0], pixels[first])


@pytest.mark.parametrize(
    ("size", "extent", "noted"),
    [
        ((512, 512), (0, 0, 64, 64), False),  # pixel by pixel
        ((509, 506), (0, 0, 506 / 8, 509 / 8), False),  # the map was padded up to whole cells
        ((1024, 1024), (0, 0, 64, 64), False),  # the same picture at another size
        ((512, 768), (0, 0, 64, 64), True),
    ],
)
def test_where_an_image_lies(size, extent, noted):
    with logged() as notes:
        assert place_image(size, draw(), "photo.jpg") == extent
    assert bool(notes) == noted
    if noted:
        assert "another aspect" in notes[0]


# The terminal ----------------------------------------------------------------------------------


def shown(picture, panels=(), columns="80"):
    stream = StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", columns)
        print_picture(picture, panels, stream)
    return stream.getvalue()


def test_the_terminal_drawing_has_every_part():
    text = shown(draw(roi=37, quantization="floor"))
    for mark in ("\u2591", "\u2592", "\u2022", "real box", "px", "cells", "IoU 0.633"):
        assert mark in text
    assert any("\u2800" < mark < "\u28ff" for mark in text)
    assert max(map(len, text.splitlines())) <= 80


def test_panels_and_close_up_in_the_terminal():
    picture = draw(bin_index=(2, 3))
    text = shown(picture, ("pool", "align"))
    assert text.count("cells ") >= 2
    assert "opposite area" in text
    assert "\u2022 sampling points" not in shown(picture, ("pool",))
    assert "rounded box" not in shown(picture, ("align",))


@pytest.mark.parametrize("columns", ["30", "80", "200"])
@pytest.mark.parametrize("roi", [3, 96])
def test_any_width(columns, roi):
    text = shown(draw(roi=roi), columns=columns)
    rows = [line for line in text.splitlines() if any(mark > "\u2800" for mark in line)]
    assert rows
    scales = [line for line in text.splitlines() if line.startswith(("    px", " cells"))]
    assert len(scales) == 2
    assert max(map(len, scales)) <= int(columns)


def test_lines_land_where_they_should():
    canvas = Canvas(8, 2)
    canvas.paint([Lines("real", (((4, 2), (12, 2), (12, 6), (4, 6)),), closed=True)])
    rows, columns = np.nonzero(canvas.dots)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (4, 12, 2, 6)


def test_lines_may_lean_in_the_terminal_too():
    """A square on its corner: the area in it, and the outline around that."""
    square = ((8.0, 0.0), (16.0, 8.0), (8.0, 16.0), (0.0, 8.0))
    canvas = Canvas(8, 4)
    canvas.paint([Lines(look, (square,), closed=True) for look in ("gained", "real")])
    assert [(row != "").sum() for row in canvas.shades] == [2, 6, 6, 2]
    rows, columns = np.nonzero(canvas.dots)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (0, 15, 0, 15)
    distance = abs(columns - 7.5) + abs(rows - 7.5)
    assert distance.min() >= 6
    assert distance.max() <= 9
    assert canvas.character(1, 3) == SHADES["gained"]


def test_ascii_terminal_is_told_what_to_do():
    stream = SimpleNamespace(encoding="ascii", write=BytesIO().write)
    with pytest.raises(roicli.ParameterError, match="UTF-8"):
        print_picture(draw(), (), stream)


def test_constant_and_missing_maps():
    roi = np.array([[0, 10, 10, 30, 30]], np.float32)
    for value in (0.0, np.nan):
        features = np.full((1, 1, 8, 8), value, np.float32)
        assert "RoI 0" in shown(roicli.draw(features, roi, roi=0, spatial_scale=0.25))
    far = np.array([[0, 900, 900, 960, 930]], np.float32)
    assert "RoI 0" in shown(
        roicli.draw(np.ones((1, 1, 8, 8), np.float32), far, roi=0, spatial_scale=0.25)
    )


@pytest.mark.filterwarnings("error")
def test_a_mean_of_the_largest_numbers_is_a_number(tmp_path):
    features = np.full((1, 2, 8, 8), 3e38, np.float32)
    features[0, :, 4, 4] = np.inf, -np.inf
    roi = np.array([[0, 10, 10, 30, 30]], np.float32)
    picture = roicli.draw(features, roi, tmp_path / "f.svg", roi=0, spatial_scale=0.25)
    row, column = picture.first_cell
    assert np.argwhere(~np.isfinite(picture.cells)).tolist() == [[4 - row, 4 - column]]
    np.testing.assert_allclose(picture.cells[0], 3e38, rtol=1e-6)


@pytest.mark.parametrize("box", [(30, 30, 3, 3), (5, 5, 5, 5), (-1e7, 3, 1e7, 4), (40, 40, 60, 60)])
def test_odd_boxes_are_drawn_in_numbers(tmp_path, box):
    """Crossed, empty, huge and outside: every place in the SVG is a plain number."""
    features = np.arange(64, dtype=np.float32).reshape(1, 1, 8, 8)
    roi, path = np.array([[0, *box]], np.float32), tmp_path / "f.svg"
    roicli.draw(features, roi, path, roi=0, spatial_scale=0.25, ignore="R04,R05,R06")
    for element in ElementTree.fromstring(path.read_text(encoding="utf-8")).iter():
        for name in ("d", "x", "y", "width", "height", "viewBox", "stroke-width"):
            assert not re.search("nan|inf|e", element.get(name, ""))


@pytest.mark.full
@pytest.mark.usefixtures("matplotlib")
@some("value", [(0.0,), (np.nan,), (np.inf,)], (np.nan,))
def test_a_figure_of_a_map_without_numbers(tmp_path, value):
    features = np.full((1, 1, 8, 8), value, np.float32)
    features[0, 0, 2, 2] = 1.0
    roi = np.array([[0, 10, 10, 30, 30]], np.float32)
    roicli.draw(features, roi, tmp_path / "f.png", roi=0, spatial_scale=0.25, bin_index=(1, 1))
    assert "RoI 0" in shown(roicli.draw(features, roi, roi=0, spatial_scale=0.25))
