"""Long runs: memory, file descriptors and threads stay flat, and progress goes right to the end.

``python -m tests.faults.soak [IMAGES] [SECONDS]``: first IMAGES images with a few RoIs each, one
block an image; then one run of about SECONDS. Both are sampled from outside, twice a second.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RUN = """
import sys, roicli
done = []
roicli.align("maps.npy", "rois.npy", sys.argv[1], spatial_scale=0.25, provider="cpu",
             sampling_ratio=int(sys.argv[2]), max_memory="512M", force=True,
             progress=lambda now, total, size: done.append(now) if now == total else None)
print("all", done[-1])
"""


def sample(pid):
    """(resident MiB, open files, threads), or None when the process is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        files = len(os.listdir(f"/proc/{pid}/fd"))
        threads = len(os.listdir(f"/proc/{pid}/task"))
    except (OSError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, files, threads


def watch(output, ratio, expected):
    """One run; prints how its memory, files and threads went."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, output, str(ratio)], stdout=subprocess.PIPE, text=True
    )
    samples = []
    while process.poll() is None:
        time.sleep(0.5)
        found = sample(process.pid)
        if found and time.monotonic() - started > 3:
            samples.append((time.monotonic() - started, *found))
    assert process.stdout.read().split()[-2:] == ["all", str(expected)]
    seconds, memory, files, threads = np.array(samples[:-1]).T
    # The first quarter warms up: buffers, arenas.
    warm = slice(len(seconds) // 4, None)
    slope = np.polyfit(seconds[warm] / 60, memory[warm], 1)[0]
    middle = np.median(memory[warm])

    def span(values):
        return f"{values[warm].min():.0f} to {values[warm].max():.0f}"

    print(f"{output}: {expected:,} RoIs in {time.monotonic() - started:.0f} s: "
          f"resident {middle:.0f} MiB ({span(memory)}), slope {slope:+.2f} MiB a minute; "
          f"files {span(files)}, threads {span(threads)}", flush=True)  # fmt: skip
    grown = slope * (seconds[warm][-1] - seconds[warm][0]) / 60
    assert abs(grown) < max(8.0, 0.03 * middle), "memory is not flat"
    assert np.ptp(files[warm]) <= 1
    assert np.ptp(threads[warm]) <= 1


def boxes(images, each, chance):
    """RoIs (images * each, 5) of 4 to 28 pixels."""
    corners = chance.uniform(0, 4, (images * each, 2))
    sizes = chance.uniform(4, 24, (images * each, 2))
    batch = np.repeat(np.arange(images), each)[:, None]
    return np.concatenate([batch, corners, corners + sizes], axis=1).astype(np.float32)


def main(images=100_000, seconds=600):
    chance = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="roicli-soak-") as folder:
        os.chdir(folder)
        np.save("maps.npy", chance.normal(size=(images, 4, 8, 8)).astype(np.float32))
        np.save("rois.npy", boxes(images, 2, chance))
        watch("blocks.npy", 2, 2 * images)
        maps = chance.normal(size=(4, 16, 64, 64)).astype(np.float32)
        np.save("maps.npy", maps)
        trial = boxes(4, 10_000, chance)
        np.save("rois.npy", trial)
        started = time.monotonic()
        subprocess.run([sys.executable, "-c", RUN, "trial.npy", "32"], check=True, stdout=-3)
        rate = len(trial) / max(time.monotonic() - started - 0.5, 0.1)
        rois = np.tile(trial, (int(rate * seconds / len(trial)) + 1, 1))
        np.save("rois.npy", rois)
        watch("long.npy", 32, len(rois))
        os.chdir("/")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
