"""Where a Zarr result may go, and how it gets to a URL."""

import os

import numpy as np
import pytest

from roicli.core.exceptions import OutputError
from roicli.storage.formats.zarr import publish as publishing
from roicli.storage.formats.zarr import publish as zarr_place
from roicli.storage.result import ResultFile, open_result
from tests.zarr_stores import MAPS, fsspec, opened, refused, store, write


class Interruption(BaseException):
    """Like KeyboardInterrupt."""


@pytest.fixture
def memory_url():
    """A URL of this process's memory, emptied afterwards."""
    url = f"memory://{os.urandom(4).hex()}/x.zarr"
    yield url
    system, path = fsspec.core.url_to_fs(url)
    if system.exists(path):
        system.rm(path, recursive=True)


def test_until_the_end_nothing_at_a_url_opens(memory_url):
    values = np.ones((4, 2, 3, 3), np.float32)
    with open_result(ResultFile(memory_url, values.shape, values.dtype)) as made:
        made.write_rows(np.arange(4), values)
        assert "is no Zarr store" in refused(memory_url)
        assert "cannot be read" in refused(f"{memory_url}::roi_features")
        system, path = fsspec.core.url_to_fs(memory_url)
        assert [key.removeprefix(f"{path}/") for key in system.find(path)] == [
            "roi_features/c.0.0.0.0"
        ]
        made.finish({}, {"operator": "align"})
    assert opened(memory_url).file_attributes == {"operator": "align"}
    np.testing.assert_array_equal(opened(memory_url).read_all(), values)


@pytest.mark.parametrize("error", [ValueError, Interruption])
def test_an_exception_leaves_nothing_at_a_url(memory_url, error):
    def fail():
        with open_result(ResultFile(memory_url, (4, 1, 1, 1), np.dtype("f4"))) as made:
            made.write_rows(np.arange(4), np.ones((4, 1, 1, 1), np.float32))
            raise error("stop")

    with pytest.raises(error):
        fail()
    system, path = fsspec.core.url_to_fs(memory_url)
    assert not system.exists(path)


def test_the_root_is_written_last_at_a_url(memory_url, monkeypatch):
    put, keys = zarr_place.Remote.put, []
    monkeypatch.setattr(
        zarr_place.Remote, "put", lambda self, *a: (keys.append(a[0]), put(self, *a))
    )
    rois = np.zeros((4, 5), np.float32)
    write(memory_url, np.ones((4, 1, 1, 1), np.float32), tables={"rois": lambda a, b: rois[a:b]})
    assert sorted(keys[:-1]) == ["roi_features/zarr.json", "rois/zarr.json"]
    assert keys[-1] == "zarr.json"


def test_what_a_url_refuses_is_one_line(memory_url, monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    def full(*_, **__):
        raise RuntimeError("quota\nexceeded")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", full)
    with pytest.raises(OutputError, match=r"x\.zarr: cannot be written: quota$"):
        write(memory_url, np.ones((4, 1, 1, 1), np.float32))


def place_refused(path, taken=(), force=False):
    with pytest.raises(OutputError) as caught:
        publishing.check_place(str(path), list(map(str, taken)), force, (".h5", ".zarr"))
    return str(caught.value)


def test_places_that_a_store_must_not_go_to(tmp_path):
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "folder.zarr" / "thesis.tex").write_text("x")
    (tmp_path / "file.zarr").write_text("x")
    store(tmp_path / "in.zarr", MAPS, "inner")
    assert "does not exist" in place_refused(tmp_path / "gone" / "r.zarr")
    for name in ("folder.zarr", "file.zarr"):
        assert "exists and is no Zarr store" in place_refused(tmp_path / name, force=True)
    assert "exists already; add --force" in place_refused(tmp_path / "in.zarr")
    assert "would overwrite" in place_refused(tmp_path / "in.zarr", [tmp_path / "in.zarr"], True)
    inner = tmp_path / "in.zarr" / "inner"
    assert "would overwrite" in place_refused(tmp_path / "in.zarr", [inner], True)
    publishing.check_place(str(tmp_path / "r.zarr"), [str(inner)], False, ())


def test_urls_that_a_store_must_not_go_to(memory_url):
    assert "unknown ending '.h5'" in place_refused("memory://x.h5")
    publishing.check_place(memory_url, [], False, ())
    write(memory_url, np.ones((1, 1, 1, 1), np.float32))
    assert "exists already" in place_refused(memory_url)
    assert "would overwrite" in place_refused(memory_url, [memory_url], True)
    publishing.check_place(memory_url, [], True, ())
    system, path = fsspec.core.url_to_fs(memory_url)
    system.rm_file(f"{path}/zarr.json")  # what a killed run leaves
    publishing.check_place(memory_url, [], True, ())
    system.pipe_file(f"{path}/thesis.tex", b"x")
    assert "is no Zarr store" in place_refused(memory_url, force=True)


@pytest.mark.parametrize("force", [True, False])
def test_a_store_that_was_moved_away_by_a_killed_run_comes_back(tmp_path, force):
    path = tmp_path / "r.zarr"
    write(str(path), np.ones((1, 1, 1, 1), np.float32))
    # Killed between its two renames: the old store is aside, and nothing has the name.
    path.rename(tmp_path / ".r.zarr.roicli-part.store.old")
    new = np.full((1, 1, 1, 1), 2, np.float32)
    if force:
        write(str(path), new, force=True)
    else:
        with pytest.raises(OutputError, match=r"was killed; the old store is back; add --force"):
            write(str(path), new)
    found = opened(path).read_all()
    assert found.item() == (2 if force else 1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.zarr"]


def test_a_store_that_was_replaced_by_a_killed_run_goes(tmp_path):
    path, old = tmp_path / "r.zarr", tmp_path / ".r.zarr.roicli-part.store.old"
    for place in (old, path):
        write(str(tmp_path / "s.zarr"), np.ones((1, 1, 1, 1), np.float32))
        (tmp_path / "s.zarr").rename(place)
    write(str(path), np.full((1, 1, 1, 1), 2, np.float32), force=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.zarr"]
