"""What a cluster costs: efficiency from one worker to two, overhead of a task, 10,000 tasks, and
a run of two workers beside the sums that docs/scaling.md makes of its resources.

``python -m benchmarks.cluster`` in the root of the repository; needs the development tools.
"""

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np

import roicli
from benchmarks.loads import make_stream
from roicli.pipeline.cluster.connection import connect
from roicli.pipeline.cluster.tasks import Success, run_tasks
from tests.faults.cluster import Processes
from tests.faults.kill_workers import make_inputs

RUNS = 7


def do_nothing(number: int) -> Success[int]:
    """The smallest task."""
    return Success(number)


def peak_mib(process: int) -> float:
    """The most memory that a process has had (Linux)."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise ValueError(process)


def cpu_seconds(process: int) -> float:
    """User and system time of a process so far (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure_efficiency(folder: Path) -> None:
    """The same run on one worker and on two, in turns: by the clock, the fastest of each, and by
    the processor time of the busiest worker, which other work on the machine hardly lengthens.
    """
    make_inputs(folder, images=64, channels=32, side=64, rois_an_image=300)
    inputs = (str(folder / "maps.npy"), str(folder / "rois.npy"), str(folder / "o.h5"))
    options = {"spatial_scale": 0.25, "sampling_ratio": 8, "threads": 1, "force": True}
    clock: dict[int, list[float]] = {1: [], 2: []}
    processor: dict[int, list[float]] = {1: [], 2: []}
    with Processes(1) as one, Processes(2) as two:
        for processes, workers in ((one, 1), (two, 2)):
            with connect(processes.address) as cluster:
                while cluster.threads() < workers:
                    time.sleep(0.1)
            # The first run imports and warms up.
            roicli.align(*inputs, **options, dask=processes.address)
        for _ in range(RUNS):
            for processes, workers in ((one, 1), (two, 2)):
                before = [cpu_seconds(worker.pid) for worker in processes.workers]
                began = time.perf_counter()
                roicli.align(*inputs, **options, dask=processes.address)
                clock[workers].append(time.perf_counter() - began)
                after = [cpu_seconds(worker.pid) for worker in processes.workers]
                processor[workers].append(max(np.subtract(after, before)))
    for name, seconds, best in (("clock", clock, min), ("processor", processor, statistics.median)):
        found = {workers: best(values) for workers, values in seconds.items()}
        print(
            f"efficiency from 1 to 2 workers by the {name}: {found[1]:.2f} s to {found[2]:.2f} s, "
            f"{found[1] / found[2] / 2:.0%}",
            flush=True,
        )


def measure_tasks(count: int) -> None:
    """Empty tasks, as runs have them, and by Dask's ``map`` and ``gather`` alone."""
    with Processes(2) as processes, connect(processes.address) as cluster:
        before = peak_mib(processes.scheduler.pid)
        began = time.perf_counter()
        run_tasks(cluster, do_nothing, range(count), lambda number, value: None, lambda: None)
        seconds = time.perf_counter() - began
        after = peak_mib(processes.scheduler.pid)
        print(
            f"{count:,} empty tasks, in a run: {seconds:.1f} s, {seconds / count * 1e3:.2f} "
            f"ms each, scheduler's peak {before:.0f} to {after:.0f} MiB",
            flush=True,
        )
    with Processes(2) as processes, connect(processes.address) as cluster:
        before = peak_mib(processes.scheduler.pid)
        began = time.perf_counter()
        cluster.client.gather(cluster.client.map(do_nothing, range(count), pure=False))
        seconds = time.perf_counter() - began
        after = peak_mib(processes.scheduler.pid)
        print(
            f"{count:,} empty tasks, Dask alone: {seconds:.1f} s, {seconds / count * 1e3:.2f} ms "
            f"each, scheduler's peak {before:.0f} to {after:.0f} MiB",
            flush=True,
        )


def measure_parts(folder: Path, count: int) -> None:
    """A run of ``count`` blocks of one RoI each: what a part costs besides its work."""
    from roicli.pipeline.cluster import result as whole_result

    rng = np.random.default_rng(0)
    np.save(folder / "maps.npy", rng.normal(size=(count, 4, 8, 8)).astype(np.float32))
    rois = np.column_stack([np.arange(count), np.tile([0, 0, 20, 20], (count, 1))])
    np.save(folder / "rois.npy", rois.astype(np.float32))
    with Processes(2) as processes:
        with connect(processes.address) as cluster:
            while cluster.threads() < 2:
                time.sleep(0.1)
        before = peak_mib(processes.scheduler.pid)
        whole_result.BLOCKS_A_THREAD = count
        began = time.perf_counter()
        roicli.align(
            str(folder / "maps.npy"), str(folder / "rois.npy"), str(folder / "tiny.h5"),
            spatial_scale=0.25, dask=processes.address, threads=1,
        )  # fmt: skip
        seconds = time.perf_counter() - began
        after = peak_mib(processes.scheduler.pid)
    made = len(list((folder / "tiny.h5.parts").iterdir()))
    print(
        f"{made:,} parts of one RoI: {seconds:.1f} s, {seconds / made * 2e3:.1f} ms of a worker "
        f"each, scheduler's peak {before:.0f} to {after:.0f} MiB, virtual file "
        f"{(folder / 'tiny.h5').stat().st_size / 1e6:.2f} MB",
        flush=True,
    )


def seconds_an_image(features: Path, rois: Path, provider: Literal["cpu", "native"]) -> float:
    """A core's seconds for the RoIs of one image in memory, the median of five calls."""
    import h5py

    with h5py.File(features) as file:
        scale = float(file["features"].attrs["spatial_scale"])
        one = file["features"][:1]
    first = np.load(rois)
    first = first[first[:, 0] == 0]
    found = []
    for _ in range(6):
        began = time.perf_counter()
        roicli.align(
            one, first, spatial_scale=scale, sampling_ratio=2, provider=provider, threads=1
        )
        found.append(time.perf_counter() - began)
    return statistics.median(found[1:])


def storage_rate(folder: Path, size: int) -> float:
    """Bytes a second that two writers put onto the disk, flushed."""
    piece = bytes(1 << 26)

    def write(name: str) -> None:
        with (folder / name).open("wb", buffering=0) as file:
            for _ in range(size // 2 // len(piece)):
                file.write(piece)
            os.fsync(file.fileno())

    began = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, ("first", "second")))
    seconds = time.perf_counter() - began
    for name in ("first", "second"):
        (folder / name).unlink()
    return size // 2 // len(piece) * 2 * len(piece) / seconds


def measure_model(folder: Path, images: int = 64) -> None:
    """The stream of docs/benchmarks.md on two workers, to HDF5 parts and to a Zarr store: what each
    resource takes alone, and the run; 3.2 GB of result.
    """
    features, rois = make_stream(folder, images)
    size = len(np.load(rois)) * 256 * 49 * 4
    with Processes(2) as processes:
        with connect(processes.address) as cluster:
            while cluster.threads() < 2:
                time.sleep(0.1)
        for provider in ("cpu", "native"):
            alone = seconds_an_image(features, rois, provider) * images / 2
            for name in ("o.h5", "o.zarr"):
                storage, found = size / storage_rate(folder, size), []
                for _ in range(4):  # the first imports and warms up
                    began = time.perf_counter()
                    roicli.align(
                        str(features), str(rois), str(folder / name), sampling_ratio=2,
                        provider=provider, threads=1, dask=processes.address, force=True,
                    )  # fmt: skip
                    found.append(time.perf_counter() - began)
                parts = folder / ("o.h5.parts" if name == "o.h5" else name)
                objects = sum(path.is_file() for path in parts.rglob("*"))
                print(
                    f"{provider}, {name}: compute alone {alone:.1f} s, storage alone "
                    f"{storage:.1f} s, the run {statistics.median(found[1:]):.1f} s, "
                    f"{objects} objects",
                    flush=True,
                )


def main() -> None:
    """Everything, one after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--only", choices=["efficiency", "tasks", "parts", "model"])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if given.only in (None, "efficiency"):
            measure_efficiency(Path(name))
        if given.only in (None, "tasks"):
            measure_tasks(given.tasks)
        if given.only in (None, "parts"):
            measure_parts(Path(name), given.tasks)
        if given.only in (None, "model"):
            measure_model(Path(name))


if __name__ == "__main__":
    main()
