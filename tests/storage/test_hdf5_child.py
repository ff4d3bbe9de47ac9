"""HDF5 in children: what kills a child is one line, and the values that come back are right."""

import gc
import math
import os
import resource
import signal
import threading
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import roicli
from roicli.core.exceptions import DamagedFileError, InputError, ParameterError
from roicli.core.system import limit_time, renew_time
from roicli.storage.array import BLOCK_BYTES
from roicli.storage.formats.hdf5 import child
from roicli.storage.formats.hdf5.child import (
    ContainedReader,
    Readable,
    try_first,
)
from roicli.storage.formats.hdf5.links import trace_sources
from tests.options import some

pytestmark = pytest.mark.contained


def children() -> list[str]:
    """This process's children (Linux)."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


@pytest.fixture(autouse=True)
def _no_child_stays() -> Any:
    before, files = children(), len(os.listdir("/proc/self/fd"))
    yield
    assert children() == before
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= files


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE])
def test_a_crash_is_named(number: int, capfd: Any) -> None:
    with pytest.raises(DamagedFileError, match=rf"x\.h5: .*{signal.Signals(number).name}"):
        try_first(lambda: os.kill(os.getpid(), number), "x.h5", 1)
    assert capfd.readouterr() == ("", "")


def test_an_endless_loop_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "SECONDS", 0.5)

    def run_on() -> None:
        while True:
            pass

    started = time.process_time()
    with pytest.raises(DamagedFileError, match=r"x\.h5: .*did not come to an end") as caught:
        try_first(run_on, "x.h5", 1)
    assert "damaged" not in str(caught.value)
    assert "ROICLI_CONTAIN_HDF5=0" in str(caught.value)
    assert time.process_time() - started < 1


def burn(seconds: float) -> None:
    """Compute for so long, by the process's own clock."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_what_goes_on_has_all_the_time_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time counts from one finished thing to the next, not from the child's start."""
    monkeypatch.setattr(child, "SECONDS", 0.3)

    def go_on() -> None:
        for _ in range(5):
            burn(0.1)
            renew_time()

    try_first(go_on, "x.h5", 1)

    def go_on_for_new_limits() -> None:
        for _ in range(5):
            limit_time(0.3)
            burn(0.1)

    try_first(go_on_for_new_limits, "x.h5", 1)


def test_the_time_for_a_piece_is_that_of_the_chunks_it_touches(file: Any) -> None:
    images = file.create_dataset("a", (400, 16, 48, 48), "f4", chunks=(400, 1, 48, 48))
    place = (slice(3, 4), slice(0, 16), slice(0, 48), slice(0, 48))
    whole = 400 * 16 * 48 * 48 * 4
    assert child.decoded_bytes(Readable(images, 0), place) == whole
    part = (slice(3, 4), slice(2, 5), slice(0, 48), slice(0, 48))
    assert child.decoded_bytes(Readable(images, 0), part) == whole * 3 // 16
    plain = file.create_dataset("b", (400, 16, 48, 48), "f4")
    assert child.decoded_bytes(Readable(plain, 0), place) == whole // 400
    assert child.decoded_bytes(Readable(plain, 1000), place) == whole // 400 + 1000


def test_the_rows_of_a_virtual_dataset_cost_what_their_sources_do(tmp_path: Path) -> None:
    """Two halves of the channels in chunks of 40 images, and one more file with a row a chunk."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name in ("left", "right"):
            file.create_dataset(name, (40, 3, 8, 8), "f4", chunks=(40, 1, 8, 8), fillvalue=1)
        file.create_dataset("more", (5, 6, 8, 8), "f4", chunks=(1, 6, 8, 8), fillvalue=2)
        layout = h5py.VirtualLayout((45, 6, 8, 8), "f4")
        layout[:40, :3] = h5py.VirtualSource(file["left"])
        layout[:40, 3:] = h5py.VirtualSource(file["right"])
        layout[40:] = h5py.VirtualSource(file["more"])
        file.create_virtual_dataset("all", layout)
        path = str(tmp_path / "x.h5")
        assert trace_sources(file["all"], path, {}) == 40 * 6 * 8 * 8 * 4


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_ends_a_child_from_outside_is_no_damage(number: int) -> None:
    with pytest.raises(InputError, match=rf"x\.h5: .*{signal.Signals(number).name}") as caught:
        try_first(lambda: os.kill(os.getpid(), number), "x.h5", 1)
    assert "damage" not in str(caught.value)


@pytest.mark.full
def test_deep_groups_are_listed(tmp_path: Path) -> None:
    path, depth = tmp_path / "x.h5", 1500
    with h5py.File(path, "w") as file:
        group = file
        for _ in range(depth):
            group = group.create_group("g")
            group["again"] = file["/g"]  # a group with many names is gone through once
        group["maps"] = np.ones((1, 2, 3, 3), np.float32)
    found = roicli.inspect(path)
    assert [report.stored.address for report in found.datasets] == [f"{path}::{'/g' * depth}/maps"]
    rois = np.array([[0, 0, 0, 2, 2]], np.float32)
    assert roicli.align(path, rois, spatial_scale=1.0).roi_features.shape == (1, 2, 7, 7)


def test_too_much_memory_is_named_and_not_taken() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=r"x\.h5: .*memory"):
        try_first(lambda: np.ones(3 << 27), "x.h5", 1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + (1 << 19)


def test_a_refusal_comes_back_whole() -> None:
    def refuse() -> None:
        raise InputError("x.h5: is wrong, é", "make it right")

    with pytest.raises(InputError) as caught:
        try_first(refuse, "x.h5", 1)
    assert (caught.value.message, caught.value.hint) == ("x.h5: is wrong, é", "make it right")


def test_a_bug_is_left_to_the_parent() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    try_first(fail, "x.h5", 1)
    try_first(lambda: 1, "x.h5", 1)


def test_nothing_of_the_child_reaches_the_parent() -> None:
    seen: list[int] = []
    try_first(lambda: seen.append(1), "x.h5", 1)
    assert seen == []


def test_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setenv(child.SWITCH, "0")
    try_first(lambda: seen.append(os.getpid()), "x.h5", 1)
    assert seen == []  # not run twice in one process


def test_no_process_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fail)
    with pytest.raises(InputError, match=r"x\.h5: no process .*Resource temporarily unavailable"):
        try_first(lambda: 1, "x.h5", 1)


@pytest.fixture
def file(tmp_path: Path) -> Any:
    with h5py.File(tmp_path / "x.h5", "w") as opened:
        yield opened


SMALL = [((5, 3, 70, 90), (2, 2, 16, 16)), ((3, 200), (3, 7)), ((1000,), (64,))]
LARGE = [((1, 40, 400, 400), (1, 40, 400, 400)), ((2, 30, 300, 301), (1, 3, 300, 301))]
DTYPES = ["<f4", ">f8", "<f2", "|u1", ">i4"]


@some("dtype, shape, chunks", [(dtype, *sizes) for dtype in DTYPES for sizes in SMALL + LARGE],
      *[(dtype, *SMALL[n % 3]) for n, dtype in enumerate(DTYPES)], (">f8", *LARGE[1]))  # fmt: skip
def test_the_values_are_the_files(file: Any, dtype: str, shape: Any, chunks: Any) -> None:
    # A prime, so that rows and chunks differ; and quick to compress.
    values = (np.arange(math.prod(shape)) % 251).reshape(shape).astype(dtype)
    dataset = file.create_dataset(
        "a", data=values, chunks=chunks, compression="gzip", compression_opts=1
    )
    reader = ContainedReader(dataset, "a")
    out = np.empty(shape, values.dtype.newbyteorder("="))
    reader.read(tuple(slice(0, side) for side in shape), out)
    assert np.array_equal(out, values)
    rows = np.empty((1, *shape[1:]), out.dtype)
    place = (slice(shape[0] - 1, shape[0]), *(slice(0, side) for side in shape[1:]))
    reader.read(place, rows)
    assert np.array_equal(rows[0], values[-1])
    reader.close()
    reader.close()


def test_a_piece_is_no_larger_than_what_is_shared(file: Any) -> None:
    chunk = (1, 3, 1500, 1500)  # more than a block
    dataset = file.create_dataset("a", (2, 6, 1500, 1500), "f4", chunks=chunk, fillvalue=3)
    assert child.chunk_bytes(dataset) > BLOCK_BYTES
    out = np.empty((1, 6, 1500, 1500), np.float32)
    reader = ContainedReader(dataset, "a")
    reader.read((slice(1, 2), slice(0, 6), slice(0, 1500), slice(0, 1500)), out)
    assert (out == 3).all()
    reader.close()


def test_a_reader_that_dies_is_named_and_gone(file: Any) -> None:
    dataset = file.create_dataset("a", (4, 5), "f4", chunks=(2, 5))
    reader = ContainedReader(dataset, "x.h5::/a")
    os.kill(int(children()[-1]), signal.SIGSEGV)
    for _ in range(2):
        with pytest.raises(DamagedFileError, match=r"x\.h5::/a: is damaged"):
            reader.read((slice(0, 4), slice(0, 5)), np.empty((4, 5), np.float32))
    reader.close()


def test_what_cannot_be_decoded_is_an_error_and_the_reader_lives(file: Any) -> None:
    dataset = file.create_dataset("a", data=np.ones((4, 5)), chunks=(2, 5), compression="gzip")
    dataset.id.write_direct_chunk((2, 0), b"\xff" * 20)
    reader = ContainedReader(dataset, "a")
    with pytest.raises(OSError, match="filter"):
        reader.read((slice(0, 4), slice(0, 5)), np.empty((4, 5)))
    out = np.empty((2, 5))
    reader.read((slice(0, 2), slice(0, 5)), out)
    assert (out == 1).all()
    reader.close()


def test_the_terminals_interruption_is_not_the_childs(file: Any) -> None:
    dataset = file.create_dataset("a", data=np.ones((4, 5)), chunks=(2, 5))
    reader = ContainedReader(dataset, "a")
    for number in children():
        os.kill(int(number), signal.SIGINT)
    out = np.empty((4, 5))
    reader.read((slice(0, 4), slice(0, 5)), out)
    assert (out == 1).all()
    reader.close()


def test_parameter_errors_pass_too() -> None:
    def refuse() -> None:
        raise ParameterError("x is 1")

    with pytest.raises(InputError, match="x is 1"):
        try_first(refuse, "x.h5", 1)


def test_an_interruption_at_the_fork_is_the_parents(
    file: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The child must not run on in the program with an exception of its own."""
    dataset = file.create_dataset("a", data=np.ones((4, 5)), chunks=(2, 5))
    bare, me = os.fork, os.getpid()

    def interrupted() -> int:
        pid = bare()
        # Both, as a terminal does; this thread, for others of the test run do not hold it back.
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        return pid

    monkeypatch.setattr(os, "fork", interrupted)
    # A shell starts its background jobs with SIGINT ignored.
    was = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            ContainedReader(dataset, "a")
    finally:
        signal.signal(signal.SIGINT, was)
        if os.getpid() != me:  # an escaped child must not go on as a second test run
            (tmp_path / "escaped").touch()
            os._exit(1)
    assert not (tmp_path / "escaped").exists()
