"""``make bench``: roicli against what else there is, on fixed loads, to docs/benchmarks.md."""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from chunks import time_chunks
from kernels import GRAPH, WEIGHED, weighed_contenders
from loads import Load, make_loads, make_stream
from peers import PLAIN, time_peers
from plain_script import run_plain
from plots import draw_growth
from tables import time_tables

from roicli.core.system import usable_cores

DOCS = Path(__file__).parents[1] / "docs"
PAUSE_S = 0.05  # ONNX Runtime's threads spin on after a run and would slow whoever comes next
PLAIN_SCRIPT = Path(__file__).parent / "plain_script.py"
Timed = Mapping[str, float]


def take_turns(
    computes: Mapping[str, Callable[[], object]],
    runs: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median milliseconds of each, one run each in turn, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in computes}
    for turn in range(runs + 1):
        for name, compute in computes.items():
            time.sleep(PAUSE_S)
            started = clock()
            compute()
            if turn:
                seconds[name].append(clock() - started)
    return {name: statistics.median(found) * 1e3 for name, found in seconds.items()}


def command(*words: str | int | Path) -> Callable[[], object]:
    """A whole process."""
    line = [str(word) for word in words]
    return partial(subprocess.run, line, check=True, capture_output=True)


def time_weighed(load: Load, runs: int, threads: int) -> list[str]:
    """The operators that read cells with weights, in a processor's milliseconds."""
    lines: list[str] = []
    columns = [GRAPH, "roicli native", *(["torchvision"] if find_spec("torchvision") else [])]
    for operator, spec in WEIGHED.items():
        found = take_turns(weighed_contenders(load, spec, threads), runs, time.process_time)
        lines += row_of(operator, dict.fromkeys(columns) | found, GRAPH, not lines)
        print(lines[-1], flush=True)
    return lines


CASES = {"align, ratio 2": ("align", 2), "align, adaptive": ("align", 0), "pool": ("pool", 2)}


def time_processes(load: Load, runs: int, folder: Path) -> list[str]:
    """One image, HDF5 in and out: whole processes, what they take beyond a tiny map, warm calls."""
    inputs = load.save(folder)
    corner = np.ascontiguousarray(load.feature_map[:8, :8, :8])
    tiny = Load("tiny", corner, np.array([[0, 0, 0, 20, 20]], np.float32)).save(folder)
    lines: list[str] = []
    for label, (operator, ratio) in CASES.items():
        large = whole_processes(operator, ratio, inputs, folder)
        small = whole_processes(operator, ratio, tiny, folder)
        whole = take_turns(large | {f"{name}, tiny": run for name, run in small.items()}, runs)
        beyond = {name: whole[name] - whole[f"{name}, tiny"] for name in large}
        warm = take_turns(warm_calls(operator, ratio, inputs, folder), runs)
        whole = {name: whole[name] for name in large}
        most = {name: measure_memory(run) for name, run in large.items()}
        kinds = {"whole process": whole, "start-up off": beyond, "called again": warm}
        for kind, found in kinds.items():
            lines += row_of(f"{label}, {kind}", found, PLAIN, not lines)
            print(lines[-1], flush=True)
        sizes = " | ".join(f"{size:,.0f}" for size in most.values())
        lines.append(f"| {label}, most memory of a process, MiB | {sizes} |")
        print(lines[-1], flush=True)
    return lines


# A child begins with the most memory that its parent has had, so the parent is a small one.
MEASURE_CHILD = """
import subprocess, sys
from resource import RUSAGE_CHILDREN, getrusage
subprocess.run(sys.argv[1:], check=True, capture_output=True)
print(getrusage(RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


def measure_memory(run: Callable[[], object]) -> float:
    """The most memory in MiB that what ``command`` gave, or one of its children, has at once."""
    assert isinstance(run, partial)
    line = [sys.executable, "-c", MEASURE_CHILD, *run.args[0]]
    return float(subprocess.run(line, check=True, capture_output=True, text=True).stdout)


def whole_processes(
    operator: str, ratio: int, inputs: tuple[Path, Path], folder: Path
) -> dict[str, Callable[[], object]]:
    """The plain script and roicli's providers, each a process that ends."""
    options = ["--sampling-ratio", ratio] if operator == "align" else []
    line = [sys.executable, PLAIN_SCRIPT, operator, ratio, *inputs, folder / "p.h5"]
    return {PLAIN: command(*line)} | {
        f"roicli {provider}": command(
            sys.executable, "-m", "roicli", operator, *inputs, *options, "-o", folder / "r.h5",
            "--force", "--no-table", "-q", "--provider", provider,
        )
        for provider in ("cpu", "native")
    }  # fmt: skip


def warm_calls(
    operator: str, ratio: int, inputs: tuple[Path, Path], folder: Path
) -> dict[str, Callable[[], object]]:
    """The same in this process, which has done it before."""
    import roicli

    options: dict[str, Any] = {"sampling_ratio": ratio} if operator == "align" else {}
    call = partial(getattr(roicli, operator), *inputs, folder / "r.h5", force=True, **options)
    plain = partial(run_plain, operator, ratio, *map(str, inputs), str(folder / "p.h5"))
    return {PLAIN: plain} | {
        f"roicli {provider}": partial(call, provider=provider) for provider in ("cpu", "native")
    }


def time_stream(folder: Path, runs: int) -> list[str]:
    """64 images of 1000 RoIs, 3.2 GB of result: the whole run against its stages alone."""
    import roicli
    from roicli.core.progress import StageTimes

    features, rois = make_stream(folder)
    shuffled = folder / "shuffled.npy"
    boxes = np.load(rois)
    np.save(shuffled, boxes[np.random.default_rng(3).permutation(len(boxes))])
    lines = ["| provider, RoIs | whole run s | read s | run s | write s |"]
    lines.append("|---|---:|---:|---:|---:|")
    orders = {"sorted": rois, "shuffled": shuffled}
    for provider in ("cpu", "native"):
        found: dict[str, list[tuple[float, ...]]] = {name: [] for name in orders}
        for _ in range(runs):
            for name, path in orders.items():
                (folder / "s.h5").unlink(missing_ok=True)
                times, started = StageTimes(), time.perf_counter()
                roicli.align(features, path, folder / "s.h5", provider=provider, stage_times=times)
                seconds = time.perf_counter() - started
                found[name].append((seconds, times.read, times.run, times.write))
        for name, measured in found.items():
            middle = [statistics.median(column) for column in zip(*measured, strict=True)]
            lines.append(f"| {provider}, {name} | " + " | ".join(f"{s:.2f}" for s in middle) + " |")
            print(lines[-1], flush=True)
    return lines


def row_of(
    label: str, found: Mapping[str, float | None], base: str, with_header: bool
) -> list[str]:
    """A table row: how many times faster than the base, and milliseconds; None is not measured."""
    header = [f"| times {base} (ms) | " + " | ".join(found) + " |", "|---|" + "---:|" * len(found)]
    whole = found[base]
    assert whole is not None
    cells = [
        "-" if value is None else f"{whole / value:.1f}x ({value:.1f})" for value in found.values()
    ]
    return (header if with_header else []) + [f"| {label} | " + " | ".join(cells) + " |"]


def describe_machine(threads: int) -> str:
    """Processor, cores and versions, and how fast memory is: on a shared machine that changes."""
    model = platform.processor() or platform.machine()
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        names = [x for x in facts.read_text().splitlines() if x.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else model
    return (
        f"{model}, {threads} usable cores, Python {platform.python_version()}, "
        f"onnxruntime {ort.__version__}, numpy {np.__version__}, {copy_speed():.1f} GB/s copied"
    )


def copy_speed() -> float:
    """GB read and written a second, by one core that copies 128 MB to pages that it has."""
    source, target = np.ones((2, 1 << 25), np.float32)
    seconds = min(timeit.repeat(lambda: np.copyto(target, source), number=1, repeat=5))
    return 2 * source.nbytes / seconds / 1e9


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--skip-stream", action="store_true")
    chosen = parser.parse_args()
    # Processes keep the bytecode of what they import, as they do for users.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    threads = usable_cores()
    loads = make_loads()
    with tempfile.TemporaryDirectory(prefix="roicli-bench-") as name:
        peers, missing = time_peers(loads, Path(name), take_turns, chosen.runs, threads)
        weighed = time_weighed(loads[0], chosen.runs, threads)
        processes = time_processes(loads[0], chosen.runs, Path(name))
        tables = time_tables(Path(name), chosen.runs)
        chunks = time_chunks(Path(name), chosen.runs)
        stream = [] if chosen.skip_stream else time_stream(Path(name), 5)
    draw_growth(DOCS / "figures" / "growth.svg", take_turns, threads)
    page = (Path(__file__).parent / "page.md").read_text(encoding="utf-8")
    sections = {
        "peers": peers, "missing": missing, "weighed": weighed, "processes": processes,
        "stream": stream, "tables": tables, "chunks": chunks,
    }  # fmt: skip
    page = page.format(
        date=datetime.now(UTC).strftime("%Y-%m-%d"), machine=describe_machine(threads),
        runs=chosen.runs, **{name: "\n".join(lines) for name, lines in sections.items()},
    )  # fmt: skip
    (DOCS / "benchmarks.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
