"""Write the worked examples W2-W11 of docs/semantics.md: ``python make_worked_examples.py OUT.h5``.

Two maps of two channels and one RoI each, in float64, so that every printed digit is exact. Channel
0 is its own address, 1000 y + x: interpolated, it reads back the sampling point. Channel 1 is
seeded whole numbers from -9 to 9.
"""

import sys

import h5py
import numpy as np

EXAMPLES = {
    # name: (map height and width, stride, RoI)
    "w2_w7": ((200, 272), 4, [0, 920.11, 276.99, 1049.87, 322.0]),
    "w8_w11": ((16, 16), 32, [0, 296, 192, 496, 337]),
}


def main(path: str) -> None:
    """Write every example's ``features`` (1, 2, H, W) and ``rois`` (1, 5)."""
    generator = np.random.default_rng(2017)
    with h5py.File(path, "w", libver=("earliest", "v110")) as file:
        for name, ((height, width), stride, roi) in EXAMPLES.items():
            address = 1000.0 * np.arange(height)[:, None] + np.arange(width)
            noise = generator.integers(-9, 10, (height, width)).astype(np.float64)
            features = file.create_dataset(
                f"{name}/features", data=np.stack([address, noise])[None], track_times=False,
                chunks=(1, 1, height, width), compression="gzip", shuffle=True,
            )  # fmt: skip
            features.attrs["spatial_scale"] = 1 / stride
            file.create_dataset(f"{name}/rois", data=np.array([roi]), track_times=False)


if __name__ == "__main__":
    main(sys.argv[1])
