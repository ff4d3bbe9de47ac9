"""Stop runs of several seconds at random moments, and see what is at the final name.

``python -m tests.faults.interrupt [STOPS] [SEED]``: half of the runs replace an older result. After
every stop the final name holds nothing, the old file or the whole new result; after a signal that
the run can see nothing else is left, and what SIGKILL left is gone after the next run to the name.
Then each command that writes a file is killed when the file has its name, and the next run to that
name must not write into it. Then one long run with --resume is killed 20 times in a row and must
end with the same bytes.
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

import roicli

PACKAGE = str(Path(roicli.__file__).parent)
SAMPLES = Path(__file__).parents[2] / "sample_data"
MAP, ROIS = f"{SAMPLES}/text_fpn.h5::p3", f"{SAMPLES}/text_rois.npy"
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
KINDS = {"r.npy": (), "r.h5": (), "values.h5": ("--values",), "gzip.h5": ("--compression", "lzf")}
ROICLI = (sys.executable, "-m", "roicli")
COMMAND = (*ROICLI, "align", MAP, "long.npy", "--no-table", "--quiet", "--threads", "1",
           "--provider", "cpu")  # fmt: skip
# Every command that writes a file, by the file's name.
WRITERS = {
    "n.npy": ("align", MAP, ROIS, "-o", "n.npy", "-q"),
    "n.h5": ("align", MAP, ROIS, "-o", "n.h5", "-q"),
    "lzf.h5": ("align", MAP, ROIS, "-o", "lzf.h5", "-q", "--compression", "lzf"),
    "kept.h5": ("align", MAP, ROIS, "-o", "kept.h5", "-q", "--resume"),
    "merged.npy": ("merge", "part.h5", "-o", "merged.npy", "-q"),
    "table.csv": ("errors", ROIS, "--spatial-scale", "1/8", "--errors-out", "table.csv", "-q"),
    "graph.onnx": ("export", "align", "graph.onnx", "--spatial-scale", "1/8"),
    "figure.png": ("draw", MAP, ROIS, "-o", "figure.png", "--roi", "1"),
    "page.html": ("report", MAP, ROIS, "-o", "page.html", "-q"),
}
ENVIRONMENT = {**os.environ, "SOURCE_DATE_EPOCH": "0"}
OLD = b"an older result"


def start(*options):
    """A run in the current folder, with signals as in a terminal."""
    return subprocess.Popen([*COMMAND, *options], env=ENVIRONMENT, stderr=subprocess.PIPE)


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def measure(name):
    """The seconds of an undisturbed run, and the hash of its result."""
    started = time.monotonic()
    process = start("-o", name, *KINDS[name])
    assert process.communicate()[1] == b"", name
    seconds, whole = time.monotonic() - started, digest(name)
    os.unlink(name)
    return seconds, whole


def left_behind(name):
    """Files beside the final name that an interrupted run to it has left."""
    parts = set(os.listdir()) - {"long.npy", *KINDS}
    assert all(".roicli-part" in part for part in parts), parts
    return sorted(part for part in parts if part.startswith(f".{name}."))


def stop_once(name, seconds, whole, chance):
    """One stop at a random moment; gives what the final name then holds."""
    is_new = chance.random() < 0.5
    if not is_new:
        Path(name).write_bytes(OLD)
    number, before = chance.choice(SIGNALS), left_behind(name)
    process = start("-o", name, *KINDS[name], *(() if is_new else ("--force",)))
    time.sleep(chance.uniform(0, 1.1 * seconds))
    process.send_signal(number)
    err = process.communicate()[1].decode()
    # Before roicli heeds signals, Ctrl-C is Python's own to tell, in words of several kinds.
    places = err.replace(f"{PACKAGE}/__main__.py", "").replace(f"{PACKAGE}/cli/signals.py", "")
    assert "Traceback" not in err or PACKAGE not in places, err
    if os.path.exists(name):
        data = Path(name).read_bytes()
        held = "old" if data == OLD else "whole"
        assert held == "old" or digest(name) == whole, f"{name}: half a result"
        assert held == "whole" or not is_new
        os.unlink(name)
    else:
        assert is_new, f"{name}: the old file is gone"
        held = "nothing"
    left = left_behind(name)
    if number != signal.SIGKILL:
        # What an earlier SIGKILL left goes only with a run that gets so far.
        assert set(left) <= set(before), f"{signal.Signals(number).name} left {left}"
    return held, signal.Signals(number).name, bool(left) and number == signal.SIGKILL


def stop_many(count, chance):
    measured = {name: measure(name) for name in KINDS}
    print({name: f"{seconds:.1f} s" for name, (seconds, _) in measured.items()}, flush=True)
    held, signals, leftovers = Counter(), Counter(), 0
    for number in range(count):
        name = list(KINDS)[number % len(KINDS)]
        found, which, left = stop_once(name, *measured[name], chance)
        held[found] += 1
        signals[which] += 1
        leftovers += left
    for name, (_, whole) in measured.items():
        process = start("-o", name, *KINDS[name])
        assert process.communicate()[1] == b""
        assert digest(name) == whole
        assert not left_behind(name)
        os.unlink(name)
    assert os.listdir() == ["long.npy"]
    print(f"{count} stops {dict(signals)}: the final name held {dict(held)}; SIGKILL left a part "
          f"{leftovers} times, the next run cleared it", flush=True)  # fmt: skip


def kill_when_named(name, chance):
    """Kill a run at the moment its file has its name, and run again to that name; gives whether the
    file was there.
    """
    command = (*ROICLI, *WRITERS[name])
    process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE)
    while not os.path.lexists(name) and process.poll() is None:
        pass
    process.kill()
    process.communicate()
    if not os.path.exists(name):
        assert process.returncode == -signal.SIGKILL
        return False
    with open(name, "rb") as published:
        data = published.read()
        following = subprocess.Popen((*command, "--force"), env=ENVIRONMENT, stderr=subprocess.PIPE)
        try:
            following.wait(chance.choice((chance.uniform(0, 1), 60)))
        except subprocess.TimeoutExpired:
            following.kill()
        assert b"error" not in following.communicate()[1], name
        published.seek(0)
        assert published.read() == data, f"{name}: the next run wrote into it"
    assert Path(name).read_bytes() == data, f"{name}: is another file"
    os.unlink(name)
    return True


def kill_many_when_named(count, chance):
    subprocess.run([*COMMAND[:5], ROIS, "-q", "--shard", "1/1", "-o", "part.h5"], check=True)
    named = sum(kill_when_named(name, chance) for name in WRITERS for _ in range(count))
    print(f"{count * len(WRITERS)} runs killed when their file had its name, {named} in time: the "
          "next run wrote into none", flush=True)  # fmt: skip
    os.unlink("part.h5")


def resume_through(kills, name, chance):
    """Kill a --resume run again and again; its bytes must be those of an undisturbed one."""
    seconds, whole = measure(name)
    count = 0
    while True:
        process = start("-o", name, *KINDS[name], "--resume")
        limit = chance.uniform(0.3, 0.6 + 2.2 * seconds / kills) if count < kills else None
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            process.kill()
        err = process.communicate()[1].decode()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, err
        count += 1
    assert digest(name) == whole
    assert left_behind(name) == []
    os.unlink(name)
    print(f"{name}: killed {count} times in a row, the same bytes", flush=True)


def main(count=200, seed=0):
    chance = random.Random(seed)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    with tempfile.TemporaryDirectory(prefix="roicli-faults-") as folder:
        os.chdir(folder)
        rois = np.tile(np.load(ROIS), (300, 1))
        np.save("long.npy", rois[np.random.default_rng(seed).permutation(len(rois))])
        stop_many(count, chance)
        kill_many_when_named(max(1, count // 20), chance)
        np.save("long.npy", np.tile(rois, (6, 1)))
        for name in ("r.npy", "r.h5"):
            resume_through(20, name, chance)
        os.chdir("/")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
