"""The page as one HTML file (extra ``roicli[report]``: Jinja2): no network, nothing but itself.

Everything that comes from files is escaped: by Jinja2 in the markup, as JSON in the data.
"""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, Unpack

from roicli.analysis.page import Page, measure_page
from roicli.analysis.picture import Picture
from roicli.core.call_options import ReportOptions
from roicli.core.declaration import check_known, record, settle
from roicli.core.exceptions import ProviderError
from roicli.core.strict_json import encode_for_script
from roicli.core.types import Array
from roicli.error_table.columns import COLUMNS, Column, check_column
from roicli.error_table.writers import plain_value
from roicli.pipeline.execute import Result
from roicli.pipeline.features import FeatureArgument
from roicli.pipeline.request import RunRequest
from roicli.pipeline.run import open_run
from roicli.render.html import charts
from roicli.render.tables import format_number
from roicli.storage.atomic import check_output, replace_atomically
from roicli.storage.opening import inputs_unchanged

PAGE_ENDINGS = (".html", ".htm")


def import_jinja() -> Any:
    """Import Jinja2, or raise ProviderError with the line that installs it."""
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise ProviderError(
            f"the page needs Jinja2, and there is no module {error.name}",
            "pip install 'roicli[report]'",
        ) from error
    return jinja2


@record(ReportOptions)
class ReportRequest(RunRequest):
    """What was asked of ``write_report``."""

    sort: str


def write_report(
    features: FeatureArgument | Sequence[Array],
    rois: FeatureArgument,
    output: str | os.PathLike[str],
    **options: Unpack[ReportOptions],
) -> Result:
    """One HTML page about all RoIs: summary, charts, the worst, a table, drawings, provenance.

    ``output`` is an .html file, which needs nothing but itself; ``sort`` is the column that ranks
    the worst. Both operators are run, as by ``errors``, for the value columns. Raises RoicliError.
    """
    import_jinja()
    check_known("write_report", options, ReportOptions)
    request = settle(ReportRequest, options)
    sort, force = request.sort, request.force
    path = os.fspath(output)
    # "values" sizes the blocks for what measuring holds.
    with (
        inputs_unchanged(),
        closing(open_run("align", features, rois, replace(request, values=True))) as run,
    ):
        check_output(path, run.inputs.files, force, PAGE_ENDINGS)
        check_column(sort, COLUMNS)
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
    rendered: str = environment.get_template("page.html").render(
        page=page,
        cards=_cards(page),
        charts={
            "histograms": charts.draw_histograms(page),
            "clouds": charts.draw_clouds(page),
            "shares": charts.draw_shares(page),
        },
        parameters=[(key, _words(value)) for key, value in page.parameters.items() if value != ""],
        data=encode_data(page),
        # Not templates: their braces are their own.
        style=loader.get_source(environment, "page.css")[0],
        script=loader.get_source(environment, "page.js")[0],
    )
    return rendered


def _words(value: Any) -> str:
    if isinstance(value, list | tuple):
        nested = any(isinstance(part, list | tuple) for part in value)
        return ", ".join(" x ".join(map(str, p)) if nested else _words(p) for p in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def _cards(page: Page) -> list[tuple[str, str, str]]:
    """What to know first: a title, a number, a line below it."""
    found = page.summary.by_class[0].statistics
    edge, iou = found["edge_error_max_px"], found["iou"]
    cards = [
        ("RoIs", f"{page.total:,}", f"on {page.images} image{'s' if page.images != 1 else ''}"),
        ("Worst edge of the box", f"{_one(edge.median)} px",
         f"median; 95 % below {_one(edge.p95)}, at most {_one(edge.max)} px"),
        ("IoU with the real box", format_number(iou.median),
         f"median; {page.below_half:,} RoIs below 0.5"),
    ]  # fmt: skip
    if "value_error_relative_l2" in found:
        error = found["value_error_relative_l2"]
        cards.append(
            (
                "Error of the values",
                format_number(error.median),
                "median of |Pool - Align| / |Align|",
            )
        )
        rounding = [found[name].mean for name in ("share_stage1", "share_stage2")]
        if None not in rounding:
            share = sum(value for value in rounding if value is not None)
            cards.append(
                ("Caused by rounding", f"{100 * share:.0f} %", "the rest: maximum, not mean")
            )
    return cards


def _one(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def encode_data(page: Page) -> str:
    """The rows, maps and drawings as JSON that is safe inside a script element."""
    data = {
        "columns": [
            {"name": c.name, "unit": c.unit, "meaning": c.meaning, "kind": c.kind}
            for c in page.columns
        ],
        "sort": page.sort,
        "values": [_column(page, column) for column in page.columns],
        "corners": [[round(float(x), 2) for x in corner] for corner in page.corners],
        "maps": [
            {
                "height": shade.greys.shape[0],
                "width": shade.greys.shape[1],
                "greys": base64.b64encode(shade.greys.tobytes()).decode(),
            }
            for shade in page.shades
        ],
        "drawings": _drawings(page),
        "worst": list(page.worst),
    }
    return encode_for_script(data)


def _column(page: Page, column: Column) -> list[Any]:
    """One column, numbers with five significant digits; null where it is not defined."""
    values = [plain_value(value, column) for value in page.records[column.name]]
    if column.kind != "number":
        return values
    return [None if v is None or not math.isfinite(v) else float(f"{v:.5g}") for v in values]


def _drawings(page: Page) -> list[Any]:
    """One object a listed row, or null where there was no room for it."""
    place = {(shade.level, shade.image): i for i, shade in enumerate(page.shades)}
    found: list[Any] = []
    for row in page.rows.tolist():
        picture = page.pictures.get(row)
        if picture is None:
            found.append(None)
            continue
        where = (int(page.map_of_roi[row]), picture.batch_index)
        found.append(_drawing(picture, place.get(where, -1)))
    return found


def _drawing(picture: Picture, place: int) -> Mapping[str, Any]:
    return {
        "map": place,
        "stride": picture.stride,
        "offset": picture.cell_offset,
        "window": _short(picture.window),
        "real": _short(picture.real),
        "rounded": _short(picture.quantized),
        "ax": _short(picture.align_x),
        "ay": _short(picture.align_y),
        "px": _short(sorted({edge for interval in picture.pool_x for edge in interval})),
        "py": _short(sorted({edge for interval in picture.pool_y for edge in interval})),
        "sx": _short(picture.points_x),
        "sy": _short(picture.points_y),
    }


def _short(values: Any) -> list[float]:
    """Thousandths of a cell, which no drawing shows."""
    return [round(float(value), 3) for value in values]
