"""How cost grows with K, C, H x W, P and the sampling ratio: one figure."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
from kernels import plain_onnxruntime, roicli_runner
from loads import SCALE, Load, make_map, make_rois

from roicli.operators.interface import OperatorSpec
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec

mpl.use("svg")
from matplotlib import pyplot as plt

TakeTurns = Callable[[Mapping[str, Callable[[], object]], int], dict[str, float]]
COLOURS = {"align": "#0072B2", "pool": "#D55E00"}  # Okabe and Ito, told apart by everybody
STYLES = {"onnx": ":", "cpu": "--", "native": "-"}
BASE = {"K": 300, "C": 64, "side": 100, "P": 7, "ratio": 2}
AXES = {
    "K": ("RoIs K", (30, 100, 300, 1000)),
    "C": ("channels C", (16, 64, 256)),
    "side": ("map side H = W, cells", (25, 50, 100, 200)),
    "P": ("output side P", (3, 7, 14, 28)),
    "ratio": ("sampling ratio", (1, 2, 4, 8)),
}


def _load_and_specs(values: Mapping[str, int]) -> tuple[Load, dict[str, OperatorSpec]]:
    side = values["side"]
    load = Load(
        "growth",
        make_map(values["C"], side, side),
        make_rois(values["K"], 16, side / SCALE / 2, (int(side / SCALE), int(side / SCALE))),
    )
    size = (values["P"], values["P"])
    align = AlignSpec(size, SCALE, values["ratio"])
    return load, {"align": align, "pool": replace(PoolSpec(size), spatial_scale=SCALE)}


def draw_growth(path: Path, take_turns: TakeTurns, threads: int) -> None:
    """Measure every axis and write the figure."""
    mpl.rcParams["svg.hashsalt"] = "roicli"
    figure, places = plt.subplots(1, len(AXES), figsize=(15, 3.4), layout="constrained")
    for place, (key, (label, steps)) in zip(places, AXES.items(), strict=True):
        found: dict[str, list[float]] = {}
        for step in steps:
            load, specs = _load_and_specs({**BASE, key: step})
            if key == "ratio":
                specs.pop("pool")
            computes = {}
            for name, spec in specs.items():
                computes[f"{name} onnx"] = plain_onnxruntime(load, spec, threads)
                for provider in ("cpu", "native"):
                    computes[f"{name} {provider}"] = roicli_runner(load, spec, provider, threads)
            for name, median in take_turns(computes, 5).items():
                found.setdefault(name, []).append(median)
        for name, medians in found.items():
            operator, how = name.split()
            place.loglog(steps, medians, STYLES[how], color=COLOURS[operator], marker="o", ms=3,
                         label=name.replace("onnx", "plain ONNX Runtime"))  # fmt: skip
        place.set_xlabel(label)
        place.set_xticks(steps, [str(step) for step in steps])
        place.minorticks_off()
        place.grid(alpha=0.3)
    places[0].set_ylabel("milliseconds, median")
    handles, labels = places[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=6, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
