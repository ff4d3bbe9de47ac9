"""Engines that are installed here, beside the preset that computes the same: CPU seconds of a call.

``python benchmarks/engines.py`` prints a table: the median CPU time of the engine's function, of
``roicli``'s call with the preset on each provider, and the ratio of the two. Calls take turns.
``roicli`` reads arrays, checks the RoIs and allocates the result within its time.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import roicli
from roicli.operators.presets import functions_of

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.analysis.test_live_engines import CHOSEN, LIVE

ROUNDS, ROIS, CHANNELS = 7, 500, 256


def inputs(channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Two maps (2, C, 25, 38) at 1/16 and RoIs of all sizes on them."""
    rng = np.random.default_rng(0)
    low, sides = rng.uniform(0, 200, (ROIS, 2)), np.exp(rng.uniform(3, 5.3, (ROIS, 2)))
    images = np.sort(rng.integers(0, 2, ROIS))
    rois = np.column_stack([images, low, low + sides]).astype(np.float32)
    return rng.normal(size=(2, channels, 25, 38)).astype(np.float32), rois


def cpu_seconds(call: Callable[[], object]) -> float:
    """CPU seconds of all threads of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def measure(preset: str) -> dict[str, float]:
    """Median CPU seconds by name; raises where the engine is not installed."""
    operator = functions_of(preset)[0].operator
    is_grouped = operator in ("ps-align", "ps-pool")
    size = 7 if not is_grouped else 4 if "torchvision" in preset else 1
    maps, rois = inputs(CHANNELS)
    own = getattr(roicli, operator.replace("-", "_"))

    def run(provider: str) -> Callable[[], object]:
        return lambda: own(
            maps, rois, preset=preset, spatial_scale=1 / 16, output_size=size, provider=provider,
            ignore="R05,R06", **CHOSEN.get(preset, {}),
        )  # fmt: skip

    calls = {"engine": lambda: LIVE[preset](maps, rois, size), "cpu": run("cpu"),
             "native": run("native")}  # fmt: skip
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            taken[name].append(cpu_seconds(call))
    return {name: statistics.median(times) for name, times in taken.items()}


def main() -> None:
    """Print the table's rows of what is installed; names of presets may be given."""
    print("| preset | engine ms | roicli cpu ms | roicli native ms | native / engine |")
    print("|---|--:|--:|--:|--:|")
    for preset in sys.argv[1:] or LIVE:
        try:
            found = measure(preset)
        except BaseException as error:  # pytest's skip is no Exception
            if isinstance(error, KeyboardInterrupt):
                raise
            print(f"<!-- {preset}: {str(error).splitlines()[0]} -->")
            continue
        engine, cpu, native = (found[name] * 1000 for name in ("engine", "cpu", "native"))
        print(f"| `{preset}` | {engine:.0f} | {cpu:.0f} | {native:.0f} | {native / engine:.2f} |")


if __name__ == "__main__":
    main()
