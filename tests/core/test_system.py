"""What differs between systems: with all of Linux, and with what others lack taken away."""

import builtins
import errno
import fcntl
import os
import resource
import signal
import threading

import pytest

from roicli.core import system
from roicli.core.system import available_bytes, resident_bytes

MIB = 1 << 20


def test_without_proc_there_is_an_estimate(monkeypatch):
    def closed(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(builtins, "open", closed)
    found = resident_bytes(), available_bytes()
    monkeypatch.undo()
    assert found[0] == 96 * MIB
    assert found[1] >= available_bytes()


def group(folder, names, limit, used, cached=0):
    """A control group's files; ``names`` as the version has them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\nslab 9\n")


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Write what /proc/self/cgroup says, and give the folder that stands for /sys/fs/cgroup."""
    monkeypatch.setattr(system, "GROUPS", str(tmp_path / "sys"))
    real = builtins.open

    def fake(path, *arguments, **options):
        return real(
            tmp_path / "self" if path == "/proc/self/cgroup" else path, *arguments, **options
        )

    monkeypatch.setattr(builtins, "open", fake)

    def write(text):
        (tmp_path / "self").write_text(text)
        return tmp_path / "sys"

    return write


def test_a_container_of_version_2_sets_the_limit(groups):
    root = groups("0::/job/step\n")
    group(root / "job" / "step", system.GROUP_FILES[""], "max", 7 * MIB)
    assert available_bytes() > 64 * MIB
    group(root / "job", system.GROUP_FILES[""], 64 * MIB, 40 * MIB, cached=8 * MIB)
    assert available_bytes() == 32 * MIB
    group(root, system.GROUP_FILES[""], 30 * MIB, 40 * MIB)
    assert available_bytes() == 0


def test_a_container_of_version_1_sets_the_limit(groups):
    root = groups("3:cpu,cpuacct:/x\n4:memory:/job\n1:name=systemd:/\n")
    group(root / "memory" / "job", system.GROUP_FILES["memory"], 50 * MIB, 10 * MIB)
    assert available_bytes() == 40 * MIB
    (root / "memory" / "job" / "memory.stat").unlink()
    assert available_bytes() > 50 * MIB  # what cannot be read sets no limit


def test_no_groups_set_no_limit(groups):
    groups("0::/gone\n")
    assert available_bytes() > 50 * MIB


# --- limits ------------------------------------------------------------------------------------


def test_limits_are_numbers_or_none(monkeypatch):
    for found, expected in (((5, 9), 5), ((resource.RLIM_INFINITY,) * 2, None), ((-1, -1), None)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, found=found: found)
        assert system.limit_of("file size") == expected


def test_as_many_files_as_the_system_lets_a_process_open(monkeypatch):
    limits = [(64, 100)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, found: limits.append(found))
    assert system.allow_open_files(101) == 100
    assert limits == [(64, 100)]
    assert system.allow_open_files(66) is None
    assert limits[-1] == (66, 100)


# --- files, with and without a system's calls ----------------------------------------------------

LACKING = {
    "Linux": (),
    "macOS": ("fdatasync", "posix_fadvise", "posix_fallocate", "preadv", "sched_getaffinity"),
    "Windows": (
        "fdatasync", "posix_fadvise", "posix_fallocate", "preadv", "pwrite", "sched_getaffinity",
        "fork", "register_at_fork", "sysconf",
    ),
}  # fmt: skip


@pytest.fixture(params=LACKING)
def lacking(request, monkeypatch):
    """One system after the other."""
    for name in LACKING[request.param]:
        monkeypatch.delattr(os, name)
    if request.param == "Windows":
        monkeypatch.setattr(system, "fcntl", None)
        monkeypatch.setattr(system, "resource", None)
        monkeypatch.delattr(signal, "pthread_sigmask")
    return request.param


@pytest.fixture
def descriptor(tmp_path):
    opened = system.open_to_write(str(tmp_path / "file"))
    yield opened
    os.close(opened)


def test_bytes_are_written_and_read_at_their_place(lacking, descriptor):
    system.take_room(descriptor, 0, 100)
    assert os.fstat(descriptor).st_size == 100
    assert system.write_at(descriptor, memoryview(b"there"), 40) == 5
    system.flush_data(descriptor)
    system.drop_pages(descriptor, 0, 0)
    room = memoryview(bytearray(5))
    assert system.read_at(descriptor, room, 40) == 5
    assert bytes(room) == b"there"
    assert system.read_at(descriptor, room, 100) == 0


def test_room_is_never_taken_away(lacking, descriptor):
    system.take_room(descriptor, 0, 100)
    system.take_room(descriptor, 10, 20)
    system.take_room(descriptor, 500, 0)
    assert os.fstat(descriptor).st_size in (100, 500)


def test_files_and_folders_are_flushed(lacking, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    system.flush_path(str(tmp_path / "file"))
    system.flush_path(str(tmp_path))


def test_the_drive_is_flushed_where_the_system_has_a_call_for_it(monkeypatch, descriptor):
    asked = []
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda _, what: asked.append(what))
    monkeypatch.setattr(os, "fdatasync", None)  # would fail
    system.flush_data(descriptor)
    assert asked == [51]

    def refuse(*_):
        raise OSError

    monkeypatch.undo()
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", refuse)
    monkeypatch.setattr(os, "fdatasync", asked.append)
    system.flush_data(descriptor)
    assert asked == [51, descriptor]


def test_a_lock_is_one_process_s(lacking, tmp_path):
    one, other = (system.open_to_write(str(tmp_path / "lock")) for _ in range(2))
    try:
        if lacking == "Windows":
            with pytest.raises(OSError, match="supported"):
                system.try_lock(one)
        else:
            assert [system.try_lock(one), system.try_lock(other)] == [True, False]
    finally:
        os.close(one)
        os.close(other)


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "kept").write_bytes(b"kept")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    with pytest.raises(OSError, match="symbolic"):
        system.open_to_write(str(tmp_path / "link"))


def test_cores_and_memory_are_found(lacking):
    assert 1 <= system.usable_cores() <= (os.cpu_count() or 1)
    assert system.available_bytes() > 0
    assert system.limit_of("open files") is None or system.limit_of("open files") > 0
    assert system.allow_open_files(3) is None


def test_signals_wait(lacking):
    received = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: received.append(number))
    try:
        with system.signals_held_back(signal.SIGUSR1):
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
            assert received == ([signal.SIGUSR1] if lacking == "Windows" else [])
        assert received == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_what_is_called_after_a_fork(lacking):
    system.after_fork(int)  # which a test process may keep


# --- names and modes -----------------------------------------------------------------------------


@pytest.fixture(params=["one step", "links", "neither"])
def renames(request, monkeypatch):
    """A system that renames to a new name at once, one with hard links, and one without."""
    if request.param == "one step":
        if system._load_renameat2() is None:
            pytest.skip("this system has no renameat2")
        return
    monkeypatch.setattr(system, "_load_renameat2", lambda: None)
    if request.param == "neither":
        monkeypatch.delattr(os, "link")


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_rename_to_a_new_name_replaces_nothing(renames, tmp_path, monkeypatch, is_folder):
    monkeypatch.chdir(tmp_path)
    make = os.mkdir if is_folder else lambda name: (tmp_path / name).write_text(name)
    make("one")
    system.rename_to_new("one", "two")
    assert os.listdir() == ["two"]
    assert is_folder or os.stat("two").st_nlink == 1
    make("one")
    for taken in ("two", "link"):
        if taken == "link":
            os.symlink("nowhere", "link")
        with pytest.raises(FileExistsError):
            system.rename_to_new("one", taken)
    assert sorted(os.listdir()) == ["link", "one", "two"]
    with pytest.raises(FileNotFoundError):
        system.rename_to_new("gone", "three")


def test_two_names_are_exchanged_or_nothing_is_done(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.makedirs("one/mine")
    os.makedirs("two/yours")
    if system._load_renameat2() is not None:
        assert system.exchange_names("one", "two")
        assert (os.listdir("one"), os.listdir("two")) == (["yours"], ["mine"])
        with pytest.raises(FileNotFoundError):
            system.exchange_names("one", "gone")
    monkeypatch.setattr(system, "_load_renameat2", lambda: None)
    before = os.listdir("one")
    assert not system.exchange_names("one", "two")
    assert os.listdir("one") == before


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EPERM])
def test_a_file_system_that_does_not_know_the_call_is_the_second_best(
    tmp_path, monkeypatch, number
):
    import ctypes

    def refuse(*_):
        ctypes.set_errno(number)
        return -1

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(system, "_load_renameat2", lambda: refuse)
    (tmp_path / "one").write_text("one")
    system.rename_to_new("one", "two")
    assert os.listdir() == ["two"]
    assert not system.exchange_names("two", "two")


def test_a_new_file_is_new_and_a_pipe_is_not_waited_for(tmp_path):
    path = str(tmp_path / "file")
    os.close(system.make_file(path, 0o600))
    assert os.stat(path).st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        system.make_file(path)
    os.mkfifo(tmp_path / "pipe")
    os.close(system.open_to_write(str(tmp_path / "pipe")))


def test_a_system_without_modes_keeps_what_it_has(tmp_path, descriptor, monkeypatch):
    (tmp_path / "like").write_text("x")
    os.chmod(tmp_path / "like", 0o4640)
    system.take_mode(descriptor, str(tmp_path / "like"))
    assert os.fstat(descriptor).st_mode & 0o7777 == 0o640
    for name in ("fchmod", "fchown"):
        monkeypatch.delattr(os, name)
    system.set_mode(descriptor, 0o600)
    system.take_mode(descriptor, str(tmp_path / "gone"))
    assert os.fstat(descriptor).st_mode & 0o777 == 0o640


def raise_in_a_block(reached):
    with system.signals_deferred():
        signal.raise_signal(signal.SIGTERM)
        reached.append("end of the block")


def test_handlers_are_called_when_the_block_ends():
    reached = []

    def handle(number, frame):
        reached.append("handled")
        raise ArithmeticError

    before = signal.signal(signal.SIGTERM, handle)
    try:
        with pytest.raises(ArithmeticError):
            raise_in_a_block(reached)
        assert reached == ["end of the block", "handled"]
        assert signal.getsignal(signal.SIGTERM) is handle

        def in_a_thread():
            with system.signals_deferred():
                reached.append("a thread's block")

        thread = threading.Thread(target=in_a_thread)
        thread.start()
        thread.join()
        assert reached[2:] == ["a thread's block"]
    finally:
        signal.signal(signal.SIGTERM, before)
