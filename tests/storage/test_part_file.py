"""One run at a time holds a result's part; what a killed run left is cleared by the next."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from roicli.core.exceptions import OutputError
from roicli.storage import part_file
from roicli.storage.output import replace_atomically
from roicli.storage.part_file import PartFile

PART = ".r.npy.roicli-part"
HOLD = """
import sys, time
from roicli.storage.part_file import PartFile
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
    monkeypatch.setattr(part_file.fcntl, "flock", wait_for_the_first)
    with PartFile("r.npy") as second:
        Path(second.path).write_text("second")
        assert Path("r.npy").read_text() == "first"
        with pytest.raises(OutputError, match="another run wrote it meanwhile"):
            second.publish(False)
    assert os.listdir() == ["r.npy"]


def test_without_locks_every_run_has_a_name_of_its_own(monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(part_file.fcntl, "flock", no_locks)
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

    for name in ("fsync", "link", "replace"):
        monkeypatch.setattr(os, name, recording(name))
    for force, rename in ((False, "link"), (True, "replace")):
        seen.clear()
        with replace_atomically("r.npy", force) as name:
            Path(name).write_text("x")
        folder = os.path.basename(os.getcwd())
        assert seen == [("fsync", PART), (rename, PART), ("fsync", folder)]
