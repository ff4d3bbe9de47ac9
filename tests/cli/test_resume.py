"""Runs that are interrupted, from outside: nothing half there, and --resume goes on."""

import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from roicli.cli.command import ProgressBar
from roicli.cli.messages import messages_on_stderr
from roicli.core.exceptions import InputError, OutputError
from tests.cli.conftest import Arrays
from tests.cli.running import (
    FEATURES,
    FPN,
    PATIENCE,
    ROIS,
    SCALE,
    TEXT_ROIS,
    Outcome,
    assert_refused,
    refuse,
    run,
    save,
    start,
    start_slowly,
    succeed,
)
from tests.options import some

EPOCH: Any = {"SOURCE_DATE_EPOCH": "0"}
PLAIN = ("--provider", "cpu", "--threads", "1", "--no-table")


def align(rois: str, *options: str) -> tuple[str, ...]:
    return ("align", f"{FPN}::p3", rois, *PLAIN, *options)


def shuffled_rois(copies: int = 1) -> str:
    """The sample's RoIs in random order."""
    rois = np.tile(np.load(TEXT_ROIS), (copies, 1))
    return save("shuffled.npy", rois[np.random.default_rng(0).permutation(len(rois))])


def stop(output: str, number: signal.Signals, starter: Any, *command: str) -> Outcome:
    """A --resume run that is stopped once its own journal names a segment."""
    journal = Path(f".{output}.roicli-part.journal")
    before = journal.stat().st_ino if journal.exists() else 0
    process = starter(*command, "-o", output, "--resume", env={**os.environ, **EPOCH})
    deadline = time.monotonic() + PATIENCE
    while (
        not journal.exists()
        or journal.stat().st_ino == before
        or journal.read_text().count("\n") < 2
    ):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    return Outcome(process.returncode, out, err.decode())


def finish_as_whole(output: str, *command: str) -> None:
    """The same command ends with the bytes of a run that nobody stopped, and leaves no more."""
    last = succeed(*command, "-o", output, "--resume", **EPOCH)
    assert "going on from" in last.errors[0]
    succeed(*command, "-o", f"whole-{output}", **EPOCH)
    assert Path(output).read_bytes() == Path(f"whole-{output}").read_bytes()
    assert sorted(os.listdir()) == sorted([output, f"whole-{output}", "shuffled.npy"])


STOPPED = [("r.npy", ()), ("r.h5", ("--values",)), ("r.h5", ("--compression", "gzip"))]


@pytest.mark.full
@some("output, options", STOPPED, STOPPED[1], ids=["npy", "values", "gzip"])
def test_a_run_stopped_three_times_ends_with_the_same_bytes(
    output: str, options: tuple[str, ...]
) -> None:
    command = align(shuffled_rois(), *options)
    signals = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
    stopped = [stop(output, number, start_slowly, *command) for number in signals]
    assert [outcome.code for outcome in stopped] == [-9, 130, 143]
    for outcome in stopped[1:]:
        assert "the same command goes on from there" in outcome.err
        assert "Traceback" not in outcome.err
    finish_as_whole(output, *command)


@pytest.mark.full
def test_a_run_of_large_blocks_stopped_in_the_middle_ends_with_the_same_bytes() -> None:
    """As it is, with segments of a second: long enough for a machine of any speed."""
    command = align(shuffled_rois(240), "--sampling-ratio", "8")
    assert stop("r.npy", signal.SIGKILL, start, *command).code == -9
    finish_as_whole("r.npy", *command)


@pytest.fixture
def kept(inputs: Arrays) -> list[str]:
    """An interrupted run of the small inputs: its command, and what it kept beside r.h5."""
    command = ["align", FEATURES, ROIS, *SCALE, "-o", "r.h5", "--resume", "--no-table"]
    full = save("full.npy", np.concatenate([inputs[1]] * 2))
    command[2] = full
    interrupt_after_first_block(command)
    assert Path(".r.h5.roicli-part.journal").exists()
    return command


def interrupt_after_first_block(command: list[str], kept: str = "6 of 10") -> None:
    """Stop a run in this process as Ctrl-C would, once its first map is done."""
    from roicli.storage.resume import ResumableRows

    real, written = ResumableRows.write_rows, []

    def write_and_stop(self: Any, rows: Any, block: Any) -> None:
        if not written:
            real(self, rows, block)
        written.append(rows)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("roicli.pipeline.stream.HANDED_OVER_BYTES", 1)  # block by block
        patch.setattr(ResumableRows, "write_rows", write_and_stop)
        outcome = run(*command)
    assert outcome.code == 130
    assert outcome.errors[-2:] == [
        f"roicli: note: .r.h5.roicli-part keeps {kept} RoIs; the same command goes on from there",
        "roicli: error: interrupted",
    ]


def test_the_kept_part_is_taken_up(kept: list[str]) -> None:
    outcome = succeed(*kept)
    assert outcome.errors[0] == "roicli: note: r.h5: going on from 6 of 10 RoIs"
    assert sorted(os.listdir()) == [FEATURES, "full.npy", "r.h5", ROIS]


@pytest.mark.parametrize("features", ["maps/{image}.npy", "all.h5::{image}/p3"])
@pytest.mark.parametrize("where", [(), ("--where", "score >= 0.4")], ids=["all", "where"])
def test_a_collection_and_chosen_rows_are_taken_up(
    folder: Path, features: str, where: tuple[str, ...]
) -> None:
    """Maps of their own sizes under keys, a table of RoIs, and of these some alone."""
    Path("maps").mkdir()
    rng = np.random.default_rng(0)
    with h5py.File("all.h5", "w") as file:
        for key, size in {"007": (6, 9), "12": (8, 5), "cat": (7, 7)}.items():
            values = rng.normal(size=(2, *size)).astype(np.float32)
            np.save(f"maps/{key}.npy", values)
            file[f"{key}/p3"] = values
    lines = [
        f"{key},1,1,{8 + row},{9 + row},{row / 10}"
        for row, key in enumerate(["cat", "7", "12", "cat", "7", "12", "cat", "7", "12", "7"])
    ]
    Path("rois.csv").write_text("\n".join(["file_name,x1,y1,x2,y2,score", *lines]))
    command = ["align", features, "rois.csv", *SCALE, *where, "-o", "r.h5", "--no-table"]
    resumed = [*command, "--resume"]
    # Of the key 007 there are rows 1, 4, 7 and 9.
    interrupt_after_first_block(resumed, "3 of 6" if where else "4 of 10")
    refuse(*resumed, "--where", "score > 0.5", words=("the interrupted run differs",))
    assert "going on from" in succeed(*resumed, **EPOCH).err
    taken_up = Path("r.h5").read_bytes()
    succeed(*command, "--force", **EPOCH)
    assert Path("r.h5").read_bytes() == taken_up


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (("--sampling-ratio", "3"), "sampling_ratio was 2, is 3"),
        (("--spatial-scale", "1/8"), "spatial_scale was [0.25], is [0.125]"),
        (("--dtype", "float64"), "dtype was float32, is float64"),
        (("--values",), "values was false, is true"),
        (("--compression", "gzip"), "compression was none, is gzip"),
        (("--verify-inputs",), f"SHA-256 of {FEATURES} was None, is "),
    ],
)
def test_other_parameters_are_refused(
    kept: list[str], options: tuple[str, ...], difference: str
) -> None:
    refuse(*kept, *options, words=("the interrupted run differs", difference, "--force"))


def test_other_inputs_are_refused(kept: list[str]) -> None:
    os.utime(FEATURES, ns=(0, 0))
    refuse(*kept, words=(f"modification time of {FEATURES} was ", "is 0 ns"))


def test_other_rois_are_refused_though_size_and_time_are_the_same(kept: list[str]) -> None:
    status = Path("full.npy").stat()
    rois = np.load("full.npy")
    rois[3, 1] += 1
    save("full.npy", rois)
    os.utime("full.npy", ns=(status.st_atime_ns, status.st_mtime_ns))
    refuse(*kept, words=("RoIs' contents was ",))


def test_verified_inputs_notice_what_size_and_time_do_not(inputs: Arrays) -> None:
    save("full.npy", np.concatenate([inputs[1]] * 2))
    command = ["align", FEATURES, "full.npy", *SCALE, "-o", "r.h5", "--resume", "--verify-inputs"]
    interrupt_after_first_block(command)
    status = Path(FEATURES).stat()
    save(FEATURES, inputs[0] + 1)
    os.utime(FEATURES, ns=(status.st_atime_ns, status.st_mtime_ns))
    refuse(*command, words=(f"SHA-256 of {FEATURES} was ",))
    save(FEATURES, inputs[0])
    os.utime(FEATURES, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "going on from 6 of 10" in succeed(*command).err


def test_without_resume_the_kept_part_is_neither_used_nor_lost(kept: list[str]) -> None:
    plain = [word for word in kept if word != "--resume"]
    refuse(*plain, words=("an interrupted run has kept 6 RoIs", "--resume", "--force"))
    succeed(*plain, "--force")
    assert sorted(os.listdir()) == [FEATURES, "full.npy", "r.h5", ROIS]


def test_resume_goes_with_a_file(inputs: Arrays) -> None:
    refuse("align", FEATURES, ROIS, *SCALE, "-o", "-", "--resume", words=("--resume", "-o a file"))
    words = ("--verify-inputs goes with --resume",)
    refuse("align", FEATURES, ROIS, *SCALE, "--verify-inputs", words=words)


def test_features_from_a_pipe_count_by_their_contents(inputs: Arrays) -> None:
    save("full.npy", np.concatenate([inputs[1]] * 2))
    command = ["align", "-", "full.npy", *SCALE, "-o", "r.h5", "--resume"]
    data = Path(FEATURES).read_bytes()
    from tests.cli import running

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.cli.test_resume.run", lambda *args: running.run(*args, stdin=data))
        interrupt_after_first_block(command)
    other = bytearray(data)
    other[-1] ^= 1
    refuse(*command, stdin=bytes(other), words=("SHA-256 of stdin was ",))
    assert "going on from 6 of 10" in succeed(*command, stdin=data).err


def test_an_input_that_changes_while_it_is_read_is_noticed(
    inputs: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    from roicli.storage.array import RawArray

    real = RawArray.read

    def change_and_read(self: Any, place: Any, out: Any) -> None:
        real(self, place, out)
        if place[0].start == 1:
            with Path(FEATURES).open("ab") as stream:
                stream.write(b"more")

    monkeypatch.setattr(RawArray, "read", change_and_read)
    for options in ((), ("--resume",)):
        outcome = run("align", FEATURES, ROIS, *SCALE, "-o", "r.h5", *options)
        assert_refused(outcome, FEATURES, "was changed while it was read", "bytes and has")
        assert sorted(os.listdir()) == [FEATURES, ROIS]


def test_the_second_of_two_runs_to_one_name_says_so(inputs: Arrays) -> None:
    first = start_slowly("align", FEATURES, ROIS, *SCALE, "-o", "r.h5", *PLAIN)
    deadline, part = time.monotonic() + PATIENCE, Path(".r.h5.roicli-part")
    # Something is written into it once it is locked; before that it is anybody's.
    while not (part.exists() and part.stat().st_size):
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)
    for options in ((), ("--force",), ("--resume",)):
        second = run("align", FEATURES, ROIS, *SCALE, "-o", "r.h5", *options)
        assert_refused(second, "r.h5: another run is writing it", "wait for that run")
    first.send_signal(signal.SIGCONT)
    _, err = first.communicate(timeout=PATIENCE)
    assert first.returncode == 0, err
    assert sorted(os.listdir()) == [FEATURES, "r.h5", ROIS]


@pytest.mark.parametrize(
    ("error", "told"),
    [(KeyboardInterrupt, True), (SystemExit, True), (InputError, False), (OutputError, False)],
)
def test_what_was_kept_is_told_however_early_the_signal_comes(
    error: type[BaseException], told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the first block, a refusal has its one line and no other."""

    def run_until_stopped() -> None:
        with ProgressBar(quiet=False):
            logging.getLogger("roicli").info("the same command goes on from there")
            raise error("now")

    with pytest.raises(error), messages_on_stderr():
        run_until_stopped()
    assert ("the same command goes on" in capsys.readouterr().err) == told
