"""Rows in order although the RoIs are in any: when that is done, and that it changes no bit."""

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import roicli
from roicli.core.progress import StageTimes
from roicli.core.types import RoIs
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.pipeline import stretches
from roicli.pipeline.features import FeatureLevel, open_pyramid
from roicli.pipeline.order import plan_visits
from roicli.pipeline.result_blocks import OrderedBlocks, RowWriter
from roicli.pipeline.stream import run_operator
from roicli.pipeline.stretches import choose_stretch
from roicli.pipeline.visited_maps import VisitedMaps
from roicli.runtime.device_map import MapPlacer
from roicli.runtime.devices import HOST
from roicli.runtime.engine import Engine
from roicli.storage.result_file import MemoryWriter
from tests.strategies import awkward_corners, normal_map, with_batch

ROW = 1000
MAP = 2 * 5 * 6 * 4  # bytes of one map below


@pytest.fixture(autouse=True)
def small_stretches(monkeypatch):
    monkeypatch.setattr(stretches, "STRETCH_BYTES", (10 * ROW, 20 * ROW, 40 * ROW))
    monkeypatch.setattr(stretches, "WORTH_BYTES", 4 * ROW)


def maps_of(images, levels=1):
    scales = [2.0**-level for level in range(levels)]
    return open_pyramid([np.zeros((images, 2, 5, 6), np.float32)] * levels, (), scales)


def rois_of(images):
    return RoIs(np.asarray(images), np.zeros((len(images), 4)), np.zeros(len(images)))


def chosen(images, spare=1 << 20, row_bytes=ROW, levels=None):
    images = np.asarray(images)
    levels = np.zeros_like(images) if levels is None else levels
    pyramid = maps_of(int(images.max()) + 1, int(levels.max()) + 1)
    return choose_stretch(pyramid, rois_of(images), levels, row_bytes, spare)


ALTERNATING = np.arange(100) % 3


def test_rois_in_random_order_are_gathered():
    assert chosen(ALTERNATING) == 10
    assert chosen(np.random.default_rng(0).permutation(ALTERNATING)) == 10


def test_levels_of_a_pyramid_scatter_rows_as_images_do():
    assert chosen(np.zeros(100, int)) is None
    assert chosen(np.zeros(100, int), levels=np.arange(100) % 4) == 10


@pytest.mark.parametrize("rows_together", [4, 5, 50])
def test_rois_of_an_image_that_stand_together_are_written_as_they_come(rows_together):
    assert chosen(np.arange(100) // rows_together) is None


def test_small_results_are_written_as_they_come():
    assert chosen(ALTERNATING[:40]) == 10
    assert chosen(ALTERNATING[:39]) is None


def test_more_maps_make_longer_stretches_and_too_many_none():
    """Going over the maps of all stretches must not take more than the result has bytes."""
    assert chosen(np.arange(2000) % 40, row_bytes=100) == 100
    assert chosen(np.arange(2000) % 60, row_bytes=100) == 200
    assert chosen(np.arange(2000) % 100, row_bytes=100) == 400
    assert chosen(np.arange(2000) % 200, row_bytes=100) is None


def test_what_does_not_fit_is_not_gathered():
    """Two stretches, and the maps that both need."""
    assert chosen(ALTERNATING, spare=20 * ROW + 3 * MAP) == 10
    assert chosen(ALTERNATING, spare=20 * ROW + 3 * MAP - 1) is None
    many = np.arange(400) % 100
    assert chosen(many, spare=20 * ROW + 100 * MAP) == 10
    assert chosen(many, spare=20 * ROW + 100 * MAP - 1) is None


def test_only_maps_that_are_needed_again_stay_in_memory():
    """Sorted by image, with rows of two levels in turn: a stretch has two or three images."""
    images, levels = np.arange(400) // 8, np.arange(400) % 2
    assert chosen(images, spare=20 * ROW + 6 * MAP, levels=levels) == 10


def test_a_row_longer_than_a_stretch_is_written_as_it_comes():
    assert chosen(ALTERNATING, row_bytes=41 * ROW, spare=1 << 30) is None


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=40), st.integers(1, 9))
def test_stretches_are_visited_one_after_another(places, stretch_rows):
    images = np.array([image for image, _ in places], np.int64)
    levels = np.array([level for _, level in places], np.int64)
    visits = plan_visits(rois_of(images), levels, stretch_rows)
    rows = [row for visit in visits for row in visit.rows]
    assert sorted(rows) == list(range(len(places)))
    assert (np.diff(np.array(rows) // stretch_rows) >= 0).all()
    for visit in visits:
        assert (images[visit.rows] == visit.image).all()
        assert (levels[visit.rows] == visit.level).all()
    keys = [(visit.rows[0] // stretch_rows, visit.image, visit.level) for visit in visits]
    assert keys == sorted(set(keys))


# Maps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stretch_rows", [None, 7, 1])
def test_every_map_is_read_once_and_no_more_are_kept_than_are_needed(monkeypatch, stretch_rows):
    stored = normal_map((9, 2, 5, 6), 0)
    pyramid = open_pyramid(stored, (), (1.0,))
    rois = rois_of(np.arange(40) // 5 if stretch_rows else np.arange(40) % 9)
    visits = plan_visits(rois, np.zeros(40, int), stretch_rows)
    images = [visit.image for visit in visits]
    reads, buffers, real = [], weakref.WeakSet(), FeatureLevel.read_image

    def read(self, index, buffer, keep):
        reads.append(index)
        buffers.add(buffer)
        return real(self, index, buffer, keep)

    monkeypatch.setattr(FeatureLevel, "read_image", read)
    placer = MapPlacer(np.dtype(np.float32))
    with ThreadPoolExecutor(1) as reader:
        maps = VisitedMaps(pyramid, visits, placer, StageTimes(), reader)
        for number, (visit, placed) in enumerate(maps):
            np.testing.assert_array_equal(placed.host, stored[visit.image])
            assert placed.cell_table is None
            placed.cell_table = "what an operator adds"
            needed = {i for i in images[: number + 2] if i in images[number:]}
            again = {image for image in needed if images.count(image) > 1}
            assert len(buffers) <= 2 + len(again)
    assert sorted(reads) == sorted(set(images))


def test_a_small_map_that_is_kept_does_not_keep_the_room_of_a_large_one():
    """Fine maps that are visited once, and coarse ones that every stretch needs."""
    fine, coarse = np.zeros((9, 2, 50, 60), np.float32), np.zeros((9, 2, 5, 6), np.float32)
    pyramid = open_pyramid([fine, coarse], (), (1.0, 0.5))
    rois = rois_of(np.repeat(np.arange(9), 2).tolist() + list(range(9)))
    levels = np.array([0, 1] * 9 + [1] * 9)
    visits = plan_visits(rois, levels, 18)
    with ThreadPoolExecutor(1) as reader:
        maps = VisitedMaps(pyramid, visits, MapPlacer(np.dtype(np.float32)), StageTimes(), reader)
        for _ in maps:
            live = [buffer for _, buffer in list(maps._maps.values())] + maps._free
            sizes = sorted(buffer._stored.nbytes for buffer in live)
            assert sum(sizes) <= 2 * fine[0].nbytes + 9 * coarse[0].nbytes


def test_maps_are_counted_in_the_type_that_they_are_computed_in():
    """A float32 level beside a float64 one is upcast."""
    maps = [np.zeros((1, 2, 8, 8), np.float32), np.zeros((1, 2, 4, 4), np.float64)]
    assert open_pyramid(maps[:1], (), (1.0,)).buffer_bytes == [2 * 64 * 4]
    assert open_pyramid(maps, (), (1.0, 0.5)).buffer_bytes == [2 * 64 * 12, 2 * 16 * 8]


# Blocks ----------------------------------------------------------------------------------------


class Written(MemoryWriter):
    """Notes the rows in the order in which they come."""

    wants_order, takes_tables = True, False

    def __init__(self, shape, dtype):
        super().__init__(shape, dtype)
        self.rows = []

    def write_rows(self, rows, block):
        assert threading.current_thread() is not threading.main_thread()
        self.rows.extend(rows.tolist())
        super().write_rows(rows, block.copy())


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 7), st.randoms(use_true_random=False))
def test_rows_reach_the_writer_in_order(count, stretch_rows, block_rows, random):
    values = np.random.default_rng(count).normal(size=(count, 3))
    writer = Written(values.shape, values.dtype)
    with ThreadPoolExecutor(1) as pool:
        row_writer = RowWriter(writer, (3,), values.dtype, pool, StageTimes())
        blocks = OrderedBlocks(row_writer, HOST, block_rows * 24, stretch_rows, count)
        for start in range(0, count, stretch_rows):
            left = list(range(start, min(start + stretch_rows, count)))
            random.shuffle(left)
            while left:
                size = random.randint(1, len(left))
                rows, left = np.array(left[:size]), left[size:]
                block = blocks.next_block(len(rows))
                block[...] = values[rows]
                blocks.write(rows, block)
        blocks.drain()
    assert writer.rows == list(range(count))
    np.testing.assert_array_equal(writer.array, values)


def test_a_stretch_that_cannot_be_written_ends_the_run():
    class Full(Written):
        def write_rows(self, rows, block):
            raise OSError(28, "No space left on device")

    with ThreadPoolExecutor(1) as pool:
        writer = Full((4, 3), np.float64)
        row_writer = RowWriter(writer, (3,), np.dtype(np.float64), pool, StageTimes())
        blocks = OrderedBlocks(row_writer, HOST, 48, 2, 4)
        blocks.write(np.array([1, 0]), blocks.next_block(2))
        with pytest.raises(OSError, match="No space left"):
            blocks.drain()


def test_what_waits_is_not_written_when_the_run_has_failed():
    """A stretch may take the disk seconds; somebody who ends the run does not wait for it."""
    begun, go = threading.Event(), threading.Event()

    class Slow(Written):
        def write_rows(self, rows, block):
            begun.set()
            assert go.wait(10)
            super().write_rows(rows, block)

    def end_while_a_stretch_is_written(blocks):
        with blocks:
            blocks.write(np.arange(8), blocks.next_block(8))
            assert begun.wait(10)
            raise KeyboardInterrupt

    writer = Slow((8, 3), np.float64)
    with ThreadPoolExecutor(1) as pool:
        row_writer = RowWriter(writer, (3,), np.dtype(np.float64), pool, StageTimes())
        with pytest.raises(KeyboardInterrupt):
            end_while_a_stretch_is_written(OrderedBlocks(row_writer, HOST, 48, 8, 8))
        go.set()
    assert writer.rows == [0, 1]


# Whole runs ------------------------------------------------------------------------------------

IMAGES = normal_map((4, 3, 13, 17), seed=8)


def shuffled_rois(count=120):
    corners = awkward_corners((13, 17), 1 / 16, count, 3)
    return with_batch(corners, np.random.default_rng(0).integers(0, 4, count))


@pytest.fixture
def gathered(monkeypatch):
    """How many stretches were written."""
    monkeypatch.setattr(stretches, "STRETCH_BYTES", (1024,))
    monkeypatch.setattr(stretches, "WORTH_BYTES", 1 << 20)
    monkeypatch.setattr("roicli.pipeline.stretches._map_bytes", lambda *_: (0, 0))
    seen, real = [], OrderedBlocks._write_stretch
    monkeypatch.setattr(
        OrderedBlocks, "_write_stretch", lambda self, *a: (seen.append(a[2]), real(self, *a))[1]
    )
    return seen


@pytest.mark.parametrize("provider", ["cpu", "native"])
@pytest.mark.parametrize("operator", ["align", "pool"])
@pytest.mark.parametrize(
    ("name", "options"),
    [("a.npy", {}), ("a.h5", {}), ("a.h5", {"compression": "gzip"}), ("a.zarr", {}),
     ("a.h5", {"dtype": "float16", "verify": True}), ("a.h5", {"values": True})],
)  # fmt: skip
def test_the_result_is_the_one_that_is_not_gathered(
    tmp_path, gathered, provider, operator, name, options
):
    if provider == "native":
        pytest.importorskip("numba")
    if name.endswith(".zarr"):
        pytest.importorskip("zarr")
    run = getattr(roicli, operator)
    chosen = {"spatial_scale": 1 / 16, "output_size": (2, 2), "provider": provider}
    kept = {name: option for name, option in options.items() if name == "dtype"}
    expected = run(IMAGES, shuffled_rois(), **chosen, **kept).roi_features
    assert gathered == []  # in memory there is nothing to gain
    result = run(IMAGES, shuffled_rois(), tmp_path / name, **chosen, **options)
    assert len(gathered) > 3
    np.testing.assert_array_equal(read_back(tmp_path / name), expected)
    assert len(result.errors) == 120


def read_back(path):
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".zarr":
        import zarr

        return zarr.open(path)["roi_features"][:]
    with h5py.File(path) as file:
        return file["roi_features"][:]


def test_a_run_that_may_be_resumed_keeps_rows_as_they_come(tmp_path, gathered):
    """Nothing that is computed waits for its neighbours, where an interruption would lose it."""
    options = {"spatial_scale": 1 / 16, "provider": "cpu"}
    expected = roicli.align(IMAGES, shuffled_rois(), **options).roi_features
    roicli.align(IMAGES, shuffled_rois(), tmp_path / "a.h5", resume=True, **options)
    assert gathered == []
    np.testing.assert_array_equal(read_back(tmp_path / "a.h5"), expected)


def test_an_engine_without_room_to_spare_gathers_nothing(gathered):
    rois = RoIs(np.arange(120) % 4, np.zeros((120, 4)), np.zeros(120))
    for spare, count in ((0, 0), (1 << 20, 6)):
        writer = Written((120, 3, 2, 2), np.float32)
        for spec in (AlignSpec((2, 2), 1 / 16), PoolSpec((2, 2), 1 / 16)):
            gathered.clear()
            pyramid = open_pyramid(IMAGES, (), (1 / 16,))
            engine = Engine("cpu", 2, spare_bytes=spare)
            run_operator(pyramid, rois, np.zeros(120, int), [spec], engine, writer)
            assert len(gathered) == count
