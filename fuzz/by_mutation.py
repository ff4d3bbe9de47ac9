"""Inputs made by mutation, each in a worker child: a signal or a hang is told from its number."""

from __future__ import annotations

import mmap
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable

from fuzz.execution import Finding, execute, make_folder
from fuzz.targets import Target

HANG_SECONDS = 10.0
Report = Callable[[int, bytes, Finding], None]
Runner = Callable[[Target, int, int, str, Report], None]


def make_input(target: Target, seeds: list[bytes], seed: int, number: int) -> bytes:
    """Input ``number`` of a run; the same for the same seed."""
    return target.generate(seeds, random.Random(f"{seed} {target.name} {number}"))


def run_target(target: Target, count: int, seed: int, folder: str, report: Report) -> None:
    """All inputs, in one child after another; ``report`` is told each finding."""
    seeds = list(target.seeds().values())
    progress, told = mmap.mmap(-1, 16), os.path.join(folder, "findings")
    first, again = 0, set[int]()
    while first < count:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            _work(target, seeds, range(first, count), seed, folder, progress)
        status, hung = _watch(pid, progress)
        number = int.from_bytes(progress[:8], "little")
        _forward(target, seeds, seed, told, report)
        first = count
        if hung and number not in again:
            again.add(number)  # a busy machine is not a hang: it gets a second try
            first = number
        elif hung or status:
            name = "hang" if hung else "crash"
            text = f"{target.choose(make_input(target, seeds, seed, number))} wait status {status}"
            report(number, make_input(target, seeds, seed, number), Finding(name, text))
            first = number + 1


def _watch(pid: int, progress: mmap.mmap) -> tuple[int, bool]:
    """Wait for the child; end it where one input takes more than ten seconds."""
    last, since = b"", time.monotonic()
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status, False
        now = progress[:8]
        if now != last:
            last, since = now, time.monotonic()
        if time.monotonic() - since > HANG_SECONDS:
            os.kill(pid, signal.SIGKILL)
            return os.waitpid(pid, 0)[1], True
        time.sleep(0.05)


def _work(
    target: Target, seeds: list[bytes], numbers: range, seed: int, folder: str, progress: mmap.mmap
) -> None:
    """The child: run inputs, write findings to a file, never return."""
    status = 1
    try:
        with open(os.path.join(folder, "findings"), "w") as told:
            make_folder(os.path.join(folder, "work"))
            for number in numbers:
                progress[:8] = number.to_bytes(8, "little")
                found = execute(target, make_input(target, seeds, seed, number))
                if found is not None:
                    told.write(f"{number}\t{found.kind}\t{found.text!r}\n")
                    told.flush()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _forward(target: Target, seeds: list[bytes], seed: int, told: str, report: Report) -> None:
    with open(told) as stream:
        for line in stream:
            number, kind, text = line.rstrip("\n").split("\t", 2)
            report(int(number), make_input(target, seeds, seed, int(number)), Finding(kind, text))
