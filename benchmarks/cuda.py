"""Check and measure CUDA: ``python benchmarks/cuda.py``, nothing else, in under eight minutes.

Needs numpy, h5py, onnx and onnxruntime-gpu; torch and torchvision are compared with where they
are. Writes one page of Markdown. Exit code 0 where every check passed, 1 where one failed or had no
time, 3 without CUDA. ``--provider cpu`` runs the same on the host, where maps are placed and pooled
as on CUDA.
"""

import argparse
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import numpy as np
from cuda_checks import check_parity, check_placement
from cuda_loads import Loads, make_loads
from cuda_timing import describe_windows, measure_copies, measure_memory, time_load

from roicli.pipeline.provenance import utc_now
from roicli.runtime.cuda_probe import probe_cuda
from roicli.runtime.devices import Device
from roicli.runtime.onnx_runtime import ort

BUDGET_S = 420
Section = Callable[[], list[str]]


class Page:
    """A page that is written section by section, so that what was found stays if one fails."""

    def __init__(self, path: Path, budget_s: float) -> None:
        self._path, self._lines, self._end = path, [], time.monotonic() + budget_s
        self.passed = True

    def out_of_time(self) -> bool:
        """Whether the budget is spent."""
        return time.monotonic() > self._end

    def add(self, title: str, section: Section, is_check: bool = False) -> None:
        """A section; an error in it fails the page, and so does a check without time."""
        self._lines += [f"## {title}", ""]
        started = time.monotonic()
        if self.out_of_time():
            self._lines += ["Not measured: the time was up.", ""]
            self.passed &= not is_check
        else:
            try:
                self._lines += [*section(), ""]
            except Exception as error:  # the page says it, and the next section is tried
                self.passed = False
                self._lines += [f"**Failed**: {' '.join(str(error).split())}", ""]
        print(f"{title}: {time.monotonic() - started:.1f} s", flush=True)
        self._path.write_text("\n".join(self._lines), encoding="utf-8")

    def end(self) -> None:
        """The verdict."""
        words = "every check passed" if self.passed else "**a check failed or had no time**"
        self._lines += ["## Verdict", "", words, ""]
        self._path.write_text("\n".join(self._lines), encoding="utf-8")

    def head(self, lines: list[str]) -> None:
        """What stands above the sections."""
        self._lines += [*lines, ""]


def describe_device(device: Device) -> str:
    """The device and what runs on it, in one line."""
    name = platform.processor() or platform.machine()
    if device.kind == "cuda":
        query = [
            "nvidia-smi",
            "--query-gpu=name,driver_version,memory.total",
            "--format=csv,noheader",
        ]
        try:
            found = subprocess.run(
                [*query, f"--id={device.index}"], capture_output=True, text=True, check=True
            )
            name = found.stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            name = f"{device}, which nvidia-smi does not name"
    cuda = getattr(ort, "cuda_version", "") or "none"
    return (
        f"{name}; onnxruntime {ort.__version__} (CUDA {cuda}), numpy {np.__version__}, "
        f"Python {platform.python_version()}"
    )


def add_checks(page: Page, loads: Loads, device: Device) -> None:
    """Placement and parity."""

    def placement() -> list[str]:
        lines, right = check_placement(loads, device)
        page.passed &= right
        verdict = f"every node ran on {device.execution_provider}" if right else "**FAIL**"
        return ["| graph | provider | nodes that ran |", "|---|---|---|", *lines, "", verdict]

    def parity() -> list[str]:
        rows = check_parity(loads, device, page.out_of_time)
        failed = sum(not row.passed for row in rows)
        page.passed &= not failed and not page.out_of_time()
        head = [
            f"{len(rows)} checks, {failed} failed. Distance: the largest, over the map's range.",
            "",
        ]
        table = ["| what | on | distance | |", "|---|---|---:|---|"]
        return head + table + [row.line() for row in rows]

    page.add("Where nodes run", placement, is_check=True)
    page.add("Against the CPU", parity, is_check=True)


def add_timings(page: Page, loads: Loads, device: Device, runs: int, tiny: bool) -> None:
    """Copies, operators, windows, memory."""
    copies = []

    def bandwidth() -> list[str]:
        copies.extend(measure_copies(device, 1 if tiny else 256, runs))
        lines = ["| copies | up GB/s | down GB/s |", "|---|---:|---:|"]
        return lines + [f"| {c.how} | {c.up:.1f} | {c.down:.1f} |" for c in copies]

    def operators() -> list[str]:
        lines = [
            "ms, medians; the least is moving map and result at the last bandwidth above.",
            "",
            "| load | roicli | map up | RoIs, result | RoIs/s | least | torchvision | its kernel |",
            "|---|" + "---:|" * 7,
        ]
        for load in loads.timed:
            if not page.out_of_time():
                lines += time_load(load, device, copies[-1], runs)
        return lines

    def windows() -> list[str]:
        lines = ["| load | bins | cells needed | padding | groups | MB gathered |"]
        return [*lines, "|---|" + "---:|" * 5, *map(describe_windows, loads.timed)]

    def memory() -> list[str]:
        load = loads.timed[0]
        limits = [None, 24 * load.feature_map.nbytes, 12 * load.feature_map.nbytes]
        lines = ["| --max-device-memory | MiB that it grew by | same bits |", "|---|---:|---|"]
        lines += measure_memory(load, device, limits)
        page.passed &= not any("**NO**" in line for line in lines)
        return lines

    page.add("Copies", bandwidth)
    page.add("Operators", operators)
    page.add("Windows of RoI Pool", windows)
    page.add("Device memory", memory)


def main() -> int:
    """Check, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--provider", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--device-id", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("cuda-results.md"))
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--tiny", action="store_true", help="small loads, to try the script")
    parser.add_argument("--budget", type=float, default=BUDGET_S, metavar="SECONDS")
    chosen = parser.parse_args()
    device = Device(chosen.provider, chosen.device_id, strict=True, resident=True)
    if device.kind == "cuda":
        status = probe_cuda(device.index)
        if not status.loads:
            print(f"{status.reason}; {status.install}", file=sys.stderr)
            return 3
    page = Page(chosen.output, chosen.budget)
    page.head([f"# CUDA, {utc_now()[:10]}", "", f"{device}: {describe_device(device)}."])
    if device.kind == "cpu":
        page.head(["A dry run on the host: nothing on this page was computed on a GPU."])
    loads = make_loads(chosen.tiny)
    add_checks(page, loads, device)
    add_timings(page, loads, device, chosen.runs, chosen.tiny)
    page.end()
    print(f"wrote {chosen.output}; {'passed' if page.passed else 'FAILED'}")
    return 0 if page.passed else 1


if __name__ == "__main__":
    sys.exit(main())
