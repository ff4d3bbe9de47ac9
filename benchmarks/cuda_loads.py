"""What the CUDA checks and timings run on, small or large."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from loads import SCALE, Load, make_map, make_rois

from roicli.core.types import Array, RoIs

SAMPLE_DATA = Path(__file__).parents[1] / "sample_data"
IMAGES = 2


@dataclass(frozen=True)
class Loads:
    """Maps (C, H, W) and corners (K, 4).

    ``awkward`` is small and nasty; ``large`` has scale and values by name; the pyramid has three
    levels (N, C, H, W) of random maps and RoIs of two images; ``timed`` is what is timed.
    """

    awkward: tuple[Array, Array]
    awkward_scale: float
    large: dict[str, tuple[float, tuple[Array, Array]]]
    pyramid: list[Array]
    pyramid_scales: tuple[float, ...]
    pyramid_rois: RoIs
    timed: list[Load]


def make_awkward(count: int) -> tuple[Array, Array]:
    """A map and boxes: ordinary, tiny, crossed, outside, on halves of cells, the whole map."""
    rng = np.random.default_rng(7)
    feature_map = rng.normal(size=(12, 37, 53)).astype(np.float32)
    extent = np.array([53, 37]) * 16.0
    low = rng.uniform(-0.3, 1, (count, 2)) * extent
    high = low + rng.uniform(0, 0.8, (count, 2)) * extent
    high[0::9] = low[0::9] + rng.uniform(0, 8, low[0::9].shape)
    high[1::9] = low[1::9] - rng.uniform(0, 200, low[1::9].shape)
    low[2::9], high[2::9] = 2 * extent, 3 * extent
    low[3::9], high[3::9] = np.round(low[3::9] / 8) * 8, np.round(high[3::9] / 8) * 8
    low[4], high[4] = 0, extent
    return feature_map, np.concatenate([low, high], axis=1).astype(np.float32)


def make_sample() -> tuple[float, tuple[Array, Array]]:
    """The text detector's finest map and its boxes."""
    with h5py.File(SAMPLE_DATA / "text_fpn.h5") as file:
        scale, maps = float(file["p3"].attrs["spatial_scale"]), file["p3"][...].astype(np.float32)
    boxes = np.load(SAMPLE_DATA / "text_rois.npy").astype(np.float32)
    return scale, (maps[0], boxes[boxes[:, 0] == 0, 1:])


def make_timed(tiny: bool) -> list[Load]:
    """Loads ``seed`` and ``small`` of docs/benchmarks.md, or both much smaller."""
    if not tiny:
        image, feature_map, counts = (1088, 800), make_map(), (715, 1000)
    else:
        image, feature_map, counts = (112, 80), make_map(8, 20, 28), (30, 40)
    return [
        Load("seed", feature_map, make_rois(counts[0], 16, 600, image)),
        Load("small", feature_map, make_rois(counts[1], 28, 112, image)),
    ]


def make_loads(tiny: bool) -> Loads:
    """Everything, from fixed seeds."""
    rng = np.random.default_rng(11)
    sides = [(48, 64), (24, 32), (12, 16)]
    count = 60 if tiny else 600
    corners = make_rois(count, 8, 200, (256, 192))[:, 1:].astype(np.float64)
    timed = make_timed(tiny)
    large = {"sample data": make_sample()}
    if not tiny:
        large |= {load.name: (SCALE, (load.feature_map, load.rois[:, 1:])) for load in timed}
    return Loads(
        make_awkward(45 if tiny else 150), 1 / 16, large,
        [rng.normal(size=(IMAGES, 8, *side)).astype(np.float32) for side in sides],
        (1 / 4, 1 / 8, 1 / 16), RoIs(np.arange(count) % IMAGES, corners, np.zeros(count)), timed,
    )  # fmt: skip
