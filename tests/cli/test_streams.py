"""Pipes, signals and full disks: what a shell sees, and what is left in the folder."""

import contextlib
import io
import os
import pty
import resource
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import Arrays
from tests.cli.running import (
    FEATURES,
    FPN,
    PATIENCE,
    ROIS,
    SCALE,
    SLOW_ROICLI,
    TEXT_ROIS,
    assert_refused,
    heed_signals,
    run,
    run_process,
    save,
    snapshot,
    start,
    start_slowly,
    succeed,
)
from tests.options import some

ROICLI = f"{sys.executable} -m roicli"


def shell(command: str) -> Any:
    """A line of bash that fails where any part of a pipe does."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, check=False
    )


def test_result_on_stdout_is_an_npy_and_nothing_else(inputs: Arrays) -> None:
    succeed("align", FEATURES, ROIS, *SCALE, "-o", "out.npy")
    outcome = run_process("align", FEATURES, ROIS, *SCALE, "-o", "-")
    assert outcome.code == 0
    assert outcome.out == Path("out.npy").read_bytes()
    assert outcome.err.startswith("roicli: RoI Pool (caffe, overlap) would move")
    assert "\x1b" not in outcome.err
    silent = run_process("align", FEATURES, ROIS, *SCALE, "-o", "-", "-q")
    assert (silent.out, silent.err) == (outcome.out, "")


def test_json_beside_an_npy_on_stdout(inputs: Arrays) -> None:
    outcome = succeed("pool", FEATURES, ROIS, *SCALE, "-o", "-", "--format", "csv")
    assert np.load(io.BytesIO(outcome.out)).shape == (5, 3, 7, 7)
    assert outcome.errors[0].startswith("roi,batch_index")


@pytest.mark.full
def test_onnx_runtime_says_nothing_on_stderr(inputs: Arrays) -> None:
    for options in (("--mode", "max"), ("--sampling-ratio", "0", "--values")):
        outcome = run_process("align", FEATURES, ROIS, *SCALE, *options, "--force", "--no-table")
        assert outcome.code == 0
        assert outcome.err == "roicli: note: wrote f.align.h5 (5, 3, 7, 7) float32\n"


@some("provider", [("cpu",), ("native",)], ("cpu",))
def test_a_run_writes_nothing_below_the_home_directory(inputs: Arrays, provider: str) -> None:
    """ONNX Runtime's telemetry would put an identifier and a queue there."""
    home = Path("home")
    home.mkdir()
    places = {"HOME": str(home.resolve()), "XDG_CACHE_HOME": "", "ORT_DISABLE_TELEMETRY": ""}
    environment = {k: v for k, v in {**os.environ, **places}.items() if v}
    command = ("align", FEATURES, ROIS, *SCALE, "-q", "--provider", provider)
    process = start(*command, env=environment)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, b"")
    assert list(home.rglob("*")) == []


def test_one_command_feeds_the_next(inputs: Arrays) -> None:
    code = "import io, sys, numpy as np; print(np.load(io.BytesIO(sys.stdin.buffer.read())).shape)"
    read = f"{sys.executable} -c '{code}'"
    command = f"cat {FEATURES} | {ROICLI} align - {ROIS} --spatial-scale 1/4 -q -o - | {read}"
    done = shell(command)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"(5, 3, 7, 7)\n", b"")


@pytest.fixture
def many() -> str:
    """RoIs enough that their table is more than a pipe holds."""
    return save("many.npy", np.tile(np.load(TEXT_ROIS), (30, 1)))


PIPED = [
    "errors many.npy --format csv --spatial-scale 1/8",
    "errors many.npy --rows all --spatial-scale 1/8",
    f"pool {FPN}::p3 many.npy -o - --no-table",
]


@some("command", [(one,) for one in PIPED], (PIPED[2],), ids=["csv", "table", "npy"])
def test_a_closed_pipe_is_quiet(many: str, command: str) -> None:
    before = snapshot()
    done = shell(f"{ROICLI} {command} | head -c 10")
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout) == 10
    assert snapshot() == before


@pytest.mark.full
def test_a_closed_stderr_and_stdout_leave_the_result(inputs: Arrays) -> None:
    done = shell(f"{ROICLI} align {FEATURES} {ROIS} --spatial-scale 1/4 -o o.npy >&- 2>&-")
    assert done.returncode == 0
    assert np.load("o.npy").shape == (5, 3, 7, 7)


def temporary_files() -> list[str]:
    """What a run in progress keeps in the folder."""
    return [name for name in os.listdir(".") if name.startswith(".")]


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@some("number, compression", product(SIGNALS, ("none", "gzip")),
      (signal.SIGTERM, "gzip"))  # fmt: skip
def test_a_signal_in_the_middle_leaves_nothing(number: signal.Signals, compression: str) -> None:
    options = ("--threads", "1", "--compression", compression)
    process = start_slowly("align", f"{FPN}::p3", TEXT_ROIS, "-o", "out.h5", *options)
    deadline = time.monotonic() + PATIENCE
    while not temporary_files():
        assert time.monotonic() < deadline
        assert process.poll() is None, "the run was over before the signal"
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == CODES[number]
    assert out == b""
    assert b"Traceback" not in err
    assert os.listdir(".") == []


@pytest.mark.full
def test_a_hangup_that_is_ignored_at_the_start_stays_so(inputs: Arrays) -> None:
    """As under nohup."""
    ignored = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
    command = ("align", FEATURES, "-", *SCALE, "-o", "o.npy", "-q")
    process = start(*command, stdin=subprocess.PIPE, preexec_fn=ignored)
    assert process.stdin is not None
    rois = Path(ROIS).read_bytes()
    process.stdin.write(rois[:100])
    process.stdin.flush()
    wait_for_a_pipe(process.pid)
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate(rois[100:], timeout=PATIENCE)
    assert (process.returncode, out, err) == (0, b"", b"")
    assert np.load("o.npy").shape == (5, 3, 7, 7)


@pytest.mark.full
def test_a_terminal_that_hangs_up_ends_the_run_and_leaves_nothing() -> None:
    """What the run would say goes to a terminal that is not there any more."""
    options = ("--threads", "1", "-o", "out.h5")
    command = [sys.executable, "-c", SLOW_ROICLI, "align", f"{FPN}::p3", TEXT_ROIS, *options]
    pid, terminal = pty.fork()
    if pid == 0:
        heed_signals()
        os.execv(command[0], command)
    deadline = time.monotonic() + PATIENCE
    while not temporary_files() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 129
    assert os.listdir(".") == []


def wait_for_a_pipe(pid: int) -> None:
    """Wait until a process waits for its stdin."""
    waits_in = Path(f"/proc/{pid}/wchan")
    deadline = time.monotonic() + PATIENCE
    while "pipe" not in waits_in.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_signal_while_it_waits_for_stdin() -> None:
    process = start("align", "-", TEXT_ROIS, stdin=subprocess.PIPE)
    wait_for_a_pipe(process.pid)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, b"")
    assert err == b"roicli: error: interrupted\n"


def limit_files(size: int) -> Any:
    """Let the child write no file larger than ``size`` bytes."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


TOO_LARGE = [("-o", "o.npy"), ("-o", "o.h5"), ("-o", "o.h5", "--compression", "gzip"), ("-o", "-")]


@some("options", [(one,) for one in TOO_LARGE], (TOO_LARGE[2],),
      ids=["npy", "hdf5", "gzip", "stdout"])  # fmt: skip
def test_no_room_for_the_result(options: tuple[str, ...]) -> None:
    process = start("align", f"{FPN}::p3", TEXT_ROIS, *options, preexec_fn=limit_files(1 << 16))
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2, err
    assert len(err.splitlines()) == 1, err
    assert b"a file may have 65,536 here" in err
    assert out == b""
    assert os.listdir(".") == []


def test_no_room_for_the_errors(many: str) -> None:
    arguments = ("errors", many, "--spatial-scale", "1/8", "--errors-out", "e.csv")
    process = start(*arguments, preexec_fn=limit_files(1 << 16))
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2, err
    assert b"e.csv: cannot be written" in err
    assert os.listdir(".") == ["many.npy"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A folder of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.full
def test_a_full_disk(small_disk: Path) -> None:
    for name, compression in (("o.npy", "none"), ("o.h5", "none"), ("c.h5", "gzip")):
        options = ("-o", f"disk/{name}", "--compression", compression)
        assert_refused(run_process("align", f"{FPN}::p3", TEXT_ROIS, *options), f"disk/{name}")
        assert os.listdir(small_disk) == []


@pytest.mark.full
def test_full_device_as_stdout(inputs: Arrays) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    for options in (("-o", "-", "--no-table"), ("-o", "o.npy")):
        with open("/dev/full", "wb") as full:
            process = start("align", FEATURES, ROIS, *SCALE, *options, stdout=full)
            _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 2
        assert b"No space left" in err.splitlines()[-1]
        assert b"Traceback" not in err


@pytest.mark.full
def test_stdout_that_knows_only_ascii(inputs: Arrays) -> None:
    environment: Any = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    outcome = run_process("align", FEATURES, ROIS, *SCALE, **environment)
    assert outcome.code == 0, outcome.err
    outcome = run_process("align", "größe.npy", ROIS, **environment)
    assert_refused(outcome, "no such file")


def closed_pipe() -> int:
    """The end of a pipe that is written to, whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def run_into(stdout: int, *args: str, **options: Any) -> tuple[int, str]:
    """Exit code and stderr of a command whose stdout is this descriptor."""
    process = start(*args, stdout=stdout, **options)
    os.close(stdout)
    _, err = process.communicate(timeout=PATIENCE)
    return process.returncode, err.decode()


VERDICTS = [
    ("compare", "a.npy", "b.npy"),
    ("compare", "a.npy", "b.npy", "--format", "json"),
    ("check", FEATURES, "bad.npy", *SCALE),
    ("check", FEATURES, "bad.npy", *SCALE, "--format", "github"),
    ("diagnose", FEATURES, ROIS, "b.npy", *SCALE, "--sample", "2"),
    ("explain", FEATURES, ROIS, *SCALE, "--roi", "0", "--result", "b.npy"),
    ("errors", ROIS, *SCALE, "--fail-over", "edge_error_max_px=0"),
    ("errors", ROIS, *SCALE, "--fail-over", "edge_error_max_px=0", "--format", "csv"),
    ("pool", FEATURES, ROIS, *SCALE, "--fail-over", "edge_error_max_px=0", "-o", "-"),
]


@some("args", [(args,) for args in VERDICTS], (VERDICTS[8],))
def test_a_closed_pipe_does_not_change_the_verdict(inputs: Arrays, args: tuple[str, ...]) -> None:
    rng = np.random.default_rng(1)
    for name in ("a.npy", "b.npy"):
        save(name, rng.normal(size=(5, 3, 7, 7)).astype(np.float32))
    save("bad.npy", np.array([[7, 0, 0, 20, 20]], np.float32))
    code, err = run_into(closed_pipe(), *args)
    assert (code, "Traceback" in err) == (1, False), err
    assert not [line for line in err.splitlines() if "error:" in line], err


def test_a_closed_pipe_does_not_cost_the_table(inputs: Arrays) -> None:
    command = ("align", FEATURES, ROIS, *SCALE, "-o", "-", "--errors-out", "e.csv", "-q")
    assert run_into(closed_pipe(), *command) == (0, "")
    assert len(Path("e.csv").read_text().splitlines()) == 6


PRINTED = [
    ("--version",),
    ("--help",),
    ("align", "--help"),
    ("presets",),
    ("providers", "--format", "json"),
    ("inspect", FEATURES),
    ("draw", FEATURES, ROIS, *SCALE, "--roi", "0"),
    ("compare", FEATURES, FEATURES),
]


@some("args", [(args,) for args in PRINTED], (PRINTED[7],))
def test_stdout_closed_and_full(inputs: Arrays, args: tuple[str, ...]) -> None:
    """A reader that has gone is no error, a disk that is full is one."""
    assert run_into(closed_pipe(), *args) == (0, "")
    code, err = run_into(os.open("/dev/full", os.O_WRONLY), *args)
    assert (code, len(err.splitlines())) == (2, 1), err
    assert err.startswith("roicli: error: stdout: cannot be written: ")


SAYING = ["--nothing", "align no.npy no.npy", f"errors {ROIS} -q"]


@some("command, closing", product(SAYING, ("2>&-", "2>/dev/full")),
      (SAYING[1], "2>&-"), (SAYING[2], "2>/dev/full"))  # fmt: skip
def test_a_stderr_that_takes_nothing_changes_no_code(
    inputs: Arrays, command: str, closing: str
) -> None:
    expected = run(*command.split()).code
    assert shell(f"{ROICLI} {command} {closing}").returncode == expected


def test_a_result_needs_an_open_stdout(inputs: Arrays) -> None:
    before = snapshot()
    done = shell(f"{ROICLI} align {FEATURES} {ROIS} --spatial-scale 1/4 -o - >&-")
    assert done.returncode == 2
    assert done.stderr.startswith(b"roicli: error: stdout: is closed")
    assert snapshot() == before


WRITING = [
    ("draw", f"{FPN}::p3", TEXT_ROIS, "--roi", "3", "-o", "disk/o.pdf"),
    ("draw", f"{FPN}::p3", TEXT_ROIS, "--roi", "3", "-o", "disk/o.svg"),
    ("draw", f"{FPN}::p3", TEXT_ROIS, "--roi", "3", "-o", "disk/o.png"),
    ("report", f"{FPN}::p3", TEXT_ROIS, "-o", "disk/o.html"),
    ("export", "align", "disk/o.onnx"),
    ("errors", TEXT_ROIS, "--spatial-scale", "1/8", "--errors-out", "disk/e.json"),
    ("merge", "part.h5", "-o", "disk/o.h5", "--compression", "gzip"),
]


@some("args", [(args,) for args in WRITING], *[(args,) for args in WRITING[3:]],
      ids=lambda args: args[-1])  # fmt: skip
def test_every_writer_on_a_full_disk(small_disk: Path, args: tuple[str, ...]) -> None:
    if args[0] == "merge":
        succeed("align", f"{FPN}::p3", TEXT_ROIS, "--shard", "1/1", "-o", "part.h5", "-q")
    filler = small_disk / "filler"
    with contextlib.suppress(OSError):
        filler.write_bytes(bytes(1 << 20))
    # A process of its own for what writes in other people's code, which may end it.
    runner = run_process if args[0] == "merge" or args[-1].endswith(".pdf") else run
    assert_refused(runner(*args), args[-1] if "disk" in args[-1] else "disk/")
    assert os.listdir(small_disk) == ["filler"]


@pytest.mark.full
@some("room", [(620,), (700,)], (700,))
def test_a_disk_that_fills_while_hdf5_compresses(tmp_path: Path, room: int) -> None:
    """The rows fit, the compressed ones do not fit beside them; HDF5 must not end the process."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={room}k", "none", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        outcome = run_process(
            "align", f"{FPN}::p3", TEXT_ROIS, "-o", "disk/o.h5", "--compression", "gzip"
        )
        assert_refused(outcome, "disk/o.h5", "No space left")
        assert os.listdir(place) == []
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize(
    ("url", "words"),
    [("reference://x", "references to other files"), ("zip://x.zip", "x.zip: no such file"),
     ("zip://x.zip::p3", "x.zip: no such file"), ("nothing://x", "cannot be opened")],
)  # fmt: skip
@pytest.mark.parametrize("command", ["inspect", "align"])
def test_urls_that_cannot_be_opened(inputs: Arrays, command: str, url: str, words: str) -> None:
    pytest.importorskip("zarr")
    rest = () if command == "inspect" else (ROIS, "-o", "o.npy")
    assert_refused(run(command, url, *rest), words)


@pytest.mark.full
def test_a_numba_that_does_not_fit(inputs: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    from roicli.runtime.native import kernels

    def refuse(name: str) -> None:
        raise ImportError("Numba needs NumPy 2.3 or less. Got NumPy 9.0.")

    monkeypatch.setattr(kernels, "find_code", lambda name: None)
    monkeypatch.setattr(kernels, "find_assembly", lambda *function: None)
    monkeypatch.setattr(kernels, "import_module", refuse)
    kernels.kernel.cache_clear()
    try:
        outcome = run("align", FEATURES, ROIS, *SCALE, "--provider", "native")
    finally:
        kernels.kernel.cache_clear()
    assert outcome.code == 3
    assert "Numba needs NumPy 2.3 or less" in outcome.errors[-1]
    assert "--provider cpu" in outcome.errors[-1]
