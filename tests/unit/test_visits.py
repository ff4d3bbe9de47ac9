"""Windows of a result: the order they make, when they are worth it, what they do not change."""

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import roicli
from roicli import running
from roicli.datatypes import RoIs
from roicli.features import open_pyramid
from roicli.storage import row_file
from roicli.visits import choose_window, plan_visits, visiting_order
from tests.strategies import awkward_corners, normal_map, with_batch

ROW_BYTES = 1 << 10


def rois_of(images):
    count = len(images)
    return RoIs(np.asarray(images, np.int64), np.zeros((count, 4)), np.zeros(count))


places = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), max_size=40)


@given(places, st.integers(1, 50))
def test_windows_are_whole_before_the_next_and_go_map_by_map(places, window_rows):
    images = np.array([image for image, _ in places], np.int64)
    levels = np.array([level for _, level in places], np.int64)
    rois = rois_of(images)
    visits = plan_visits(rois, levels, window_rows)
    found = [(v.rows[0] // window_rows, v.image, v.level) for v in visits]
    expected = {(row // window_rows, *place) for row, place in enumerate(places)}
    assert found == sorted(expected)
    for visit in visits:
        assert (images[visit.rows] == visit.image).all()
        assert (levels[visit.rows] == visit.level).all()
        assert (visit.rows // window_rows == visit.rows[0] // window_rows).all()
        assert (np.diff(visit.rows) > 0).all()
    assert sorted(row for v in visits for row in v.rows) == list(range(len(places)))


@given(places)
def test_one_window_is_the_order_without_windows(places):
    rois, levels = rois_of([p[0] for p in places]), np.array([p[1] for p in places], np.int64)
    whole = [visit.rows for visit in plan_visits(rois, levels, max(len(places), 1))]
    assert np.array_equal(np.concatenate([*whole, []]), visiting_order(rois, levels))


def choose(images, maps, row_bytes=ROW_BYTES):
    """The window for RoIs on ``images`` of maps (N, C, H, W), in an address or an array."""
    pyramid = open_pyramid(maps, (), (1.0,), lambda line: None)
    try:
        return choose_window(pyramid, rois_of(images), np.zeros(len(images), np.int64), row_bytes)
    finally:
        pyramid.close()


@pytest.fixture
def windows_of_1000_rows(monkeypatch):
    monkeypatch.setattr(row_file, "WINDOW_BYTES", 1000 * ROW_BYTES)


MAPS = np.zeros((8, 2, 3, 3), np.float32)
SORTED = np.repeat(np.arange(8), 1000)
SHUFFLED = np.random.default_rng(0).permutation(SORTED)


def test_windows_are_for_shuffled_rois_only(windows_of_1000_rows):
    assert choose(SHUFFLED, MAPS) == 1000
    assert choose(SORTED, MAPS) is None
    assert choose(SORTED[::-1], MAPS) == 1000  # the first rows would come last
    assert choose(SHUFFLED[:1000], MAPS) is None  # one window
    assert choose([], MAPS) is None


def test_maps_that_cost_more_than_scattered_rows_are_read_once(windows_of_1000_rows):
    # 56 more visits for 7,000 scattered rows of 32 KiB: 4 MB each, 0.5 MiB of it for the visit.
    assert choose(SHUFFLED, np.zeros((8, 1, 870, 1000), np.float32)) == 1000
    assert choose(SHUFFLED, np.zeros((8, 1, 980, 1000), np.float32)) is None
    # A visit costs something even where the map is a cell: here every RoI would be one.
    many = np.random.default_rng(1).integers(0, 5000, 8000)
    assert choose(many, np.zeros((5000, 1, 1, 1), np.float32)) is None


def test_rows_as_large_as_a_window_are_windows_of_one(windows_of_1000_rows):
    assert choose(SHUFFLED[:4], MAPS, 5000 * ROW_BYTES) is None


@pytest.mark.parametrize(("layout", "chosen"), [("contiguous", 1000), ("chunks", None)])
def test_maps_that_are_decoded_are_read_once(windows_of_1000_rows, tmp_path, layout, chosen):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        chunks = {"chunks": (1, 2, 3, 3)} if layout == "chunks" else {}
        file.create_dataset("maps", data=MAPS, **chunks)
    np.save(tmp_path / "f.npy", MAPS)
    assert choose(SHUFFLED, tmp_path / "f.h5") == chosen
    assert choose(SHUFFLED, tmp_path / "f.npy") == 1000


# --- the results ------------------------------------------------------------------------------

IMAGES, COUNT = 5, 301
FEATURES = normal_map((IMAGES, 3, 13, 17), seed=3)
BOXES = with_batch(awkward_corners((13, 17), 1 / 16, COUNT, 5).astype(np.float32))
BOXES[:, 0] = np.random.default_rng(4).integers(0, IMAGES, COUNT)
ORDER = np.argsort(BOXES[:, 0], kind="stable")


@pytest.fixture
def chosen(monkeypatch):
    """Windows of 40 rows of ``run``, the last one partial; what was chosen for each run."""
    seen = []

    def note(*arguments):
        seen.append(choose_window(*arguments))
        return seen[-1]

    monkeypatch.setattr(row_file, "WINDOW_BYTES", 40 * 3 * 7 * 7 * 4)
    monkeypatch.setattr("roicli.visits.BYTES_A_VISIT", 0)
    monkeypatch.setattr(running, "choose_window", note)
    return seen


def run(boxes, path, provider="native", **options):
    if provider == "native":
        pytest.importorskip("numba")
    given = {"spatial_scale": 1 / 16, "force": True, "provider": provider, **options}
    roicli.align(FEATURES, boxes, path, **given)
    if str(path).endswith(".npy"):
        return np.load(path)
    if str(path).endswith(".zarr"):
        import zarr

        return zarr.open_group(path, mode="r")["roi_features"][...]
    with h5py.File(path) as file:
        return file["roi_features"][...]


KINDS = [("r.npy", {}), ("r.h5", {}), ("r.h5", {"compression": "gzip"}), ("r.h5", {"values": True}),
         ("r.h5", {"shard": "2/2"}), ("r.zarr", {})]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), KINDS, ids=str)
def test_shuffled_rois_give_the_rows_of_sorted_ones(tmp_path, chosen, name, options):
    path = tmp_path / name
    found = run(BOXES, path, **options)
    assert chosen == [40]
    if "shard" in options:
        assert 40 < len(found) < COUNT
        whole = run(BOXES, tmp_path / "whole.h5")
        np.testing.assert_array_equal(found, whole[found_rows(path)])
        return
    np.testing.assert_array_equal(
        found[ORDER], run(BOXES[ORDER], tmp_path / f"s-{name}", **options)
    )


def found_rows(path):
    with h5py.File(path) as file:
        return file["rows"][...]


@pytest.mark.parametrize("name", ["r.npy", "r.h5"])
def test_windows_change_no_byte_of_the_file(tmp_path, chosen, monkeypatch, name):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    run(BOXES, tmp_path / name, values=True)
    monkeypatch.setattr(row_file, "WINDOW_BYTES", 1 << 30)
    windowed = (tmp_path / name).read_bytes()
    run(BOXES, tmp_path / name, values=True)
    assert chosen == [40, None]
    assert (tmp_path / name).read_bytes() == windowed


def test_memory_other_providers_and_a_run_that_can_be_resumed_have_none(tmp_path, chosen):
    in_memory = roicli.align(FEATURES, BOXES, spatial_scale=1 / 16, provider="cpu").roi_features
    resumable = run(BOXES, tmp_path / "r.h5", resume=True)
    run(BOXES, tmp_path / "c.h5", provider="cpu")
    assert chosen == []
    np.testing.assert_array_equal(run(BOXES, tmp_path / "w.h5"), in_memory)
    np.testing.assert_array_equal(resumable, in_memory)
    assert chosen == [40]
