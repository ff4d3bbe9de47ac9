"""The rules that count: each speaks on the data that it is for, and on no other."""

import logging
import re
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import roicli
from roicli.analysis.check.rules import RULES
from roicli.core.declaration import settle
from roicli.core.exceptions import InputError, ParameterError
from roicli.pipeline.inputs import open_inputs
from roicli.pipeline.request import Reading
from tests.log import logged
from tests.strategies import normal_map

RNG = np.random.default_rng(7)
MAPS = RNG.normal(size=(2, 3, 24, 32)).astype(np.float32)  # stride 4: an image of 128 x 96 px
GOOD = np.array(
    [[0, 2.5, 3, 90, 70], [0, 10, 20.25, 60, 60], [1, 0, 0, 128, 96], [1, 64, 5, 100, 31.5]],
    np.float32,
)

MORE = GOOD[[0, 1, 2]].repeat(2, axis=0)  # with GOOD ten RoIs


def check(rois=GOOD, maps=MAPS, **options):
    return roicli.check(maps, rois, **({"spatial_scale": 1 / 4} | options))


def found(report):
    return [finding.rule for finding in report.findings]


def only(report, rule):
    """The one finding, which must be of this rule."""
    assert found(report) == [rule], report.findings
    return report.findings[0]


def changed(row, column, value, rois=GOOD):
    other = rois.copy()
    other[row, column] = value
    return other


def test_good_data_meets_every_rule_and_no_finding():
    report = check()
    assert report.findings == ()
    assert report.rules == tuple(f"R{number:02}" for number in range(1, 21))
    assert report.skipped == {}
    assert not report.failed("warning")


def test_severities_are_those_of_the_issue():
    severities = {rule.id: rule.severity for rule in RULES}
    errors = {"R01", "R02", "R03", "R04", "R08", "R11", "R16", "R19"}
    assert {rule for rule, word in severities.items() if word == "error"} == errors
    assert {rule for rule, word in severities.items() if word == "note"} == {"R17", "R20"}
    assert {r.id for r in RULES if r.is_guess} == {"R07", "R08", "R09", "R10", "R11", "R14"}


@pytest.mark.parametrize(
    ("rois", "words"),
    [
        (GOOD.T[:, :3], "transposed"),
        (GOOD[:, 0], "expected \\(K, 5\\)"),
        (np.hstack([GOOD, GOOD[:, :1]]), "scores"),
        (GOOD[:, :3], "expected \\(K, 5\\)"),
        (GOOD[:, 1:], "4 columns and there are 2 images"),
    ],
)
def test_r01_shape_of_rois(rois, words):
    report = check(rois, select="R01")
    finding = only(report, "R01")
    assert finding.severity == "error"
    assert finding.count == 1
    assert re.search(words, finding.message)


@pytest.mark.parametrize("shape", [(3, 3), (2, 0, 4, 4), (1, 2, 3, 4, 5)])
def test_r01_shape_of_features_leaves_the_rules_on_rois(shape):
    report = check(changed(0, 1, np.nan), np.zeros(shape, np.float32))
    assert found(report) == ["R01", "R02"]
    assert report.findings[0].where == "features[0]"
    assert report.skipped["R15"] == "the features have the wrong shape"
    assert {"R02", "R13", "R18"} <= set(report.rules)


def test_r01_levels_that_do_not_belong_together():
    levels = [MAPS, MAPS[:, :2, ::2, ::2]]
    report = roicli.check(levels, GOOD, spatial_scale=(1 / 4, 1 / 8), select=["r01"])
    assert "expected (2, 3) as in features[0]" in only(report, "R01").message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39, 1e12])
def test_r02_not_finite_or_past_the_cells(value):
    finding = only(check(changed(2, 3, value, GOOD.astype(np.float64)), ignore="R04"), "R02")
    assert (finding.count, finding.rows) == (1, (2,))
    assert finding.message.startswith("row 2, ")
    assert "x2" in finding.message


@pytest.mark.parametrize("value", [-1, 2, 0.5, np.nan, np.inf])
def test_r03_batch_index(value):
    finding = only(check(changed(1, 0, value)), "R03")
    assert finding.rows == (1,)
    assert f"row 1, column 0 (batch_index): found {value:g}, expected a whole" in finding.message
    assert "from 0 to 1" in finding.message


def test_r04_crossed_corners():
    finding = only(check(changed(0, 3, 1.0)), "R04")
    assert (finding.count, finding.rows, finding.unit) == (1, (0,), "RoIs")
    assert finding.severity == "error"


def test_r05_and_r06_are_measured_on_the_image():
    rois = np.vstack([GOOD, [[0, 140, 5, 150, 50], [1, -9, 5, 50, 50], [0, 5, 5, 50, 100]]])
    report = check(rois)
    assert found(report) == ["R05", "R06"]
    wholly, partly = report.findings
    assert wholly.rows == (4,)
    assert partly.rows == (5, 6)
    assert "96 x 128 px (height x width)" in wholly.message
    assert "by up to 9 px" in partly.message
    assert not report.failed()
    assert report.failed("warning")
    assert "1 of 7 RoIs lie wholly outside" in wholly.message
    assert check(rois, max_outside=2 / 7).findings == ()


OUTSIDE = np.array([[0, 140, 5, 150, 50]], np.float32)


@pytest.mark.parametrize(
    ("outside", "inside", "severity"),
    [(9, 0, "warning"), (10, 0, "error"), (5, 5, "warning"), (6, 4, "error"), (6, 3, "warning")],
)
def test_r05_is_an_error_where_most_of_ten_are_outside(outside, inside, severity):
    rois = np.vstack([OUTSIDE] * outside + [GOOD[:1]] * inside)
    report = check(rois, select="R05")
    assert [finding.severity for finding in report.findings] == [severity]
    # What is tolerated are warnings; what no command runs is no matter of taste.
    tolerant = check(rois, select="R05", max_outside=1.0)
    assert tolerant.failed() == (severity == "error")
    assert check(rois, ignore="R05", select="R05").findings == ()


def test_r05_touching_the_edge_is_inside():
    edge = np.array([[0, 128, 96, 150, 99], [1, -9, -9, 0, 0]], np.float32).repeat(5, axis=0)
    assert check(edge, select="R05").findings == ()
    beyond = edge + np.float32(0.125) * np.sign(edge - 1)
    assert check(beyond[:, [0, 1, 2, 3, 4]] * [0, 1, 1, 1, 1], select="R05").failed()


def test_r06_an_edge_may_be_off_by_a_step_of_its_dtype():
    edge = np.nextafter(np.float32(128), np.float32(200))
    assert check(changed(2, 3, edge)).findings == ()
    assert found(check(changed(2, 3, 128.01))) == ["R06"]
    # float16 holds no number between 128 and 128.125
    assert check(changed(2, 3, 128.125, GOOD.astype(np.float16))).findings == ()


@pytest.mark.parametrize(("width", "rules"), [(4.0, []), (3.99, ["R12"]), (0.0, ["R12"])])
def test_r12_is_one_cell_on_a_side(width, rules):
    rois = changed(0, 3, GOOD[0, 1] + np.float32(width))
    assert found(check(rois)) == rules
    assert found(check(rois, max_small=0.25)) == []


def test_r12_is_measured_on_the_assigned_level():
    levels = [np.kron(MAPS, np.ones((2, 2), np.float32))[:, :, :, :], MAPS]
    rois = np.array([[0, 0, 0, 3, 90], [0, 5, 5, 8, 12]], np.float32)
    options = {"spatial_scale": (1 / 2, 1 / 4), "select": "R12", "level_from": np.array([2, 1])}
    assert roicli.check(levels, rois, **options).findings[0].rows == (0,)


@pytest.mark.parametrize(
    ("dtype", "rules"),
    [("float32", []), ("float16", ["R13"]), ("int32", ["R13"]), ("float64", [])],
)
def test_r13_is_a_quarter_of_a_pixel(dtype, rules):
    rois = np.array([[0, 1049.87, 8, 1200, 90], [0, 500, 7, 1020, 80]]).astype(dtype)
    maps = np.zeros((1, 1, 25, 400), np.float32) + RNG.normal(size=(1, 1, 25, 400))
    report = check(rois, maps, select="R13")
    assert found(report) == rules
    if dtype == "float16":  # half of the spacing is 0.5 px at 1050, and just 0.25 px at 1020
        assert report.findings[0].rows == (0, 1)
        assert "stored as float16, coordinates can be off by up to 0.5 px" in str(report.findings)
        assert found(check(rois, maps, select="R13", max_coordinate_error=0.51)) == []


@pytest.mark.parametrize(("ratio", "rules"), [(None, []), (2, []), (0, ["R16"])])
def test_r16_adaptive_grid(ratio, rules):
    rois = changed(3, 3, 1e6)
    report = check(rois, sampling_ratio=ratio, spatial_scale=1.0, select="R16", output_size=1)
    assert found(report) == rules
    for finding in report.findings:
        assert finding.rows == (3,)
        assert finding.severity == "error"


def test_r16_is_what_align_refuses():
    rois = changed(3, 3, 1e7)
    assert check(rois, preset="torchvision", select="R16").failed()
    with pytest.raises(InputError, match="adaptive sampling"):
        roicli.align(MAPS, rois, spatial_scale=1 / 4, sampling_ratio=0)
    assert not check(preset="torchvision", select="R16").failed()


def test_r16_a_fixed_grid_can_be_too_large_too():
    options = {"sampling_ratio": 64, "output_size": 64, "spatial_scale": 1 / 4}
    assert check(select="R16", **options).failed()
    with pytest.raises(InputError, match="sampling takes 64 x 64 points"):
        roicli.align(MAPS, GOOD, **options)


def test_r17_is_a_note():
    report = check(GOOD[:2])
    finding = only(report, "R17")
    assert (finding.unit, finding.rows, finding.count) == ("images", (1,), 1)
    assert not report.failed("warning")
    many = np.vstack([GOOD, GOOD[:1] + np.linspace(1, 9, 50)[:, None] * [[0, 1, 0, 1, 0]]])
    assert "from 2 to 52" in only(check(many), "R17").message
    assert check(many, max_imbalance=26).findings == ()
    assert only(check(GOOD[:0]), "R17").rows == (0, 1)


def test_r18_names_the_repeats():
    finding = only(check(np.vstack([GOOD, GOOD[1:3], GOOD[1:2]])), "R18")
    assert (finding.count, finding.rows) == (3, (4, 5, 6))
    assert check(changed(0, 0, 1)).findings == ()
    assert check(np.vstack([GOOD, GOOD[:1]]), max_duplicates=0.2).findings == ()
    nan = changed(0, 1, np.nan)
    assert found(check(np.vstack([nan, nan[:1]]))) == ["R02"]


def test_rows_are_the_first_ones():
    report = check(np.repeat(GOOD, 9, axis=0), rows=3)
    assert report.findings[0].rows == (1, 2, 3)
    assert report.findings[0].count == 32


def test_select_and_ignore():
    bad = changed(0, 3, 1.0, changed(1, 0, 9))
    assert found(check(bad)) == ["R03", "R04"]
    assert found(check(bad, select="R04,R05")) == ["R04"]
    assert found(check(bad, ignore=["R04"])) == ["R03"]
    assert found(check(bad, select="R03,R04", ignore="R03")) == ["R04"]
    for options in ({"select": "R99"}, {"ignore": "R7"}):
        with pytest.raises(ParameterError, match="there is no rule"):
            check(**options)


def test_maps_are_read_only_for_the_rules_that_need_them(monkeypatch):
    def refuse(level):
        raise AssertionError(level)

    monkeypatch.setattr("roicli.analysis.check.inputs.measure_map", refuse)
    assert check(ignore="R14,R15").findings == ()
    with pytest.raises(AssertionError):
        check(select="R15")


@pytest.mark.parametrize(
    ("option", "value"),
    [("max_outside", 1.5), ("max_dead", -0.1), ("max_small", np.nan), ("max_imbalance", -1),
     ("max_coordinate_error", -1), ("rows", -1), ("sampling_ratio", -1)],
)  # fmt: skip
def test_options_out_of_range(option, value):
    with pytest.raises(ParameterError, match=option.replace("_", " ")):
        check(**{option: value})


NUMBERS = st.sampled_from([0.0, 0.5, 1.0, 2.0, 30.0, 200.0, -3.0, 1e12, 1e39, np.nan, np.inf])


@given(
    rows=st.lists(st.lists(NUMBERS, min_size=5, max_size=5), min_size=0, max_size=4),
    repeated=st.sampled_from([1, 3, 5]),
    form=st.sampled_from(["xyxy", "xywh", "cxcywh"]),
    images=st.integers(1, 2),
    dtype=st.sampled_from([np.float64, np.float16]),
)
def test_errors_are_exactly_what_align_refuses(rows, repeated, form, images, dtype):
    with np.errstate(over="ignore", invalid="ignore"):
        rois = np.array(rows * repeated, dtype).reshape(-1, 5)
        options = {"spatial_scale": 1 / 4, "roi_format": form}
        report = roicli.check(MAPS[:images], rois, ignore="R16", **options)
        try:
            open_inputs(MAPS[:images], rois, settle(Reading, options))
            refused = None
        except InputError as error:
            refused = str(error)
    assert report.failed() == (refused is not None)
    if refused is not None:
        errors = [finding for finding in report.findings if finding.severity == "error"]
        assert any(f"{error.where}: {error.message}; {error.advice}" in refused for error in errors)


def fifteen():
    """RoIs of two images that fill the maps' 128 x 96 px."""
    rng = np.random.default_rng(3)
    low = rng.uniform(2, 90, (15, 2)) * [1, 0.75]
    low[:4, 0] = 90
    side = rng.uniform(20, 36, (15, 2)) * [1, 0.75]
    return np.column_stack([np.arange(15) % 2, low, low + side])


FIFTEEN, AT_STRIDE_4 = fifteen(), {"spatial_scale": 1 / 4}
CROSSED = FIFTEEN.copy()
CROSSED[4] = CROSSED[4, [0, 3, 4, 1, 2]]
ONE_OUTSIDE = changed(4, [1, 3], 500, FIFTEEN)
# One mistake each: the RoIs and the maps, and the options that they go with.
SPOILT = {
    "R03": (FIFTEEN + np.array([1, 0, 0, 0, 0]), MAPS, AT_STRIDE_4),
    "R04": (CROSSED, MAPS, AT_STRIDE_4),
    "R05": (FIFTEEN, MAPS, {}),
    "R05 few": (ONE_OUTSIDE, MAPS, AT_STRIDE_4),
    "R07": (FIFTEEN[:, [0, 2, 1, 4, 3]], MAPS, AT_STRIDE_4),
    "R07 few": (FIFTEEN[:9, [0, 2, 1, 4, 3]], MAPS, AT_STRIDE_4),
    "R08": (FIFTEEN / [1, 128, 96, 128, 96], MAPS, AT_STRIDE_4),
    "R09": (FIFTEEN, MAPS, AT_STRIDE_4 | {"roi_format": "xywh"}),
    "R10": (FIFTEEN / [1, 4, 4, 4, 4], MAPS, AT_STRIDE_4),
    "R11": (FIFTEEN[:, [1, 2, 3, 4, 0]], MAPS, AT_STRIDE_4),
    "R13": (
        (FIFTEEN + np.array([0, 600, 0, 600, 0])).astype(np.float16),
        normal_map((2, 1, 24, 200)),
        AT_STRIDE_4,
    ),
    "R13 image": (
        np.column_stack([2040 + np.arange(15), FIFTEEN[:, 1:]]).astype(np.float16),
        normal_map((2100, 1, 24, 32)),
        AT_STRIDE_4,
    ),
}


@pytest.mark.parametrize("kind", ["R03", "R04", "R05", "R07", "R08", "R11", "R13 image"])
def test_every_error_is_refused_by_every_call(kind, tmp_path):
    rois, maps, options = SPOILT[kind]
    report = roicli.check(maps, rois, select=kind[:3], **options)
    assert [finding.severity for finding in report.findings][:1] == ["error"]
    calls = [
        roicli.align, roicli.pool, roicli.errors, roicli.sweep,
        lambda *inputs, **more: roicli.diagnose(*inputs, np.zeros((15, 3, 7, 7)), **more),
        lambda *inputs, **more: roicli.explain(*inputs, roi=0, **more),
        lambda *inputs, **more: roicli.draw(*inputs, roi=0, **more),
        lambda *inputs, **more: roicli.report(*inputs, tmp_path / "r.html", **more),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(InputError) as caught:
            call(maps, rois, **options)
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["R05 few", "R07 few", "R09", "R10", "R13"])
def test_every_warning_is_told_in_one_line_and_computed(kind):
    rois, maps, options = SPOILT[kind]
    rule = kind[:3]
    (finding,) = roicli.check(maps, rois, select=rule, **options).findings
    assert finding.severity == "warning"
    with logged(logging.WARNING) as lines:
        roicli.pool(maps, rois, **options)
    assert f"{finding.where}: {finding.message}; {finding.advice}" in lines
    with logged(logging.WARNING) as fewer:
        roicli.pool(maps, rois, ignore=rule, **options)
    assert len(fewer) == len(lines) - 1


@pytest.mark.parametrize("kind", ["R04", "R05", "R07", "R08", "R13 image"])
def test_what_is_ignored_is_computed_all_the_same(kind):
    rois, maps, options = SPOILT[kind]
    with pytest.raises(InputError, match=f"; --ignore {kind[:3]} computes all the same$"):
        roicli.pool(maps, rois, **options)
    found = roicli.pool(maps, rois, ignore=kind[:3].lower(), **options)
    assert found.roi_features.shape[0] == 15


@pytest.mark.parametrize("rule", ["R01", "R02", "R03", "R11", "R16"])
def test_what_cannot_be_computed_cannot_be_ignored(rule):
    with pytest.raises(
        ParameterError, match=f"rule {rule} cannot be ignored.*; these can: R04, R05"
    ):
        roicli.pool(MAPS, GOOD, spatial_scale=1 / 4, ignore=f"R05,{rule}")
    with pytest.raises(ParameterError, match="there is no rule 'R5'"):
        roicli.pool(MAPS, GOOD, spatial_scale=1 / 4, ignore=["R5"])
    # What only check looks at may be ignored by both.
    roicli.pool(MAPS, GOOD, spatial_scale=1 / 4, ignore="R06,R12,R14,R15,R17,R18")


def test_a_block_of_the_rois_is_judged_with_the_whole():
    """A shard of strange RoIs among good ones runs as the whole does."""
    rois = np.vstack([OUTSIDE] * 10 + [GOOD[:1]] * 11)
    options = {"spatial_scale": 1 / 4}
    with logged(logging.WARNING) as lines:
        block = open_inputs(MAPS, rois, settle(Reading, options), rows=np.arange(10))
    assert (len(block.rois), lines) == (10, [])
    with pytest.raises(InputError, match="wholly outside"):
        open_inputs(MAPS, rois[:10], settle(Reading, options))


def test_many_blocks_find_what_one_finds(monkeypatch):
    rois = np.vstack([GOOD, changed(1, 3, 2.0), OUTSIDE, GOOD])
    whole = check(rois).findings
    monkeypatch.setattr("roicli.pipeline.roi_table.BLOCK_ROIS", 3)
    assert check(rois).findings == whole
    assert len(whole) >= 3


@given(seed=st.integers(0, 2**32 - 1), stride=st.sampled_from([1, 2, 4, 8, 16, 32]),
       spread=st.sampled_from([1.0, 0.5, 0.2]))  # fmt: skip
def test_guesses_are_silent_on_rois_inside_the_image(seed, stride, spread):
    rng = np.random.default_rng(seed)
    n, c, h, w, count = rng.integers(1, (4, 70, 70, 70, 40))
    size = np.array([w, h]) * stride
    low = rng.random((count, 2)) * size
    high = low + rng.random((count, 2)) * spread * (size - low)
    rois = np.column_stack([rng.integers(n, size=count), low, high]).astype(np.float32)
    maps = rng.normal(size=(n, c, h, w)).astype(np.float32)
    maps = np.maximum(maps, 0) if seed % 2 else maps
    guesses = [rule.id for rule in RULES if rule.is_guess]
    report = roicli.check(maps, rois, spatial_scale=1 / stride, select=guesses)
    assert report.findings == ()


@pytest.mark.parametrize(
    ("maps", "rois"), list(product(["<f4", ">f4", "<f2", "<i2"], ["f8", "f2"]))
)
def test_dtypes(maps, rois):
    report = check(GOOD.astype(rois), (MAPS * 10).astype(maps), select="R02,R03,R04,R05,R15")
    assert report.findings == ()
