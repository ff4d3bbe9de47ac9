"""NPY files, tables and pipes that promise more than they hold, or hold what is no number."""

import io
import os
import pickle
import resource
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.running import FEATURES, PATIENCE, ROIS, SCALE, refuse, run, save, start, succeed

pytestmark = pytest.mark.usefixtures("inputs")
TIB = 1 << 40


class Bomb:
    """Leaves a file behind where it is unpickled."""

    def __reduce__(self) -> Any:
        return Path("exploded").touch, ()


def write_npy(path: str, header: str, version: int = 1, length: int | None = None) -> str:
    data = header.encode()
    size = (len(data) if length is None else length).to_bytes(2 if version == 1 else 4, "little")
    Path(path).write_bytes(b"\x93NUMPY" + bytes([version, 0]) + size + data)
    return path


def grow(path: str, size: int) -> str:
    """A file with a hole at its end, which takes no room on the disk."""
    os.truncate(path, size)
    return path


def describe(shape: str, dtype: str = "<f4") -> str:
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n"


@pytest.mark.parametrize("role", ["features", "rois"])
def test_no_pickle_is_loaded_whatever_it_hides_in(role: str) -> None:
    np.save("object.npy", np.array([[Bomb()] * 5], object), allow_pickle=True)
    record = np.zeros((1, 5), [("a", "f4"), ("b", "O")])
    record["b"] = Bomb()
    np.save("record.npy", record, allow_pickle=True)
    np.savez("x.npz", a=np.array([Bomb()], object))
    os.rename("x.npz", "zip.npy")
    with zipfile.ZipFile("zip.npy") as archive:
        Path("inner.npy").write_bytes(archive.read("a.npy"))
    Path("bare.npy").write_bytes(pickle.dumps(Bomb()))
    words = {
        "object": "pickle",
        "record": "pickle",
        "zip": "pickle",
        "inner": "pickle",
        "bare": "pickle",
    }
    for name, word in words.items():
        arguments = (f"{name}.npy", ROIS) if role == "features" else (FEATURES, f"{name}.npy")
        refuse("align", *arguments, *SCALE, words=(f"{name}.npy", word))
        refuse("check", *arguments, *SCALE, words=(f"{name}.npy", word))
        refuse("inspect", f"{name}.npy", "--stats", words=(f"{name}.npy", word))
        refuse("compare", f"{name}.npy", FEATURES, words=(f"{name}.npy", word))
    assert not Path("exploded").exists()


@pytest.mark.parametrize("version", [2, 3])
def test_a_header_of_gigabytes(version: int) -> None:
    path = write_npy("x.npy", describe("(2, 5)"), version, (1 << 32) - 1)
    grow(path, 1 << 33)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refuse("align", FEATURES, path, *SCALE, words=("x.npy", "header", "at most 10,000"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + (1 << 18)


@pytest.mark.parametrize(
    "header",
    [
        "(" * 9000, "[" * 5000, "-" * 9000 + "1", "{'descr': " * 900, describe("(3, 5)", "\\d4"),
        describe("(0, 9223372036854775808)"), describe("(0, 18446744073709551616, 3, 3)"),
        describe("(1" + "0" * 5000 + ", 5)"), describe("(1, 5)", "<f4" * 2000),
        describe("(" + "1, " * 70 + ")"), describe("(1000000000000000,)", "|S0"), "1" * 9000,
    ],
    ids=range(12),
)  # fmt: skip
def test_headers_that_are_hard_to_read(header: str) -> None:
    path = grow(write_npy("x.npy", header), 20_000)
    refuse("align", path, ROIS, *SCALE, words=("x.npy",))
    refuse("pool", FEATURES, path, *SCALE, words=("x.npy",))


def test_a_header_of_old_python_is_read_without_a_word() -> None:
    values = np.load(ROIS)
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({len(values)}L, 5L), }}\n"
    write_npy("old.npy", header)
    with open("old.npy", "ab") as stream:
        stream.write(values.tobytes())
    outcome = succeed("align", FEATURES, "old.npy", *SCALE, "-o", "out.npy", "--no-table")
    assert "Warning" not in outcome.err


def test_holes_of_terabytes() -> None:
    rois = grow(write_npy("r0.npy", describe(f"({TIB // 20 - 100}, 5)")), TIB)
    refuse("align", FEATURES, rois, *SCALE, words=("r0.npy", "RoIs", "are free"))
    refuse("errors", rois, *SCALE, words=("r0.npy", "RoIs", "are free"))
    refuse("check", FEATURES, rois, *SCALE, words=("r0.npy", "RoIs", "are free"))
    maps = grow(write_npy("f0.npy", describe(f"(1, 1, 4, {TIB // 16 - 100})")), TIB)
    refuse("align", maps, ROIS, *SCALE, words=("f0.npy", "one image", "are free"))
    half = grow(write_npy("h0.npy", describe(f"(1, 1, 2, {TIB // 8 - 100})", "|V2")), TIB)
    refuse("align", half, ROIS, *SCALE, words=("h0.npy", "one image", "are free"))


@pytest.mark.parametrize("ending", [".csv", ".tsv"])
def test_an_endless_line(ending: str) -> None:
    path = "x" + ending
    Path(path).write_text("1,2,3,4,5\n" + "7" * 200_000)
    refuse("align", FEATURES, path, *SCALE, words=(path,))
    Path(path).write_text("0,1,2,3,4")
    grow(path, TIB)
    refuse("align", FEATURES, path, *SCALE, words=(path, "text", "are free"))
    refuse("inspect", path, words=(path, "text", "are free"))


@pytest.mark.full
def test_a_table_takes_no_more_memory_than_it_says() -> None:
    line = b"0,1,2,3,4\n"
    Path("x.csv").write_bytes(line * 200_000)
    script = (
        "import resource, sys\n"
        "from roicli.storage.address import Address\n"
        "from roicli.storage.formats import text\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10\n"
        "before = peak()\n"
        "text.open_table(Address('x.csv'))\n"
        "print((peak() - before) / 2_000_000, text.BYTES_PER_CHARACTER)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    taken, said = map(float, done.stdout.split())
    assert taken < said


@pytest.mark.parametrize(
    "data", [b"", b"\x93NUMPY\x01\x00", b"\x93NUMPY"], ids=["zeros", "npy", "cut"]
)
def test_a_pipe_without_an_end(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first piece tells; what looks like an array is read as far as memory goes."""
    from roicli.storage import open as opening

    monkeypatch.setattr(opening, "available_bytes", lambda: 64 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    class Endless(io.RawIOBase):
        first = True

        def readable(self) -> bool:
            return True

        def readinto(self, out: Any) -> int:
            out[:] = bytes(len(out))
            if self.first:
                out[: len(data)] = data
            self.first = False
            return len(out)

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Endless())))
    with pytest.raises(opening.InputError, match=r"stdin: (is none of|does not end)"):
        opening.open_array(opening.Address("-"), "features")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + (1 << 17)


def test_dev_zero_on_stdin_ends_at_once() -> None:
    with open("/dev/zero", "rb") as zeros:
        process = start("align", "-", ROIS, *SCALE, stdin=zeros)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (2, b"")
    assert b"stdin: is none of .npy" in err


def test_signalling_nans_leave_no_warning() -> None:
    values = np.load(FEATURES)
    values.view(np.uint32)[0, 0, 0, :3] = 0x7FA00001
    path = save("nan.npy", values)
    half = np.load(FEATURES).astype(np.float16)
    half.view(np.uint16)[0, 0, 0, :3] = 0x7D01
    for name in (path, save("half.npy", half)):
        assert succeed("inspect", name, "--stats").err == ""
        succeed("align", name, ROIS, *SCALE, "-o", "out.npy", "--force", "-q")
        for command in (("compare", name, name, "--equal-nan"), ("compare", FEATURES, name)):
            assert run(*command).err == ""
