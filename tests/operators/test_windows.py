"""Windows hold the bins' cells; groups of them add less than a quarter, whatever the boxes are."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roicli.operators.pool_windows import find_windows, group_windows, split_by_cells
from roicli.operators.roi_pool import PoolSpec
from tests import oracle
from tests.strategies import RULES, awkward_corners, boxes, with_batch

SAMPLE_ROIS = Path(__file__).parents[2] / "sample_data" / "text_rois.npy"
MAP_SIZE = (13, 17)
SCALE = 1 / 16


def cells_of(windows, number):
    """The cells of one window, as row * W + column."""
    count, width = windows.cells[number], max(windows.width[number], 1)
    place = np.arange(count)
    return windows.first[number] + place // width * windows.map_width + place % width


@pytest.mark.parametrize(("quantization", "partition"), RULES)
def test_windows_hold_the_cells_that_the_oracle_pools(quantization, partition):
    corners = awkward_corners(MAP_SIZE, SCALE, 40, seed=3)
    spec = PoolSpec((3, 5), SCALE, quantization, partition)
    windows = find_windows(corners, spec, MAP_SIZE)
    # Each cell's own number is the map, so a bin's maximum is its last cell and its negated
    # map's maximum its first.
    numbers = 1.0 + np.arange(math.prod(MAP_SIZE)).reshape(1, 1, *MAP_SIZE)
    last, first = (
        oracle.roi_pool(
            values, with_batch(corners), output_size=(3, 5), spatial_scale=SCALE,
            quantization=quantization, partition=partition, coordinate_dtype=np.float32,
        ).reshape(-1)
        for values in (numbers, -numbers)
    )  # fmt: skip
    assert (windows.cells == 0).any()
    for number, count in enumerate(windows.cells):
        found = cells_of(windows, number)
        assert (count == 0) == (last[number] == 0)
        if count:
            assert (found[0] + 1, found[-1] + 1) == (-first[number], last[number])
            height = found[-1] // 17 - found[0] // 17 + 1
            width = found[-1] % 17 - found[0] % 17 + 1
            assert (len(set(found.tolist())), windows.width[number]) == (height * width, width)


def check_groups(cells):
    """What must hold of every grouping; gives it."""
    groups = group_windows(cells)
    assert sorted(groups.order.tolist()) == list(range(len(cells)))
    assert groups.counts.sum() == len(cells)
    assert (groups.counts > 0).all()
    longest = np.repeat(groups.lengths, groups.counts)
    ordered = cells[groups.order]
    assert (ordered <= longest).all()
    assert (longest < 1.25 * ordered).all()
    assert groups.needed == cells.sum()
    assert groups.padded == longest.sum()
    assert 0 <= groups.padding < 0.25
    # As few as groups of this width can be.
    if len(cells):
        most = math.log(cells.max() / cells.min(), 1.25) + 2 + 4
        assert len(groups.counts) <= most
    return groups


@pytest.mark.parametrize("scale", [1 / 4, 1 / 8, 1 / 16])
def test_padding_on_the_sample_data(scale):
    rois = np.load(SAMPLE_ROIS).astype(np.float32)
    size = (math.ceil(1024 * scale), math.ceil(1024 * scale))
    for rule in RULES:
        cells = find_windows(rois[:, 1:], PoolSpec((7, 7), scale, *rule), size).cells
        groups = check_groups(cells[cells > 0])
        assert len(groups.counts) <= 32, rule


ADVERSARIAL = {
    "every length once": np.arange(1, 5000),
    "a quarter more, exactly": np.array([4] * 1000 + [5]),
    "a quarter more, nearly": np.array([401] * 1000 + [500] * 2),
    "ones below one that is huge": np.array([1] * 5000 + [54_400]),
    "a ladder of quarters": np.array([round(4 * 1.25**step) for step in range(40)] * 3),
    "just under each length": np.concatenate([np.arange(3, 12) ** 2, np.arange(3, 12) ** 2 - 1]),
    "one": np.array([7]),
    "none": np.empty(0, np.int64),
}  # fmt: skip


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_padding_on_adversarial_windows(name):
    check_groups(ADVERSARIAL[name].astype(np.int64))


def test_windows_of_few_sizes_are_few_groups_without_padding():
    groups = check_groups(np.array([9, 4, 9, 20, 4, 20]))
    assert groups.lengths.tolist() == [20, 9, 4]
    assert groups.order.tolist() == [3, 5, 0, 2, 1, 4]
    assert groups.padding == 0


def test_few_sizes_may_be_a_group_each():
    cells = np.array([20, 19, 18, 17, 19])
    assert group_windows(cells, 4).lengths.tolist() == [20, 19, 18, 17]
    assert group_windows(cells, 4).padding == 0
    assert group_windows(cells, 3).lengths.tolist() == [20]


@given(st.lists(st.integers(1, 3000), max_size=60))
def test_padding_on_random_windows(cells):
    check_groups(np.array(cells, np.int64))


@given(boxes(1, 12), st.sampled_from(RULES), st.sampled_from([1.0, 0.5, 1 / 16]))
def test_padding_on_random_boxes(corners, rule, scale):
    cells = find_windows(corners, PoolSpec((7, 7), scale, *rule), (60, 80)).cells
    check_groups(cells[cells > 0])


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(0, 120))
def test_parts_cover_the_rows_and_hold_what_they_may(cells, most):
    cells = np.array(cells, np.int64)
    parts = split_by_cells(cells, most)
    assert [row for part in parts for row in range(part.start, part.stop)] == list(
        range(len(cells))
    )
    for part, after in zip(parts, [*parts[1:], None], strict=False):
        inside = cells[part].sum()
        assert inside <= most or part.stop - part.start == 1
        if after is not None:  # the next row would not have fitted
            assert inside + cells[after.start] > most
