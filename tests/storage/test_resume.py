"""What an interrupted run keeps, and what the next one does with it."""

import contextlib
import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from roicli.core.exceptions import InputError, OutputError, ParameterError
from roicli.storage import resume
from roicli.storage.result import ResultFile, open_result
from roicli.storage.resume import Resumption
from tests.log import logged

COUNT = 40
VALUES = np.random.default_rng(0).normal(size=(COUNT, 3, 2, 2)).astype(np.float32)
ORDER = np.random.default_rng(1).permutation(COUNT)
KINDS = [("r.npy", "none"), ("r.h5", "none"), ("r.h5", "gzip")]
kinds = pytest.mark.parametrize(("name", "compression"), KINDS)


class Killed(BaseException):
    """Like KeyboardInterrupt."""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(resume, "SECONDS_A_SEGMENT", 0.0)  # every block is a segment


class Attempt:
    """One run: writes blocks of RoIs in the order, and may be stopped."""

    def __init__(self, name, compression, force=False, resume=True, fingerprint=None):
        self.column = np.full(COUNT, np.nan)
        self.given = {"spatial_scale": "0.25", **(fingerprint or {})}
        plan = Resumption(self.given, ORDER, {"value_cosine": self.column})
        self.result = ResultFile(
            name,
            VALUES.shape,
            np.dtype(np.float32),
            compression,
            force,
            0,
            plan if resume else None,
        )
        self.ran = 0

    def run(self, block=7, stop_at=None, error=Killed):
        tables = {"values": lambda a, b: self.column[a:b]}
        with logged() as self.notes, open_result(self.result) as writer:
            for start in range(writer.finished, COUNT, block):
                rows = ORDER[start : start + block]
                if stop_at is not None and start >= stop_at:
                    raise error("stop")
                self.column[rows] = rows * 1.5
                writer.write_rows(rows, VALUES[rows])
                self.ran += len(rows)
            if stop_at == COUNT:
                writer.finish(tables, {"operator": "align"})
                raise error("stop")
            writer.finish(tables, {"operator": "align"})
        return self


def stop(name, compression, stop_at=20, block=7, **options):
    """A run that was interrupted, and what it said."""
    attempt = Attempt(name, compression, **options)
    with pytest.raises(Killed):
        attempt.run(block, stop_at)
    return attempt


def reference(name, compression):
    Attempt(f"whole-{name}", compression, resume=False).run()
    return Path(f"whole-{name}").read_bytes()


def parts():
    return sorted(name for name in os.listdir() if "roicli-part" in name)


@kinds
@pytest.mark.parametrize("stop_at", [20, COUNT])
def test_a_run_goes_on_where_it_was_stopped(name, compression, stop_at):
    expected = reference(name, compression)
    first = stop(name, compression, stop_at)
    kept = first.ran
    assert first.notes == [
        f".{name}.roicli-part keeps {kept} of 40 RoIs; the same command goes on from there"
    ]
    assert not os.path.exists(name)
    second = Attempt(name, compression).run(block=5)
    assert second.ran == COUNT - kept
    assert second.notes == [f"{name}: going on from {kept} of 40 RoIs"]
    np.testing.assert_array_equal(second.column, np.arange(COUNT) * 1.5)
    assert Path(name).read_bytes() == expected
    assert parts() == []


@kinds
def test_many_interruptions(name, compression):
    expected = reference(name, compression)
    for reached in range(2, COUNT, 2):
        attempt = stop(name, compression, stop_at=reached, block=2)
        assert attempt.ran == 2
    Attempt(name, compression).run()
    assert Path(name).read_bytes() == expected


@kinds
def test_nothing_finished_leaves_nothing(name, compression):
    attempt = stop(name, compression, stop_at=0)
    assert attempt.notes == []
    assert os.listdir() == []


@pytest.mark.parametrize("error", [InputError, ParameterError])
def test_what_a_wrong_input_ends_is_not_kept(error):
    with pytest.raises(error):
        Attempt("r.h5", "none").run(stop_at=20, error=error)
    assert os.listdir() == []


@pytest.mark.parametrize("error", [OutputError, MemoryError, OSError])
def test_a_full_disk_or_memory_keeps_what_is_finished(error):
    with pytest.raises((error, OutputError)):
        Attempt("r.h5", "none").run(stop_at=20, error=error)
    assert parts() == [".r.h5.roicli-part", ".r.h5.roicli-part.journal", ".r.h5.roicli-part.values"]


def test_another_run_is_refused_by_the_name_of_the_difference():
    stop("r.h5", "none")
    before = {name: Path(name).read_bytes() for name in parts()}
    other = Attempt("r.h5", "none", fingerprint={"spatial_scale": "0.5"})
    with pytest.raises(OutputError, match=r"differs: spatial_scale was 0\.25, is 0\.5"):
        other.run()
    more = Attempt("r.h5", "none", fingerprint={"SHA-256 of f.npy": "12"})
    with pytest.raises(OutputError, match=r"differs: SHA-256 of f\.npy was None, is 12"):
        more.run()
    assert {name: Path(name).read_bytes() for name in parts()} == before


def test_without_resume_what_is_kept_is_neither_used_nor_lost():
    stop("r.h5", "none")
    before = {name: Path(name).read_bytes() for name in parts()}
    plain = Attempt("r.h5", "none", resume=False)
    with pytest.raises(OutputError, match=r"has kept 21 RoIs; add --resume .* or --force"):
        plain.run()
    assert {name: Path(name).read_bytes() for name in parts()} == before
    anew = Attempt("r.h5", "none", resume=False, force=True).run()
    assert anew.ran == COUNT
    assert parts() == []


@kinds
def test_damaged_rows_run_again(name, compression):
    expected = reference(name, compression)
    stop(name, compression, stop_at=28)
    rows = f".{name}.roicli-part{'.rows' if compression == 'gzip' else ''}"
    damaged = ORDER[15]  # in the third segment of seven
    data = bytearray(Path(rows).read_bytes())
    place = data.index(VALUES[damaged].tobytes())
    data[place] ^= 1
    Path(rows).write_bytes(data)
    second = Attempt(name, compression).run()
    assert second.ran == COUNT - 14
    assert second.notes[0].endswith("RoIs from 14 on are damaged and run again")
    assert Path(name).read_bytes() == expected


def test_damaged_values_run_again():
    stop("r.h5", "none", stop_at=28)
    data = np.fromfile(".r.h5.roicli-part.values")
    data[ORDER[2]] = 99
    data.tofile(".r.h5.roicli-part.values")
    second = Attempt("r.h5", "none").run()
    assert second.ran == COUNT
    np.testing.assert_array_equal(second.column, np.arange(COUNT) * 1.5)


def journal_lines(name="r.h5"):
    return Path(f".{name}.roicli-part.journal").read_text().splitlines(keepends=True)


@kinds
@pytest.mark.parametrize("checked", [1, 5, COUNT])
def test_a_segment_of_several_blocks_is_kept(name, compression, checked, monkeypatch):
    # The rows are checked in other steps than they were written in.
    monkeypatch.setattr(resume, "SECONDS_A_SEGMENT", 1e9)
    monkeypatch.setattr(resume, "ROWS_A_CHECK_BYTES", checked * VALUES[0].nbytes)
    stop(name, compression, stop_at=20)
    assert len(journal_lines(name)) == 2  # the header and one segment of three blocks
    attempt = Attempt(name, compression).run()
    assert attempt.ran == COUNT - 21
    assert not any("damaged" in note for note in attempt.notes)
    np.testing.assert_array_equal(attempt.column, np.arange(COUNT) * 1.5)
    assert Path(name).read_bytes() == reference(name, compression)


@pytest.mark.parametrize(
    ("lines", "rerun"),
    [
        (lambda lines: [*lines[:-1], lines[-1][:-9]], 26),  # cut short
        (lambda lines: [*lines[:2], *lines[3:]], 33),  # a gap
        (lambda lines: [lines[0], *lines[1:], "x"], 19),
        (lambda lines: [lines[0], '{"start": 0, "stop": 999, "crc32": 1}'], COUNT),
        (lambda lines: ["{}"], COUNT),
        (lambda lines: [json.dumps({**json.loads(lines[0]), "journal": 0})], COUNT),
    ],
    ids=["torn", "gap", "tail", "too far", "no header", "version"],
)
def test_a_damaged_journal_counts_as_far_as_it_can_be_read(lines, rerun):
    stop("r.h5", "none", stop_at=21)
    text = lines(journal_lines())
    Path(".r.h5.roicli-part.journal").write_text("".join(text))
    second = Attempt("r.h5", "none").run()
    assert second.ran == rerun
    with h5py.File("r.h5") as file:
        np.testing.assert_array_equal(file["roi_features"], VALUES)


def test_the_journal_says_only_what_is_on_the_disk(monkeypatch):
    events = []
    monkeypatch.setattr(
        os, "fdatasync", lambda fd: events.append(os.readlink(f"/proc/self/fd/{fd}"))
    )
    stop("r.npy", "none", stop_at=14)
    names = [event.rpartition(".roicli-part")[2] for event in events]
    assert names == [".new-journal", *["", ".values", ".journal"] * 2]


def test_nothing_counts_behind_a_block_that_failed():
    attempt = Attempt("r.npy", "none")

    def run():
        with open_result(attempt.result) as writer:
            writer.write_rows(ORDER[:5], VALUES[ORDER[:5]])
            # The block of rows 5 to 9 failed; the one that was computed meanwhile still comes.
            writer.write_rows(ORDER[10:15], VALUES[ORDER[10:15]])
            raise Killed

    with logged() as notes, pytest.raises(Killed):
        run()
    assert "keeps 5 of 40" in notes[0]


def test_a_force_run_replaces_only_at_the_end():
    Path("r.h5").write_text("old")
    stop("r.h5", "none", force=True)
    assert Path("r.h5").read_text() == "old"
    Attempt("r.h5", "none", force=True).run()
    with h5py.File("r.h5") as file:
        np.testing.assert_array_equal(file["roi_features"], VALUES)


def test_a_result_kept_without_value_columns():
    plan = Resumption({}, ORDER, {})
    base = ResultFile("r.npy", VALUES.shape, np.dtype(np.float32), resumption=plan)
    for limit in (10, 20, COUNT):
        ending = pytest.raises(Killed) if limit < COUNT else contextlib.nullcontext()
        with ending, open_result(base) as writer:
            rows = ORDER[writer.finished : limit]
            writer.write_rows(rows, VALUES[rows])
            if limit < COUNT:
                raise Killed
    np.testing.assert_array_equal(np.load("r.npy"), VALUES)


def test_a_signal_while_the_kept_rows_are_taken_up_again_keeps_them_and_says_so(monkeypatch):
    stop("r.npy", "none")
    real = resume.Journal

    def journal_and_signal(*given):
        real(*given).close()
        raise Killed("signal")

    early = Attempt("r.npy", "none")
    monkeypatch.setattr(resume, "Journal", journal_and_signal)
    with pytest.raises(Killed):
        early.run()
    monkeypatch.setattr(resume, "Journal", real)
    assert "keeps 21 of 40 RoIs; the same command goes on from there" in early.notes[-1]
    last = Attempt("r.npy", "none").run()
    assert last.ran == COUNT - 21
    np.testing.assert_array_equal(np.load("r.npy"), VALUES)
