"""The error table: records on demand, ordering, summaries."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roicli.core.exceptions import ParameterError
from roicli.core.types import RoIs
from roicli.error_table import table as error_table
from roicli.error_table.columns import GEOMETRIC_COLUMNS, SUMMARY_COLUMNS, VALUE_COLUMNS
from roicli.error_table.table import ErrorTable, MapGeometry, measure_statistics, summarize
from roicli.operators.roi_pool import PoolSpec
from tests import oracle

COUNT = 300


def random_rois(count=COUNT, seed=2):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(-20, 600, (count, 2)).astype(np.float32)
    side = rng.choice([8, 60, 300], (count, 1)) * rng.uniform(0.5, 1.2, (count, 2))
    corners = np.concatenate([corner, corner + side.astype(np.float32)], axis=1).astype(np.float64)
    return RoIs(rng.integers(0, 3, count), corners, np.full(count, 0.25))


ROIS = random_rois()
LEVELS = [MapGeometry(PoolSpec((3, 2), 1 / 8), (40, 50), 3),
          MapGeometry(PoolSpec((3, 2), 1 / 16), (20, 25), 4)]  # fmt: skip
ON_LEVEL = np.random.default_rng(3).integers(0, 2, COUNT)
VALUES = {c.name: np.random.default_rng(4).uniform(size=COUNT) for c in VALUE_COLUMNS}


def table(**options):
    return ErrorTable(ROIS, LEVELS, "half-pixel", ON_LEVEL, **options)


def test_every_roi_is_measured_on_its_own_level():
    records = table().records(slice(None))
    assert records["roi"].tolist() == list(range(COUNT))
    for row in range(COUNT):
        geometry = LEVELS[ON_LEVEL[row]]
        roi = [ROIS.batch_index[row], *ROIS.corners[row]]
        (expected,) = oracle.quantization_error(
            [roi], output_size=(3, 2), spatial_scale=geometry.spec.spatial_scale,
            map_size=geometry.map_size,
        )  # fmt: skip
        assert records["level"][row] == geometry.level
        assert records["batch_index"][row] == ROIS.batch_index[row]
        assert records["coordinate_error_px"][row] == 0.25
        for name in ("iou", "shift_px", "empty_bins", "total_edge_error_max_px", "x2_error_px"):
            assert records[name][row] == pytest.approx(expected[name], abs=1e-6)


@pytest.mark.parametrize("rows", [slice(5, 250), np.array([7, 290, 0, 7]), slice(0, 0)])
@pytest.mark.parametrize("values", [None, VALUES])
def test_blocks_and_parts_are_the_rows_of_the_whole(monkeypatch, rows, values):
    whole = table(values=values).records(slice(None))
    kept_dtype = [c.name for c in GEOMETRIC_COLUMNS + (VALUE_COLUMNS if values else ())]
    assert list(whole.dtype.names) == kept_dtype
    monkeypatch.setattr(error_table, "BLOCK_ROWS", 64)
    monkeypatch.setattr(error_table, "KEPT_ROWS", 10)
    large = table(values=values)
    assert large.records(rows).tobytes() == whole[rows].tobytes()
    blocks = list(large.blocks())
    assert [len(block) for block in blocks] == [64, 64, 64, 64, 44]
    assert np.concatenate(blocks).tobytes() == whole.tobytes()
    np.testing.assert_array_equal(large.column("iou"), whole["iou"])


def test_summaries_of_a_large_table_are_those_of_a_small_one(monkeypatch):
    expected = summarize(table(values=VALUES))
    monkeypatch.setattr(error_table, "BLOCK_ROWS", 7)
    monkeypatch.setattr(error_table, "KEPT_ROWS", 10)
    assert summarize(table(values=VALUES)) == expected


def test_a_map_without_a_level_has_none():
    single = ErrorTable(ROIS, [MapGeometry(PoolSpec())], "legacy")
    assert np.isnan(single.column("level")).all()
    assert np.isnan(single.column("clipped_fraction")).all()


def test_no_rois_are_an_empty_table():
    nothing = ErrorTable(ROIS.take(slice(0, 0)), LEVELS, "half-pixel", ON_LEVEL[:0])
    assert len(nothing) == 0
    assert list(nothing.blocks()) == []
    assert nothing.column("iou").shape == (0,)
    assert nothing.worst_first("iou").tolist() == []
    assert summarize(nothing).by_class[0].statistics["iou"].mean is None


# --- columns by name --------------------------------------------------------------------------


def test_a_value_column_that_was_not_measured_says_how_to_measure_it():
    with pytest.raises(ParameterError, match="did not measure") as caught:
        table().column("value_cosine")
    assert caught.value.hint == "add --values"


def test_an_unknown_column_lists_the_known_ones():
    with pytest.raises(ParameterError, match="no column 'iuo'"):
        table().column("iuo")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("iou", lambda v: v), ("value_cosine", lambda v: v), ("shift_x_cells", lambda v: -abs(v)),
        ("edge_error_max_px", lambda v: -v), ("roi", lambda v: v), ("level", lambda v: v),
        ("batch_index", lambda v: v),
    ],
)  # fmt: skip
def test_the_worst_come_first(name, key):
    whole = table(values=VALUES)
    values = whole.column(name)
    order = sorted(range(COUNT), key=lambda row: (key(values[row]), row))
    assert whole.worst_first(name).tolist() == order
    assert whole.worst_first(name, 5).tolist() == order[:5]


def test_size_classes_sort_by_name_and_undefined_values_come_last():
    classes = table().column("size_class")
    assert table().column("size_class")[table().worst_first("size_class")].tolist() == sorted(
        classes.tolist()
    )
    values = VALUES | {"share_stage1": np.where(np.arange(COUNT) < 5, np.nan, 1.0)}
    assert sorted(table(values=values).worst_first("share_stage1")[-5:]) == list(range(5))


# --- summaries --------------------------------------------------------------------------------


@given(
    st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), max_size=40),
)
def test_statistics_are_numpys_over_the_defined_values(values):
    array = np.array(values, np.float64)
    found = measure_statistics(array)
    defined = array[~np.isnan(array)]
    if len(defined) == 0:
        assert set(found) == {None}
        return
    expected = {
        "mean": np.mean(defined), "median": np.median(defined), "p95": np.quantile(defined, 0.95),
        "max": np.max(defined), "min": np.min(defined), "p05": np.quantile(defined, 0.05),
    }  # fmt: skip
    assert found._asdict() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_95th_percentile_is_linear_between_values():
    assert measure_statistics(np.arange(11.0)).p95 == pytest.approx(9.5)


def test_groups_are_size_classes_and_levels():
    whole = table(values=VALUES)
    summary = summarize(whole)
    records = whole.records(slice(None))
    assert [g.name for g in summary.by_class] == ["all", "small", "medium", "large"]
    assert [g.name for g in summary.by_level] == ["3", "4"]
    masks = [np.full(COUNT, True)] + [records["size_class"] == c for c in (b"small", b"medium",
             b"large")] + [records["level"] == level for level in (3, 4)]  # fmt: skip
    for group, mask in zip(summary.by_class + summary.by_level, masks, strict=True):
        assert group.n == mask.sum()
        assert group.n > 0
        assert list(group.statistics) == list(SUMMARY_COLUMNS)
        for name, statistics in group.statistics.items():
            assert statistics.mean == pytest.approx(np.nanmean(records[name][mask]))
            assert statistics.median == pytest.approx(np.nanmedian(records[name][mask]))


def test_one_map_has_no_summary_by_level_and_no_values_none_of_values():
    summary = summarize(ErrorTable(ROIS, LEVELS[:1], "half-pixel"))
    assert summary.by_level == ()
    assert not {c.name for c in VALUE_COLUMNS} & set(summary.by_class[0].statistics)
