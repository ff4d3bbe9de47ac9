"""The error table: formats for programs, the terminal at any width, no colour in a pipe."""

import csv
import io
import json
import re
from itertools import cycle, product
from typing import Any

import numpy as np
import pytest

from roicli.error_table.columns import GEOMETRIC_COLUMNS, VALUE_COLUMNS
from tests.cli.conftest import Arrays
from tests.cli.running import (
    FEATURES,
    FPN,
    ROIS,
    SCALE,
    TEXT_ROIS,
    refuse,
    run_process,
    save,
    succeed,
)
from tests.options import some

NAMES = [column.name for column in GEOMETRIC_COLUMNS]
TEXT = ("errors", TEXT_ROIS, "--spatial-scale", "1/8")
NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]\d+)?|-|[a-z_0-9]+")


def load_strictly(text: str) -> Any:
    """JSON as the standard has it: no NaN, no Infinity."""

    def refuse_constant(name: str) -> None:
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse_constant)


def test_json(inputs: Arrays) -> None:
    found = load_strictly(succeed("align", FEATURES, ROIS, *SCALE, "--format", "json").text)
    assert set(found) == {
        "schema_version", "version", "parameters", "verdict", "rois", "summary",
    }  # fmt: skip
    assert found["parameters"]["operator"] == "align"
    assert found["parameters"]["sampling_ratio"] == 2
    assert [record["roi"] for record in found["rois"]] == [0, 1, 2, 3, 4]
    assert list(found["rois"][0]) == NAMES
    assert list(found["summary"]) == ["all", "small", "medium", "large"]
    errors = [record["edge_error_max_px"] for record in found["rois"]]
    statistics = found["summary"]["all"]["edge_error_max_px"]
    assert found["summary"]["all"]["n"] == 5
    assert statistics["max"] == max(errors)
    assert statistics["mean"] == pytest.approx(np.mean(errors), rel=1e-12)
    assert statistics["p95"] == pytest.approx(np.percentile(errors, 95), rel=1e-12)
    assert found["summary"]["large"]["n"] == 0
    assert found["summary"]["large"]["iou"]["mean"] is None


def test_formats_hold_the_same_numbers(inputs: Arrays) -> None:
    save("odd.npy", np.array([[0, 5, 5, 5, 5], [0, 9, 9, 2, 2], [0, 3.3, 4, 20, 30]], np.float32))
    options = ("--values", "--force", "--ignore", "R04", "--format")
    arguments = ("pool", FEATURES, "odd.npy", *SCALE, *options)
    rows = load_strictly(succeed(*arguments, "json").text)["rois"]
    assert list(rows[0]) == NAMES + [column.name for column in VALUE_COLUMNS]
    assert rows[0]["width_ratio"] is None  # no width to compare with
    lines = succeed(*arguments, "jsonl").text.splitlines()
    assert [load_strictly(line) for line in lines] == rows
    for table_format, delimiter in (("csv", ","), ("tsv", "\t")):
        text = succeed(*arguments, table_format).text
        cells = list(csv.DictReader(io.StringIO(text), delimiter=delimiter))
        for cell, row in zip(cells, rows, strict=True):
            for name, value in row.items():
                expected = "" if value is None else value
                assert type(expected)(cell[name]) == expected


def test_full_floats() -> None:
    found = load_strictly(succeed(*TEXT, "--format", "json").text)
    rois = np.load(TEXT_ROIS).astype(np.float64)
    for record, (_, x1, *_) in zip(found["rois"], rois, strict=True):
        expected = record["quantized_x1"] - x1 / 8
        assert record["x1_error_cells"] == pytest.approx(expected, abs=1e-15)


def test_markdown() -> None:
    lines = succeed(*TEXT, "--format", "md", "--rows", "3").text.splitlines()
    tables = [line for line in lines if line.startswith("|")]
    assert tables[0].startswith("| roi | batch_index | size_class | edge_error_max_px |")
    assert set(tables[1]) == set("|-:")
    assert len({line.count("|") for line in tables[:5]}) == 1
    assert "3 of 102 RoIs" in "\n".join(lines)
    assert "half-pixel" in lines[0]
    assert lines[0].startswith("RoI Pool (caffe, overlap) would move the worst edge of a box by")


WIDTHS = [20, 40, 60, 80, 120, 200, 1000]


@some("width, values", product(WIDTHS, (False, True)), *zip(WIDTHS, cycle((False, True))))
def test_no_number_is_ever_cut(width: int, values: bool) -> None:
    arguments = TEXT if not values else ("errors", f"{FPN}::p3", TEXT_ROIS)
    outcome = succeed(*arguments, COLUMNS=str(width))
    text = outcome.text
    assert "..." not in text
    assert "\x1b" not in text
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if "───" in line) + 1
    body = lines[start : start + 5]
    assert "…" not in "\n".join(lines[start:])
    whole = {f"{r['edge_error_max_px']:.3f}" for r in
             load_strictly(succeed(*arguments, "--format", "json").text)["rois"]}  # fmt: skip
    for line in body:
        cells = line.split()
        assert all(NUMBER.fullmatch(cell) for cell in cells)
        assert width < 40 or whole & set(cells)
    if width >= 80:
        assert max(map(len, lines)) <= width
    if width == 80:
        assert "more columns fit a wider" in text


def test_wider_shows_more_columns() -> None:
    counts = []
    for width in (40, 80, 120, 200):
        lines = succeed(*TEXT, COLUMNS=str(width)).text.splitlines()
        start = next(i for i, line in enumerate(lines) if "───" in line)
        counts.append(len(lines[start + 1].split()))
    assert counts == sorted(set(counts))


def table_rows(*options: str) -> list[list[str]]:
    """The cells of the rows that a terminal shows."""
    lines = succeed(*TEXT, *options, COLUMNS="200").text.splitlines()
    start = next(i for i, line in enumerate(lines) if "───" in line) + 1
    stop = next(i for i, line in enumerate(lines) if re.search(r" of \d+ RoIs, ", line))
    return [line.split() for line in lines[start:stop]]


def test_rows_sort_and_columns() -> None:
    assert len(table_rows()) == 5
    assert len(table_rows("--rows", "all")) == 102
    assert len(table_rows("--rows", "1000")) == 102
    assert "shift" not in succeed(*TEXT, "--rows", "0").text.partition("summary")[0]
    rows = table_rows("--columns", "iou,roi", "--sort", "iou", "--rows", "all")
    found = [float(iou) for iou, _ in rows]
    assert found == sorted(found)
    assert sorted(int(roi) for _, roi in rows) == list(range(102))
    worst = [float(row[0]) for row in table_rows("--columns", "shift_px", "--sort", "shift_px")]
    assert worst == sorted(worst, reverse=True)
    named = table_rows("--columns", ",".join(NAMES), "--rows", "2")
    assert [len(row) for row in named] == [len(NAMES)] * 2


def test_sort_by_signed_and_missing_values() -> None:
    save("odd.npy", np.array([[0, 5, 5, 5, 5], [0, 0, 0, 9, 9], [0, 3.3, 4, 20, 30]]))
    arguments = ("errors", "odd.npy", "--columns", "roi,width_ratio", "--sort", "width_ratio")
    lines = succeed(*arguments, "--spatial-scale", "1/4").text.splitlines()
    start = next(i for i, line in enumerate(lines) if "───" in line) + 1
    assert lines[start + 2].split() == ["0", "-"]  # what is not defined comes last


def verdict(*arguments: str) -> str:
    """The sentences above the table."""
    text = succeed(*arguments, COLUMNS="1000").text
    return text.partition("\n\n")[0]


def test_the_verdict_names_rule_stride_and_pixel_model() -> None:
    rule = ("--quantization", "floor", "--partition", "disjoint", "--pixel-model", "legacy")
    text = verdict(*TEXT, *rule)
    assert text.startswith("RoI Pool (floor, disjoint) would move the worst edge of a box by ")
    assert "stride 8, legacy" in text


def test_the_verdict_says_what_the_rows_say() -> None:
    rows = load_strictly(succeed(*TEXT, "--format", "json").text)["rois"]
    edges = [row["edge_error_max_px"] for row in rows]
    few = sum(row["iou"] < 0.5 for row in rows)
    medians = {
        size: np.median([row["iou"] for row in rows if row["size_class"] == size])
        for size in ("small", "medium", "large")
    }
    worst = sorted(rows, key=lambda row: (-row["edge_error_max_px"], row["roi"]))[:3]
    names = ", ".join(str(row["roi"]) for row in worst)
    assert verdict(*TEXT) == (
        f"RoI Pool (caffe, overlap) would move the worst edge of a box by "
        f"{np.median(edges):.3g} px at the median (95 % below {np.percentile(edges, 95):.3g}; "
        f"stride 8, half-pixel). {few} of 102 RoIs share less than half with their box; "
        f"{min(medians, key=medians.__getitem__)} ones suffer most.\n"
        f"Worst: {names}: roicli draw … --roi {worst[0]['roi']}"
    )
    found = load_strictly(succeed(*TEXT, "--format", "json").text)["verdict"]
    assert found == verdict(*TEXT).replace("\n", " ")


def test_the_verdict_of_one_roi_of_none_and_of_values(inputs: Arrays) -> None:
    save("one.npy", np.array([[0, 3.3, 4, 20, 30]], np.float32))
    assert "moves the worst edge of the box by" in verdict("pool", FEATURES, "one.npy", *SCALE)
    assert "the box have an IoU of 0." in verdict("errors", "one.npy", *SCALE)
    save("none.npy", np.empty((0, 5), np.float32))
    assert verdict("errors", "none.npy", *SCALE).splitlines()[0] == "There are no RoIs."
    assert "off RoI Align's at the median" in verdict("errors", FEATURES, ROIS, *SCALE)
    save("great.npy", np.array([[0, 0, 0, 8000, 8000]] * 2, np.float32))
    assert "All 2 RoIs share at least half" in verdict("errors", "great.npy", *SCALE)


def test_the_whole_answer_is_a_screen() -> None:
    assert len(succeed(*TEXT, COLUMNS="80").text.splitlines()) <= 24


def test_nobody_reads_the_table_as_the_error_of_an_operator_that_rounds_nothing(
    inputs: Arrays,
) -> None:
    for command, name in (("align", "RoI Align"), ("precise-pool", "Precise RoI Pooling")):
        text = succeed(
            command, FEATURES, ROIS, *SCALE, "-o", "x.npy", "--force", COLUMNS="200"
        ).text
        assert "RoI Pool (caffe, overlap) would move" in text
        assert f"{name} moves none." in text
        assert "RoI Pool's errors: 5 of 5 RoIs, largest edge error first" in text
    found = load_strictly(succeed("align", FEATURES, ROIS, *SCALE, "-o", "x.npy", "--force",
                                  "--format", "json").text)  # fmt: skip
    assert "RoI Align moves none." in found["verdict"]
    for command, start in (("pool", "RoI Pool"), ("average-pool", "Average RoI Pool")):
        text = succeed(
            command, FEATURES, ROIS, *SCALE, "-o", "x.npy", "--force", COLUMNS="200"
        ).text
        assert text.startswith(f"{start} (caffe, overlap) moves the worst edge")
        assert "moves none" not in text
        assert "RoI Pool's errors" not in text


def test_the_answer_after_align_is_a_screen() -> None:
    arguments = ("align", f"{FPN}::p3", TEXT_ROIS, "-o", "x.npy")
    assert len(succeed(*arguments, COLUMNS="80").text.splitlines()) <= 24


def test_what_is_one_for_all_rois_is_said_once(inputs: Arrays) -> None:
    save("first.npy", np.array([[0, 3.3, 4, 20, 30], [0, 3.3, 4, 25, 30]], np.float32))
    text = succeed("errors", "first.npy", *SCALE).text
    assert "the same for all: image 0" in text
    assert "image" not in next(line for line in text.splitlines() if line.startswith("RoI "))
    assert "image" in succeed("errors", "first.npy", *SCALE, "--columns", "roi,batch_index").text


def test_beside_features_on_stdout_stands_the_verdict_alone(inputs: Arrays) -> None:
    outcome = succeed("align", FEATURES, ROIS, *SCALE, "-o", "-")
    (line,) = outcome.errors
    assert line.startswith("roicli: RoI Pool (caffe, overlap) would move")


def test_summary_stands_under_the_table() -> None:
    text = succeed(*TEXT).text
    head = next(line for line in text.splitlines() if line.startswith("summary"))
    assert head.split() == ["summary", "median", "95", "%", "worst", "small", "medium", "large"]
    found = load_strictly(succeed(*TEXT, "--format", "json").text)["summary"]
    everything, small = (found[name]["iou"] for name in ("all", "small"))
    line = next(line for line in text.splitlines() if line.startswith("IoU")).split()
    numbers = [everything["median"], everything["p05"], everything["min"], small["median"]]
    assert line[1:5] == [f"{number:.3f}" for number in numbers]


def test_the_full_summary() -> None:
    text = succeed(*TEXT, "--summary", "full").text
    head = next(line for line in text.splitlines() if line.startswith("summary"))
    assert head.split() == ["summary", "RoIs", "n", "mean", "median", "p95", "max"]
    for name in ("edge_error_max_px", "iou", "small", "medium", "large"):
        assert name in text.partition(head)[2]


def test_no_table_quiet_and_verbose(inputs: Arrays) -> None:
    arguments = ("align", FEATURES, ROIS, *SCALE, "--force")
    outcome = succeed(*arguments, "--no-table")
    assert outcome.out == b""
    assert outcome.errors == ["roicli: note: wrote f.align.h5 (5, 3, 7, 7) float32"]
    outcome = succeed(*arguments, "-q")
    assert (outcome.out, outcome.err) == (b"", "")
    outcome = succeed(*arguments, "-v", "--no-table")
    assert outcome.out == b""
    assert "roicli: run: provider_used: cpu" in outcome.errors
    outcome = succeed("errors", ROIS, *SCALE, "-q")
    assert (outcome.out, outcome.err) == (b"", "")


@some("environment", [({},), ({"NO_COLOR": "1"},), ({"FORCE_COLOR": "", "TERM": "dumb"},)], ({},))
def test_no_colour_in_a_pipe(environment: Any) -> None:
    outcome = run_process(*TEXT, **environment)
    assert outcome.code == 0
    assert b"\x1b" not in outcome.out
    assert "\x1b" not in outcome.err


def test_markdown_and_files_take_no_unknown_column() -> None:
    refuse(*TEXT, "--format", "json", "--sort", "nonsense", words=("'nonsense'",))
