"""The columns of the error table as data: name, unit and meaning (docs/semantics.md, 5).

Reports, files and documentation take names, order and units from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.parse import did_you_mean
from roicli.core.vocabulary import SummaryForm

Kind = Literal["integer", "number", "text"]


class Column(NamedTuple):
    """One column: a missing value is NaN in memory and HDF5, null in JSON, empty in CSV.

    ``is_foreign``: its texts are the user's, and made safe where they are shown.
    ``heading`` is what people read over it; without one, the name.
    """

    name: str
    unit: str
    meaning: str
    kind: Kind = "number"
    heading: str = ""
    is_foreign: bool = False

    @property
    def header(self) -> list[str]:
        """The heading in lines, the unit under it where there is one."""
        unit = [] if self.unit in ("-", "1") or not self.heading else [self.unit]
        return [self.heading or self.name, *unit]


def _signed_edges() -> list[Column]:
    edges = ("x1", "y1", "x2", "y2")
    return [
        Column(
            f"{edge}_error_{suffix}",
            unit,
            f"rounded minus real {edge} edge",
            heading=f"{edge} error",
        )
        for suffix, unit in (("cells", "cells"), ("px", "px"))
        for edge in edges
    ]


GEOMETRIC_COLUMNS: tuple[Column, ...] = (
    Column("roi", "-", "row number in the RoIs", "integer", heading="RoI"),
    Column("batch_index", "-", "image", "integer", heading="image"),
    Column("level", "-", "pyramid level, log2(stride)", "integer", heading="level"),
    Column(
        "size_class", "-", "COCO size class of the box area in image pixels", "text", heading="size"
    ),
    *(
        Column(edge, "px", f"{edge} edge of the box in image pixels", heading=edge)
        for edge in ("x1", "y1", "x2", "y2")
    ),
    Column(
        "coordinate_error_px",
        "px",
        "stage 0: what the stored dtype can have lost",
        heading="dtype loss",
    ),
    *(
        Column(
            f"quantized_{edge}",
            "cells",
            f"{edge} edge of the pooled region Q",
            heading=f"pooled {edge}",
        )
        for edge in ("x1", "y1", "x2", "y2")
    ),
    *_signed_edges(),
    Column(
        "edge_error_max_px",
        "px",
        "stage 1: largest of the four absolute edge errors",
        heading="edge error",
    ),
    Column(
        "edge_error_mean_px",
        "px",
        "stage 1: mean of the four absolute edge errors",
        heading="mean edge error",
    ),
    Column("shift_x_cells", "cells", "centre of Q minus centre of the real box, x"),
    Column("shift_y_cells", "cells", "centre of Q minus centre of the real box, y"),
    Column("shift_px", "px", "length of the shift", heading="shift"),
    Column("width_ratio", "1", "width of Q over the real width", heading="width ratio"),
    Column("height_ratio", "1", "height of Q over the real height", heading="height ratio"),
    Column("iou", "1", "intersection over union of Q and the real box", heading="IoU"),
    Column("area_lost_cells", "cells²", "area of the real box that Q misses"),
    Column("area_gained_cells", "cells²", "area of Q outside the real box"),
    Column("area_lost_fraction", "1", "area lost over the real area", heading="area lost"),
    Column("area_gained_fraction", "1", "area gained over the real area", heading="area gained"),
    Column("clipped_fraction", "1", "share of Q outside the map", heading="clipped"),
    Column(
        "bin_edge_error_mean", "cells", "stage 2: mean bin edge error against equal division of B"
    ),
    Column("bin_edge_error_max", "cells", "stage 2: largest bin edge error"),
    Column("bin_edge_error_mean_px", "px", "stage 2: mean bin edge error"),
    Column(
        "bin_edge_error_max_px", "px", "stage 2: largest bin edge error", heading="bin rounding"
    ),
    Column(
        "total_edge_error_mean_px", "px", "both stages: mean bin edge error against the real bins"
    ),
    Column(
        "total_edge_error_max_px",
        "px",
        "both stages: largest bin edge error",
        heading="bin edge error",
    ),
    Column("bin_overlap_x", "1", "sum of bin widths over the width of B, minus 1"),
    Column("bin_overlap_y", "1", "sum of bin heights over the height of B, minus 1"),
    Column("empty_bins", "-", "bins without a cell of the map", "integer", heading="empty bins"),
)

VALUE_COLUMNS: tuple[Column, ...] = (
    Column("value_error_max", "-", "largest |RoI Pool - RoI Align|", heading="largest value error"),
    Column("value_error_mean", "-", "mean |RoI Pool - RoI Align|"),
    Column(
        "value_error_relative_l2",
        "1",
        "|RoI Pool - RoI Align| over |RoI Align|, L2",
        heading="value error",
    ),
    Column("value_cosine", "1", "cosine of RoI Pool and RoI Align", heading="cosine"),
    Column(
        "share_stage1", "1", "share of the value error from rounding the box", heading="due to box"
    ),
    Column(
        "share_stage2",
        "1",
        "share of the value error from rounding the bins",
        heading="due to bins",
    ),
    Column(
        "share_aggregation",
        "1",
        "share of the value error from maximum against mean",
        heading="due to maximum",
    ),
)

COLUMNS: tuple[Column, ...] = GEOMETRIC_COLUMNS + VALUE_COLUMNS
COLUMN_BY_NAME: dict[str, Column] = {column.name: column for column in COLUMNS}

SUMMARY_COLUMNS: tuple[str, ...] = (
    "edge_error_max_px",
    "edge_error_mean_px",
    "shift_px",
    "bin_edge_error_mean_px",
    "bin_edge_error_max_px",
    "total_edge_error_mean_px",
    "total_edge_error_max_px",
    "iou",
    "value_error_relative_l2",
    "share_stage1",
    "share_stage2",
    "share_aggregation",
)

# Columns of which a small value is the bad one: the table shows their smallest first.
WORST_IS_SMALLEST = frozenset({"iou", "value_cosine"})


class View(NamedTuple):
    """How many rows (None: all), sorted by what, which columns (none: those that fit)."""

    rows: int | None
    sort: str
    columns: tuple[str, ...]
    summary: SummaryForm = "short"


def describe_column(column: Column) -> dict[str, str]:
    """What people ask of a column."""
    unit = "" if column.unit in ("-", "1") else column.unit
    return {
        "name": column.name,
        "heading": column.heading or column.name,
        "unit": unit,
        "meaning": column.meaning,
    }


def check_column(name: str, columns: Sequence[Column]) -> None:
    """Raise ParameterError unless ``columns`` has ``name``."""
    if name in (column.name for column in columns):
        return
    if name in COLUMN_BY_NAME:
        raise ParameterError(
            f"column {name!r} needs the operators' values, which this run did not measure",
            "add --values",
        )
    known = [column.name for column in columns]
    raise ParameterError(
        f"there is no column {name!r}", did_you_mean(name, known) or "see roicli columns"
    )


def record_dtype(columns: Sequence[Column]) -> np.dtype[np.void]:
    """The compound dtype of one row. `level` can be missing, so it is stored as a float."""
    kinds = {"number": np.dtype("<f8"), "integer": np.dtype("<i8"), "text": np.dtype("S6")}
    return np.dtype(
        [(c.name, kinds["number"] if c.name == "level" else kinds[c.kind]) for c in columns]
    )
