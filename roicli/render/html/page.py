"""The page as one HTML file (extra ``roicli[report]``: Jinja2): no network, nothing but itself.

Everything that comes from files is escaped: by Jinja2 in the markup, as JSON in the data.
"""

from __future__ import annotations

import math
import os
from contextlib import closing
from dataclasses import replace
from typing import Any, Unpack

from roicli.analysis.page import Page, measure_page
from roicli.core.declaration import check_known, record, settle
from roicli.core.exceptions import MissingPackageError
from roicli.core.look_options import ReportOptions
from roicli.core.strict_json import encode_for_script
from roicli.error_table.cells import plain_values
from roicli.error_table.columns import (
    COLUMN_BY_NAME,
    COLUMNS,
    Column,
    check_column,
)
from roicli.error_table.geometric import MODEL_OFFSET
from roicli.pipeline.execute import Result
from roicli.pipeline.features import FeatureArgument
from roicli.pipeline.request import RunRequest
from roicli.pipeline.run import open_run
from roicli.render.figure import blacken, draw_for_page
from roicli.render.html import charts
from roicli.render.svg import find_looks, link_pixels, write_definitions, write_element, write_style
from roicli.render.tables import format_count, format_number
from roicli.storage.atomic import check_output, replace_atomically
from roicli.storage.open import inputs_unchanged

PAGE_ENDINGS = (".html", ".htm")
# A page's drawings take at most so much: they are of the worst, and a browser holds all of them.
DRAWN_BYTES = 12_000_000
WORST_SHOWN = 6


def import_jinja() -> Any:
    """Import Jinja2, or raise MissingPackageError with the line that installs it."""
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"the page needs Jinja2, and there is no module {error.name}",
            "pip install 'roicli[report]'",
        ) from error
    return jinja2


@record(ReportOptions)
class ReportRequest(RunRequest):
    """What was asked of ``report``."""

    sort: str


def report(
    features: FeatureArgument,
    rois: FeatureArgument,
    output: str | os.PathLike[str],
    **options: Unpack[ReportOptions],
) -> Result:
    """One HTML page about all RoIs: summary, charts, the worst, a table, drawings, provenance.

    ``output`` is an .html file, which needs nothing but itself; ``sort`` is the column that ranks
    the worst. Both operators are run, as by ``errors``, for the value columns. Raises RoicliError.
    """
    import_jinja()
    check_known("report", options, ReportOptions)
    request = settle(ReportRequest, options)
    sort, force = request.sort, request.force
    path = os.fspath(output)
    # "values" sizes the blocks for what measuring holds.
    with (
        inputs_unchanged(),
        closing(open_run("align", features, rois, replace(request, values=True))) as run,
    ):
        check_output(path, run.inputs.files, force, PAGE_ENDINGS)
        if sort in COLUMN_BY_NAME:
            check_column(sort, COLUMNS)
        else:
            run.error_table().check_column(sort)
        page, table = measure_page(run, sort, request.progress)
    text = render_page(page)
    with (
        replace_atomically(path, force) as temporary,
        open(temporary, "w", encoding="utf-8") as stream,
    ):
        stream.write(text)
    return Result("report", table, page.parameters, None, path)


def render_page(page: Page) -> str:
    """The whole file as text."""
    jinja = import_jinja()
    loader = jinja.PackageLoader("roicli.render.html")
    environment = jinja.Environment(
        loader=loader, autoescape=True, trim_blocks=True,
        lstrip_blocks=True, undefined=jinja.StrictUndefined,
    )  # fmt: skip
    drawings = draw_worst(page)
    looks = find_looks("".join(drawings))
    rendered: str = environment.get_template("page.html").render(
        page=page,
        cards=_cards(page),
        ranked_by=next(column for column in page.columns if column.name == page.sort),
        charts={
            "histograms": charts.draw_histograms(page),
            "clouds": charts.draw_clouds(page),
            "shares": charts.draw_shares(page),
        },
        parameters=[(key, _words(value)) for key, value in page.parameters.items() if value != ""],
        data=encode_data(page),
        drawings=drawings,
        captions=_captions(page),
        shared=hold_maps(page) + write_definitions(looks, _name_color),
        # Not templates: their braces are their own.
        style=loader.get_source(environment, "page.css")[0] + write_style(looks, _name_color),
        script=loader.get_source(environment, "page.js")[0],
    )
    return rendered


def _name_color(name: str) -> str:
    """A variable of the page's style, which has other values in the dark."""
    return f"var(--{name})"


def _words(value: Any) -> str:
    if isinstance(value, list | tuple):
        nested = any(isinstance(part, list | tuple) for part in value)
        return ", ".join(" x ".join(map(str, p)) if nested else _words(p) for p in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def _cards(page: Page) -> list[tuple[str, str, str, str]]:
    """What to know first: a title, a number, a line below it, what it means."""
    found = page.summary.by_class[0].statistics
    edge, iou = found["edge_error_max_px"], found["iou"]
    meaning = {name: COLUMN_BY_NAME[name].meaning for name in found}
    cards = [
        ("RoIs", f"{page.total:,}", f"on {format_count(page.images, 'image')}",
         "regions of interest, rows of the RoIs"),
        ("Worst edge of the box", f"{_one(edge.median)} px",
         f"median; 95 % below {_one(edge.p95)}, at most {_one(edge.max)} px",
         meaning["edge_error_max_px"]),
        ("IoU with the real box", format_number(iou.median),
         f"median; {page.below_half:,} RoIs below 0.5", meaning["iou"]),
    ]  # fmt: skip
    if "value_error_relative_l2" in found:
        error = found["value_error_relative_l2"].median
        line, means = "median of |Pool - Align| / |Align|", meaning["value_error_relative_l2"]
        cards.append(("Error of the values", format_number(error), line, means))
        rounding = [found[name].mean for name in ("share_stage1", "share_stage2")]
        if None not in rounding:
            share = f"{100 * sum(value for value in rounding if value is not None):.0f} %"
            line = "the rest: maximum, not mean"
            means = "mean share of the value error from rounding the box and the bins"
            cards.append(("Caused by rounding", share, line, means))
    return cards


def _one(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def encode_data(page: Page) -> str:
    """The rows as JSON that is safe inside a script element."""
    data = {
        "columns": [
            {"name": c.name, "header": c.header, "meaning": c.meaning, "kind": c.kind}
            for c in page.columns
        ],
        "sort": page.sort,
        "values": [_column(page, column) for column in page.columns],
        "corners": [[round(float(x), 2) for x in corner] for corner in page.corners],
    }
    return encode_for_script(data)


def _column(page: Page, column: Column) -> list[Any]:
    """One column, numbers with five significant digits; null where it is not defined."""
    values = plain_values(page.records[column.name], column)
    if column.kind != "number":
        return values
    return [None if v is None or not math.isfinite(v) else float(f"{v:.5g}") for v in values]


def draw_worst(page: Page) -> list[str]:
    """Drawings of the listed rows as SVG elements, from the first on, while there is room."""
    maps = {(shade.level, shade.image): f"map-{i}" for i, shade in enumerate(page.shades)}
    drawings: list[str] = []
    room = DRAWN_BYTES
    for row in page.rows.tolist():
        picture = page.picture_of(row)
        name = maps.get((int(page.map_of_roi[row]), picture.batch_index), "")
        drawing = write_element(draw_for_page(picture, name))
        room -= len(drawing)
        if room < 0:
            break
        drawings.append(drawing)
    return drawings


def hold_maps(page: Page) -> str:
    """The maps as images that drawings refer to; their unit is a cell, as in ``Picture``."""
    offset = MODEL_OFFSET[page.parameters["pixel_model"]]
    images = []
    for number, shade in enumerate(page.shades):
        height, width = shade.cells.shape
        pixels = link_pixels(
            blacken(shade.cells), (offset, offset, offset + width, offset + height)
        )
        images.append(f'<image id="map-{number}" class="cells" {pixels}/>')
    return "".join(images)


def _captions(page: Page) -> list[tuple[int, str]]:
    """Of the worst: the RoI, and how far off it is."""
    worst = page.records[:WORST_SHOWN][["roi", "iou", "edge_error_max_px"]]
    return [
        (int(roi), f"RoI {roi}: IoU {format_number(iou)}, an edge up to {edge:.1f} px off")
        for roi, iou, edge in worst.tolist()
    ]
