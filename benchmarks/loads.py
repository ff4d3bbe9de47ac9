"""The loads that every figure refers to, made from fixed seeds."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

SCALE = 1 / 4
CHANNELS, HEIGHT, WIDTH = 256, 200, 272
# Channels of a position-sensitive result: those of Pascal VOC, with the background.
CLASSES = 21


@dataclass(frozen=True)
class Load:
    """One map (C, H, W) and RoIs (K, 5) on it."""

    name: str
    feature_map: np.ndarray
    rois: np.ndarray

    def save(self, folder: Path) -> tuple[Path, Path]:
        """Write features as contiguous HDF5 and RoIs as NPY; give both paths."""
        features, rois = folder / f"{self.name}.h5", folder / f"{self.name}_rois.npy"
        with h5py.File(features, "w") as file:
            file.create_dataset("features", data=self.feature_map[None])
            file["features"].attrs["spatial_scale"] = SCALE
        np.save(rois, self.rois)
        return features, rois


def make_map(channels: int = CHANNELS, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A float32 map (C, H, W), normal values."""
    return np.random.default_rng(0).normal(size=(channels, height, width)).astype(np.float32)


def make_rois(count: int, smallest: float, largest: float, extent: tuple[int, int]) -> np.ndarray:
    """(K, 5) RoIs with sides log-uniform from ``smallest`` to ``largest`` pixels, in the image."""
    rng = np.random.default_rng(1)
    sides = np.exp(rng.uniform(np.log(smallest), np.log(largest), (count, 2)))
    limit = np.array(extent, float)
    sides = np.minimum(sides, limit)
    corner = rng.uniform(0, 1, (count, 2)) * (limit - sides)
    return np.column_stack([np.zeros(count), corner, corner + sides]).astype(np.float32)


def make_loads() -> list[Load]:
    """``seed``: 715 RoIs of 16 to 600 px; ``small``: 1000 RoIs of 7 to 28 cells a side."""
    feature_map = make_map()
    image = int(WIDTH / SCALE), int(HEIGHT / SCALE)
    return [
        Load("seed", feature_map, make_rois(715, 16, 600, image)),
        Load("small", feature_map, make_rois(1000, 28, 112, image)),
    ]


def make_stream(folder: Path, images: int = 64, rois_an_image: int = 1000) -> tuple[Path, Path]:
    """Write ``images`` maps of 256 x 50 x 68 and their RoIs; give both paths."""
    features, rois = folder / "stream.h5", folder / "stream_rois.npy"
    rng = np.random.default_rng(2)
    with h5py.File(features, "w") as file:
        maps = file.create_dataset("features", (images, 256, 50, 68), "f4")
        maps.attrs["spatial_scale"] = 1 / 16
        for image in range(images):
            maps[image] = rng.normal(size=(256, 50, 68)).astype(np.float32)
    boxes = make_rois(images * rois_an_image, 16, 600, (1088, 800))
    boxes[:, 0] = np.repeat(np.arange(images), rois_an_image)
    np.save(rois, boxes)
    return features, rois
