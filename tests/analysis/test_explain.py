"""The worked examples W2-W11 to the digit, and the explanation against the operators themselves."""

import contextlib
import json
import runpy
import subprocess
import sys
from decimal import ROUND_HALF_UP, Decimal
from io import StringIO
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import roicli
from roicli.analysis.explain import explain_align
from roicli.core.exceptions import RoicliError
from roicli.render.explain import (
    build_sections,
    exact,
    print_explanation,
    print_markdown,
    write_json,
)
from roicli.render.sections import Grid
from tests import oracle

SAMPLES = Path(__file__).parents[2] / "sample_data"
EXAMPLES = SAMPLES / "worked_examples.h5"
FPN, ROIS = f"{SAMPLES}/text_fpn.h5::p3", SAMPLES / "text_rois.npy"


def worked(name, **options):
    return roicli.explain(f"{EXAMPLES}::{name}/features", f"{EXAMPLES}::{name}/rois", roi=0,
                          **options)  # fmt: skip


def w2_w7(**options):
    return worked("w2_w7", **options)


def w8_w11(**options):
    return worked("w8_w11", output_size=3, **options)


def digits(values, places=6):
    """As printed: halves away from zero."""
    step = Decimal(1).scaleb(-places)
    return [float(Decimal(float(v)).quantize(step, ROUND_HALF_UP)) for v in values]


def test_w2_the_box_and_its_bins():
    found = w2_w7(aligned=False).align
    assert digits(found.box, 4) == [230.0275, 69.2475, 262.4675, 80.5]
    assert digits(found.size, 4) == [11.2525, 32.44]
    assert digits(found.bin_size) == [1.6075, 4.634286]


def test_w3_the_sampling_points():
    samples = w2_w7(aligned=False, sampling_ratio=2).align.samples
    assert digits({s.y: 0 for s in samples}) == [69.649375, 70.453125]
    assert digits({s.x: 0 for s in samples}) == [231.186071, 233.503214]


def test_w4_the_four_weights():
    corners = w2_w7(aligned=False).align.samples[0].corners
    assert [(c.y, c.x) for c in corners] == [(69, 231), (69, 232), (70, 231), (70, 232)]
    assert digits([c.weight for c in corners], 4) == [0.2854, 0.0652, 0.5285, 0.1208]
    assert sum(c.weight for c in corners) == pytest.approx(1, abs=1e-15)


def test_w5_the_half_pixel_step():
    sample = w2_w7().align.samples[0]
    assert digits([sample.y, sample.x]) == [69.149375, 230.686071]
    assert digits([sample.y_before_step, sample.x_before_step]) == [69.649375, 231.186071]
    assert (sample.corners[0].y, sample.corners[0].x) == (69, 230)


def test_w6_the_adaptive_grid():
    assert w2_w7(sampling_ratio=0).align.grid == (2, 5)


def test_w7_roi_pool():
    found = w2_w7().pool
    assert found.box == (230, 69, 263, 82)
    x = [(a - 230, b - 230) for a, b in found.x_bins]
    y = [(a - 69, b - 69) for a, b in found.y_bins]
    assert x == [(0, 5), (4, 10), (9, 15), (14, 19), (18, 24), (23, 29), (28, 33)]
    assert y == [(0, 2), (1, 4), (3, 6), (5, 8), (7, 10), (9, 12), (11, 13)]
    assert digits([found.iou], 5) == [0.85089]
    assert digits([found.area_lost_cells, found.area_gained_cells], 4) == [0, 63.9689]


def test_w8_the_bins_of_the_second_example():
    found = w8_w11().align
    assert found.box_before_step[:2] == (9.25, 6)
    assert found.size == (4.53125, 6.25)
    assert digits(found.bin_size) == [1.510417, 2.083333]
    assert (found.cell_columns, found.cell_rows) == ((9, 11), (6, 7))
    legacy = w8_w11(aligned=False).align
    assert (legacy.cell_columns, legacy.cell_rows) == ((9, 11), (6, 8))


def test_w9_thirds_and_quarters():
    thirds = w8_w11(sampling_grid="thirds").align.samples
    assert digits({s.x_before_step: 0 for s in thirds}) == [9.944444, 10.638889]
    assert digits({s.y_before_step: 0 for s in thirds}) == [6.503472, 7.006944]
    quarters = w8_w11().align.samples
    assert digits({s.x_before_step: 0 for s in quarters}) == [9.770833, 10.8125]
    assert digits({s.y_before_step: 0 for s in quarters}) == [6.377604, 7.132813]
    centres = [(c.x + 0.5, c.y + 0.5) for c in thirds[0].corners]
    assert centres == [(9.5, 6.5), (10.5, 6.5), (9.5, 7.5), (10.5, 7.5)]


@pytest.mark.parametrize(
    ("rule", "region", "lost", "gained", "iou"),
    [
        ({"quantization": "floor"}, (9, 6, 15, 10), 5.3203, 1.0, 0.78444),
        (
            {"quantization": "floor", "partition": "floor-size"},
            (9, 6, 15, 9), 11.0703, 0.75, 0.59339,
        ),
        ({}, (9, 6, 17, 12), 0, 19.6797, 0.59001),
    ],
    ids=["W10 floor", "W10 floor-size", "W11 caffe"],
)  # fmt: skip
def test_w10_w11_the_pooled_region(rule, region, lost, gained, iou):
    found = w8_w11(**rule).pool
    assert found.region == region
    assert digits([found.area_lost_cells, found.area_gained_cells], 4) == [lost, gained]
    assert digits([found.iou], 5) == [iou]


def test_channel_0_reads_its_own_address_back():
    for sample in w2_w7().align.samples:
        assert sample.value == pytest.approx(1000 * sample.y + sample.x, abs=1e-9)


RULES = [
    {},
    {"sampling_ratio": 0},
    {"aligned": False, "sampling_ratio": 3},
    {"mode": "max"},
    {"sampling_grid": "thirds"},
    {"sampling_grid": "thirds", "mode": "max", "sampling_ratio": 0},
    {"quantization": "floor", "partition": "disjoint"},
    {"quantization": "mmcv"},
    {"quantization": "hull", "partition": "floor-size", "output_size": (3, 5)},
]


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("roi", [3, 37, 96])
def test_every_rule_equals_the_operators_bit_for_bit(rule, roi):
    for bin_index in ((0, 0), (2, 4)):
        found = roicli.explain(FPN, ROIS, roi=roi, channel=5, bin_index=bin_index, **rule)
        assert [check.difference for check in found.checks] == [0, 0], found.checks


@pytest.mark.parametrize("roi", [
    [0, -40, -40, 30, 30], [0, 60, 60, 90, 90], [0, 30, 30, 10, 10], [0, 5, 5, 5, 5],
    [0, 200, 200, 240, 240],
])  # fmt: skip
@pytest.mark.parametrize("rule", [{}, {"sampling_ratio": 0}, {"mode": "max"}, {"aligned": False}])
def test_boxes_off_the_map_crossed_and_empty(roi, rule):
    features = np.random.default_rng(1).normal(size=(1, 2, 16, 16)).astype(np.float32)
    for bin_index in ((0, 0), (1, 1)):
        found = roicli.explain(features, np.array([roi], np.float32), roi=0, channel=1,
                               ignore="R04,R05",
                               bin_index=bin_index, output_size=2, spatial_scale=0.25,
                               **rule)  # fmt: skip
        assert all(check.equal for check in found.checks), found.checks
        print_explanation(found, StringIO())


@given(
    box=st.lists(st.floats(-10, 80, width=32), min_size=4, max_size=4),
    ratio=st.integers(0, 3), aligned=st.booleans(),
    at=st.tuples(st.integers(0, 1), st.integers(0, 2)),
)  # fmt: skip
def test_samples_are_the_oracles(box, ratio, aligned, at):
    channel = np.random.default_rng(2).normal(size=(9, 11)).astype(np.float64)
    spec = roicli.AlignSpec((2, 3), 0.125, ratio, aligned)
    found = explain_align(channel, np.array(box, np.float64), spec, at)
    ys, xs = oracle.sampling_points([0, *box], (2, 3), 0.125, ratio, aligned)
    if not found.samples:
        assert ys.shape[1] == 0 or xs.shape[1] == 0
        return
    np.testing.assert_allclose(
        sorted({s.y for s in found.samples}), sorted(set(ys[at[0]])), atol=1e-9
    )
    np.testing.assert_allclose(
        sorted({s.x for s in found.samples}), sorted(set(xs[at[1]])), atol=1e-9
    )
    for sample in found.samples:
        if sample.corners:
            assert sum(c.weight for c in sample.corners) == pytest.approx(1)


def test_two_stages_add_up():
    pool = roicli.explain(FPN, ROIS, roi=37, bin_index=(2, 3)).pool
    for edge in (*pool.box_edges, *pool.bin_edges):
        assert edge.stage1_cells + edge.stage2_cells == pytest.approx(edge.total_cells)
    table = roicli.errors(None, ROIS, spatial_scale="1/8").errors
    edges = {edge.edge: edge.total_cells for edge in pool.box_edges}
    for name, error in edges.items():
        assert error == pytest.approx(float(table.column(f"{name}_error_cells")[37]))


def test_a_stored_result_is_checked_too(tmp_path):
    path = tmp_path / "aligned.h5"
    roicli.align(FPN, ROIS, path, dtype="float16")
    found = roicli.explain(FPN, ROIS, roi=7, channel=3, bin_index=(1, 1), result=path)
    assert [check.source for check in found.checks] == [
        "ran",
        "ran",
        *2 * [f"{path}::/roi_features"],
    ]
    assert [check.equal for check in found.checks] == [True, True, True, False]
    array = roicli.pool(FPN, ROIS).roi_features
    again = roicli.explain(FPN, ROIS, roi=7, channel=3, bin_index=(1, 1), result=array)
    assert [check.equal for check in again.checks] == [True, True, False, True]
    with pytest.raises(roicli.InputError, match=r"expected \(102, 24, 7, 7\)"):
        roicli.explain(FPN, ROIS, roi=7, result=array[:5])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"roi": 102}, "roi is 102, expected 0 to 101"),
        ({"roi": -1}, "roi is -1, expected 0 to 101"),
        ({"roi": 0, "channel": 24}, "channel is 24, expected 0 to 23"),
        ({"roi": 0, "bin_index": (7, 0)}, "bin is 7,0, expected row,column from 0,0 to 6,6"),
    ],
)
def test_out_of_range_names_the_range(given, words):
    with pytest.raises(roicli.ParameterError, match=words):
        roicli.explain(FPN, ROIS, **given)


def test_no_roi_to_choose_from():
    with pytest.raises(roicli.ParameterError, match="there is none"):
        roicli.explain(FPN, np.empty((0, 5), np.float32), roi=0)


def test_nan_in_the_map_is_still_equal():
    features = np.full((1, 1, 8, 8), np.nan, np.float32)
    found = roicli.explain(features, np.array([[0, 1, 1, 5, 5]], np.float32), roi=0,
                           spatial_scale=1.0)  # fmt: skip
    assert found.checks[0].equal
    stream = StringIO()
    write_json(found, stream)
    assert json.loads(stream.getvalue())["explanation"]["align"]["value"] is None


def test_json_holds_every_number():
    stream = StringIO()
    write_json(w2_w7(sampling_ratio=0), stream)
    found = json.loads(stream.getvalue())["explanation"]
    assert len(found["align"]["samples"]) == 10
    assert found["checks"][0] == found["checks"][0] | {"equal": True, "difference": 0.0}
    edge = found["pool"]["bin_edges"][2]
    assert edge["total_px"] == pytest.approx(4 * (edge["stage1_cells"] + edge["stage2_cells"]))


def test_terminal_and_markdown_say_the_same(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    found = w2_w7(aligned=False, channel=1)
    terminal, markdown = StringIO(), StringIO()
    print_explanation(found, terminal)
    print_markdown(found, markdown)
    for section in build_sections(found):
        for part in section.parts:
            for text in (
                [cell for row in part.rows for cell in row] if isinstance(part, Grid) else [part]
            ):
                assert text in terminal.getvalue()
    assert "0.285384" in markdown.getvalue()
    assert terminal.getvalue().rstrip().endswith("yes, difference 0")


def test_wide_terminal_has_pool_beside_align(monkeypatch):
    monkeypatch.setenv("COLUMNS", "180")
    stream = StringIO()
    print_explanation(w8_w11(), stream)
    assert any(
        "rounded box" in line and "image, px" not in line for line in stream.getvalue().splitlines()
    )
    heads = [line for line in stream.getvalue().splitlines() if line.startswith("The RoI")]
    assert "RoI Pool" in heads[0]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1.5, "1.5"),
        (69.649375, "69.649375"),
        (7.1328125, "7.132813"),
        (1e-7, "1e-07"),
        (2e9, "2e+09"),
    ],
)
def test_exact(value, text):
    assert exact(value) == text


def test_the_examples_are_what_the_script_writes(tmp_path):
    script = SAMPLES / "make_worked_examples.py"
    subprocess.run([sys.executable, script, tmp_path / "again.h5"], check=True)
    with h5py.File(EXAMPLES) as kept, h5py.File(tmp_path / "again.h5") as made:
        for name in ("w2_w7", "w8_w11"):
            for part in ("features", "rois"):
                np.testing.assert_array_equal(kept[name][part][()], made[name][part][()])


def test_the_documentation_holds_what_the_command_says():
    script = runpy.run_path(str(SAMPLES.parent / "docs" / "make_figures.py"))
    kept = (SAMPLES.parent / "docs" / "worked_examples.md").read_text(encoding="utf-8")
    with contextlib.chdir(SAMPLES.parent):
        assert script["explain_worked"]() == kept, "run: make docs"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampling_ratio": 256, "output_size": 64}, "256 x 256 points a bin"),
        ({"sampling_ratio": 0, "output_size": 1}, "sampling points, expected at most 65,536"),
        ({"sampling_ratio": 1, "output_size": 1}, "300 x 300 cells, expected at most 65,536"),
    ],
)
def test_what_is_too_much_to_explain_is_refused_in_a_line(options, words):
    """Not computed at any cost: a fixed ratio of many bins, a huge adaptive box, a huge bin."""
    features = np.zeros((1, 1, 300, 300), np.float32)
    rois = np.float32([[0, 0, 0, 300, 300]])
    with pytest.raises(RoicliError) as caught:
        roicli.explain(features, rois, roi=0, spatial_scale=1.0, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.full
def test_the_largest_fixed_ratio_is_explained():
    features = np.arange(64, dtype=np.float32).reshape(1, 1, 8, 8)
    rois = np.float32([[0, 1, 1, 6, 6]])
    found = roicli.explain(
        features, rois, roi=0, spatial_scale=1.0, sampling_ratio=256, output_size=1
    )
    assert len(found.align.samples) == 256 * 256
    assert all(check.equal for check in found.checks)
