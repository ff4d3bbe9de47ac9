"""A run measured for its page: the value columns, then the drawings and the maps behind them."""

from __future__ import annotations

import numpy as np

from roicli import provenance
from roicli.columns import COLUMNS
from roicli.datatypes import FloatArray
from roicli.drawing import Picture, build_picture
from roicli.error_table import ErrorTable
from roicli.exceptions import ParameterError
from roicli.features import MapBuffer
from roicli.opened_run import Run, build_value_measurers
from roicli.pipeline import Progress, plan_visits, run_operator
from roicli.report_page import Page, Shades, build_page, shade_map
from roicli.storage.result_file import NoWriter

# A page holds the greys of at most so many cells; without them drawings stand on white.
SHADED_CELLS = 4_000_000


def check_sort(name: str) -> None:
    """Raise ParameterError unless there is a column of that name."""
    known = [column.name for column in COLUMNS]
    if name not in known:
        raise ParameterError(f"there is no column {name!r}, expected one of: {', '.join(known)}")


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
        lambda row: _picture_of(run, row), _shade_maps(run),
    )  # fmt: skip
    return page, table


def _picture_of(run: Run, row: int) -> Picture:
    """The lines of one RoI, without the values of the cells."""
    place = int(run.inputs.map_of_roi[row])
    level = run.pyramid.levels[place]
    no_cells: FloatArray = np.empty((1, *level.shape[2:]), run.pyramid.compute_dtype)
    align, pool = (run.scaled(spec)[place] for spec in (run.setting.align, run.setting.pool))
    one = run.inputs.rois.take(slice(row, row + 1))
    return build_picture(row, one, no_cells, align, pool, run.setting.pixel_model, level.level, 0)


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
