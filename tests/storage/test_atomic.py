"""One run at a time holds a result's part; what a killed run left is cleared by the next."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from roicli.core import system
from roicli.core.exceptions import OutputError
from roicli.storage import atomic
from roicli.storage.atomic import PartFile, replace_atomically
from tests.crashes import die_at_every_step

PART = ".r.npy.roicli-part"
HOLD = """
import sys, time
from roicli.storage.atomic import PartFile
part = PartFile("r.npy")
open(part.path, "w").write("half")
open(part.companion("rows"), "w").write("scratch")
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def hold():
    """Another process that holds the part."""
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    return process


def test_the_second_run_says_so_and_touches_nothing():
    process = hold()
    try:
        with pytest.raises(OutputError, match=r"r\.npy: another run is writing it; wait for"):
            PartFile("r.npy")
        assert Path(PART).read_text() == "half"
    finally:
        process.kill()
        process.communicate()


def test_what_a_killed_run_left_goes_with_the_next():
    process = hold()
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert sorted(os.listdir()) == [PART, f"{PART}.rows"]
    with replace_atomically("r.npy", False) as name:
        assert Path(name).read_bytes() == b""
        assert os.listdir() == [name]
        Path(name).write_text("whole")
    assert os.listdir() == ["r.npy"]
    assert Path("r.npy").read_text() == "whole"


def test_a_part_that_was_renamed_while_it_was_claimed_is_claimed_anew(monkeypatch):
    first, taken = PartFile("r.npy"), []
    Path(first.path).write_text("first")

    def wait_for_the_first(descriptor, how):
        # The first run ends between this run's open and its lock.
        if not taken:
            taken.append(descriptor)
            first.publish(False)
            first.__exit__()
        real(descriptor, how)

    real = fcntl.flock
    monkeypatch.setattr(system.fcntl, "flock", wait_for_the_first)
    with PartFile("r.npy") as second:
        Path(second.path).write_text("second")
        assert Path("r.npy").read_text() == "first"
        with pytest.raises(OutputError, match="another run wrote it meanwhile"):
            second.publish(False)
    assert os.listdir() == ["r.npy"]


def test_without_locks_every_run_has_a_name_of_its_own(monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(system.fcntl, "flock", no_locks)
    with PartFile("r.npy") as one, PartFile("r.npy") as other:
        assert one.path != other.path
        for part, text in ((one, "one"), (other, "other")):
            Path(part.path).write_text(text)
        one.publish(False)
        other.publish(True)
    assert os.listdir() == ["r.npy"]
    assert Path("r.npy").read_text() == "other"


def test_a_planted_link_is_not_followed():
    Path("precious").write_text("precious")
    os.symlink("precious", PART)
    with pytest.raises(OutputError, match="cannot be written"), replace_atomically("r.npy", True):
        pass
    assert Path("precious").read_text() == "precious"


def test_the_disk_has_the_data_before_the_name_and_the_name_before_the_end(monkeypatch):
    seen = []

    def recording(name):
        real = getattr(os, name)

        def record(*arguments):
            place = arguments[0]
            where = os.readlink(f"/proc/self/fd/{place}") if isinstance(place, int) else place
            seen.append((name, os.path.basename(where)))
            return real(*arguments)

        return record

    for name in ("fsync", "fdatasync", "replace"):
        monkeypatch.setattr(os, name, recording(name))
    monkeypatch.setattr(
        atomic, "rename_to_new", lambda *a: (seen.append(("new", a[0])), os.rename(*a))
    )
    for force, rename in ((False, "new"), (True, "replace")):
        seen.clear()
        with replace_atomically("r.npy", force) as name:
            Path(name).write_text("x")
        folder = os.path.basename(os.getcwd())
        assert seen == [("fdatasync", PART), (rename, PART), ("fsync", folder)]


@pytest.fixture(params=[True, False], ids=["renameat2", "link"])
def renames(request, monkeypatch):
    """A system that renames where nothing has the name, and one that cannot."""
    if not request.param:
        monkeypatch.setattr(system, "_load_renameat2", lambda: None)
    elif system._load_renameat2() is None:
        pytest.skip("this system has no renameat2")


def write(text, force=True):
    with replace_atomically("r.npy", force) as name:
        Path(name).write_text(text)


@pytest.mark.parametrize("force", [True, False])
def test_wherever_a_run_is_killed_the_next_one_writes_into_no_file_that_has_a_name(renames, force):
    for _ in die_at_every_step(lambda: write("first", force)):
        if os.path.exists("r.npy"):
            with open("r.npy") as published:
                write("second, which is longer")
                assert published.read() == "first"
        else:
            write("second, which is longer", False)
        assert Path("r.npy").read_text() == "second, which is longer"
        assert os.listdir() == ["r.npy"]
        os.unlink("r.npy")
    assert Path("r.npy").read_text() == "first"


@pytest.mark.parametrize("kind", ["part", "rows", "values", "new-journal"])
def test_what_another_name_leads_to_is_not_written_into(kind):
    """As a backup by hard links has it."""
    with PartFile("r.npy") as part:
        Path(part.companion("journal")).write_text("kept")
        left = part.path if kind == "part" else part.companion(kind)
    Path(left).write_text("precious")
    os.link(left, "precious")
    with PartFile("r.npy") as part:
        assert os.path.exists(part.companion("journal")) == (kind != "part")
        if kind == "part":
            Path(part.path).write_text("mine")
        else:
            with os.fdopen(part.open_companion(kind), "w") as stream:
                stream.write("mine")
        part.forget()
    assert Path("precious").read_text() == "precious"
    assert os.listdir() == ["precious"]


@pytest.mark.parametrize("kind", ["rows", "values", "new-journal"])
def test_a_planted_link_beside_the_part_is_not_followed(kind):
    Path("precious").write_text("precious")
    with PartFile("r.npy") as part:
        os.symlink("precious", part.companion(kind))
        with pytest.raises(OSError, match="symbolic links"):
            part.open_companion(kind)
    assert Path("precious").read_text() == "precious"


def test_what_stood_beside_a_part_that_has_its_name_is_for_nobody():
    """A run is killed when its result has its name and its journal is there still."""
    with PartFile("r.npy") as part:
        Path(part.companion("journal")).write_text("{}")
        os.rename(part.path, "r.npy")
    assert os.path.exists(f"{PART}.journal")
    with PartFile("r.npy") as part:
        assert sorted(os.listdir()) == [PART, "r.npy"]


def test_the_companions_of_a_run_that_begins_meanwhile_stay(monkeypatch):
    first, begun = PartFile("r.npy"), []
    Path(first.companion("journal")).write_text("the first run's")
    real = atomic.flush_path

    def begin_another(folder):
        real(folder)
        begun.append(PartFile("r.npy"))
        Path(begun[0].companion("journal")).write_text("the second run's")

    monkeypatch.setattr(atomic, "flush_path", begin_another)
    first.publish(False)
    first.__exit__()
    assert Path(f"{PART}.journal").read_text() == "the second run's"
    with pytest.raises(OutputError, match="another run is writing it"):
        PartFile("r.npy")
    begun[0].forget()
    begun[0].__exit__()
    assert os.listdir() == ["r.npy"]


def test_a_name_that_is_taken_meanwhile_is_not_replaced(renames):
    def race(appear):
        with replace_atomically("r.npy", False) as name:
            Path(name).write_text("mine")
            appear()

    for appear in (lambda: Path("r.npy").write_text("other"), lambda: os.symlink("x", "r.npy")):
        with pytest.raises(OutputError, match="another run wrote it meanwhile; add --force"):
            race(appear)
        assert os.listdir() == ["r.npy"]
        assert os.path.islink("r.npy") or Path("r.npy").read_text() == "other"
        os.unlink("r.npy")


def test_what_replaces_a_file_takes_its_mode_and_is_private_until_then():
    write("old")
    for mode in (0o600, 0o640, 0o444, 0o666):
        os.chmod("r.npy", mode)
        with PartFile("r.npy") as part:
            companion = part.open_companion("rows")
            for name in (part.path, part.companion("rows")):
                assert os.stat(name).st_mode & 0o777 == 0o600
            os.close(companion)
            part.publish(True)
        assert os.stat("r.npy").st_mode & 0o777 == mode


def test_a_file_keeps_its_group_where_that_may_be_given():
    write("old")
    groups = [group for group in os.getgroups() if group != os.stat("r.npy").st_gid]
    if os.geteuid() == 0:
        groups = [1]
    if not groups:
        pytest.skip("this user has one group")
    os.chown("r.npy", -1, groups[0])
    write("new")
    assert os.stat("r.npy").st_gid == groups[0]
