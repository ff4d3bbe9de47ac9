"""``make bench``: roicli against what else there is, on fixed loads, to docs/benchmarks.md."""

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort
from kernels import OPERATORS, PLAIN, contenders
from loads import Load, make_loads, make_stream
from plain_script import run_plain
from plots import draw_growth

from roicli.providers import usable_cores

DOCS = Path(__file__).parents[1] / "docs"
PAUSE_S = 0.05  # ONNX Runtime's threads spin on after a run and would slow whoever comes next
PLAIN_SCRIPT = Path(__file__).parent / "plain_script.py"
Timed = Mapping[str, float]


def take_turns(computes: Mapping[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Median milliseconds of each, one run each in turn, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in computes}
    for turn in range(runs + 1):
        for name, compute in computes.items():
            time.sleep(PAUSE_S)
            started = time.perf_counter()
            compute()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(found) * 1e3 for name, found in seconds.items()}


def command(*words: str | int | Path) -> Callable[[], object]:
    """A whole process."""
    line = [str(word) for word in words]
    return lambda: subprocess.run(line, check=True, capture_output=True)


def time_kernels(loads: list[Load], runs: int, threads: int) -> list[str]:
    """Compute alone, maps in memory."""
    lines: list[str] = []
    for load in loads:
        for operator, spec in OPERATORS.items():
            found = take_turns(contenders(load, spec, threads), runs)
            lines += row_of(f"{load.name}: {operator}", found, PLAIN, not lines)
            print(lines[-1], flush=True)
    return lines


CASES = {"align, ratio 2": ("align", 2), "align, adaptive": ("align", 0), "pool": ("pool", 2)}


def time_processes(load: Load, runs: int, folder: Path) -> list[str]:
    """One image, HDF5 in and out: whole processes, and the same calls in a process that is warm."""
    import roicli

    inputs = [str(path) for path in load.save(folder)]
    plain_out, out = str(folder / "p.h5"), str(folder / "r.h5")
    lines: list[str] = []
    for label, (operator, ratio) in CASES.items():
        options = ["--sampling-ratio", str(ratio)] if operator == "align" else []
        named = {"sampling_ratio": ratio} if operator == "align" else {}
        whole = {PLAIN: command(sys.executable, PLAIN_SCRIPT, operator, ratio, *inputs, plain_out)}
        warm = {PLAIN: partial(run_plain, operator, ratio, *inputs, plain_out)}
        for provider in ("cpu", "native"):
            whole[f"roicli {provider}"] = command(
                sys.executable, "-m", "roicli", operator, *inputs, *options, "-o", out,
                "--force", "--no-table", "-q", "--provider", provider,
            )  # fmt: skip
            warm[f"roicli {provider}"] = partial(
                getattr(roicli, operator), *inputs, out, force=True, provider=provider, **named
            )
        for kind, computes in (("whole process", whole), ("start-up off", warm)):
            lines += row_of(f"{label}, {kind}", take_turns(computes, runs), PLAIN, not lines)
            print(lines[-1], flush=True)
    return lines


def time_stream(folder: Path, runs: int) -> list[str]:
    """64 images of 1000 RoIs, 3.2 GB of result: the whole run against its stages alone."""
    import roicli
    from roicli.pipeline import StageTimes

    features, rois = make_stream(folder)
    shuffled = folder / "shuffled.npy"
    boxes = np.load(rois)
    np.save(shuffled, boxes[np.random.default_rng(3).permutation(len(boxes))])
    lines = ["| provider, RoIs | whole run s | read s | run s | write s |"]
    lines.append("|---|---:|---:|---:|---:|")
    for provider in ("cpu", "native"):
        for name, path in (("sorted", rois), ("shuffled", shuffled)):
            found = []
            for _ in range(runs):
                (folder / "s.h5").unlink(missing_ok=True)
                times, started = StageTimes(), time.perf_counter()
                roicli.align(features, path, folder / "s.h5", provider=provider, stage_times=times)
                found.append((time.perf_counter() - started, times.read, times.run, times.write))
            middle = [statistics.median(column) for column in zip(*found, strict=True)]
            lines.append(f"| {provider}, {name} | " + " | ".join(f"{s:.2f}" for s in middle) + " |")
            print(lines[-1], flush=True)
    return lines


def row_of(label: str, found: Timed, base: str, with_header: bool) -> list[str]:
    """A table row: milliseconds, and how many times faster than the base."""
    header = [f"| ms (times {base}) | " + " | ".join(found) + " |", "|---|" + "---:|" * len(found)]
    cells = [f"{value:.1f} ({found[base] / value:.1f}x)" for value in found.values()]
    return (header if with_header else []) + [f"| {label} | " + " | ".join(cells) + " |"]


def describe_machine(threads: int) -> str:
    """Processor, cores and versions."""
    model = platform.processor() or platform.machine()
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        names = [x for x in facts.read_text().splitlines() if x.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else model
    return (
        f"{model}, {threads} usable cores, Python {platform.python_version()}, "
        f"onnxruntime {ort.__version__}, numpy {np.__version__}"
    )


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--skip-stream", action="store_true")
    chosen = parser.parse_args()
    threads = usable_cores()
    loads = make_loads()
    with tempfile.TemporaryDirectory(prefix="roicli-bench-") as name:
        kernels = time_kernels(loads, chosen.runs, threads)
        processes = time_processes(loads[0], chosen.runs, Path(name))
        stream = [] if chosen.skip_stream else time_stream(Path(name), 3)
    draw_growth(DOCS / "figures" / "growth.svg", take_turns, threads)
    page = (Path(__file__).parent / "page.md").read_text(encoding="utf-8")
    page = page.format(
        date=datetime.now(UTC).strftime("%Y-%m-%d"), machine=describe_machine(threads),
        runs=chosen.runs, kernels="\n".join(kernels), processes="\n".join(processes),
        stream="\n".join(stream),
    )  # fmt: skip
    (DOCS / "benchmarks.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
