"""Tasks on a cluster: a bounded number waits there, and what fails is tried again, not for ever.

A worker that dies takes its tasks with it; Dask gives them to another one, and where it gives up,
or a new scheduler knows nothing of them, they are handed in again here.
"""

from __future__ import annotations

import contextlib
import heapq
import queue
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar
from uuid import uuid4

from roicli.core.exceptions import ClusterError
from roicli.pipeline.cluster.connection import RECONNECT_S, WORKERS_S, Cluster
from roicli.pipeline.cluster.outcome import Failure, Success

ATTEMPTS = 6
# Seconds before the second attempt; every further one waits twice as long.
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 8.0
# Enough that no thread waits for the client, few enough that the scheduler stays small.
WAITING_A_THREAD = 4
POLL_S = 0.25
THREADS_EVERY_S = 2.0
RESULT_S = 60.0

Task = TypeVar("Task")
Value = TypeVar("Value")


def run_tasks(
    cluster: Cluster,
    function: Callable[[Task], Success[Value] | Failure],
    tasks: Sequence[Task],
    receive: Callable[[int, Value], None],
    tick: Callable[[], None],
) -> None:
    """Call ``function`` on the workers for every task; ``receive`` is told (task's number, value).

    ``tick`` is called several times a second. Raises what a task failed of when its attempts are
    used up, and ClusterError where the cluster is gone. Whatever ends it, no task is left behind.
    """
    schedule = _Schedule(cluster, function, tasks)
    try:
        while schedule.left:
            schedule.submit()
            found = schedule.next_finished()
            tick()
            if found is not None:
                receive(*found)
    finally:
        schedule.cancel()


class _Schedule(Generic[Task, Value]):
    """Which tasks wait, which are on the cluster, and how often each was tried."""

    def __init__(
        self,
        cluster: Cluster,
        function: Callable[[Task], Success[Value] | Failure],
        tasks: Sequence[Task],
    ) -> None:
        self._cluster, self._function, self._tasks = cluster, function, tasks
        self._ready = [(0.0, number) for number in range(len(tasks))]
        self._attempts = [0] * len(tasks)
        self._running: dict[str, tuple[int, Any]] = {}
        self._finished: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._run_id = uuid4().hex[:12]
        self._threads = cluster.threads()
        self._counted = self._seen_worker = time.monotonic()
        self.left = len(tasks)

    def submit(self) -> None:
        """Hand in tasks whose time has come, as many as keep every thread busy."""
        if self._cluster.lost:
            self._cluster.reconnect()
            self._hand_in_again()
        self._count_threads()
        room = max(1, self._threads * WAITING_A_THREAD) - len(self._running)
        while room > 0 and self._ready and self._ready[0][0] <= time.monotonic():
            _, number = heapq.heappop(self._ready)
            self._attempts[number] += 1
            key = f"roicli-{self._run_id}-{number}-{self._attempts[number]}"
            future = self._cluster.client.submit(
                self._function, self._tasks[number], key=key, pure=False, retries=0
            )
            self._running[key] = number, future
            future.add_done_callback(lambda done: self._finished.put(done.key))
            room -= 1

    def _count_threads(self) -> None:
        now = time.monotonic()
        if now - self._counted < THREADS_EVERY_S:
            return
        self._counted = now
        self._threads = self._cluster.threads()
        if self._threads:
            self._seen_worker = time.monotonic()
        elif now - self._seen_worker > WORKERS_S + RECONNECT_S:
            raise ClusterError(
                f"{self._cluster.address}: no worker was seen for {now - self._seen_worker:.0f} s"
            )

    def _hand_in_again(self) -> None:
        """What a lost scheduler had is not lost: it goes to the next one."""
        for number, _ in self._running.values():
            heapq.heappush(self._ready, (0.0, number))
        self._running.clear()

    def next_finished(self) -> tuple[int, Value] | None:
        """The next task's number and value, or None where none came or it must be run again."""
        try:
            key = self._finished.get(timeout=POLL_S)
        except queue.Empty:
            return None
        if key not in self._running:
            return None
        number, future = self._running.pop(key)
        outcome = self._outcome(number, future)
        future.release()
        if isinstance(outcome, Success):
            self.left -= 1
            return number, outcome.value
        if not outcome.again:
            raise outcome.error
        if self._attempts[number] >= ATTEMPTS:
            # The cause tells storage that stayed away from data that is wrong.
            raise outcome.error from TimeoutError(f"failed {ATTEMPTS} times")
        wait = min(FIRST_WAIT_S * 2 ** (self._attempts[number] - 1), LONGEST_WAIT_S)
        heapq.heappush(self._ready, (time.monotonic() + wait, number))
        return None

    def _outcome(self, number: int, future: Any) -> Success[Value] | Failure:
        """What became of a task. A bug in it is raised as it is."""
        from concurrent.futures import CancelledError

        from distributed import KilledWorker

        try:
            found: Success[Value] | Failure = future.result(timeout=RESULT_S)
        except (KilledWorker, CancelledError, OSError, TimeoutError) as error:
            first = (str(error).strip().splitlines() or [repr(error)])[0]
            return Failure(
                ClusterError(
                    f"block {number + 1} was lost with its worker "
                    f"{self._attempts[number]} times: {first}"
                ),
                again=True,
            )
        return found

    def cancel(self) -> None:
        """Take back what is still on the cluster."""
        futures = [future for _, future in self._running.values()]
        self._running.clear()
        if futures and not self._cluster.lost:
            with contextlib.suppress(Exception):
                self._cluster.client.cancel(futures, force=True)
