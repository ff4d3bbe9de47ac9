"""Workers killed at random moments while roicli runs on them; every result is compared bit for bit.

``python -m tests.faults.kill_workers --kills 50 --namespaces`` prints what happened.
"""

import argparse
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from tests.faults.cluster import Killer, Processes, run_roicli


def make_arrays(images=48, channels=64, side=48, rois_an_image=200, seed=0):
    """Maps (N, C, H, W) and RoIs (K, 5) in no order of images."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(images, channels, side, side)).astype(np.float32)
    corners = np.sort(rng.uniform(0, side * 4, (images * rois_an_image, 2, 2)), axis=1)
    index = rng.permutation(np.repeat(np.arange(images), rois_an_image))
    rois = np.column_stack([index, corners.reshape(-1, 4)]).astype(np.float32)
    return maps, rois


def make_inputs(folder, **sizes):
    """The arrays as files in ``folder``, and the command that runs them."""
    maps, rois = make_arrays(**sizes)
    np.save(folder / "maps.npy", maps)
    np.save(folder / "rois.npy", rois)
    return ["align", "maps.npy", "rois.npy", "--spatial-scale", "1/4", "--sampling-ratio", "8",
            "--no-table"]  # fmt: skip


def read_result(path):
    """Every dataset's bytes; of a store those of its files, but for when it was made."""
    if path.suffix == ".npy":
        return {"roi_features": path.read_bytes()}
    if path.is_dir():
        files = (p for p in path.rglob("*") if p.is_file() and p != path / "zarr.json")
        return {str(p.relative_to(path)): p.read_bytes() for p in files}
    with h5py.File(path) as file:
        return {name: dataset[()].tobytes() for name, dataset in file.items()}


def main():
    """Run again and again until enough workers were killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--mean", type=float, default=1.5, help="seconds between two kills")
    parser.add_argument("--namespaces", action="store_true")
    parser.add_argument("--output", default="dask.h5", help="dask.h5, dask.npy or dask.zarr")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = make_inputs(folder)
        began = time.monotonic()
        one = f"one{Path(given.output).suffix}"
        run_roicli(*command, "-o", one, "--threads", "1", cwd=folder)
        print(f"one process, one thread: {time.monotonic() - began:.1f} s")
        expected = read_result(folder / one)
        with Processes(given.workers, given.namespaces) as processes:
            run = 0
            while processes.kills < given.kills:
                run += 1
                killer = Killer(processes, given.kills, given.mean, seed=run)
                began, before = time.monotonic(), processes.kills
                killer.start()
                run_roicli(
                    *command, "-o", given.output, "--force", "--dask", processes.address, cwd=folder
                )
                killer.stop()
                seconds = time.monotonic() - began
                equal = read_result(folder / given.output) == expected
                left = sorted(p.name for p in folder.iterdir())
                print(
                    f"run {run}: {processes.kills - before} workers killed in {seconds:.1f} s, "
                    f"{'equal' if equal else 'DIFFERENT'}, left: {' '.join(left)}",
                    flush=True,
                )
                assert equal
            print(f"{processes.kills} workers killed in {run} runs, every result equal")


if __name__ == "__main__":
    main()
