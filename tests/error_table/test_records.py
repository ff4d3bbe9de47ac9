"""The error table as JSON, CSV and TSV: the same rows, a gap where nothing is defined."""

import csv
import io
import json

import numpy as np
import pytest

import roicli
from roicli.core.exceptions import ParameterError
from roicli.error_table.cells import plain_values
from roicli.error_table.columns import COLUMN_BY_NAME
from roicli.error_table.writers import write_table
from roicli.render.tables import format_number, wrap_name
from tests.strategies import normal_map

ROIS = np.array([[0, 5.25, 6, 70, 80.5], [1, 1, 1, 1.2, 1.2], [0, 9, 9, 3, 3]], np.float32)
RESULT = roicli.errors(normal_map((2, 2, 9, 9)), ROIS, partition="floor-size", provider="cpu",
                       ignore="R04,R05")  # fmt: skip


def written(table_format):
    stream = io.BytesIO()
    write_table(RESULT.errors, RESULT.parameters, table_format, stream)
    return stream.getvalue().decode()


def expected_rows():
    records = RESULT.errors.records(slice(None))
    return [
        {name: None if isinstance(value, float) and np.isnan(value) else value
         for name, value in zip(records.dtype.names, row.item(), strict=True)}
        for row in records
    ]  # fmt: skip


def same(found, expected):
    if isinstance(expected, bytes):
        return found == expected.decode()
    return found == expected if expected is None else found == pytest.approx(expected, rel=1e-12)


def test_json_holds_the_parameters_the_summary_and_every_row():
    document = json.loads(written("json"), parse_constant=pytest.fail)  # NaN is no JSON
    assert document["parameters"]["partition"] == "floor-size"
    assert document["summary"]["all"]["n"] == 3
    assert len(document["rois"]) == 3
    for found, expected in zip(document["rois"], expected_rows(), strict=True):
        assert list(found) == list(expected)
        assert all(same(found[name], expected[name]) for name in expected)
    assert document["rois"][1]["share_stage1"] is None


def test_json_lines_hold_one_row_each():
    lines = [json.loads(line, parse_constant=pytest.fail) for line in written("jsonl").splitlines()]
    rows = [line for line in lines if "iou" in line]
    assert [row["roi"] for row in rows] == [0, 1, 2]
    assert all(same(rows[2][name], value) for name, value in expected_rows()[2].items())


@pytest.mark.parametrize(("table_format", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_a_spreadsheet_has_every_column_and_empty_cells(table_format, delimiter):
    lines = [line for line in written(table_format).splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines, delimiter=delimiter))
    assert len(rows) == 3
    for found, expected in zip(rows, expected_rows(), strict=True):
        assert list(found) == list(expected)
        for name, value in expected.items():
            cell = found[name]
            if value is None:
                assert cell == ""
            elif isinstance(value, bytes):
                assert cell == value.decode()
            else:
                assert float(cell) == value


@pytest.mark.parametrize("table_format", ["md", "table"])
def test_what_is_for_people_is_no_file_format(table_format):
    with pytest.raises(ParameterError, match="for people, not for files"):
        written(table_format)


def test_records_are_plain_python():
    (first, *_) = RESULT.errors
    assert {type(value) for value in first.values()} <= {int, float, str, type(None)}


def test_a_level_is_a_whole_number_or_missing():
    found = plain_values(np.array([4, np.nan]), COLUMN_BY_NAME["level"])
    assert found == [4, None]
    assert isinstance(found[0], int)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0, "0.000"), (1.23456, "1.235"), (-0.5, "-0.500"), (99999, "99999.000")],
)
def test_numbers_have_three_decimals(value, text):
    assert format_number(value) == text


@pytest.mark.parametrize("value", [1.23e-7, 123456.0, -4.5e12])
def test_numbers_that_three_decimals_do_not_tell_keep_their_magnitude(value):
    assert float(format_number(value)) == pytest.approx(value, rel=5e-3)


@pytest.mark.parametrize("name", ["bin_edge_error_max_px", "iou", "value_error_relative_l2"])
@pytest.mark.parametrize("width", [4, 10, 40])
def test_a_wrapped_name_is_whole_and_breaks_after_underscores(name, width):
    lines = wrap_name(name, width)
    assert "".join(lines) == name
    assert all(line.endswith("_") for line in lines[:-1])
    assert all(len(line) <= width or line.count("_") <= 1 for line in lines)
