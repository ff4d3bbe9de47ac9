"""Forked children with limits: they do one thing, ignore the terminal and never come back.

A fork copies the program as it is, its handlers and whatever waits to be finalized, so all signals
are held back until the child has handlers of its own, and nothing is collected in it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import warnings
from collections.abc import Callable

from roicli.core.exceptions import DamagedFileError, InputError

# Off for programs that must not fork, like some under MPI.
SWITCH = "ROICLI_CONTAIN_HDF5"
# What a processor or the C library raises over a program's own fault; others come from outside.
CRASHES = (
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGABRT,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGTRAP,
)
# Seconds of processor time that a child has from one sign of progress to the next; None elsewhere.
_allowance: float | None = None


def start_child(
    work: Callable[[], None], name: str, seconds: float, room: int, pipes: tuple[int, ...]
) -> int:
    """Run ``work`` in a child, and give its number.

    It may compute for ``seconds`` without progress and take ``room`` bytes beyond what this process
    has. Raises InputError, with ``pipes`` closed, where the system has no process left.
    """
    held_back = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    pid = None
    try:
        try:
            pid = _fork()
            if pid == 0:
                _live(work, seconds, room)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held_back)  # here an interruption comes out
    except BaseException as error:
        if pid is not None:
            end_child(pid)
        for end in pipes:
            os.close(end)
        if isinstance(error, OSError):
            reason = f"{name}: no process to open it in: {error.strerror}"
            raise InputError(reason) from error
        raise
    return pid


def _fork() -> int:
    with warnings.catch_warnings():
        # Of threads in the parent. The child calls HDF5 only, whose lock h5py takes to fork.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _live(work: Callable[[], None], seconds: float, room: int) -> None:
    """The child's whole life. The terminal's Ctrl-C is the parent's to handle."""
    try:
        gc.disable()
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            # Also those of whoever reports crashes of the program, which is not to report this one.
            with contextlib.suppress(OSError):
                signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the C library's last words
        limit_time(seconds)
        _limit_memory(room)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        work()
    finally:
        os._exit(0)


def limit_time(seconds: float) -> None:
    """End this child after so many more seconds of processor time, unless it gets more before.

    The timer counts from now on by its own clock. RLIMIT_CPU would need the time used so far, which
    no other clock tells as it is counted there: they drift apart by a second in twenty.
    """
    global _allowance  # noqa: PLW0603 - a child is a process of its own
    _allowance = seconds
    signal.setitimer(signal.ITIMER_PROF, seconds)


def renew_time() -> None:
    """Something was finished: a child's time begins anew. Nothing happens outside a child."""
    if _allowance is not None:
        signal.setitimer(signal.ITIMER_PROF, _allowance)


def _limit_memory(room: int) -> None:
    with contextlib.suppress(OSError), open("/proc/self/statm", encoding="ascii") as stream:
        taken = int(stream.read().split()[0]) * resource.getpagesize()
        _lower_limit(resource.RLIMIT_AS, taken + room)


def _lower_limit(kind: int, value: int) -> None:
    """The soft limit, never above the hard one."""
    hard = resource.getrlimit(kind)[1]
    wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(kind, (wanted, hard))


def end_child(pid: int) -> int | None:
    """End a child and take its status; None where somebody else did."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError:
        return None


def describe_death(status: int | None, name: str) -> InputError:
    """What ended a child, after its wait status; only a crash shows that the file is damaged."""
    if status is None or not os.WIFSIGNALED(status):
        return DamagedFileError(
            f"{name}: cannot be read: the process that read it ended without a word", "try again"
        )
    number = os.WTERMSIG(status)
    if number == signal.SIGPROF:
        return DamagedFileError(
            f"{name}: HDF5 did not come to an end reading it in the time that it has for that",
            f"if the file is sound, {SWITCH}=0 reads it without a limit",
        )
    if number in CRASHES:
        return DamagedFileError(
            f"{name}: is damaged: HDF5 crashed reading it ({signal.Signals(number).name})",
            "make the file anew",
        )
    return DamagedFileError(
        f"{name}: cannot be read: the process that read it was ended "
        f"({signal.Signals(number).name}), as a system does that is short of memory"
    )
