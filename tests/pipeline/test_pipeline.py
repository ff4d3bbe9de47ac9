"""Images one at a time: the same rows whatever their order, the blocks or the files."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roicli.core.exceptions import InputError
from roicli.core.progress import StageTimes
from roicli.core.types import RoIs
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.pipeline import stream as pipeline
from roicli.pipeline.features import FeatureLevel, open_pyramid
from roicli.pipeline.order import plan_visits
from roicli.pipeline.stream import Engine, VisitedMaps, run_operator
from roicli.runtime.device_map import MapPlacer
from roicli.storage.array import StoredArray
from roicli.storage.result import MemoryWriter
from tests import oracle
from tests.strategies import awkward_corners, normal_map, with_batch

IMAGES = normal_map((4, 3, 13, 17), seed=8)
SPECS = [AlignSpec((2, 3), 1 / 16), AlignSpec((2, 3), 1 / 16, 0, mode="max"),
         PoolSpec((2, 3), 1 / 16), PoolSpec((2, 3), 1 / 16, "hull", "disjoint")]  # fmt: skip


def rois_on(images, count=60, seed=0):
    rng = np.random.default_rng(seed)
    corners = awkward_corners((13, 17), 1 / 16, count, seed).astype(np.float64)
    return RoIs(rng.integers(0, images, count), corners, np.zeros(count))


def run(spec, rois, images=IMAGES, block_bytes=32 << 20, progress=lambda *_: None):
    pyramid = open_pyramid(images, (), (1 / 16,))
    writer = MemoryWriter((len(rois), images.shape[1], *spec.output_size), pyramid.compute_dtype)
    writer.array.fill(np.nan)
    everywhere = np.zeros(len(rois), np.int64)
    run_operator(pyramid, rois, everywhere, [spec], Engine("cpu", 2, block_bytes), writer,
                 progress=progress)  # fmt: skip
    return writer.array


ROIS = rois_on(4)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=30),
)
def test_every_roi_is_visited_once_on_its_map_in_order(places):
    images = np.array([image for image, _ in places], np.int64)
    levels = np.array([level for _, level in places], np.int64)
    rois = RoIs(images, np.zeros((len(places), 4)), np.zeros(len(places)))
    visits = plan_visits(rois, levels)
    assert [(v.image, v.level) for v in visits] == sorted(set(places))
    for visit in visits:
        assert (images[visit.rows] == visit.image).all()
        assert (levels[visit.rows] == visit.level).all()
        assert (np.diff(visit.rows) > 0).all()
    assert sorted(row for v in visits for row in v.rows) == list(range(len(places)))


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_rois_shuffled_over_images_give_the_same_rows(spec):
    order = np.random.default_rng(1).permutation(len(ROIS))
    np.testing.assert_array_equal(run(spec, ROIS.take(order)), run(spec, ROIS)[order])


@pytest.mark.parametrize("spec", SPECS, ids=repr)
@pytest.mark.parametrize("block_bytes", [1, 100, 1000])
def test_the_size_of_the_blocks_does_not_change_a_bit(spec, block_bytes):
    np.testing.assert_array_equal(run(spec, ROIS, block_bytes=block_bytes), run(spec, ROIS))


def test_every_image_has_its_own_map():
    found = run(SPECS[2], ROIS)
    for image in range(4):
        here = np.flatnonzero(ROIS.batch_index == image)
        assert len(here)
        expected = oracle.roi_pool(
            IMAGES[image : image + 1], with_batch(ROIS.corners[here].astype(np.float32)),
            output_size=(2, 3), spatial_scale=1 / 16,
        )  # fmt: skip
        np.testing.assert_array_equal(found[here], expected)


def test_progress_counts_rois_and_bytes_to_the_end():
    told = []
    run(SPECS[2], ROIS, block_bytes=200, progress=lambda *numbers: told.append(numbers))
    done = [numbers[0] for numbers in told]
    assert done == sorted(set(done))
    assert told[-1] == (60, 60, 60 * 3 * 2 * 3 * 4)
    assert len(told) > 4


def count_blocks(spec, sides, work, monkeypatch):
    """How many RoIs each block has: square ones of ``sides`` cells from (1, 1) on, on one image."""
    monkeypatch.setattr(pipeline, "WORK_A_BLOCK", work)
    sides = np.asarray(sides, np.float64)
    corners = 16 * np.stack([0 * sides, 0 * sides, sides, sides], axis=1) + 16
    rois = RoIs(np.zeros(len(sides), np.int64), corners, np.zeros(len(sides)))
    told = []
    run(spec, rois, progress=lambda done, *_: told.append(done))
    return np.diff(told).tolist()


def test_adaptive_sampling_is_cut_by_the_points_that_each_roi_takes(monkeypatch):
    # Bins are (2, 3) of 3 channels: sides of 6 cells take 3 * 2 points a bin, of 1 cell one.
    large, small, spec = 18 * 6, 18, AlignSpec((2, 3), 1 / 16, 0)
    assert count_blocks(spec, [6] * 8, 3 * large, monkeypatch) == [3, 3, 2]
    assert count_blocks(spec, [1] * 8, 5 * small, monkeypatch) == [5, 3]
    assert count_blocks(spec, [1, 6, 1, 1], large, monkeypatch) == [1, 1, 2]
    assert count_blocks(spec, [6, 6], small, monkeypatch) == [1, 1]


def test_other_operators_are_cut_into_as_many_rois_each(monkeypatch):
    values = 2 * 3 * 3
    spec = AlignSpec((2, 3), 1 / 16, 2)
    assert count_blocks(spec, [6, 1, 6, 1, 6], 2 * 4 * values, monkeypatch) == [2, 2, 1]
    assert count_blocks(SPECS[2], [6, 1, 6, 1, 6], 2 * values, monkeypatch) == [2, 2, 1]


def test_no_rois_read_no_map():
    assert run(SPECS[0], ROIS.take(slice(0, 0))).shape == (0, 3, 2, 3)


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.uint16, ">f4", np.float64, ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_maps_of_every_dtype_are_computed_in_their_float_type(tmp_path, dtype, order):
    stored = (IMAGES * 10).astype(np.int8 if np.dtype(dtype).kind in "iu" else dtype)
    stored = np.abs(stored).astype(dtype)
    np.save(tmp_path / "maps.npy", np.asarray(stored, order=order))
    pyramid = open_pyramid(tmp_path / "maps.npy", (), (1 / 16,))
    wide = np.float64 if np.dtype(dtype).itemsize == 8 else np.float32
    assert pyramid.compute_dtype == wide
    writer = MemoryWriter((60, 3, 2, 3), pyramid.compute_dtype)
    zeros = np.zeros(60, np.int64)
    run_operator(pyramid, ROIS, zeros, [SPECS[0]], Engine("cpu", 2), writer)
    pyramid.close()
    np.testing.assert_array_equal(writer.array, run(SPECS[0], ROIS, stored.astype(wide)))


class Unreadable(StoredArray):
    """A stored array whose third image is damaged."""

    name, shape, dtype = "maps", (4, 3, 13, 17), np.dtype(np.float32)

    def read(self, place, out):
        if place[0].start <= 2 < place[0].stop:
            raise InputError("maps: item 2 cannot be read")
        out[...] = IMAGES[place]


def test_an_image_that_cannot_be_read_ends_the_run(monkeypatch):
    monkeypatch.setattr("roicli.storage.exchange.MemoryArray", lambda *_, **__: Unreadable())
    with pytest.raises(InputError, match="item 2 cannot be read"):
        run(SPECS[0], ROIS)


def test_rows_that_cannot_be_written_end_the_run():
    class Full(MemoryWriter):
        def write_rows(self, rows, block):
            raise OSError(28, "No space left on device")

    pyramid = open_pyramid(IMAGES, (), (1 / 16,))
    with pytest.raises(OSError, match="No space left"):
        run_operator(pyramid, ROIS, np.zeros(60, np.int64), [SPECS[0]], Engine("cpu", 1, 500),
                     Full((0,), np.dtype(np.float32)))  # fmt: skip


def test_the_rois_of_a_map_are_cut_into_equal_blocks():
    rois = RoIs(np.zeros(14, int), ROIS.corners[:14], np.zeros(14))
    sizes = []
    row_bytes = 3 * 2 * 3 * 4
    run(SPECS[0], rois, block_bytes=6 * row_bytes, progress=lambda done, *_: sizes.append(done))
    assert np.diff(sizes).tolist() == [5, 5, 4]


def test_something_is_done_while_the_last_rows_are_written():
    """All are computed by then, and the writer need not be done."""
    done, called = threading.Event(), []

    class Waits(MemoryWriter):
        def write_rows(self, rows, block):
            super().write_rows(rows, block)
            assert done.wait(180)

    def meanwhile():
        called.append(len(called))
        done.set()

    pyramid = open_pyramid(IMAGES[:1], (), (1 / 16,))
    rois = RoIs(np.zeros(60, int), ROIS.corners, np.zeros(60))
    writer = Waits((60, 3, 2, 3), pyramid.compute_dtype)
    run_operator(pyramid, rois, np.zeros(60, np.int64), [SPECS[0]], Engine("cpu", 2), writer,
                 meanwhile=meanwhile)  # fmt: skip
    assert called == [0]


def test_every_map_is_read_once_while_the_one_before_runs(monkeypatch):
    """Two buffers take turns, and what an operator adds to a map does not reach the next one."""
    monkeypatch.setattr(pipeline, "HANDED_OVER_BYTES", 1)  # each map for itself
    stored = normal_map((9, 2, 5, 6), 0)
    pyramid = open_pyramid(stored, (), (1.0,))
    images = np.random.default_rng(0).permutation(np.arange(40) % 9)
    visits = plan_visits(RoIs(images, np.zeros((40, 4)), np.zeros(40)), np.zeros(40, int))
    reads, buffers, real = [], set(), FeatureLevel.read_image

    def read(self, index, buffer, keep):
        reads.append(index)
        buffers.add(buffer)
        return real(self, index, buffer, keep)

    monkeypatch.setattr(FeatureLevel, "read_image", read)
    placer = MapPlacer(np.dtype(np.float32))
    with ThreadPoolExecutor(1) as reader:
        for visit, placed in VisitedMaps(
            pyramid, visits, placer, reader, StageTimes(), lambda: None
        ):
            np.testing.assert_array_equal(placed.host, stored[visit.image])
            assert placed.cell_table is None
            placed.cell_table = "what an operator adds"
    assert reads == list(range(9))
    assert len(buffers) == 2
