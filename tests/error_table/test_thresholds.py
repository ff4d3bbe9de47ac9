"""Thresholds: what they read, when they are crossed, by whom."""

import numpy as np
import pytest

from roicli.core.exceptions import ParameterError
from roicli.core.types import RoIs
from roicli.error_table.columns import VALUE_COLUMNS
from roicli.error_table.table import ErrorTable, MapGeometry
from roicli.error_table.thresholds import Threshold, check_thresholds, parse_threshold
from roicli.operators.roi_pool import PoolSpec


def table_of(values, name="value_error_max"):
    """A table whose column ``name`` holds the values."""
    count = len(values)
    rois = RoIs(np.zeros(count, np.int64), np.tile([0.0, 0, 9, 9], (count, 1)), np.zeros(count))
    columns = {column.name: np.zeros(count) for column in VALUE_COLUMNS}
    columns[name] = np.array(values, np.float64)
    return ErrorTable(rois, [MapGeometry(PoolSpec())], "half-pixel", values=columns)


def crossings(values, text, direction="over"):
    return check_thresholds(table_of(values), [parse_threshold(text, direction)])


def test_over_is_strictly_over():
    (crossing,) = crossings([1, 2, 3, 2.5], "value_error_max=2")
    assert crossing.rows.tolist() == [2, 3]
    assert crossing.worst == 3
    assert crossings([1, 2], "value_error_max=2") == []


def test_under_is_strictly_under():
    (crossing,) = crossings([1, 2, 0.5], "value_error_max=2", "under")
    assert crossing.rows.tolist() == [0, 2]
    assert crossing.worst == 0.5
    assert crossings([2, 3], "value_error_max=2", "under") == []


@pytest.mark.parametrize("direction", ["over", "under"])
@pytest.mark.parametrize("text", ["value_error_max=0", "mean:value_error_max=0"])
def test_values_that_are_not_defined_cross_nothing(direction, text):
    assert crossings([np.nan, np.nan], text, direction) == []


@pytest.mark.parametrize(
    ("statistic", "value"), [("mean", 5.0), ("median", 5.0), ("p95", 9.5), ("max", 10.0),
                             ("min", 0.0)],
)  # fmt: skip
def test_a_statistic_is_of_all_rois(statistic, value):
    numbers = list(range(11))
    (crossing,) = crossings(numbers, f"{statistic}:value_error_max={value - 0.01}")
    assert crossing.worst == pytest.approx(value)
    assert len(crossing.rows) == 0
    assert crossings(numbers, f"{statistic}:value_error_max={value + 0.01}") == []


def test_each_threshold_is_checked_in_its_order():
    wanted = [parse_threshold("value_error_max=5", "over"), parse_threshold("iou=-1", "under"),
              parse_threshold("p95:value_error_max=1", "over")]  # fmt: skip
    found = check_thresholds(table_of([0, 9]), wanted)
    assert [crossing.threshold for crossing in found] == [wanted[0], wanted[2]]


@pytest.mark.parametrize(
    ("text", "column", "value", "statistic"),
    [
        ("iou=0.5", "iou", 0.5, None),
        ("p95:edge_error_max_px=8", "edge_error_max_px", 8.0, "p95"),
        ("shift_px=1e-3", "shift_px", 0.001, None),
    ],
)
def test_the_spelling(text, column, value, statistic):
    assert parse_threshold(text, "over") == Threshold(column, value, "over", statistic)


def test_a_threshold_is_shown_as_it_is_meant():
    assert str(parse_threshold("p95:shift_px=8.50", "over")) == "p95:shift_px over 8.5"
    assert str(parse_threshold("iou=0.5", "under")) == "iou under 0.5"


@pytest.mark.parametrize("text", ["iou", "iou=", "iou=x", "iou=nan", "=", "", "p95:iou"])
def test_a_text_without_a_number_is_refused(text):
    with pytest.raises(ParameterError, match="expected COLUMN=VALUE or STATISTIC:COLUMN=VALUE"):
        parse_threshold(text, "over")


def test_an_unknown_statistic_lists_the_known_ones():
    with pytest.raises(ParameterError, match="'p99', expected one of: mean, median, p95, max, min"):
        parse_threshold("p99:iou=1", "over")


def test_a_column_of_words_is_refused():
    with pytest.raises(ParameterError, match="holds words"):
        parse_threshold("size_class=1", "over")


def test_an_unknown_column_is_refused_when_it_is_looked_up():
    with pytest.raises(ParameterError, match="no column 'iuo'"):
        crossings([1], "iuo=1")
