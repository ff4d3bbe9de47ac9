"""A data set of one small map an image: a run's time and memory beside a loop of h5py's own.

``python -m benchmarks.collection [IMAGES]`` in the root of the repository writes one HDF5 file with
a group an image, and 10 RoIs each. The loop reads every map and does nothing with it. The times to
a run's first image say when it starts.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

IMAGES = 118_000
CHANNELS, SIDE, ROIS_AN_IMAGE = 8, 8, 10
LOOP = """
import h5py
with h5py.File({file!r}, "r") as file:
    for key in file:
        file[key]["p3"][()]
"""
RUN = """
import time
import roicli
began, first = time.perf_counter(), []
def progress(done, total, size):
    if done and not first:
        first.append(time.perf_counter() - began)
roicli.align({file!r} + "::{{image}}/p3", {rois!r}, {output!r}, output_size=2, force=True,
             provider={provider!r}, progress=progress)
print(f"first image after {{first[0]:.1f}} s", flush=True)
"""


def write_data(folder: Path, images: int) -> None:
    """The maps, and RoIs whose first column is the image's key."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(CHANNELS, SIDE, SIDE)).astype(np.float32)
    with h5py.File(folder / "maps.h5", "w", libver="latest") as file:
        for number in range(images):
            maps = file.create_dataset(f"{number:012}/p3", data=values)
            maps.attrs["spatial_scale"] = 1 / 16
    low = rng.uniform(0, 60, (images * ROIS_AN_IMAGE, 2))
    high = low + rng.uniform(16, 60, low.shape)
    keys = np.repeat(np.arange(images), ROIS_AN_IMAGE)
    np.save(folder / "rois.npy", np.column_stack([keys, low, high]))


def measure(name: str, code: str) -> None:
    """Run code in a process of its own, and print its time and the most memory it had."""
    start, before = time.perf_counter(), processor_seconds()
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    seconds, busy = time.perf_counter() - start, processor_seconds() - before
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        f"{name}: {seconds:.1f} s, {busy:.1f} s of a processor, at most {peak:.0f} MiB "
        f"{found.stdout.strip()}",
        flush=True,
    )


def processor_seconds() -> float:
    """What the children that have ended took, their own children's time included."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure all of it, the least memory first: the most of all children is what is told."""
    images = int(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder), images)
        names = {key: f"{folder}/{key}" for key in ("maps.h5", "rois.npy", "o.h5")}
        given = {"file": names["maps.h5"], "rois": names["rois.npy"], "output": names["o.h5"]}
        measure("h5py's loop", LOOP.format(**given))
        for provider in ("cpu", "native"):
            measure(f"roicli {provider}", RUN.format(**given, provider=provider))


if __name__ == "__main__":
    main()
