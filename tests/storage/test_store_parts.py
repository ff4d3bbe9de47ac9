"""Parts of a Zarr store: chunks written elsewhere, the record of them, and what they become."""

import os
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from roicli.core.exceptions import InputError, OutputError
from roicli.storage.formats.zarr import write as drafts
from roicli.storage.formats.zarr.publish import PARTS_PREFIX, Remote, StoreFolder, open_place
from roicli.storage.formats.zarr.shards import (
    check_store_part,
    open_store_part,
    open_store_plan,
    publish_store,
)
from roicli.storage.plan import Plan, is_waited_for
from roicli.storage.shard import Shard
from roicli.storage.shared_place import Folder
from tests.log import logged
from tests.zarr_stores import fsspec, opened, zarr

SAME = {"operator": "align"}
ROWS = np.arange(10, dtype=np.float32).repeat(4).reshape(10, 1, 2, 2)
VALUES = {"value_error_max": np.arange(4.0)}
PART = Shard(2, 3, 4, 8, key=f"{PARTS_PREFIX}0001.npz", fingerprint=SAME)


@pytest.fixture(params=["folder", "url"])
def place(request, tmp_path):
    """A place for a store, made."""
    if request.param == "folder":
        found = StoreFolder(str(tmp_path / "x.zarr"))
        found.make()
        yield found
        return
    found = Remote(f"memory://{os.urandom(4).hex()}/x.zarr")
    yield found
    found.remove_all()


@pytest.fixture(autouse=True)
def two_rows_a_chunk(monkeypatch):
    monkeypatch.setattr(drafts, "CHUNK_BYTES", 2 * ROWS[0].nbytes)


def begin(place, compression="none"):
    return drafts.begin(place, place.path, ROWS.shape, ROWS.dtype, compression)


def write_part(
    place, metadata, part=PART, check=lambda: None, order=(3, 0, 2, 1), is_waited_for=lambda: True
):
    """As a worker does: join the store, write the part's rows in some order."""
    draft = drafts.join(open_place(place.path), metadata)
    with open_store_part(draft, part, VALUES, check, is_waited_for) as writer:
        for row in order:
            writer.write_rows(np.array([row]), ROWS[[part.first + row]])
        writer.finish({}, {})


def test_a_part_is_its_chunks_and_a_record_of_them(place):
    write_part(place, begin(place, "zstd").metadata)
    assert place.list_keys("roi_features/") == {"c.2.0.0.0", "c.3.0.0.0"}
    assert place.list_keys("") == {"roi_features", ".roicli"}
    found = check_store_part(place, PART)
    np.testing.assert_array_equal(found.pop("value_error_max"), np.arange(4.0))
    assert not found


def damage(place, key):
    data = bytearray(place.read(key))
    data[len(data) // 2] ^= 1
    place.put(key, bytes(data))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda place: damage(place, "roi_features/c.3.0.0.0"), "c.3.0.0.0: is damaged"),
        (lambda place: place.remove("roi_features/c.2.0.0.0"), "c.2.0.0.0: is damaged or missing"),
        (lambda place: place.remove(PART.key), "is not there"),
        (lambda place: place.put(PART.key, b""), "is damaged"),
        (lambda place: place.put(PART.key, b"PK\x03\x04 and no more"), "is damaged"),
        (lambda place: place.put(PART.key, place.read(PART.key)[:200]), "is damaged"),
        (lambda place: damage(place, PART.key), "is damaged|holds other"),
    ],
)
def test_what_is_not_whole_is_not_taken(place, spoil, words):
    write_part(place, begin(place).metadata)
    spoil(place)
    with pytest.raises(InputError, match=words):
        check_store_part(place, PART)


@pytest.mark.parametrize(
    "other", [{"first": 2}, {"stop": 6}, {"fingerprint": {"operator": "pool"}}]
)
def test_a_part_of_something_else_is_not_taken(place, other):
    write_part(place, begin(place).metadata)
    with pytest.raises(InputError, match="holds other rows, or was made from other inputs"):
        check_store_part(place, replace(PART, **other))


def test_rows_that_did_not_come_leave_no_record(place):
    with pytest.raises(OutputError, match="1 of 4 rows were not written"):
        write_part(place, begin(place).metadata, order=(0, 1, 3))
    assert place.read(PART.key) is None


def test_nothing_is_put_where_nobody_waits(place):
    metadata = begin(place).metadata

    def gone():
        raise OutputError("gone")

    with pytest.raises(OutputError, match="gone"):
        write_part(place, metadata, check=gone)
    assert not place.list_keys("")


def test_no_record_is_put_of_a_part_that_nobody_waits_for_any_more(place):
    """The chunks were put while somebody did."""
    metadata = begin(place).metadata
    checked = []

    def gone_after_the_chunks():
        checked.append(place.list_keys("roi_features/"))
        if len(checked[-1]) == 2:
            raise OutputError("gone")

    with pytest.raises(OutputError, match="gone"):
        write_part(place, metadata, check=gone_after_the_chunks)
    assert [len(keys) for keys in checked] == [0, 1, 2]
    assert place.read(PART.key) is None


def test_a_folder_that_was_given_up_is_not_made_again(tmp_path):
    place = StoreFolder(str(tmp_path / "x.zarr"))
    place.make()
    metadata = begin(place).metadata
    place.remove_all()
    with pytest.raises(OutputError, match="cannot be written"):
        write_part(place, metadata)
    assert os.listdir(tmp_path) == []


@pytest.fixture(params=["memory", "local"])
def url(request, tmp_path, monkeypatch):
    """Where nothing can be renamed: a bucket, and a file system that makes folders as one does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(fsspec.config.conf, "local", {"auto_mkdir": True})
    root = tmp_path if request.param == "local" else f"/{os.urandom(4).hex()}"
    yield f"{request.param}://{root}/x.zarr"
    Remote(f"{request.param}://{root}/x.zarr").remove_all()


@pytest.mark.parametrize("checks", [1, 2, 3], ids=["first chunk", "second", "record"])
def test_what_a_task_puts_after_its_run_was_given_up_is_taken_back(url, checks):
    """The task has looked, the client removes everything, and then the task puts."""
    place = Remote(url)
    done = []

    def check():
        if not is_waited_for(place, plan.key, plan.token):
            raise OutputError("gone")
        done.append(0)
        if len(done) == checks:
            place.remove_all()

    with planned(url) as plan:
        metadata = begin(place).metadata
        part = replace(PART, key=plan.part_key(1))
        waited_for = partial(is_waited_for, place, plan.key, plan.token)
        with pytest.raises(OutputError, match="gone"):
            write_part(place, metadata, part, check, is_waited_for=waited_for)
    assert not place.list_keys("")
    assert os.listdir(".") == []


def test_a_late_attempt_takes_no_chunk_of_a_store_that_is_whole(url):
    """Another attempt put the same; the run ended while this one put its record."""
    with planned(url, count=3) as plan:
        draft = fill(plan)
        part = Shard(2, 3, 4, 8, key=plan.part_key(2), fingerprint=SAME)
        checked = []

        def check():
            checked.append(0)
            if len(checked) == 3:
                publish_store(plan, draft, {}, {}, False)
            elif len(checked) == 4:
                raise OutputError("gone")

        waited_for = partial(is_waited_for, plan.place, plan.key, plan.token)
        with pytest.raises(OutputError, match="gone"):
            write_part(plan.place, draft.metadata, part, check, is_waited_for=waited_for)
    assert plan.place.list_keys("") == {"roi_features", "zarr.json"}
    np.testing.assert_array_equal(opened(f"{url}::roi_features").read_all(), ROWS)


def test_a_folder_that_is_written_to_while_it_is_removed_is_removed(tmp_path, monkeypatch):
    """A file system's folder, unlike a bucket's prefix, has to be empty in the end."""
    monkeypatch.setitem(fsspec.config.conf, "local", {"auto_mkdir": True})
    place = Remote(f"local://{tmp_path}/x.zarr")
    place.put("roi_features/c.0.0.0.0", b"x")
    rmdir, late = os.rmdir, [b"y", b"z"]

    def put_first(path, **options):
        if late:
            place.put("roi_features/c.1.0.0.0", late.pop())
        rmdir(path, **options)

    monkeypatch.setattr(os, "rmdir", put_first)
    place.remove_all()
    assert os.listdir(tmp_path) == []
    assert not late


@contextmanager
def planned(target, keep=False, force=False, count=1):
    with open_store_plan(target, keep, force) as plan:
        plan.begin(count, SAME, keep, force)
        yield plan


@pytest.fixture(params=["folder", "url"])
def target(request, tmp_path, monkeypatch):
    """The name of a store to be."""
    monkeypatch.chdir(tmp_path)
    if request.param == "folder":
        yield "x.zarr"
        return
    url = f"memory://{os.urandom(4).hex()}/x.zarr"
    yield url
    Remote(url).remove_all()


def fill(plan, parts=((0, 4), (4, 8), (8, 10))):
    """Every part of the store, by workers; gives the draft."""
    draft = drafts.begin(open_place(plan.place.path), plan.target, ROWS.shape, ROWS.dtype, "none")
    for number, (first, stop) in enumerate(parts, 1):
        part = Shard(number, 3, first, stop, key=plan.part_key(number), fingerprint=SAME)
        write_part(plan.place, draft.metadata, part, order=range(stop - first))
    return draft


def test_a_store_has_its_name_when_every_part_is_there(target):
    with planned(target, count=3) as plan:
        draft = fill(plan)
        assert plan.finished() == [1, 2, 3]
        rois = np.arange(50.0).reshape(10, 5)
        publish_store(plan, draft, {"rois": lambda a, b: rois[a:b]}, {"operator": "align"}, False)
        assert not is_waited_for(plan.place, plan.key, plan.token)
    np.testing.assert_array_equal(opened(f"{target}::roi_features").read_all(), ROWS)
    np.testing.assert_array_equal(opened(f"{target}::rois").read_all(), rois)
    place = open_place(target)
    assert place.list_keys("") == {"roi_features", "rois", "zarr.json"}
    if target == "x.zarr":
        assert os.listdir(".") == ["x.zarr"]


def test_a_chunk_that_is_gone_is_noticed_and_strays_go(target):
    def publish_too_soon():
        with planned(target, count=2) as plan:
            publish_store(plan, fill(plan, ((0, 4), (4, 8))), {}, {}, False)

    with pytest.raises(OutputError, match=r"1 of 5 chunks are gone, the first c\.4"):
        publish_too_soon()
    assert not open_place(target).list_keys("")
    with planned(target, count=3) as plan:
        draft = fill(plan)
        plan.place.put("roi_features/c.0.0.0.0.abc.partial", b"x")
        publish_store(plan, draft, {}, {}, False)
    assert "roi_features/c.0.0.0.0.abc.partial" not in open_place(target).list_keys("roi_features/")


def stop_with_parts(target, keep):
    def stopped():
        with planned(target, keep, count=3) as plan:
            fill(plan, ((0, 4), (4, 8)))
            raise KeyboardInterrupt

    with logged() as lines, pytest.raises(KeyboardInterrupt):
        stopped()
    return lines


def test_an_interruption_keeps_the_parts_or_removes_them(target):
    stop_with_parts(target, keep=False)
    assert not open_place(target).list_keys("")
    notes = stop_with_parts(target, keep=True)
    assert "keeps 2 of 3 parts; the same command goes on from there" in notes[0]
    with (
        pytest.raises(OutputError, match="an interrupted run has kept 2 of 3 parts; add --resume"),
        planned(target),
    ):
        pass
    with planned(target, keep=True, count=9) as plan:
        assert (plan.count, plan.finished()) == (3, [1, 2])
        publish_store(plan, fill(plan), {}, {}, False)
    np.testing.assert_array_equal(opened(f"{target}::roi_features").read_all(), ROWS)


def test_another_run_at_a_url_is_not_overrun(target):
    with planned(target, count=3) as plan:
        with pytest.raises(OutputError, match="another run is writing"), planned(target):
            pass
        assert is_waited_for(plan.place, plan.key, plan.token)
        if target != "x.zarr":
            with planned(target, force=True) as other:
                assert not is_waited_for(plan.place, plan.key, plan.token)
                assert is_waited_for(other.place, other.key, other.token)


def test_a_store_is_replaced_with_force(target):
    for values in (1, 2):
        with planned(target, count=3, force=True) as plan:
            draft = fill(plan)
            publish_store(plan, draft, {}, {"run": values}, force=True)
    assert zarr.open_group(target, mode="r").attrs["run"] == 2
    if target == "x.zarr":
        assert os.listdir(".") == ["x.zarr"]


def test_storage_that_is_away_is_not_a_run_that_was_given_up(tmp_path, monkeypatch):
    plan = Plan("x.h5", Folder(str(tmp_path / "parts")))
    plan.begin(1, SAME, False, False)

    def away(*_):
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr("builtins.open", away)
    with pytest.raises(OSError, match="Stale"):
        is_waited_for(plan.place, plan.key, plan.token)


def test_a_networks_failure_may_pass(monkeypatch):
    place = Remote("memory://failing/x.zarr")

    def fail(*_, **__):
        raise RuntimeError("endpoint\nnot reached")

    system = type(fsspec.filesystem("memory"))
    for name in ("pipe_file", "cat_file", "ls", "rm_file"):
        monkeypatch.setattr(system, name, fail)
    for call in (
        lambda: place.put("a", b""), lambda: place.read("a"), lambda: place.list_keys(""),
        lambda: place.remove("a"),
    ):  # fmt: skip
        with pytest.raises(OutputError, match=r"x\.zarr: cannot be written: endpoint$") as caught:
            call()
        assert isinstance(caught.value.__cause__, OSError)
