"""An S3 server on loopback: workers read maps from it and write chunks to it, by real requests.

Needs moto and s3fs, which ``make faults`` installs.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.faults.cluster import Killer, Processes, run_roicli, start_roicli, wait_until
from tests.faults.kill_workers import make_arrays

server = pytest.importorskip(
    "moto.server", reason="moto is not installed: pip install --group faults"
)
s3fs = pytest.importorskip("s3fs", reason="not installed: pip install --group faults")
zarr = pytest.importorskip("zarr", reason="the extra roicli[zarr] is not installed")
pytestmark = pytest.mark.full
BUCKET = "s3://roicli-test"
COMMAND = ("align", f"{BUCKET}/maps.zarr::p3", f"{BUCKET}/maps.zarr::rois", "--spatial-scale",
           "1/4", "--sampling-ratio", "8", "--no-table", "--values")  # fmt: skip
TARGET = f"{BUCKET}/folder/many.zarr"


@pytest.fixture(scope="module")
def storage() -> Iterator[Any]:
    """The server, with a bucket; processes find it by the environment, as users set it."""
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    _, port = running.get_host_and_port()
    names = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    os.environ.update(names)
    try:
        s3fs.S3FileSystem().mkdir(BUCKET)
        yield running
    finally:
        running.stop()
        for name in names:
            del os.environ[name]


@pytest.fixture(scope="module")
def expected(storage: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process makes of maps and RoIs in the bucket."""
    maps, rois = make_arrays(images=12, channels=16, side=32, rois_an_image=100)
    group = zarr.open_group(f"{BUCKET}/maps.zarr", mode="w")
    array = group.create_array("p3", shape=maps.shape, dtype="f4", chunks=(1, *maps.shape[1:]))
    array[...] = maps
    rois = rois[np.argsort(rois[:, 0], kind="stable")]
    group.create_array("rois", shape=rois.shape, dtype="f4", chunks=rois.shape)[...] = rois
    run_roicli(*COMMAND, "-o", f"{BUCKET}/one.zarr", cwd=tmp_path_factory.mktemp("one"))
    return objects(f"{BUCKET}/one.zarr")


@pytest.fixture(scope="module")
def processes(storage: Any) -> Iterator[Processes]:
    with Processes(2) as found:
        yield found


def objects(place: str) -> dict[str, bytes]:
    """Every object of a store but the group's metadata, which says when it was made."""
    system = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    root = place.removeprefix("s3://")
    found = {key.removeprefix(f"{root}/"): system.cat_file(key) for key in system.find(root)}
    assert found.pop("zarr.json", None) is not None or not found
    return found


def keys(below: str) -> list[str]:
    """What is there now, below the store in the making."""
    system = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    try:
        return sorted(system.find(f"{TARGET.removeprefix('s3://')}/{below}"))
    except FileNotFoundError:
        return []


def records() -> list[str]:
    return [key for key in keys(".roicli") if key.endswith(".npz")]


def remove() -> None:
    s3fs.S3FileSystem(skip_instance_cache=True).rm(TARGET, recursive=True)
    assert not keys("")


def test_workers_write_a_bucket_and_two_are_killed(
    processes: Processes, expected: dict[str, bytes]
) -> None:
    killer = Killer(processes, 2, 0.5, seed=1)
    running = start_roicli(*COMMAND, "-o", TARGET, "--dask", processes.address)
    wait_until(lambda: records() or running.poll() is not None)
    killer.start()
    _, err = running.communicate(timeout=180)
    killer.stop()
    assert running.returncode == 0, err
    assert objects(TARGET) == expected
    opened = [sys.executable, "-m", "roicli", "inspect", TARGET]
    assert b"roi_features" in subprocess.run(opened, capture_output=True, check=True).stdout
    remove()


def test_an_interruption_leaves_no_object(processes: Processes, expected: dict[str, bytes]) -> None:
    running = start_roicli(*COMMAND, "-o", TARGET, "--dask", processes.address)
    wait_until(lambda: records() or running.poll() is not None)
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 143, err
    wait_until(lambda: not keys(""))


def test_a_killed_client_goes_on_where_it_was(
    processes: Processes, expected: dict[str, bytes]
) -> None:
    words = (*COMMAND, "-o", TARGET, "--resume", "--dask", processes.address)
    running = start_roicli(*words)
    wait_until(lambda: records() or running.poll() is not None)
    running.kill()
    running.communicate()
    assert "parts were there and whole" in run_roicli(*words)
    assert objects(TARGET) == expected
    remove()


def test_storage_that_is_away_for_a_while(
    storage: Any, processes: Processes, expected: dict[str, bytes]
) -> None:
    running = start_roicli(*COMMAND, "-o", TARGET, "--dask", processes.address)
    wait_until(lambda: records() or running.poll() is not None)
    _, port = storage.get_host_and_port()
    storage.stop()
    with pytest.raises(subprocess.TimeoutExpired):
        running.wait(3)
    storage._port = port
    storage.start()
    _, err = running.communicate(timeout=180)
    assert running.returncode == 0, err
    assert objects(TARGET) == expected
    remove()
