"""A data set of one small map an image: a run's time and memory beside a plain loop over the same.

``python -m benchmarks.collection [IMAGES [KIND]]`` in the root of the repository writes the maps
as one HDF5 file with a group an image (``hdf5``), a folder of .npy files (``npy``) or one archive
(``npz``), with 10 RoIs each. The loop reads every map and does nothing with it. The time to a run's
first image says when it starts; it counts from the import on.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

IMAGES = 118_000
CHANNELS, SIDE, ROIS_AN_IMAGE = 16, 8, 10
LOOPS = {
    "hdf5": """
import h5py
with h5py.File("maps.h5", "r") as file:
    for key in file:
        file[key]["p3"][()]
""",
    "npy": """
import os, numpy
for name in sorted(os.listdir("maps")):
    numpy.load(os.path.join("maps", name))
""",
    "npz": """
import numpy
with numpy.load("maps.npz") as archive:
    for key in archive.files:
        archive[key]
""",
}
ADDRESSES = {"hdf5": "maps.h5::{image}/p3", "npy": "maps/{image}.npy", "npz": "maps.npz::{image}"}
RUN = """
import time
began, first = time.perf_counter(), []
import roicli
def progress(done, total, size):
    if done and not first:
        first.append(time.perf_counter() - began)
roicli.align({features!r}, "rois.npy", "o.h5", output_size=2, force=True, spatial_scale=1 / 16,
             provider={provider!r}, progress=progress)
print(f"first image after {{first[0]:.1f}} s", flush=True)
"""


def maps_of(images: int) -> Iterator[tuple[str, np.ndarray]]:
    """A key and a map (C, H, W) for each image."""
    values = np.random.default_rng(0).normal(size=(CHANNELS, SIDE, SIDE)).astype(np.float32)
    for number in range(images):
        yield f"{number:012}", values + number


def write_data(folder: Path, images: int, kind: str) -> None:
    """The maps, and RoIs whose first column is the image's key."""
    if kind == "hdf5":
        with h5py.File(folder / "maps.h5", "w", libver="latest") as file:
            for key, values in maps_of(images):
                file.create_dataset(f"{key}/p3", data=values).attrs["spatial_scale"] = 1 / 16
    elif kind == "npy":
        (folder / "maps").mkdir()
        for key, values in maps_of(images):
            np.save(folder / "maps" / f"{key}.npy", values)
    else:
        np.savez(folder / "maps.npz", **dict(maps_of(images)))
    rng = np.random.default_rng(1)
    low = rng.uniform(0, 60, (images * ROIS_AN_IMAGE, 2))
    high = low + rng.uniform(16, 60, low.shape)
    keys = np.repeat(np.arange(images), ROIS_AN_IMAGE)
    np.save(folder / "rois.npy", np.column_stack([keys, low, high]))


def measure(name: str, code: str, folder: str) -> None:
    """Run code in a process of its own; print its time and memory, its children's included."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert process.stdout is not None
    said = process.stdout.read().strip()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{name}: ended with {process.returncode}")
    print(
        f"{name}: {time.perf_counter() - start:.1f} s, {usage.ru_utime + usage.ru_stime:.1f} s of "
        f"a processor, at most {usage.ru_maxrss / 1024:.0f} MiB {said}",
        flush=True,
    )


def main() -> None:
    """Write one kind and measure it."""
    images = int(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    kind = sys.argv[2] if len(sys.argv) > 2 else "hdf5"
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder), images, kind)
        measure("plain loop", LOOPS[kind], folder)
        for provider in ("cpu", "native"):
            code = RUN.format(features=ADDRESSES[kind], provider=provider)
            measure(f"roicli {provider}", code, folder)


if __name__ == "__main__":
    main()
