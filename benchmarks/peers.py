"""roicli beside what else computes RoI Align and RoI Pool: a row each, with start-up and memory.

``python peers.py NAME FEATURES ROIS`` measures one of them alone, from its import on.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from kernels import (
    OPERATORS,
    Compute,
    ncnn,
    openvino,
    plain_onnxruntime,
    roicli_runner,
    torchvision,
)
from loads import Load
from plain_c import plain_c

from roicli.core.system import usable_cores
from roicli.operators.interface import OperatorSpec

PLAIN = "ONNX Runtime"
CALLS = 3  # of which the least time is that of a call
TakeTurns = Callable[[Mapping[str, Compute], int], Mapping[str, float]]


class Peer(NamedTuple):
    """How a load is computed on so many threads, and how to get what that needs."""

    build: Callable[[Load, OperatorSpec, int], Compute]
    install: str


def _roicli(provider: str, most_threads: int | None = None) -> Peer:
    def build(load: Load, spec: OperatorSpec, threads: int) -> Compute:
        return roicli_runner(load, spec, provider, most_threads or threads)

    return Peer(build, "pip install 'roicli[native]'")


PEERS: dict[str, Peer] = {
    PLAIN: Peer(plain_onnxruntime, "pip install onnxruntime onnx"),
    "roicli cpu": _roicli("cpu"),
    "roicli native": _roicli("native"),
    "roicli native, 1 thread": _roicli("native", 1),
    "a plain C kernel": Peer(plain_c, "install a C compiler"),
    "OpenVINO": Peer(openvino, "pip install openvino"),
    "torchvision": Peer(torchvision, "pip install torch torchvision"),
    "ncnn": Peer(ncnn, "pip install ncnn"),
}


class Alone(NamedTuple):
    """What a process of its own measured: from the import to the end of the first call, less what
    a later call takes; and the most memory, inputs and result with it.
    """

    startup_ms: float
    memory_mib: float


def time_peers(
    loads: list[Load], folder: Path, take_turns: TakeTurns, runs: int, threads: int
) -> tuple[list[str], list[str]]:
    """The rows of the table, and a line for each peer that is not measured here, which says why."""
    inputs = [folder / "features.npy", folder / "rois.npy"]
    np.save(inputs[0], loads[0].feature_map)
    np.save(inputs[1], loads[0].rois)
    alone, missing = {}, []
    for name, peer in PEERS.items():
        found = measure_alone(name, inputs)
        if isinstance(found, Alone):
            alone[name] = found
        else:
            missing.append(f"- {name}: {found} (`{peer.install}`)")
    cells: dict[str, list[str]] = {name: [] for name in alone}
    header = ["times ONNX Runtime (ms)"]
    for load in loads:
        for operator, spec in OPERATORS.items():
            computes = {name: PEERS[name].build(load, spec, threads) for name in alone}
            found = take_turns(computes, runs)
            header.append(f"{load.name}: {operator}")
            for name, milliseconds in found.items():
                cells[name].append(f"{found[PLAIN] / milliseconds:.1f}x ({milliseconds:.1f})")
            print(header[-1], *(f"{name} {row[-1]}" for name, row in cells.items()), sep="; ")
    header += ["start-up ms", "memory MiB"]
    lines = [f"| {' | '.join(header)} |", "|---|" + "---:|" * (len(header) - 1)]
    for name, row in cells.items():
        one = alone[name]
        row += [f"{one.startup_ms:,.0f}", f"{one.memory_mib:,.0f}"]
        lines.append(f"| {name} | {' | '.join(row)} |")
    return lines, missing


def measure_alone(name: str, inputs: list[Path]) -> Alone | str:
    """One peer in a process of its own, the second time; or why it cannot be measured."""
    for _ in range(2):  # the first brings its files into the system's cache
        ended = subprocess.run(
            [sys.executable, __file__, name, *inputs], capture_output=True, text=True, check=False
        )
        if ended.returncode:
            return ended.stderr.strip().splitlines()[-1]
    return Alone(*json.loads(ended.stdout.splitlines()[-1]))


def main(name: str, features: str, rois: str) -> None:
    """Measure a peer on one load, by the first operator."""
    load, spec = Load("alone", np.load(features), np.load(rois)), next(iter(OPERATORS.values()))
    began = time.perf_counter()
    compute = PEERS[name].build(load, spec, usable_cores())
    compute()
    first = time.perf_counter() - began
    calls = []
    for _ in range(CALLS):
        began = time.perf_counter()
        compute()
        calls.append(time.perf_counter() - began)
    startup = max(first - min(calls), 0) * 1e3
    print(json.dumps(Alone(startup, peak_mib())))


def peak_mib() -> float:
    """The most memory of this process (Linux); ``getrusage`` would count its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main(*sys.argv[1:])
