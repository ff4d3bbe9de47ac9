"""``roicli report`` as a user runs it, and its page in headless Chromium on the real data."""

import html
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from roicli.analysis.page import LISTED_COLUMNS
from roicli.error_table.columns import COLUMN_BY_NAME
from tests import browser
from tests.browser import Page, open_page
from tests.cli.running import FPN, TEXT_ROIS, refuse, succeed
from tests.drawn import read_path

pytest.importorskip("jinja2")

CALL = ("report", f"{FPN}::p3", TEXT_ROIS)


def needs_chromium(test: Callable[..., None]) -> Callable[..., None]:
    """A test in a browser, which many machines lack: it runs in test-all."""
    skip = pytest.mark.skipif(
        browser.EXECUTABLE is None, reason="no Chromium: apt-get install chromium"
    )
    return pytest.mark.full(skip(test))


@pytest.mark.full
def test_once_and_with_force() -> None:
    call = (*CALL, "-o", "report.html")
    assert succeed(*call).err == "roicli: note: wrote report.html, 102 RoIs\n"
    refuse(*call, words=("report.html: exists already", "--force"))
    assert succeed(*call, "--force", "-q").err == ""


def test_refusals() -> None:
    refuse(*CALL, "-o", "report.txt", words=(".html",))
    refuse(*CALL, "-o", "report.html", "--sort", "size", words=("no column 'size'",))
    refuse(*CALL, "-o", f"{FPN}.html/report.html", words=("does not exist",))


def test_the_page_begins_with_the_verdict() -> None:
    succeed(*CALL, "-o", "report.html", "-q")
    found = json.loads(succeed("errors", *CALL[1:], "--format", "json").text)["verdict"]
    text = html.unescape(Path("report.html").read_text(encoding="utf-8"))
    assert f'<p class="verdict">{found.partition(" Worst: ")[0]}' in text


@pytest.mark.full
def test_the_same_page_twice() -> None:
    for name in ("a.html", "b.html"):
        succeed(*CALL, "-o", name, "-q", SOURCE_DATE_EPOCH="0")
    assert Path("a.html").read_bytes() == Path("b.html").read_bytes()


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    """One Chromium for all tests of this file."""
    with open_page() as page:
        yield page


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the real pyramid."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    succeed("report", FPN, TEXT_ROIS, "--levels", "p3,p4,p5", "-o", str(path), "-q")
    return path.as_uri()


@pytest.fixture
def loaded(tab: Page, address: str) -> Page:
    """The page, freshly loaded; the test looks at what it said to the console."""
    tab.console.clear()
    tab.requests.clear()
    tab.prefer("light")
    tab.load(address)
    return tab


ROWS = "[...document.querySelectorAll('tr.row')]"
FIRST_ROI = f"{ROWS}[0].children[0].textContent"
COUNT = "document.getElementById('count').textContent"
NAME = ".closest('th').dataset.column"
TITLE = "document.getElementById('detail-title').textContent"


def type_filter(page: Page, text: str) -> str:
    """Type into the filter; gives the count that the page then shows."""
    page.run(
        "(text => { const query = document.getElementById('query'); query.value = text;"
        f"query.dispatchEvent(new Event('input')) }})({text!r})"
    )
    return str(page.run(COUNT))


def column(page: Page, name: str) -> list[str]:
    """What the rendered rows show in a column."""
    names = page.run(f"[...document.querySelectorAll('th')].map(h => h{NAME})")
    found: list[str] = page.run(f"{ROWS}.map(r => r.children[{names.index(name)}].textContent)")
    return found


def click_heading(page: Page, name: str) -> None:
    """Click a column's heading."""
    buttons = "[...document.querySelectorAll('th button')]"
    page.run(f"{buttons}.find(b => b{NAME} === '{name}').click()")


@needs_chromium
def test_it_loads_without_a_word_or_a_request(loaded: Page) -> None:
    assert loaded.console == []
    assert [r for r in loaded.requests if not r.startswith(("file:", "data:"))] == []
    assert loaded.run(COUNT) == "102 of 102 RoIs"
    assert loaded.run("document.querySelectorAll('#worst figure svg.drawing').length") == 6
    assert loaded.run("document.querySelectorAll('svg.chart').length") == 3


@needs_chromium
def test_it_sorts(loaded: Page) -> None:
    assert loaded.run(FIRST_ROI) == "96"
    click_heading(loaded, "shift_px")
    shifts = [float(text) for text in column(loaded, "shift_px")]
    assert shifts == sorted(shifts, reverse=True)
    click_heading(loaded, "shift_px")
    shifts = [float(text) for text in column(loaded, "shift_px")]
    assert shifts == sorted(shifts)
    click_heading(loaded, "size_class")
    assert column(loaded, "size_class")[0] == "large"
    assert loaded.run(f"document.querySelector('th[aria-sort]'){NAME}") == "size_class"


@needs_chromium
def test_headings_have_their_meaning_as_a_tooltip(loaded: Page) -> None:
    buttons = "[...document.querySelectorAll('th button')].map(b => [b.textContent, b.title])"
    terms = "[...document.querySelectorAll('#detail-facts dt')].map(t => [t.textContent, t.title])"
    headings = loaded.run(buttons)
    assert len(headings) == len(LISTED_COLUMNS)
    for name, (text, tooltip) in zip(LISTED_COLUMNS, headings, strict=True):
        column = COLUMN_BY_NAME[name]
        assert text.split("\n") == column.header
        assert tooltip == f"{name}: {column.meaning}"
    loaded.run(f"{ROWS}[0].click()")
    facts = dict(loaded.run(terms))
    assert facts["edge error, px"] == dict(headings)["edge error\npx"]
    cards = loaded.run("[...document.querySelectorAll('.card')].map(c => c.title)")
    assert COLUMN_BY_NAME["iou"].meaning in cards
    assert all(cards)


@needs_chromium
def test_it_filters(loaded: Page) -> None:
    assert type_filter(loaded, "iou<0.2 shift_px>=5").endswith(" of 102 RoIs")
    assert all(float(text) < 0.2 for text in column(loaded, "iou"))
    assert type_filter(loaded, "roi=37") == "1 of 102 RoIs"
    assert "not a filter" in type_filter(loaded, "nonsense")
    assert type_filter(loaded, "size_class=large") == "9 of 102 RoIs"
    type_filter(loaded, "")
    image = "document.getElementById('image')"
    loaded.run(f"{image}.value = '0'; {image}.dispatchEvent(new Event('change'))")
    assert loaded.run(COUNT) == "25 of 102 RoIs"


@needs_chromium
def test_a_row_opens_its_drawing(loaded: Page) -> None:
    title = f"document.getElementById('detail').open && {TITLE}"
    loaded.run(f"{ROWS}[1].click()")
    assert loaded.run(title) == "RoI 101"
    points = "document.querySelector('#detail-drawing .point')"
    assert loaded.run(f"getComputedStyle({points}).markerMid") == 'url("#point")'
    # 14 x 14 places, each with a marker, and the end of the path.
    assert len(read_path(loaded.run(f"{points}.getAttribute('d')"))[0]) == 14 * 14 + 1
    assert loaded.run("location.hash") == "#roi=101"
    loaded.press("ArrowRight")
    assert loaded.run(title) == "RoI 92"
    loaded.press("ArrowLeft")
    assert loaded.run(title) == "RoI 101"
    loaded.press("Escape")
    assert loaded.run(title) is False
    dot = "document.querySelector('[data-roi=\"37\"]')"
    loaded.run(f"{dot}.dispatchEvent(new MouseEvent('click'))")
    assert loaded.run(title) == "RoI 37"
    assert loaded.console == []


@needs_chromium
def test_an_address_opens_a_drawing(loaded: Page) -> None:
    loaded.run("location.hash = '#roi=3'; new Promise(done => setTimeout(done, 50))")
    assert loaded.run(TITLE) == "RoI 3"


@needs_chromium
def test_the_worst_open_by_click_and_by_key(loaded: Page) -> None:
    second = "document.querySelectorAll('#worst figure')[1]"
    for event in ("MouseEvent('click')", "KeyboardEvent('keydown', {key: 'Enter'})"):
        loaded.run(f"{second}.dispatchEvent(new {event})")
        assert loaded.run(TITLE) == "RoI 101"
        assert loaded.run("document.querySelectorAll('#detail-drawing svg.drawing').length") == 1
        loaded.press("Escape")


@needs_chromium
def test_drawings_follow_the_theme(loaded: Page) -> None:
    real = "getComputedStyle(document.querySelector('#worst .real')).stroke"
    cells = "getComputedStyle(document.querySelector('#worst use.cells')).filter"
    assert (loaded.run(real), loaded.run(cells)) == ("rgb(0, 114, 178)", "none")
    loaded.prefer("dark")
    assert (loaded.run(real), loaded.run(cells)) == ("rgb(86, 180, 233)", "invert(1)")


@needs_chromium
def test_a_row_without_a_drawing_says_how_to_get_it(
    tab: Page, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roicli.render.html.page.DRAWN_BYTES", 30_000)
    succeed(*CALL, "-o", "few.html", "-q")
    tab.load((folder / "few.html").as_uri())
    tab.run(f"{ROWS}[20].click()")
    words = tab.run("document.getElementById('detail-drawing').textContent")
    roi = tab.run(f"{ROWS}[20].children[0].textContent")
    assert "worst only" in words
    assert f"roicli draw --roi {roi}" in words


@needs_chromium
def test_light_and_dark(loaded: Page) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    assert loaded.run(background) == "rgb(255, 255, 255)"
    loaded.run("document.getElementById('theme').click()")
    assert loaded.run(background) == "rgb(20, 23, 28)"
    loaded.prefer("dark")
    loaded.run("document.getElementById('theme').click()")
    assert loaded.run(background) == "rgb(255, 255, 255)"


@needs_chromium
def test_it_prints(loaded: Page) -> None:
    loaded.prefer("dark")
    assert loaded.pdf().startswith(b"%PDF")
    loaded.run("dispatchEvent(new Event('beforeprint'))")
    loaded.run("dispatchEvent(new Event('resize'))")  # as a print preview may
    assert loaded.run(f"{ROWS}.length") == 60
    assert loaded.run("document.querySelectorAll('tr.gap').length") == 0
    assert loaded.run("document.documentElement.dataset.theme") == "light"
    loaded.run("dispatchEvent(new Event('afterprint'))")
    assert loaded.run("document.documentElement.dataset.theme") == "dark"


@needs_chromium
@pytest.mark.parametrize("count", [2_000, 10_000])
def test_many_rows_stay_few_in_the_document(tab: Page, folder: Path, count: int) -> None:
    generator = np.random.default_rng(5)
    corner, size = generator.uniform(0, 400, (count, 2)), generator.uniform(4, 100, (count, 2))
    rois = np.column_stack([generator.integers(0, 2, count), corner, corner + size])
    np.save("many.npy", rois.astype(np.float32))
    few_lines = ("--output-size", "2", "--sampling-ratio", "1")
    succeed("report", f"{FPN}::p5", "many.npy", "-o", "many.html", "-q", *few_lines)
    tab.console.clear()
    tab.load((folder / "many.html").as_uri())
    assert tab.run(COUNT) == f"{count:,} of {count:,} RoIs"
    table = "document.getElementById('table')"
    scroll = f"{table}.scrollTop = 15000; {table}.dispatchEvent(new Event('scroll'))"
    tab.run(scroll)
    assert tab.run(f"{ROWS}.length") < 80
    click_heading(tab, "edge_error_max_px")
    assert type_filter(tab, f"roi={count - 1}") == f"1 of {count:,} RoIs"
    tab.run(f"{ROWS}[0].click()")
    assert tab.run("document.querySelectorAll('#detail-drawing svg.drawing').length") == 1
    assert tab.console == []


@needs_chromium
def test_pictures_for_a_person(loaded: Page) -> None:
    """``REPORT_PICTURES=folder pytest -k pictures`` leaves the page there, light and dark."""
    kept = os.environ.get("REPORT_PICTURES")
    for scheme in ("light", "dark"):
        loaded.prefer(scheme)
        picture = loaded.screenshot(whole=True)
        assert picture.startswith(b"\x89PNG")
        assert len(picture) > 100_000
        if kept:
            Path(kept, f"report-{scheme}.png").write_bytes(picture)
