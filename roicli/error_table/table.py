"""The error table of K RoIs: columns on demand, summaries, thresholds.

The geometric columns are a function of the RoIs, so they are computed for the rows and columns that
are asked for. Value columns, which need the operators to run, are measured once and handed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, overload

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.foreign import foreign
from roicli.core.norms import mean_of
from roicli.core.shown import Shown
from roicli.core.types import Array, FloatArray, IntArray, RoIs, Size
from roicli.core.vocabulary import SIZE_CLASSES, PixelModel
from roicli.error_table.carried_columns import CarriedColumn, table_columns
from roicli.error_table.columns import (
    COLUMN_BY_NAME,
    GEOMETRIC_COLUMNS,
    SUMMARY_COLUMNS,
    VALUE_COLUMNS,
    WORST_IS_SMALLEST,
    Column,
    check_column,
    plain_value,
    record_dtype,
)
from roicli.error_table.geometric import quantize_errors
from roicli.operators.roi_pool import PoolSpec

BLOCK_ROWS = 1 << 15
KEPT_ROWS = 1 << 17
# A summary of more groups is none.
MOST_GROUPS = 1000
# A RoI whose IoU is less loses more than it keeps.
HALF = 0.5
SAME = 1e-5


class MapGeometry(NamedTuple):
    """What the error columns need of one map: the rule and scale, the size, the level number.

    ``sizes`` (N, 2) are the height and width of each image's map where these have their own.
    """

    spec: PoolSpec
    map_size: Size | None = None
    level: int | None = None
    sizes: IntArray | None = None

    def size_of(self, images: IntArray) -> Size | IntArray | None:
        """The maps' size, or that of each image's (k,)."""
        return self.map_size if self.sizes is None else self.sizes[images]


class ErrorTable(Shown):
    """The error columns of K RoIs, in the RoIs' order.

    ``map_of_roi`` (K,) indexes ``maps``; None where there is one map. ``values`` holds the value
    columns (K,) by name, or is empty. ``row_numbers`` (K,) is what the column ``roi`` says, where
    these RoIs are a block of more, or some were left out. ``carried`` are columns of the RoIs'
    source, which stand behind the ``measured`` ones; ``group_by`` names one whose values a summary
    keeps apart.
    """

    def __init__(
        self,
        rois: RoIs,
        maps: Sequence[MapGeometry],
        pixel_model: PixelModel,
        map_of_roi: IntArray | None = None,
        values: Mapping[str, FloatArray] | None = None,
        compute_dtype: Any = np.float32,
        row_numbers: IntArray | None = None,
        carried: Sequence[CarriedColumn] = (),
        group_by: str | None = None,
    ) -> None:
        self.rois = rois
        self.maps = tuple(maps)
        self.pixel_model = pixel_model
        self.measured: tuple[Column, ...] = GEOMETRIC_COLUMNS + (VALUE_COLUMNS if values else ())
        self._carried = table_columns(carried)
        self.columns: tuple[Column, ...] = (*self.measured, *self._carried)
        self.group_by = group_by
        if group_by is not None:
            self.check_column(group_by)
        self._map_of_roi = np.zeros(len(rois), np.int64) if map_of_roi is None else map_of_roi
        self._values = dict(values or {})
        self._compute_dtype = np.dtype(compute_dtype)
        self._row_numbers = row_numbers
        self._kept: Array | None = None

    def __len__(self) -> int:
        return len(self.rois)

    def __repr__(self) -> str:
        return f"ErrorTable({len(self)} RoIs, {len(self.columns)} columns)"

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """A dictionary a RoI, with every column; None where one is not defined."""
        for block in self.blocks():
            for row in block:
                yield {one.name: plain_value(row[one.name], one) for one in self.columns}

    @overload
    def __getitem__(self, key: str) -> Array: ...
    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, key: slice | IntArray | Sequence[int]) -> ErrorTable: ...
    def __getitem__(self, key: Any) -> Any:
        """A column (K,) by its name, texts as such; a row as a dictionary; or the table of some
        rows: a slice, their places or a mask (K,). Raises ParameterError for an unknown name.
        """
        if isinstance(key, str):
            values = self.column(key)
            if values.dtype.kind != "S":
                return values
            return np.array([plain_value(one, self.by_name[key]) for one in values.tolist()], str)
        if isinstance(key, int | np.integer):
            rows = np.arange(len(self))[key : key + 1 or None]
            if len(rows) == 0:
                raise IndexError(f"there is no row {key}, the table has {len(self)}")
            return next(iter(self.take(rows)))
        return self.take(np.arange(len(self))[key])

    def take(self, rows: IntArray) -> ErrorTable:
        """The table of some rows (k,), in that order."""
        return ErrorTable(
            self.rois.take(rows), self.maps, self.pixel_model, self._map_of_roi[rows],
            {name: values[rows] for name, values in self._values.items()}, self._compute_dtype,
            self.row_numbers(rows), [one.take(rows) for one in self._carried.values()],
            self.group_by,
        )  # fmt: skip

    def to_pandas(self) -> Any:
        """Every column as a pandas.DataFrame; a number that is not defined is NaN."""
        import pandas

        return pandas.DataFrame({column.name: self[column.name] for column in self.columns})

    def to_arrow(self) -> Any:
        """Every column as a pyarrow.Table; what is not defined is null. Raises RoicliError."""
        from roicli.error_table.arrow import read_batches

        return read_batches(self.columns, self.blocks()).read_all()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The table for whatever reads Arrow's streams, as polars.DataFrame and duckdb do."""
        from roicli.error_table.arrow import read_batches

        return read_batches(self.columns, self.blocks()).__arrow_c_stream__(requested_schema)

    def row_numbers(self, rows: IntArray) -> IntArray:
        """What the column ``roi`` says of these rows of the table."""
        return rows if self._row_numbers is None else self._row_numbers[rows]

    @cached_property
    def by_name(self) -> Mapping[str, Column]:
        """The columns by their names."""
        return {column.name: column for column in self.columns}

    @cached_property
    def carried(self) -> Mapping[str, Column]:
        """The columns of the RoIs' source, by their names in the table."""
        return {column.name: column for column in self._carried}

    def measured_records(self, rows: IntArray | slice) -> Array:
        """Structured rows with what was measured, for the RoIs of ``rows``."""
        self.prepare()
        if self._kept is not None:
            return self._kept[rows]
        return self._compute(np.arange(len(self))[rows])

    def records(self, rows: IntArray | slice) -> Array:
        """Structured rows with every column, for the RoIs of ``rows``."""
        measured = self.measured_records(rows)
        if not self._carried:
            return measured
        found = {column.name: measured[column.name] for column in self.measured}
        found |= {column.name: one.read(rows) for column, one in self._carried.items()}
        dtype = np.dtype([(name, values.dtype) for name, values in found.items()])
        out = np.empty(len(measured), dtype)
        for name, values in found.items():
            out[name] = values
        return out

    def prepare(self) -> None:
        """Compute what is kept of the table; the value columns must be measured by then."""
        if self._kept is None and len(self) <= KEPT_ROWS:
            self._kept = self._compute(np.arange(len(self)))

    def blocks(self) -> Iterator[Array]:
        """All records, a bounded number at a time."""
        for start in range(0, len(self), BLOCK_ROWS):
            yield self.records(slice(start, start + BLOCK_ROWS))

    def column(self, name: str) -> Array:
        """One column (K,). Raises ParameterError for an unknown name."""
        self.check_column(name)
        for column, one in self._carried.items():
            if column.name == name:
                return one.read(slice(None))
        parts = [block[name] for block in self.measured_blocks()]
        return np.concatenate(parts) if parts else np.empty(0, record_dtype(self.measured)[name])

    def measured_blocks(self) -> Iterator[Array]:
        """All that was measured, a bounded number of rows at a time."""
        for start in range(0, len(self), BLOCK_ROWS):
            yield self.measured_records(slice(start, start + BLOCK_ROWS))

    def check_column(self, name: str) -> None:
        """Raise ParameterError unless the table has the column."""
        check_column(name, self.columns)

    def worst_first(self, name: str, count: int | None = None) -> IntArray:
        """Row numbers by one column, the worst first: largest magnitude, or smallest IoU."""
        values = self.column(name)
        if values.dtype.kind == "S":
            return np.argsort(values, kind="stable")[:count]
        ranked = values if name in WORST_IS_SMALLEST else -np.abs(values)
        if name in ("roi", "batch_index", "level"):
            ranked = values
        elif name in self.carried:
            ranked = -np.asarray(values, np.float64)
        return np.argsort(ranked, kind="stable")[:count]

    def _compute(self, rows: IntArray) -> Array:
        out = np.zeros(len(rows), record_dtype(self.measured))
        out["roi"] = self.row_numbers(rows)
        for index, geometry in enumerate(self.maps):
            here = np.flatnonzero(self._map_of_roi[rows] == index)
            if len(here) == 0:
                continue
            rois = self.rois.take(rows[here])
            columns = quantize_errors(
                rois,
                geometry.spec,
                self.pixel_model,
                geometry.size_of(rois.batch_index),
                self._compute_dtype,
            )
            for name, values in columns.items():
                out[name][here] = values
            out["level"][here] = np.nan if geometry.level is None else geometry.level
        for name, values in self._values.items():
            out[name] = values[rows]
        return out


class ColumnStatistics(NamedTuple):
    """Over the rows where the column is defined; None where there is none."""

    mean: float | None
    median: float | None
    p95: float | None
    max: float | None
    min: float | None
    p05: float | None


class GroupSummary(NamedTuple):
    """``n`` RoIs of one group, and the statistics of the summary columns."""

    name: str
    n: int
    statistics: Mapping[str, ColumnStatistics]


def measure_statistics(values: FloatArray) -> ColumnStatistics:
    """Mean, median, 95th and 5th percentile (linear), largest and smallest of what is defined."""
    defined = values[~np.isnan(values)]
    if len(defined) == 0:
        return ColumnStatistics(None, None, None, None, None, None)
    ordered = np.sort(defined)
    return ColumnStatistics(
        mean_of(defined),
        _quantile(ordered, 0.5),
        _quantile(ordered, 0.95),
        float(ordered[-1]),
        float(ordered[0]),
        _quantile(ordered, 0.05),
    )


def _quantile(ordered: FloatArray, share: float) -> float:
    """Linear interpolation between order statistics, as numpy.quantile, whose first call imports
    more than a small run takes.
    """
    place = share * (len(ordered) - 1)
    return float(np.interp(place, np.arange(len(ordered)), ordered))


class Summary(NamedTuple):
    """Statistics for all RoIs, by COCO size class, and by pyramid level where there are several.

    ``by_group`` are those of a column's values, largest group first; empty where none was named.
    ``little_overlap`` of the ``with_overlap`` RoIs that have an IoU share less than half with their
    box. ``constants`` are the summary columns that are one number for all of several RoIs.
    """

    by_class: tuple[GroupSummary, ...]
    by_level: tuple[GroupSummary, ...]
    by_group: tuple[GroupSummary, ...]
    group_by: str | None
    little_overlap: int
    with_overlap: int
    constants: Mapping[str, float]


def summarize(table: ErrorTable) -> Summary:
    """The summary of a table (SEMANTICS: summaries). Raises ParameterError for too many groups."""
    names = [name for name in SUMMARY_COLUMNS if name in {c.name for c in table.measured}]
    keep = [*names, "size_class", "level"]
    dtype = record_dtype(tuple(COLUMN_BY_NAME[name] for name in keep))
    wanted = np.empty(len(table), dtype)
    start = 0
    for block in table.measured_blocks():
        for name in keep:
            wanted[name][start : start + len(block)] = block[name]
        start += len(block)

    def group(name: str, rows: Array) -> GroupSummary:
        statistics = {column: measure_statistics(rows[column]) for column in names}
        return GroupSummary(name, len(rows), statistics)

    classes = [group("all", wanted)]
    classes += [group(name, wanted[wanted["size_class"] == name.encode()]) for name in SIZE_CLASSES]
    levels = sorted({geometry.level for geometry in table.maps if geometry.level is not None})
    by_level = [group(str(level), wanted[wanted["level"] == level]) for level in levels]
    groups = [] if table.group_by is None else _split_by(table, table.group_by)
    iou = wanted["iou"]
    return Summary(
        tuple(classes),
        tuple(by_level) if len(table.maps) > 1 else (),
        tuple(group(name, wanted[rows]) for name, rows in groups),
        table.group_by,
        int(np.count_nonzero(iou < HALF)),
        int(np.count_nonzero(~np.isnan(iou))),
        {name: float(wanted[name][0]) for name in names if _is_constant(wanted[name])},
    )


def _is_constant(values: FloatArray) -> bool:
    """Whether several values are one, but for the last digits that rounding makes."""
    return len(values) > 1 and bool(np.ptp(values) <= SAME * abs(values[0]))


def _split_by(table: ErrorTable, name: str) -> list[tuple[str, IntArray]]:
    """The rows of each value of a column, by what it is called; the largest group first."""
    values, inverse = np.unique(table.column(name), return_inverse=True)
    if len(values) > MOST_GROUPS:
        raise ParameterError(
            f"--group-by {name}: {len(values):,} values, expected at most {MOST_GROUPS:,}",
            "group by a column of few values, like a class",
        )
    sizes = np.bincount(inverse, minlength=len(values))
    parts = np.split(np.argsort(inverse, kind="stable"), np.cumsum(sizes)[:-1])
    order = np.argsort(-sizes, kind="stable").tolist()
    return [(_name_of(values[place]), parts[place]) for place in order] if len(table) else []


def _name_of(value: Any) -> str:
    """A column's value as the name of a group."""
    if isinstance(value, bytes):
        return str(foreign(value)) or "(empty)"
    return f"{value:.15g}" if isinstance(value, float | np.floating) else str(value)
