"""Tasks on a cluster that fails: tried again, not for ever, and taken back at the end."""

import threading
import time
from collections import Counter
from types import SimpleNamespace

import distributed
import pytest

from roicli.core.exceptions import (
    ClusterError,
    InputError,
    OutputError,
    ParameterError,
    ProviderError,
)
from roicli.pipeline.cluster import connection, tasks
from roicli.pipeline.cluster.connection import describe_difference, read_versions
from roicli.pipeline.cluster.tasks import Failure, Success, as_outcome, run_tasks
from tests.faults.cluster import PATIENCE, count_running, wait_until

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
VERSIONS = read_versions()
CALLS, GO = Counter(), threading.Event()


@pytest.fixture(scope="module")
def client():
    """A scheduler and two workers as threads of this process."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as here,
        distributed.Client(here, set_as_default=False) as found,
    ):
        yield found


@pytest.fixture
def cluster(client, monkeypatch):
    monkeypatch.setattr(tasks, "PAUSE_S", 0.0)
    CALLS.clear()
    GO.clear()
    yield SimpleNamespace(client=client, address="tcp://here:1", check_workers=lambda: None)
    GO.set()
    # A task that is still held would hold up the next test.
    wait_until(lambda: not any(client.run(count_running).values()))


def run(cluster, work, count=3, tick=lambda: None):
    """What ``work(number)`` gives for each number, as a task does."""
    found = {}
    run_tasks(
        cluster, lambda number: as_outcome(lambda: work(number), VERSIONS), range(count),
        found.__setitem__, tick,
    )  # fmt: skip
    return found


def counted(number):
    CALLS[number] += 1
    return CALLS[number]


def hold(number):
    counted(number)
    GO.wait(PATIENCE)


def fail_or_hold(number):
    if number == 0:
        counted(number)
        raise ParameterError("bad")
    hold(number)


def test_every_task_gives_its_value(cluster):
    assert run(cluster, lambda number: number * 10, 40) == {n: n * 10 for n in range(40)}
    assert run(cluster, counted, 0) == {}


def test_storage_that_comes_back_costs_a_task_nothing_but_time(cluster):
    def briefly_away(number):
        if counted(number) < 3:
            raise InputError("x: no such file") from FileNotFoundError(2, "x")
        return number

    assert run(cluster, briefly_away) == {0: 0, 1: 1, 2: 2}
    assert set(CALLS.values()) == {3}


def test_storage_that_stays_away_is_named_with_its_worker(cluster):
    def away(number):
        counted(number)
        raise InputError("x: no such file") from FileNotFoundError(2, "x")

    with pytest.raises(InputError, match=r"inproc://.*x: no such file") as raised:
        run(cluster, away, 1)
    assert CALLS[0] == tasks.ATTEMPTS
    assert isinstance(raised.value.__cause__, OSError)  # so that finished parts are kept


def test_what_is_wrong_is_not_tried_again_and_the_rest_is_taken_back(cluster):
    with pytest.raises(ParameterError, match="bad"):
        run(cluster, fail_or_hold, 50)
    assert CALLS[0] == 1
    assert len(CALLS) < 10


def test_a_bug_is_raised_as_it_is(cluster):
    with pytest.raises(ZeroDivisionError):
        run(cluster, lambda number: 1 // number)


@pytest.mark.full
def test_a_task_that_workers_died_under_is_handed_in_again(cluster):
    def killed(number):
        if counted(number) <= 2 * tasks.ATTEMPTS:
            raise distributed.KilledWorker("task", SimpleNamespace(address="tcp://w:1"), 3)
        return number

    assert run(cluster, killed, 2) == {0: 0, 1: 1}

    def always(number):
        raise distributed.KilledWorker("task", SimpleNamespace(address="tcp://w:1"), 3)

    with pytest.raises(ClusterError, match="block 1 was lost with its worker 6 times"):
        run(cluster, always, 1)


def test_a_scheduler_that_forgets_the_tasks_ends_the_run(cluster):
    def forget():
        if cluster.client.futures:
            cluster.client.cancel([distributed.Future(key, cluster.client)
                                   for key in list(cluster.client.futures)])  # fmt: skip

    with pytest.raises(ClusterError, match=r"the scheduler went away.*--resume"):
        run(cluster, hold, 3, forget)


def test_an_interruption_takes_everything_back(cluster):
    ticks = []

    def interrupt():
        ticks.append(1)
        if len(ticks) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(cluster, hold, 50, interrupt)
    assert len(CALLS) < 10
    assert not cluster.client.futures


def test_a_cluster_without_workers_is_waited_for_and_given_up(monkeypatch):
    monkeypatch.setattr(connection, "ASKED_EVERY_S", 0.0)
    here = connection.Cluster.__new__(connection.Cluster)
    here.address, here._asked, here._seen = "tcp://here:1", 0.0, time.monotonic()
    monkeypatch.setattr(here, "threads", lambda: 0)
    here.check_workers()
    monkeypatch.setattr(connection, "LOST_S", 0.0)
    with pytest.raises(ClusterError, match="no worker was seen"):
        here.check_workers()
    monkeypatch.setattr(here, "threads", lambda: 2)
    here.check_workers()


@pytest.mark.parametrize(
    ("error", "passes", "words"),
    [
        (InputError("x: no such file"), FileNotFoundError(2, "x"), "no such file"),
        (OutputError("x: full"), OSError(28, "No space left on device"), "full"),
        (ParameterError("wrong"), None, "wrong"),
        (ProviderError("CUDA"), None, "process"),
        (OSError(116, "Stale file handle"), True, "Stale"),
        (OSError(28, "No space left on device"), False, "process.*No space"),
    ],
)
def test_outcomes_tell_what_may_pass(monkeypatch, error, passes, words):
    monkeypatch.setattr(tasks, "PAUSE_S", 0.0)

    def work():
        raise error from (passes if isinstance(passes, OSError) else None)

    does_pass = passes is True or isinstance(passes, FileNotFoundError)
    if does_pass:
        with pytest.raises(InputError, match=words):
            as_outcome(work, VERSIONS)
        return
    found = as_outcome(work, VERSIONS)
    assert isinstance(found, Failure)
    assert found.error.exit_code in (2, 3)
    with pytest.raises(type(found.error), match=words):
        raise found.error


def test_a_worker_with_other_versions_is_not_given_work():
    assert as_outcome(lambda: 3, VERSIONS) == Success(3)
    other = as_outcome(lambda: 3, {**VERSIONS, "numpy": "0.1"})
    assert isinstance(other.error, ClusterError)
    assert "(here 0.1)" in str(other.error)


def test_versions_that_are_missing_differ():
    assert describe_difference({"numpy": "1"}, {}) == "numpy missing (here 1)"
    assert describe_difference({"numpy": "1"}, {"numpy": "1", "more": "2"}) is None
    assert set(connection.read_versions()) == {
        "roicli",
        "python",
        "numpy",
        "onnxruntime",
        "distributed",
    }
