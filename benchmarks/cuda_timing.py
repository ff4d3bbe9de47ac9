"""How fast a device is: the operators, what must be moved for them, torchvision's kernels."""

import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np
from loads import SCALE, Load

from roicli.core.types import Array
from roicli.operators import graphs
from roicli.operators.interface import OperatorSpec
from roicli.operators.pool_windows import find_windows, group_windows
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.runtime.device_map import MapPlacer
from roicli.runtime.devices import Device
from roicli.runtime.host_memory import allocate_block
from roicli.runtime.runners import build_runner
from roicli.runtime.session import Session

Compute = Callable[[], object]
SINGLE = np.dtype(np.float32)
OPERATORS: dict[str, OperatorSpec] = {
    "align, ratio 2": AlignSpec(spatial_scale=SCALE),
    "align, adaptive": AlignSpec(spatial_scale=SCALE, sampling_ratio=0),
    "align, true max": AlignSpec(spatial_scale=SCALE, mode="max"),
    "pool": PoolSpec(spatial_scale=SCALE),
}


def median_ms(compute: Compute, runs: int) -> float:
    """Median milliseconds after one run that is not counted."""
    compute()
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        compute()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) * 1e3


@dataclass(frozen=True)
class Copies:
    """Bytes a second (10^9) from the host to the device and back."""

    up: float
    down: float
    how: str

    def least_ms(self, moved_up: int, moved_down: int) -> float:
        """What moving the bytes alone takes."""
        return moved_up / self.up / 1e6 + moved_down / self.down / 1e6


def measure_copies(device: Device, megabytes: int, runs: int) -> list[Copies]:
    """Through ONNX Runtime from ordinary memory, as roicli copies, and pinned where torch is."""
    array = np.ones((1, megabytes, 512, 512), np.float32)
    placer, back = MapPlacer(SINGLE, device), allocate_block(device, array.shape, SINGLE)
    up = array.nbytes / median_ms(lambda: placer.place(array[0]), runs) / 1e6
    value = placer.place(array[0]).value
    copy = Session(graphs.build_placing_graph(SINGLE, SINGLE), device, 1)
    down = array.nbytes / median_ms(lambda: copy.run_into({"features": value}, back), runs) / 1e6
    found = [Copies(up, down, "ONNX Runtime, up from ordinary and down to pinned memory")]
    torch = import_torch(device)
    if torch is not None:
        host = torch.ones(array.size, dtype=torch.float32).pin_memory()
        there = host.to(f"cuda:{device.index}")

        def move(target: object, source: object) -> None:
            target.copy_(source, non_blocking=True)
            torch.cuda.synchronize()

        up = array.nbytes / median_ms(lambda: move(there, host), runs) / 1e6
        down = array.nbytes / median_ms(lambda: move(host, there), runs) / 1e6
        found.append(Copies(up, down, "torch, pinned memory"))
    return found


def import_torch(device: Device) -> object | None:
    """Torch where it is installed and reaches the device; never for the host."""
    if device.kind != "cuda" or not find_spec("torch"):
        return None
    import torch

    return torch if torch.cuda.is_available() else None


def roicli_steps(load: Load, spec: OperatorSpec, device: Device) -> dict[str, Compute]:
    """The whole way from a map on the host to a result on it, and its two parts."""
    provider = device.kind
    runner = build_runner(spec, SINGLE, provider, 2, 256 << 20, device)
    corners = np.ascontiguousarray(load.rois[:, 1:])
    shape = (len(corners), len(load.feature_map), *spec.output_size)
    out = allocate_block(device, shape, SINGLE)  # pinned, as the pipeline's

    def whole() -> None:
        runner.load(load.feature_map)
        runner.run(corners, out)

    runner.load(load.feature_map)
    return {
        "roicli": whole,
        "map up": lambda: runner.load(load.feature_map),
        "RoIs, result down": lambda: runner.run(corners, out),
    }


def torchvision_steps(load: Load, spec: OperatorSpec, device: Device) -> dict[str, Compute]:
    """Torchvision's CUDA kernels: the same way, and the kernel alone on what is there already."""
    torch = import_torch(device)
    if torch is None or not find_spec("torchvision") or getattr(spec, "mode", "avg") == "max":
        return {}
    from torchvision import ops

    place = f"cuda:{device.index}"
    features, rois = torch.from_numpy(load.feature_map[None]), torch.from_numpy(load.rois)
    resident = features.to(place), rois.to(place)

    def kernel(maps: object, boxes: object) -> object:
        if isinstance(spec, AlignSpec):
            ratio = spec.sampling_ratio or -1
            return ops.roi_align(maps, boxes, spec.output_size, SCALE, ratio, aligned=True)
        return ops.roi_pool(maps, boxes, spec.output_size, SCALE)

    def alone() -> None:
        kernel(*resident)
        torch.cuda.synchronize()

    return {
        "torchvision": lambda: kernel(features.to(place), rois.to(place)).cpu(),
        "torchvision, kernel alone": alone,
    }


def time_load(load: Load, device: Device, copies: Copies, runs: int) -> list[str]:
    """Rows of the table of one load."""
    lines = []
    for name, spec in OPERATORS.items():
        steps = roicli_steps(load, spec, device) | torchvision_steps(load, spec, device)
        ms = {step: median_ms(compute, runs) for step, compute in steps.items()}
        down = len(load.rois) * len(load.feature_map) * 49 * 4
        least = copies.least_ms(load.feature_map.nbytes, down)
        cells = [
            f"{ms['roicli']:.2f}", f"{ms['map up']:.2f}", f"{ms['RoIs, result down']:.2f}",
            f"{len(load.rois) / ms['roicli'] * 1e3:,.0f}", f"{least:.2f}",
            *(f"{ms[step]:.2f}" if step in ms else "-"
              for step in ("torchvision", "torchvision, kernel alone")),
        ]  # fmt: skip
        lines.append(f"| {load.name}: {name} | " + " | ".join(cells) + " |")
    return lines


def describe_windows(load: Load) -> str:
    """How RoI Pool's bins are grouped on a load, as one row."""
    spec, (height, width) = replace(OPERATORS["pool"]), load.feature_map.shape[1:]
    cells = find_windows(load.rois[:, 1:], spec, (height, width)).cells
    groups = group_windows(cells[cells > 0])
    gathered = groups.padded * len(load.feature_map) * 4
    return (
        f"| {load.name} | {len(cells):,} | {groups.needed:,} | {groups.padding:.1%} | "
        f"{len(groups.counts)} | {gathered / 1e6:,.0f} |"
    )


def used_device_bytes(device: Device) -> int | None:
    """What is taken on a CUDA device, by whom ever; None where nvidia-smi is not."""
    if device.kind != "cuda":
        return None
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(
            [*query, f"--id={device.index}"], capture_output=True, text=True, check=True
        )
        return int(found.stdout.split()[0]) << 20
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
        return None


class PeakMemory:
    """The most that was taken on a device inside a ``with``, looked at again and again."""

    def __init__(self, device: Device) -> None:
        self._device, self._done = device, threading.Event()
        self.before = used_device_bytes(device)
        self.most = self.before
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self._look()

    def _look(self) -> None:
        found = used_device_bytes(self._device)
        if found is not None and self.most is not None:
            self.most = max(self.most, found)

    def __enter__(self) -> "PeakMemory":
        if self.before is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self.before is not None:
            self._thread.join()
            self._look()

    @property
    def grown(self) -> str:
        """MiB that it grew by, or a dash."""
        if self.before is None or self.most is None:
            return "-"
        return f"{(self.most - self.before) / 2**20:,.0f}"


def measure_memory(load: Load, device: Device, limits: list[int | None]) -> list[str]:
    """Pool and align under limits: what the device's memory grew by, and whether bits stayed."""
    lines, expected = [], {}
    corners = np.ascontiguousarray(load.rois[:, 1:])
    for limit in limits:
        bounded, same = replace(device, memory=limit), True
        with PeakMemory(device) as peak:
            for name in ("pool", "align, true max"):
                spec = OPERATORS[name]
                scratch = 256 << 20 if limit is None else limit // 8
                runner = build_runner(spec, SINGLE, device.kind, 2, scratch, bounded)
                out: Array = np.empty((len(corners), len(load.feature_map), 7, 7), np.float32)
                runner.load(load.feature_map)
                runner.run(corners, out)
                same &= bool(np.array_equal(out, expected.setdefault(name, out)))
        words = "none" if limit is None else f"{limit >> 20:,} MiB"
        lines.append(f"| {words} | {peak.grown} | {'yes' if same else '**NO**'} |")
    return lines
