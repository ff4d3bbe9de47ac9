"""The error table of K RoIs: columns on demand, summaries, thresholds.

The geometric columns are a function of the RoIs, so they are computed for the rows and columns that
are asked for. Value columns, which need the operators to run, are measured once and handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple, overload

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.foreign import foreign
from roicli.core.norms import mean_of
from roicli.core.shown import Shown
from roicli.core.system import usable_cores
from roicli.core.types import Array, FloatArray, IntArray, RoIs, Size
from roicli.core.vocabulary import SIZE_CLASSES, PixelModel
from roicli.error_table.carried_columns import CarriedColumn, table_columns
from roicli.error_table.cells import plain_values
from roicli.error_table.columns import (
    GEOMETRIC_COLUMNS,
    SUMMARY_COLUMNS,
    VALUE_COLUMNS,
    WORST_IS_SMALLEST,
    Column,
    check_column,
    record_dtype,
)
from roicli.error_table.geometric import quantize_errors
from roicli.operators.roi_pool import PoolSpec

BLOCK_ROWS = 1 << 15
KEPT_ROWS = 1 << 17
# A summary of more groups is none.
MOST_GROUPS = 1000
# What a summary reads, where it was measured.
SUMMARY_READS = (*SUMMARY_COLUMNS, "size_class", "level")
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
        self._columns_read: dict[str, Array] = {}

    def __len__(self) -> int:
        return len(self.rois)

    def __repr__(self) -> str:
        return f"ErrorTable({len(self)} RoIs, {len(self.columns)} columns)"

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """A dictionary a RoI, with every column; None where one is not defined."""
        names = [column.name for column in self.columns]
        for block in self.blocks():
            found = [plain_values(block[column.name], column) for column in self.columns]
            for row in zip(*found, strict=True):
                yield dict(zip(names, row, strict=True))

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
            return np.array(plain_values(values, self.by_name[key]), str)
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
        found = self._columns_read.get(name)
        return self._read_columns([name])[name] if found is None else found.copy()

    def keep_columns(self, names: Iterable[str]) -> Mapping[str, Array]:
        """What was measured in some columns (K,), read in one pass and kept; not to be written
        to. Names of other columns are passed over.
        """
        measured = {column.name for column in self.measured}
        wanted = [name for name in dict.fromkeys(names) if name in measured]
        missing = [name for name in wanted if name not in self._columns_read]
        if missing:
            self._columns_read |= self._read_columns(missing)
        return {name: self._columns_read[name] for name in wanted}

    def _read_columns(self, names: Sequence[str]) -> dict[str, Array]:
        dtype = record_dtype(self.measured)
        found = {name: np.empty(len(self), dtype[name]) for name in names}
        start = 0
        for block in self.measured_blocks():
            for name, values in found.items():
                values[start : start + len(block)] = block[name]
            start += len(block)
        return found

    def measured_blocks(self) -> Iterator[Array]:
        """All that was measured, a bounded number of rows at a time."""
        for start in range(0, len(self), BLOCK_ROWS):
            yield self.measured_records(slice(start, start + BLOCK_ROWS))

    def check_column(self, name: str) -> None:
        """Raise ParameterError unless the table has the column."""
        check_column(name, self.columns)

    def worst_first(self, name: str, count: int | None = None) -> IntArray:
        """Row numbers by one column, the worst first: largest magnitude, or smallest IoU."""
        values = self._columns_read[name] if name in self._columns_read else self.column(name)
        if values.dtype.kind == "S":
            return np.argsort(values, kind="stable")[:count]
        ranked = values if name in WORST_IS_SMALLEST else -np.abs(values)
        if name in ("roi", "batch_index", "level"):
            ranked = values
        elif name in self.carried:
            ranked = -np.asarray(values, np.float64)
        return _rank_first(ranked, count)

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


def _rank_first(ranked: Array, count: int | None) -> IntArray:
    """The first of ``argsort(ranked, kind="stable")``, without sorting all of it."""
    if count is None or not 0 < count < len(ranked):
        return np.argsort(ranked, kind="stable")[:count]
    limit = np.partition(ranked, count - 1)[count - 1]
    is_before, is_last = ranked < limit, ranked == limit
    if np.isnan(limit):
        is_last = np.isnan(ranked)
        is_before = ~is_last
    before = np.flatnonzero(is_before)
    first = np.concatenate([before, np.flatnonzero(is_last)[: count - len(before)]])
    return first[np.argsort(ranked[first], kind="stable")]


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
    mean = mean_of(defined)
    last = len(defined) - 1
    places = {share: share * last for share in (0.05, 0.5, 0.95)}
    below = [int(place) for place in places.values()]
    _select(defined, sorted({0, last, *below, *(min(one + 1, last) for one in below)}))

    def quantile(share: float) -> float:
        # Not numpy.quantile, whose first call imports more than a small run takes.
        low = min(int(places[share]), max(last - 1, 0))
        around = defined[low : low + 2]
        return float(np.interp(places[share] - low, np.arange(len(around)), around))

    return ColumnStatistics(
        mean, quantile(0.5), quantile(0.95), float(defined[-1]), float(defined[0]), quantile(0.05)
    )


def _select(values: FloatArray, places: Sequence[int]) -> None:
    """Bring to each of rising ``places`` the value that sorting would bring there.

    One place at a time: where NumPy has vector instructions for it, it uses them for one only.
    """
    if not places:
        return
    half = len(places) // 2
    place = places[half]
    values.partition(place)
    _select(values[:place], places[:half])
    _select(values[place + 1 :], [one - place - 1 for one in places[half + 1 :]])


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


def summarize(table: ErrorTable, statistics: Sequence[str] = SUMMARY_COLUMNS) -> Summary:
    """The summary of a table (docs/semantics.md, 5), with the statistics of the summary columns
    that are named. Raises ParameterError for too many groups.
    """
    columns = table.keep_columns(SUMMARY_READS)
    names = [name for name in SUMMARY_COLUMNS if name in columns]
    wanted = {name: columns[name] for name in names if name in statistics}
    iou, of_class, of_level = columns["iou"], columns["size_class"], columns["level"]
    levels = {one.level for one in table.maps if one.level is not None and len(table.maps) > 1}
    groups = [] if table.group_by is None else _split_by(table, table.group_by)
    with _mapping(len(table)) as run_each:

        def group(name: str, rows: Array | slice, count: int) -> GroupSummary:
            measured = run_each(lambda values: measure_statistics(values[rows]), wanted.values())
            return GroupSummary(name, count, dict(zip(wanted, measured, strict=True)))

        def group_of(name: str, rows: Array) -> GroupSummary:
            return group(name, rows, int(np.count_nonzero(rows)))

        classes = [group("all", slice(None), len(table))]
        classes += [group_of(name, of_class == name.encode()) for name in SIZE_CLASSES]
        by_level = [group_of(str(level), of_level == level) for level in sorted(levels)]
        by_group = [group(name, rows, len(rows)) for name, rows in groups]
    return Summary(
        tuple(classes),
        tuple(by_level),
        tuple(by_group),
        table.group_by,
        int(np.count_nonzero(iou < HALF)),
        int(np.count_nonzero(~np.isnan(iou))),
        {name: float(columns[name][0]) for name in names if _is_constant(columns[name])},
    )


@contextmanager
def _mapping(rows: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """``map``, or one that works on all cores where there are many rows."""
    if rows <= KEPT_ROWS:
        yield map
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(usable_cores()) as pool:
        yield pool.map


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
