"""The columns are those that docs/semantics.md section 5 defines."""

from roicli.error_table.columns import COLUMN_BY_NAME, COLUMNS, SUMMARY_COLUMNS, record_dtype

EDGES = ["x1", "y1", "x2", "y2"]
# docs/semantics.md, section 5, the table, in its order
SEMANTICS = [
    "roi", "batch_index", "level", "size_class", *EDGES, "coordinate_error_px",
    *[f"quantized_{edge}" for edge in EDGES],
    *[f"{edge}_error_cells" for edge in EDGES], *[f"{edge}_error_px" for edge in EDGES],
    "edge_error_max_px", "edge_error_mean_px", "shift_x_cells", "shift_y_cells", "shift_px",
    "width_ratio", "height_ratio", "iou", "area_lost_cells", "area_gained_cells",
    "area_lost_fraction", "area_gained_fraction", "clipped_fraction", "bin_edge_error_mean",
    "bin_edge_error_max", "bin_edge_error_mean_px", "bin_edge_error_max_px",
    "total_edge_error_mean_px", "total_edge_error_max_px", "bin_overlap_x", "bin_overlap_y",
    "empty_bins", "value_error_max", "value_error_mean", "value_error_relative_l2",
    "value_cosine", "share_stage1", "share_stage2", "share_aggregation",
]  # fmt: skip


def test_the_columns_and_their_order():
    assert [column.name for column in COLUMNS] == SEMANTICS


def test_a_unit_in_the_name_is_the_unit():
    for column in COLUMNS:
        ending = column.name.rpartition("_")[2]
        if ending == "px":
            assert column.unit == "px", column.name
        if ending == "cells":
            assert column.unit.startswith("cells"), column.name
        assert column.meaning, column.name


def test_summaries_name_known_columns():
    assert set(SUMMARY_COLUMNS) <= set(COLUMN_BY_NAME)


def test_a_row_holds_its_words_and_a_missing_level():
    dtype = record_dtype(COLUMNS)
    assert list(dtype.names) == SEMANTICS
    assert dtype["level"].kind == "f"
    assert (dtype["size_class"].itemsize, dtype["roi"].kind) == (len("medium"), "i")
