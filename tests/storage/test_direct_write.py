"""Large writes past the page cache: the same bytes, wherever the file system takes them."""

import errno
import mmap
import os

import numpy as np
import pytest

from roicli.core.exceptions import OutputError
from roicli.storage import direct_write
from roicli.storage.direct_write import ALIGNMENT, DirectWriter
from roicli.storage.result_file import ResultFile, open_result

DIRECT = getattr(os, "O_DIRECT", 0)


def takes_direct_writes(folder):
    try:
        os.close(os.open(folder / "probe", os.O_WRONLY | os.O_CREAT | DIRECT))
    except OSError:
        return False
    finally:
        (folder / "probe").unlink(missing_ok=True)
    return bool(DIRECT)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(direct_write, "WORTH_BYTES", ALIGNMENT)
    monkeypatch.setattr(direct_write, "PIECE_BYTES", 2 * ALIGNMENT)


@pytest.fixture
def direct_folder(tmp_path):
    if not takes_direct_writes(tmp_path):
        pytest.skip("the file system of the temporary folder does not write past the page cache")
    return tmp_path


def written_bytes(monkeypatch):
    """What ``os.pwrite`` was given from now on: (offset, size, whether past the page cache)."""
    import fcntl

    seen, real = [], os.pwrite

    def pwrite(descriptor, data, offset):
        is_direct = bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & DIRECT)
        count = real(descriptor, data, offset)
        seen.append((offset, count, is_direct))
        return count

    monkeypatch.setattr(os, "pwrite", pwrite)
    return seen


def write(path, values, blocks):
    """A result (K, n) in blocks of rows, and what is in the file in the end."""
    file = ResultFile(str(path), values.shape, values.dtype, force=True)
    with open_result(file) as writer:
        for rows in blocks:
            writer.write_rows(rows, values[rows])
        writer.finish({}, {})
    if path.suffix == ".npy":
        return np.load(path)
    import h5py

    with h5py.File(path) as stored:
        return stored["roi_features"][:]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["a.npy", "a.h5"])
def test_whatever_the_rows_and_blocks_are_the_bytes_are_theirs(tmp_path, name, seed):
    random = np.random.default_rng(seed)
    shape = (int(random.integers(1, 400)), int(random.integers(1, 300)))
    dtype = random.choice([np.float16, np.float32, np.float64])
    values = random.normal(size=shape).astype(dtype)
    order = np.arange(len(values))
    if seed % 2:  # neighbours that begin in the middle
        order = np.roll(order, len(order) // 3)
    cuts = np.sort(random.integers(0, len(values) + 1, 3))
    found = write(tmp_path / name, values, [part for part in np.split(order, cuts) if len(part)])
    np.testing.assert_array_equal(found, values)


def test_whole_pages_go_past_the_page_cache_and_edges_through_it(direct_folder, monkeypatch):
    seen = written_bytes(monkeypatch)
    values = np.arange(10 * 2500, dtype=np.float32).reshape(10, 2500)
    np.testing.assert_array_equal(
        write(direct_folder / "a.npy", values, [np.arange(6), np.arange(6, 10)]), values
    )
    direct = sum(count for _, count, is_direct in seen if is_direct)
    edges = [count for _, count, is_direct in seen if not is_direct]
    assert direct + sum(edges) == values.nbytes
    assert max(edges) < ALIGNMENT
    assert len(edges) <= 4
    for offset, count, is_direct in seen:
        assert not is_direct or (offset % ALIGNMENT, count % ALIGNMENT) == (0, 0)


def test_scattered_rows_and_scratch_files_go_through_the_page_cache(direct_folder, monkeypatch):
    seen = written_bytes(monkeypatch)
    values = np.arange(64 * 100, dtype=np.float32).reshape(64, 100)
    write(direct_folder / "a.npy", values, [np.arange(0, 64, 2), np.arange(1, 64, 2)])
    file = ResultFile(str(direct_folder / "b.h5"), values.shape, values.dtype, "lzf")
    with open_result(file) as writer:
        writer.write_rows(np.arange(64), values)
        writer.finish({}, {})
    assert seen
    assert not any(is_direct for _, _, is_direct in seen)


def refuse_direct(monkeypatch, call, number):
    """Have ``os.open`` or ``os.pwrite`` fail for files past the page cache."""
    import fcntl

    real = getattr(os, call)

    def fail(*arguments):
        if call == "open":
            is_direct = arguments[1] & DIRECT
        else:
            is_direct = fcntl.fcntl(arguments[0], fcntl.F_GETFL) & DIRECT
        if is_direct:
            raise OSError(number, os.strerror(number))
        return real(*arguments)

    monkeypatch.setattr(os, call, fail)


@pytest.mark.parametrize("call", ["open", "pwrite"])
def test_a_file_system_that_does_not_do_it_gets_ordinary_writes(direct_folder, monkeypatch, call):
    refuse_direct(monkeypatch, call, errno.EINVAL)
    values = np.arange(10 * 2500, dtype=np.float32).reshape(10, 2500)
    blocks = [np.arange(6), np.arange(6, 10)]
    np.testing.assert_array_equal(write(direct_folder / "a.npy", values, blocks), values)


def test_a_disk_that_fails_ends_the_run_and_nothing_stays(direct_folder, monkeypatch):
    refuse_direct(monkeypatch, "pwrite", errno.EIO)
    values = np.arange(10 * 2500, dtype=np.float32).reshape(10, 2500)
    with pytest.raises(OutputError, match="cannot be written: Input/output error"):
        write(direct_folder / "a.npy", values, [np.arange(10)])
    assert os.listdir(direct_folder) == []


@pytest.mark.parametrize("taken", [0, 512, ALIGNMENT])
def test_what_the_disk_takes_a_part_of_is_written_to_the_end(direct_folder, monkeypatch, taken):
    import fcntl

    real = os.pwrite

    def pwrite(descriptor, data, offset):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & DIRECT:
            data = data[:taken]
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    values = np.arange(10 * 2500, dtype=np.float32).reshape(10, 2500)
    np.testing.assert_array_equal(write(direct_folder / "a.h5", values, [np.arange(10)]), values)


def test_the_file_is_let_go_of(direct_folder):
    (direct_folder / "a").write_bytes(bytes(4 * ALIGNMENT))
    before = len(os.listdir("/proc/self/fd"))
    writer = DirectWriter(str(direct_folder / "a"))
    assert writer.write(memoryview(b"x" * 3 * ALIGNMENT), 0) == range(3 * ALIGNMENT)
    writer.close()
    writer.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert writer.write(memoryview(b"y" * 3 * ALIGNMENT), 0) == range(0)
    assert (direct_folder / "a").read_bytes() == b"x" * 3 * ALIGNMENT + bytes(ALIGNMENT)


def fail_to(what):
    def fail(*_, **__):
        raise OSError(what, os.strerror(what))

    return fail


def test_a_kernel_without_huge_pages_or_memory_for_the_buffer_loses_nothing(
    direct_folder, monkeypatch
):
    values = np.arange(10 * 2500, dtype=np.float32).reshape(10, 2500)

    class Plain(mmap.mmap):
        madvise = fail_to(errno.EINVAL)

    for replacement, is_direct in ((Plain, True), (fail_to(errno.ENOMEM), False)):
        with monkeypatch.context() as patch:
            patch.setattr(mmap, "mmap", replacement)
            seen = written_bytes(patch)
            path = direct_folder / "a.npy"
            np.testing.assert_array_equal(write(path, values, [np.arange(10)]), values)
            assert any(direct for _, _, direct in seen) == is_direct


def test_a_file_that_cannot_be_made_leaves_no_descriptor(tmp_path, monkeypatch):
    monkeypatch.setattr("roicli.storage.layout.create", fail_to(errno.EMFILE))
    before = len(os.listdir("/proc/self/fd"))
    values = np.zeros((4, 4), np.float32)
    with pytest.raises(OutputError, match="Too many open files"):
        write(tmp_path / "a.npy", values, [np.arange(4)])
    assert len(os.listdir("/proc/self/fd")) == before
