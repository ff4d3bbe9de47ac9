"""Real processes that are killed, stopped and cut off: results are equal, and nothing is left."""

import os
import signal
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from roicli.pipeline.cluster.result import BLOCKS_A_THREAD
from tests.faults.cluster import (
    HELD_ROICLI,
    PATIENCE,
    Killer,
    Processes,
    run_roicli,
    start_roicli,
    wait_until,
)
from tests.faults.kill_workers import make_inputs, read_result

# Its cluster and processes take a tenth of the quick tests' time. What a run does when workers die
# and when it is interrupted is tested there too, without processes (test_tasks, test_dask).
pytestmark = pytest.mark.full
INPUTS = ["maps.npy", "rois.npy"]


@pytest.fixture(scope="module")
def processes():
    with Processes(2) as found:
        yield found


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with the inputs, the command, and what one process makes of it."""
    folder = tmp_path_factory.mktemp("faults")
    command = make_inputs(folder, images=16, channels=16, side=32, rois_an_image=60)
    run_roicli(*command, "-o", "one.h5", cwd=folder)
    expected = read_result(folder / "one.h5")
    os.unlink(folder / "one.h5")
    return folder, command, expected


def parts_in(folder):
    """The parts that are finished while a run goes on."""
    place = folder / ".o.h5.parts"
    return [p for p in place.iterdir() if p.name[0] == "0"] if place.exists() else []


@contextmanager
def held_run(folder, *words, **options):
    """A run that gives no result a name before the block ends, of which parts are there."""
    (folder / "held").touch()
    running = start_roicli(*words, program=("-c", HELD_ROICLI), cwd=folder, **options)
    try:
        wait_until(lambda: parts_in(folder) or running.poll() is not None)
        yield running
    finally:
        (folder / "held").unlink()


def finish(work):
    """Compare the result, see that nothing else is left, and remove it."""
    folder, _, expected = work
    assert read_result(folder / "o.h5") == expected
    assert sorted(os.listdir(folder)) == [INPUTS[0], "o.h5", "o.h5.parts", INPUTS[1]]
    assert all(p.name[0] == "0" for p in (folder / "o.h5.parts").iterdir())
    for part in (folder / "o.h5.parts").iterdir():
        part.unlink()
    (folder / "o.h5.parts").rmdir()
    (folder / "o.h5").unlink()


def test_three_workers_killed(processes, work):
    folder, command, _ = work
    before = processes.kills
    killer = Killer(processes, before + 3, 0.3, seed=1)
    running = start_roicli(*command, "-o", "o.h5", "--dask", processes.address, cwd=folder)
    wait_until(lambda: parts_in(folder) or running.poll() is not None)
    killer.start()
    _, err = running.communicate(timeout=PATIENCE)
    killer.stop()
    assert running.returncode == 0, err
    finish(work)


def test_the_scheduler_restarted(processes, work):
    """The run ends with one line, and the same command goes on with what was finished."""
    folder, command, _ = work
    words = [*command, "-o", "o.h5", "--resume", "--dask", processes.address]
    running = start_roicli(*words, cwd=folder)
    wait_until(lambda: parts_in(folder) or running.poll() is not None)
    processes.restart_scheduler()
    _, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 3, err
    assert "the scheduler went away; run the same command again" in err.splitlines()[-1]
    err = run_roicli(*words, cwd=folder)
    assert "parts were there and whole" in err
    finish(work)


def test_storage_briefly_away(processes, work):
    folder, command, _ = work
    running = start_roicli(*command, "-o", "o.h5", "--dask", processes.address, cwd=folder)
    wait_until(lambda: parts_in(folder) or running.poll() is not None)
    os.rename(folder / INPUTS[0], folder / "away")
    with pytest.raises(subprocess.TimeoutExpired):
        running.wait(0.5)
    os.rename(folder / "away", folder / INPUTS[0])
    _, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 0, err
    finish(work)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_nothing(processes, work, number):
    folder, command, _ = work
    with held_run(folder, *command, "-o", "o.h5", "--dask", processes.address) as running:
        running.send_signal(number)
        _, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number], err
    wait_until(lambda: sorted(os.listdir(folder)) == INPUTS)


def test_an_interruption_keeps_parts_and_a_killed_client_too(processes, work):
    folder, command, _ = work
    words = [*command, "-o", "o.h5", "--resume", "--dask", processes.address]
    with held_run(folder, *words) as running:
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130, err
    assert "the same command goes on from there" in err
    kept = len(parts_in(folder))
    with held_run(folder, *words) as running:
        wait_until(lambda: len(parts_in(folder)) > min(kept, BLOCKS_A_THREAD * 2 - 1))
        running.kill()
        running.communicate()
    err = run_roicli(*words, cwd=folder)
    assert "parts were there and whole" in err
    finish(work)


def test_a_terminals_interruption_of_a_local_cluster(work):
    folder, command, _ = work
    words = [*command, "-o", "o.h5", "--dask", "local:2"]
    with held_run(folder, *words, start_new_session=True) as running:
        os.killpg(running.pid, signal.SIGINT)
        _, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130, err
    assert [line for line in err.splitlines() if "note:" not in line] == [
        "roicli: error: interrupted"
    ]
    wait_until(lambda: sorted(os.listdir(folder)) == INPUTS)
    wait_until(lambda: not processes_in_group(running.pid))


def processes_in_group(number):
    """The processes of a group that are alive, by their numbers."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError, IndexError):
            state, _, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(group) == number and state != "Z":
                found.append(entry.name)
    return found
