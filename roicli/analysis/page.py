"""What a page about all RoIs shows, as data: groups, histograms, points, rows and their drawings.

Numbers come from the error table, lines from ``picture``; ``render.html`` makes the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from roicli.analysis.picture import Picture, average_channels, build_picture
from roicli.core.progress import Progress
from roicli.core.record import frozen
from roicli.core.types import Array, FloatArray, IntArray
from roicli.core.vocabulary import SIZE_CLASSES
from roicli.error_table.columns import Column
from roicli.error_table.table import ErrorTable, Summary, summarize
from roicli.error_table.verdict import give_verdict
from roicli.pipeline import provenance
from roicli.pipeline.features import MapBuffer
from roicli.pipeline.order import plan_visits
from roicli.pipeline.run import Run, build_value_measurers
from roicli.pipeline.stream import run_operator
from roicli.storage.result import NoWriter

# A page lists at most so many rows; the worst come first.
LISTED_ROWS = 50_000
# A chart shows at most so many points: the rest are the same cloud.
CHARTED_POINTS = 2000
# A page holds at most so many cells; without them drawings stand on white.
SHADED_CELLS = 4_000_000
HISTOGRAM_BINS = 24
LISTED_COLUMNS = (
    "roi", "batch_index", "level", "size_class", "edge_error_max_px", "shift_px", "iou",
    "total_edge_error_max_px", "bin_edge_error_max_px", "area_lost_fraction",
    "area_gained_fraction", "width_ratio", "height_ratio", "value_error_relative_l2",
    "value_cosine", "share_stage1", "share_stage2", "share_aggregation", "coordinate_error_px",
    "empty_bins",
)  # fmt: skip
# What the RoIs' source has besides stands behind what tells which RoI it is.
NAMED_BEFORE, CARRIED_COLUMNS = 2, 12
HISTOGRAMS = ("edge_error_max_px", "total_edge_error_max_px")
SHARES = ("share_stage1", "share_stage2", "share_aggregation")


@frozen
class Group:
    """The RoIs of one size class or level: ``rows`` (n,), the histogram counts of each measure."""

    name: str
    n: int
    counts: Mapping[str, tuple[int, ...]]
    medians: Mapping[str, float | None]
    shares: Mapping[str, float | None]


@frozen
class Cloud:
    """Points for error against size: RoI numbers, square root of the area in px, two errors."""

    rois: IntArray
    side_px: FloatArray
    level: IntArray
    edge_error_max_px: FloatArray
    iou: FloatArray


@frozen
class Shades:
    """One map (H, W): the mean over its channels."""

    level: int
    image: int
    cells: FloatArray


@frozen
class Page:
    """Everything on the page. ``rows`` (n,) are the listed RoIs, ``records`` their columns.

    ``verdict`` are its sentences, and where to look; ``picture_of`` makes the lines of a RoI's
    drawing; ``edges`` by measure are those of the histograms' bins.
    """

    parameters: Mapping[str, Any]
    summary: Summary
    verdict: Sequence[str]
    total: int
    images: int
    groups: tuple[Group, ...]
    edges: Mapping[str, FloatArray]
    cloud: Cloud
    columns: tuple[Column, ...]
    sort: str
    rows: IntArray
    records: Array
    corners: FloatArray
    picture_of: Callable[[int], Picture]
    shades: tuple[Shades, ...]
    map_of_roi: IntArray
    below_half: int


def measure_page(run: Run, sort: str, progress: Progress) -> tuple[Page, ErrorTable]:
    """Run both operators for the value columns, and gather what the page shows."""
    measurers = build_value_measurers(run)
    run_operator(
        run.pyramid, run.inputs.rois, run.inputs.map_of_roi, None, run.engine, NoWriter(),
        measurers, progress,
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

    def picture_of(row: int) -> Picture:
        place = int(run.inputs.map_of_roi[row])
        one = run.inputs.rois.take(slice(row, row + 1))
        number = levels[place].level
        size = levels[place].image_shape(int(one.batch_index[0]))[1:]
        # One number stands for all cells: a page has its own greys.
        empty: FloatArray = np.broadcast_to(run.pyramid.compute_dtype.type(0), (1, *size))
        roi = run.inputs.number(row)
        return build_picture(roi, one, empty, aligns[place], pools[place], model, number, 0)

    return picture_of


def _shade_maps(run: Run) -> list[Shades]:
    """Greys of every map that has RoIs, as long as there is room in the page."""
    shades, cells = [], 0
    buffer = MapBuffer(run.pyramid.compute_dtype)
    for visit in plan_visits(run.inputs.rois, run.inputs.map_of_roi):
        level = run.pyramid.levels[visit.level]
        cells += math.prod(level.image_shape(visit.image)[1:])
        if cells > SHADED_CELLS:
            break
        mean = average_channels(level.read_image(visit.image, buffer))
        shades.append(Shades(visit.level, visit.image, mean))
    return shades


def build_page(
    table: ErrorTable,
    parameters: Mapping[str, Any],
    sort: str,
    map_of_roi: IntArray,
    picture_of: Callable[[int], Picture],
    shades: Iterable[Shades],
) -> Page:
    """The page of a table whose values are measured; ``sort`` is the column that ranks the worst.

    ``picture_of`` draws a RoI; ``map_of_roi`` (K,) indexes the pyramid's levels. Raises
    ParameterError for an unknown column.
    """
    rows, summary = table.worst_first(sort, LISTED_ROWS), summarize(table)
    several = len(table.maps) > 1
    names = [name for name in LISTED_COLUMNS if several or name != "level"]
    names[NAMED_BEFORE:NAMED_BEFORE] = list(table.carried)[:CARRIED_COLUMNS]
    columns = tuple(table.by_name[name] for name in dict.fromkeys([*names, sort]))
    whole = {
        name: table.column(name) for name in (*HISTOGRAMS, *SHARES, "iou", "size_class", "level")
    }
    edges = {name: _histogram_edges(whole[name]) for name in HISTOGRAMS}
    return Page(
        parameters=parameters,
        summary=summary,
        verdict=give_verdict(table, summary, parameters, rows),
        total=len(table),
        images=len(np.unique(table.rois.batch_index)),
        groups=tuple(_groups(whole, edges, several)),
        edges=edges,
        cloud=_cloud(table, whole, rows),
        columns=columns,
        sort=sort,
        rows=rows,
        records=table.records(rows),
        corners=table.rois.corners[rows],
        picture_of=picture_of,
        shades=tuple(shades),
        map_of_roi=map_of_roi,
        below_half=int((whole["iou"] < 0.5).sum()),
    )


def _histogram_edges(values: FloatArray) -> FloatArray:
    """The edges of equal bins from 0 to the largest value."""
    defined = values[np.isfinite(values)]
    largest = float(defined.max()) if len(defined) else 0.0
    return np.linspace(0.0, largest or 1.0, HISTOGRAM_BINS + 1)


def _groups(
    whole: Mapping[str, Array], edges: Mapping[str, FloatArray], several: bool
) -> Iterable[Group]:
    """All RoIs, each size class that occurs, each level where there are several."""
    everywhere = np.ones(len(whole["iou"]), bool)
    masks = [("all", everywhere)]
    masks += [(name, whole["size_class"] == name.encode()) for name in SIZE_CLASSES]
    if several:
        levels = np.unique(whole["level"][~np.isnan(whole["level"])])
        masks += [(f"level {int(level)}", whole["level"] == level) for level in levels]
    for name, mask in masks:
        if not mask.any() and name != "all":
            continue
        yield Group(
            name,
            int(mask.sum()),
            {key: _count(whole[key][mask], edges[key]) for key in HISTOGRAMS},
            {key: _finite(np.median, whole[key][mask]) for key in HISTOGRAMS},
            {key: _finite(np.mean, whole[key][mask]) for key in SHARES},
        )


def _count(values: FloatArray, edges: FloatArray) -> tuple[int, ...]:
    return tuple(np.histogram(values[np.isfinite(values)], edges)[0].tolist())


def _finite(statistic: Callable[[FloatArray], Any], values: FloatArray) -> float | None:
    """A statistic of the defined values, None where there is none."""
    defined = values[np.isfinite(values)]
    return float(statistic(defined)) if len(defined) else None


def _cloud(table: ErrorTable, whole: Mapping[str, Array], rows: IntArray) -> Cloud:
    """At most 2000 RoIs: evenly spaced among the worst-first rows, the worst one among them."""
    chosen = rows[:: max(1, -(-len(rows) // CHARTED_POINTS))]
    rois = table.rois
    sides = np.maximum(rois.corners[chosen, 2:] - rois.corners[chosen, :2], 0.0)
    level = np.nan_to_num(whole["level"][chosen], nan=-1).astype(np.int64)
    side_px = np.sqrt(sides[:, 0] * sides[:, 1])
    edge, iou = (whole[name][chosen] for name in ("edge_error_max_px", "iou"))
    return Cloud(table.row_numbers(chosen), side_px, level, edge, iou)


def share_names() -> Sequence[tuple[str, str]]:
    """The three causes of a value error, in words."""
    words = ("rounding the box", "rounding the bins", "maximum, not mean")
    return tuple(zip(SHARES, words, strict=True))
