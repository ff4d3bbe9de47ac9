"""Inputs that atheris steers towards code not yet run, in a process of its own per stretch."""

from __future__ import annotations

import os
import subprocess
import sys

from fuzz.by_mutation import Report
from fuzz.execution import Finding
from fuzz.targets import Target


def run_target(target: Target, count: int, seed: int, folder: str, report: Report) -> None:
    """All inputs, stretch by stretch: each goes on where a crash or hang ended the one before."""
    done, stretch = 0, 0
    told, counted = os.path.join(folder, "findings"), os.path.join(folder, "count")
    corpus = os.path.join(folder, "corpus")
    os.makedirs(corpus, exist_ok=True)
    for name, data in target.seeds().items():
        with open(os.path.join(corpus, name), "wb") as stream:
            stream.write(data)
    while done < count:
        arguments = [target.name, str(count - done), str(seed + stretch), folder]
        command = [sys.executable, "-m", "fuzz.stretch", *arguments]
        ended = subprocess.run(command, check=False, capture_output=True)
        with open(counted) as stream:
            ran = int(stream.read() or 0)
        _forward(told, report, done)
        done, stretch = done + max(ran, 1), stretch + 1
        if ended.returncode:
            last = os.path.join(folder, "last")
            with open(last, "rb") as stream:
                data = stream.read()
            text = ended.stderr.decode(errors="replace")
            kind = "hang" if "libFuzzer: timeout" in text else "crash"
            report(done, data, Finding(kind, f"{target.choose(data)} {text[-600:]}"))


def _forward(told: str, report: Report, first: int) -> None:
    with open(told) as stream:
        for line in stream:
            number, kind, text, data = line.rstrip("\n").split("\t", 3)
            report(first + int(number), bytes.fromhex(data), Finding(kind, text))
