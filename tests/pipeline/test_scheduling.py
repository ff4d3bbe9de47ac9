"""Tasks on a cluster that fails: tried again, not for ever, and taken back at the end."""

from concurrent.futures import CancelledError

import pytest

from roicli.core.exceptions import (
    ClusterError,
    InputError,
    OutputError,
    ParameterError,
    ProviderError,
)
from roicli.pipeline.cluster import connection, scheduling
from roicli.pipeline.cluster.outcome import Failure, Success, as_outcome
from roicli.pipeline.cluster.scheduling import run_tasks
from roicli.pipeline.cluster.worker import describe_difference, read_versions


class FakeFuture:
    def __init__(self, key, outcome):
        self.key, self._outcome = key, outcome

    def add_done_callback(self, told):
        if self._outcome is not None:
            told(self)

    def result(self, timeout):
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def release(self):
        pass


class FakeCluster:
    """Runs tasks where they are handed in; ``outcomes`` come instead, the first ones first."""

    address = "tcp://nowhere:1"
    lost = False

    def __init__(self, *outcomes, threads=1):
        self.client, self._outcomes, self._threads = self, list(outcomes), threads
        self.submitted, self.cancelled, self.most_waiting = [], [], 0

    def threads(self):
        return self._threads

    def submit(self, function, task, key, pure, retries):
        self.submitted.append(task)
        return FakeFuture(key, self._outcomes.pop(0) if self._outcomes else function(task))

    def cancel(self, futures, force):
        self.cancelled += futures


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(scheduling, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(scheduling, "POLL_S", 0.001)


def run(cluster, count=3, tick=lambda: None):
    found = {}
    run_tasks(cluster, lambda task: Success(task * 10), range(count), found.__setitem__, tick)
    return found


def test_every_task_gives_its_value():
    assert run(FakeCluster(), 20) == {number: number * 10 for number in range(20)}


@pytest.mark.parametrize(
    "lost", [CancelledError(), OSError("gone"), Failure(InputError("away"), again=True)]
)
def test_what_is_lost_is_handed_in_again(lost):
    cluster = FakeCluster(lost, lost)
    assert run(cluster) == {0: 0, 1: 10, 2: 20}
    assert len(cluster.submitted) == 5


def test_attempts_are_bounded():
    cluster = FakeCluster(*[Failure(InputError("away"), again=True)] * 99)
    with pytest.raises(InputError, match="away") as raised:
        run(cluster, 1)
    assert len(cluster.submitted) == scheduling.ATTEMPTS
    assert isinstance(raised.value.__cause__, OSError)


def test_a_lost_worker_is_named_in_the_end():
    with pytest.raises(ClusterError, match="block 1 was lost with its worker 6 times"):
        run(FakeCluster(*[CancelledError()] * 99), 1)


def test_what_is_wrong_is_not_tried_again_and_the_rest_is_taken_back():
    cluster = FakeCluster(Failure(InputError("bad"), again=False))
    with pytest.raises(InputError, match="bad"):
        run(cluster, 4)
    assert len(cluster.submitted) == 4
    assert len(cluster.cancelled) == 3


def test_a_bug_is_raised_as_it_is():
    with pytest.raises(ZeroDivisionError):
        run(FakeCluster(ZeroDivisionError()))


def test_few_tasks_wait_on_the_cluster():
    cluster = FakeCluster(*[None] * 100)
    ticks = []

    def tick():
        ticks.append(len(cluster.submitted))
        if len(ticks) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(cluster, 100, tick)
    assert ticks == [4] * 5
    assert len(cluster.cancelled) == 4


def test_a_new_scheduler_gets_what_the_old_one_had():
    cluster = FakeCluster(None, None)

    def reconnect():
        cluster.lost = False

    cluster.reconnect = reconnect
    seen = []

    def tick():
        seen.append(1)
        cluster.lost = len(seen) == 3

    assert run(cluster, 3, tick) == {0: 0, 1: 10, 2: 20}
    assert cluster.submitted[:3] == [0, 1, 2]


def test_a_cluster_without_workers_is_waited_for_and_given_up(monkeypatch):
    monkeypatch.setattr(scheduling, "THREADS_EVERY_S", 0.0)
    monkeypatch.setattr(scheduling, "WORKERS_S", 0.02)
    monkeypatch.setattr(scheduling, "RECONNECT_S", 0.02)
    with pytest.raises(ClusterError, match="no worker was seen"):
        run(FakeCluster(None, threads=0), 1)


def test_outcomes_tell_what_may_pass():
    def away():
        raise InputError("x: no such file") from FileNotFoundError(2, "x")

    def full():
        raise OutputError("x: full") from OSError(28, "No space left on device")

    def wrong():
        raise ParameterError("wrong")

    def broken():
        raise ProviderError("CUDA")

    def stale():
        raise OSError(116, "Stale file handle")

    versions = read_versions()
    found = [as_outcome(work, versions) for work in (away, full, wrong, broken, stale)]
    assert [failure.again for failure in found] == [True, False, False, False, True]
    assert "process" in str(found[3].error)
    assert "Stale" in str(found[4].error)
    assert as_outcome(lambda: 3, versions) == Success(3)
    other = as_outcome(lambda: 3, {**versions, "numpy": "0.1"})
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
