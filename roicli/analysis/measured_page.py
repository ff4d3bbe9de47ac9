"""A run measured for its page: the value columns, then the drawings and the maps behind them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from roicli.analysis.page import Page, Shades, build_page, shade_map
from roicli.analysis.picture import Picture, build_picture
from roicli.core.types import FloatArray
from roicli.error_table.table import ErrorTable
from roicli.pipeline import provenance
from roicli.pipeline.features import MapBuffer
from roicli.pipeline.order import plan_visits
from roicli.pipeline.run import Run, build_value_measurers
from roicli.pipeline.stream import Progress, run_operator
from roicli.storage.result import NoWriter

# A page holds the greys of at most so many cells; without them drawings stand on white.
SHADED_CELLS = 4_000_000


def measure_page(run: Run, sort: str, progress: Progress | None) -> tuple[Page, ErrorTable]:
    """Run both operators for the value columns, and gather what the page shows."""
    measurers = build_value_measurers(run)
    run_operator(
        run.pyramid, run.inputs.rois, run.inputs.map_of_roi, None, run.engine, NoWriter(),
        measurers, progress or (lambda done, total, size: None),
    )  # fmt: skip
    table = run.error_table()
    parameters = provenance.describe_run(run, None, run.pyramid.compute_dtype)
    page = build_page(
        table, parameters | {"operator": "report"}, sort, run.inputs.map_of_roi,
        _picture_maker(run), _shade_maps(run),
    )  # fmt: skip
    return page, table


def _picture_maker(run: Run) -> Callable[[int], Picture]:
    """A function from a RoI to its lines, without the values of the cells."""
    aligns, pools = run.scaled(run.setting.align), run.scaled(run.setting.pool)
    model, levels = run.setting.pixel_model, run.pyramid.levels
    # One number stands for all cells: a page has its own greys.
    empty: list[FloatArray] = [
        np.broadcast_to(run.pyramid.compute_dtype.type(0), (1, *level.shape[2:]))
        for level in levels
    ]

    def picture_of(row: int) -> Picture:
        place = int(run.inputs.map_of_roi[row])
        one = run.inputs.rois.take(slice(row, row + 1))
        number = levels[place].level
        return build_picture(row, one, empty[place], aligns[place], pools[place], model, number, 0)

    return picture_of


def _shade_maps(run: Run) -> list[Shades]:
    """Greys of every map that has RoIs, as long as there is room in the page."""
    shades, cells = [], 0
    buffer = MapBuffer(run.pyramid.compute_dtype)
    for visit in plan_visits(run.inputs.rois, run.inputs.map_of_roi):
        level = run.pyramid.levels[visit.level]
        cells += level.shape[2] * level.shape[3]
        if cells > SHADED_CELLS:
            break
        shades.append(shade_map(visit.level, visit.image, level.read_image(visit.image, buffer)))
    return shades
