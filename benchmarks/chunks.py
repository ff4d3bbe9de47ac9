"""Maps in chunks: every image read in turn, beside the best loop over the same file by its library.

Of h5py that is ``read_direct`` of as many images as a chunk holds into one buffer, of zarr a slice
of as many.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import h5py
import numpy as np
import zarr

from roicli.storage.address import Address
from roicli.storage.open import open_array

SHAPE = (160, 32, 50, 68)
KEPT_BYTES = 256 << 20


def make_files(folder: Path) -> dict[str, Path]:
    """The same maps in four chunk shapes, packed and not, as HDF5 and as Zarr."""
    count, channels, *cells = SHAPE
    values = np.maximum(np.random.default_rng(0).normal(size=SHAPE), 0)
    values = values.astype(np.float16).astype(np.float32)
    automatic = None
    found = {}
    for label, chunks in {
        "one image": (1, channels, *cells),
        "80 images": (count // 2, channels, *cells),
        "h5py's own": None,
        "one channel": (1, 1, *cells),
    }.items():
        for packed in (True, False):
            path = folder / f"{len(found)}.h5"
            with h5py.File(path, "w") as file:
                packing = {"compression": "gzip", "compression_opts": 1} if packed else {}
                dataset = file.create_dataset(
                    "maps", data=values, chunks=True if chunks is None else chunks, **packing
                )
                automatic = dataset.chunks
            found[f"HDF5, {label}{', gzip' if packed else ''}"] = path
            path = folder / f"{len(found)}.zarr"
            group = zarr.open_group(str(path), mode="w")
            codecs = {} if packed else {"compressors": None}
            array = group.create_array(
                "maps", shape=SHAPE, chunks=chunks or automatic, dtype="f4", **codecs
            )
            array[:] = values
            found[f"Zarr, {label}{', zstd' if packed else ''}"] = path
    return found


def read_plain(path: Path) -> None:
    """The library's own loop."""
    if path.suffix == ".zarr":
        array = zarr.open_group(str(path), mode="r")["maps"]
        for start in range(0, SHAPE[0], array.chunks[0]):
            array[start : start + array.chunks[0]]
        return
    with h5py.File(path) as file:
        dataset = file["maps"]
        rows = dataset.chunks[0]
        buffer = np.empty((rows, *SHAPE[1:]), np.float32)
        for start in range(0, SHAPE[0], rows):
            stop = min(start + rows, SHAPE[0])
            dataset.read_direct(buffer[: stop - start], np.s_[start:stop])


def read_ours(path: Path) -> None:
    """Image by image, as a run reads them."""
    array = open_array(Address(str(path), "maps"), "features")
    array.most_kept = KEPT_BYTES
    out = np.empty(SHAPE[1:], np.float32)
    for image in range(SHAPE[0]):
        array.read_item_into(image, out)
    array.close()


def time_chunks(folder: Path, runs: int) -> list[str]:
    """A row a layout: how many times the library's own time, and both in seconds."""
    lines = [
        "| chunks of | times the library's loop | of its processor time | roicli s | library s |"
    ]
    lines.append("|---|---:|---:|---:|---:|")
    ways: tuple[Callable[[Path], None], ...] = (read_plain, read_ours)
    for label, path in make_files(folder).items():
        walls: list[list[float]] = [[], []]
        work: list[list[float]] = [[], []]
        for turn in range(runs + 1):
            for way, read in enumerate(ways):
                started, worked = time.perf_counter(), time.process_time()
                read(path)
                if turn:
                    walls[way].append(time.perf_counter() - started)
                    work[way].append(time.process_time() - worked)
        (plain, ours), (theirs, own) = map(median, walls), map(median, work)
        lines.append(
            f"| {label} | {ours / plain:.2f}x | {own / theirs:.2f}x | {ours:.2f} | {plain:.2f} |"
        )
        print(lines[-1], flush=True)
    return lines


if __name__ == "__main__":
    print(*time_chunks(Path(sys.argv[1]), int(sys.argv[2])), sep="\n")
