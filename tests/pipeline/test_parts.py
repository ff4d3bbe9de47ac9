"""Blocks of RoIs: every row once, in the images' order, balanced, and the same on every machine."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roicli.core.exceptions import ParameterError
from roicli.pipeline.parts import cut_at_multiples, parse_shard, rows_of_shard, split_rows
from roicli.storage.shard import Shard

IMAGES = st.lists(st.integers(0, 12), max_size=200).map(lambda found: np.array(found, np.int64))
COUNTS = st.integers(1, 40)


@given(IMAGES, COUNTS)
def test_every_row_is_in_exactly_one_block(images, count):
    blocks = split_rows(images, count)
    assert len(blocks) == count
    assert np.array_equal(np.sort(np.concatenate(blocks)), np.arange(len(images)))


@given(IMAGES, COUNTS)
def test_rows_ascend_and_images_follow_one_another(images, count):
    blocks = split_rows(images, count)
    last = -1
    for rows in blocks:
        assert np.all(np.diff(rows) > 0)
        if len(rows):
            assert images[rows].min() >= last
            last = images[rows].max()


@given(IMAGES, COUNTS)
def test_no_block_has_more_than_twice_its_share(images, count):
    share = len(images) / count
    for rows in split_rows(images, count):
        assert len(rows) <= 2 * share + 1


@given(IMAGES, COUNTS)
def test_an_image_is_split_only_where_it_has_more_than_a_share(images, count):
    blocks = split_rows(images, count)
    for image in np.unique(images):
        holders = sum(bool(np.any(images[rows] == image)) for rows in blocks)
        if holders > 1:
            assert np.count_nonzero(images == image) > len(images) / count


@given(IMAGES, COUNTS, st.data())
def test_one_block_alone_is_that_of_the_whole_split(images, count, data):
    number = data.draw(st.integers(1, count))
    expected = split_rows(images, count)[number - 1]
    assert np.array_equal(rows_of_shard(images, Shard(number, count)), expected)


def test_blocks_by_hand():
    # Four images of 3, 1, 1 and 5 RoIs; two blocks of 5: the second image ends at 4, the third
    # at 5, which is the middle.
    images = np.array([3, 0, 3, 0, 1, 3, 0, 2, 3, 3])
    found = [rows.tolist() for rows in split_rows(images, 2)]
    assert found == [[1, 3, 4, 6, 7], [0, 2, 5, 8, 9]]


def test_a_large_image_is_shared_and_small_ones_are_whole():
    images = np.repeat([0, 1, 2], [100, 10, 10])
    assert [len(rows) for rows in split_rows(images, 4)] == [30, 30, 40, 20]


def test_blocks_balance_rois_not_images():
    images = np.repeat(np.arange(40), [50] * 10 + [5] * 30)
    sizes = [len(rows) for rows in split_rows(images, 5)]
    assert sum(sizes) == 650
    assert max(sizes) <= 130 + 50


@pytest.mark.parametrize(
    "text", ["0/4", "5/4", "1/0", "1", "a/b", "1/2/3", "-1/2", "1/1000001", "", "1.0/2", "²/3"]
)
def test_what_is_no_shard(text):
    with pytest.raises(ParameterError, match="expected I/N"):
        parse_shard(text)


def test_a_shard_is_read_and_shown():
    assert parse_shard("2/8") == Shard(2, 8)


def set_array(monkeypatch, **values):
    for name in ("ID", "MIN", "MAX", "COUNT"):
        monkeypatch.delenv(f"SLURM_ARRAY_TASK_{name}", raising=False)
    for name, value in values.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))


def test_a_task_of_a_slurm_array_knows_its_block(monkeypatch):
    set_array(monkeypatch, ID=17, MIN=1, MAX=100, COUNT=100)
    assert parse_shard("slurm") == Shard(17, 100)
    # Some tasks run again, which say nothing of the others.
    set_array(monkeypatch, ID=17, MIN=17, MAX=63, COUNT=2)
    assert parse_shard("slurm/100") == Shard(17, 100)
    with pytest.raises(ParameterError, match="2 tasks from 17 to 63") as caught:
        parse_shard("slurm")
    assert "slurm/N" in caught.value.hint
    set_array(monkeypatch)
    with pytest.raises(ParameterError, match="SLURM_ARRAY_TASK_ID is ''"):
        parse_shard("slurm")
    assert str(Shard(2, 8)) == "2/8"


@given(st.integers(0, 500), COUNTS, st.integers(1, 30))
def test_blocks_of_whole_steps_are_as_even_as_steps_allow(total, count, step):
    cuts = cut_at_multiples(total, count, step)
    assert len(cuts) == count
    assert np.array_equal(np.concatenate([np.arange(*cut) for cut in cuts]), np.arange(total))
    assert all(start % step == 0 or start == total for start, _ in cuts)
    steps = [-(-(stop - start) // step) for start, stop in cuts]
    assert max(steps) - min(steps) <= 1


def test_neighbouring_rows_travel_as_two_numbers():
    shard = Shard(2, 8).of_rows(np.arange(3, 7))
    assert (shard.first, shard.stop, shard.scattered, len(shard)) == (3, 7, None, 4)
    assert shard.rows.tolist() == [3, 4, 5, 6]
    shard = Shard(2, 8).of_rows(np.array([1, 5]))
    assert (len(shard), shard.rows.tolist()) == (2, [1, 5])
    assert len(Shard(2, 8).of_rows(np.arange(0))) == 0
