"""A call's work shared out: blocks of channels with parts of the RoIs, to threads that stay."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np

from roicli.core.system import after_fork
from roicli.core.types import FloatArray, IntArray
from roicli.runtime.native.signatures import LANES

# Jobs a thread, so that the threads finish together.
JOBS_PER_THREAD = 4
# Values of the result that are worth a thread: starting one costs about as much as these.
VALUES_PER_THREAD = 1 << 17
# More than any machine has cores for.
MOST_HELPERS = 1 << 12
Item = TypeVar("Item")


class Job(NamedTuple):
    """The channels from ``first`` to ``end`` for one ``part`` of the RoIs."""

    first: int
    end: int
    part: int


def useful_threads(threads: int, out: FloatArray) -> int:
    """As many of the threads as the result (K, C, P_h, P_w) is worth starting."""
    roi_count, channels, height, width = out.shape
    values = roi_count * -(-channels // LANES) * LANES * height * width
    return min(threads, max(int(values) // VALUES_PER_THREAD, 1))


def parts_of(corners: FloatArray, channels: int, threads: int) -> tuple[IntArray, IntArray]:
    """The RoIs (K,) from top to bottom, and where each part of them ends (parts + 1,).

    Neighbours read the same cells while these are still in the cache. There is one part where the
    channels alone keep the threads busy, for each part packs what it needs of the map anew.
    """
    order = np.argsort(corners[:, 1] + corners[:, 3], kind="stable")
    blocks = -(-channels // LANES)
    parts = -(-2 * threads // blocks) if 1 < threads > blocks // 2 else 1
    parts = max(min(parts, len(order)), 1)
    return order, np.arange(parts + 1) * len(order) // parts


def plan_jobs(channels: int, parts: int, threads: int) -> list[Job]:
    """Blocks of channels with every part of the RoIs, so many that the threads end together."""
    blocks = -(-channels // LANES)
    wanted = -(-threads * JOBS_PER_THREAD // parts) if threads > 1 else 1
    ranges = min(wanted, blocks)
    edges = [blocks * number // ranges * LANES for number in range(ranges)] + [channels]
    return [Job(*pair, part) for pair in pairwise(edges) for part in range(parts)]


def run_jobs(
    run: Callable[[Job, list[FloatArray]], None],
    jobs: list[Job],
    cells: list[int],
    dtype: Any,
    threads: int,
) -> None:
    """Run the jobs on ``threads`` threads, each with arrays of its own for so many ``cells``."""

    def start() -> Callable[[Job], None]:
        room = _room(cells, dtype)
        return lambda job: run(job, room)

    share_out(jobs, start, threads)


def share_out(items: list[Item], start: Callable[[], Callable[[Item], None]], threads: int) -> None:
    """Do something with every item on ``threads`` threads, each by a function that it starts."""
    queue = iter(items)

    def work() -> None:
        # The threads draw from one iterator, which is safe: a list's is advanced under the GIL.
        do = start()
        for item in queue:
            do(item)

    if threads == 1:
        work()
        return
    helpers: list[Future[None]] = []
    try:
        helpers.extend(_helpers().submit(work) for _ in range(threads - 1))
        work()
    finally:
        for _ in queue:
            pass  # where this thread failed, the others need not go on
        wait(helpers)  # they use the caller's arrays
    for helper in helpers:
        helper.result()


@cache
def _helpers() -> ThreadPoolExecutor:
    """Threads that stay, for starting one takes as long as a dozen RoIs; as many as were needed at
    once so far.
    """
    return ThreadPoolExecutor(MOST_HELPERS)


# A forked process has none of its parent's threads.
after_fork(_helpers.cache_clear)


def _room(cells: list[int], dtype: Any) -> list[FloatArray]:
    """One array of 16 values a cell for each number of ``cells``, each value in one cache line."""
    return [_aligned_empty(number * LANES, np.dtype(dtype)) for number in cells]


def _aligned_empty(size: int, dtype: np.dtype[Any]) -> FloatArray:
    """An uninitialized array that starts at a multiple of 64 bytes, so no vector straddles two."""
    extra = 64 // dtype.itemsize
    raw = np.empty(size + extra, dtype)
    skipped = -raw.ctypes.data % 64 // dtype.itemsize
    return raw[skipped : skipped + size]
