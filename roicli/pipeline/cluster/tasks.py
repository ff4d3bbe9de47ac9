"""Tasks on a cluster: handed in at once; Dask runs again what failed of storage or lost its worker.

A task gives its value, or a ``Failure`` that would be the same another time. What storage may mend
is raised, after a pause, and Dask's ``retries`` run it again, on whatever worker.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar
from uuid import uuid4

from roicli.core.exceptions import ClusterError, InputError, RoicliError, first_line
from roicli.core.record import frozen
from roicli.pipeline.cluster.connection import (
    Cluster,
    describe_difference,
    name_of_worker,
    read_versions,
)

ATTEMPTS = 6
# How long a task waits for storage that is away before it is run again.
PAUSE_S = 3.0
POLL_S = 0.05
# A full disk does not pass.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Task = TypeVar("Task")
Value = TypeVar("Value")


@frozen
class Failure:
    """Why a task failed, and would fail again."""

    error: RoicliError


@frozen
class Success(Generic[Value]):
    """What a task gave."""

    value: Value


def as_outcome(work: Callable[[], Value], versions: dict[str, str]) -> Success[Value] | Failure:
    """Do the work of a task on its worker, which must have ``versions``.

    Raises what may go well another time, and a bug as it is.
    """
    try:
        difference = describe_difference(versions, read_versions())
        if difference:
            raise ClusterError(f"{name_of_worker()}: has other versions: {difference}")
        return Success(work())
    except RoicliError as error:
        passes = _may_pass(error)
        named = _name_worker(error, passes)
        if not passes:
            return Failure(named)
    except OSError as error:
        named = InputError(f"{name_of_worker()}: {error}")
        if error.errno in FULL:
            return Failure(named)
    time.sleep(PAUSE_S)
    raise named


def _name_worker(error: RoicliError, is_storage: bool) -> RoicliError:
    """The same error; one of the worker or its storage rather than the data says where it was."""
    is_worker = error.exit_code == ClusterError.exit_code and not isinstance(error, ClusterError)
    if not (is_worker or is_storage):
        return error
    return type(error)(f"{name_of_worker()}: {error}")


def _may_pass(error: RoicliError) -> bool:
    """Whether the cause is storage that may come back, and not what is stored."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause.errno not in FULL
        cause = cause.__cause__ or cause.__context__
    return False


def run_tasks(
    cluster: Cluster,
    function: Callable[[Task], Success[Value] | Failure],
    tasks: Sequence[Task],
    receive: Callable[[int, Value], None],
    tick: Callable[[], None],
) -> None:
    """Call ``function`` on the workers for every task; ``receive`` is told (task's number, value).

    ``tick`` is called several times a second. Raises what a task failed of, and ClusterError where
    the cluster is gone. Whatever ends it, no task is left behind.
    """
    from distributed import as_completed

    client, run = cluster.client, f"roicli-{uuid4().hex[:12]}"
    given: dict[str, Any] = {"pure": False, "retries": ATTEMPTS - 1}
    keys = [f"{run}-{number}" for number in range(len(tasks))]
    waiting = dict(zip(keys, client.map(function, tasks, key=keys, **given), strict=True))
    number_of = {key: number for number, key in enumerate(keys)}
    lost: Counter[int] = Counter()
    completed = as_completed(list(waiting.values()), loop=client.loop)
    try:
        while waiting:
            finished = []
            for future in completed.next_batch(block=False):
                if future.status == "finished":
                    finished.append(future)
                    continue
                number = number_of[future.key]
                lost[number] += 1
                _check_lost(cluster, future, number, lost[number])
                del waiting[future.key]
                key = f"{keys[number]}-{lost[number]}"
                number_of[key] = number
                waiting[key] = client.submit(function, tasks[number], key=key, **given)
                completed.add(waiting[key])
            for future, outcome in zip(finished, _gather(cluster, finished), strict=True):
                del waiting[future.key]
                if isinstance(outcome, Failure):
                    raise outcome.error
                receive(number_of[future.key], outcome.value)
            tick()
            cluster.check_workers()
            time.sleep(POLL_S)  # what finishes meanwhile is fetched together
    finally:
        if waiting:
            with contextlib.suppress(Exception):
                client.cancel(list(waiting.values()), force=True)


def _gather(cluster: Cluster, finished: list[Any]) -> list[Any]:
    """What finished tasks gave, fetched together; what was lost since is run again by Dask."""
    from concurrent.futures import CancelledError

    try:
        return list(cluster.client.gather(finished))
    except (CancelledError, OSError) as error:
        raise _gone(cluster) from error


def _gone(cluster: Cluster) -> ClusterError:
    return ClusterError(
        f"{cluster.address}: the scheduler went away",
        "run the same command again; with --resume it goes on with what is finished",
    )


def _check_lost(cluster: Cluster, future: Any, number: int, times: int) -> None:
    """Raise what a task ended with, unless it is worth handing in again.

    Dask gives a task up that several workers died under, be it of others' doing.
    """
    from distributed import KilledWorker

    if future.cancelled():
        raise _gone(cluster)
    error = future.exception()
    if isinstance(error, KilledWorker):
        if times >= ATTEMPTS:
            raise ClusterError(
                f"block {number + 1} was lost with its worker {times} times: {first_line(error)}"
            )
        return
    if isinstance(error, RoicliError):
        # The cause tells storage that stayed away from data that is wrong.
        raise error from TimeoutError(f"failed {ATTEMPTS} times")
    future.result()
