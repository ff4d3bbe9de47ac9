"""Every command test runs in a folder of its own, with one map and a few RoIs in it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.cli.running import FEATURES, ROIS
from tests.faults.cluster import PATIENCE, Processes, wait_for_workers

Arrays = tuple[NDArray[Any], NDArray[Any]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty and this test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def inputs(folder: Path) -> Arrays:
    """f.npy (2, 3, 12, 16) and r.npy (5, 5), at a scale of 1/4, and what they hold."""
    features = np.random.default_rng(0).normal(size=(2, 3, 12, 16)).astype(np.float32)
    rois = np.array(
        [
            [0, 0, 0, 20, 20],
            [1, 3.3, 4.1, 40.2, 30.7],
            [0, 8, 8, 55, 40],
            [1, 0.5, 1.5, 10.25, 9.75],
            [0, 30, 12, 60, 44],
        ],
        np.float32,
    )
    np.save(folder / FEATURES, features)
    np.save(folder / ROIS, rois)
    return features, rois


@pytest.fixture(scope="session")
def dask() -> Iterator[tuple[str, str]]:
    """``--dask`` and one cluster for all tests: a scheduler and two workers, in another folder."""
    with Processes(2) as processes, pytest.MonkeyPatch.context() as patient:
        wait_for_workers(processes.address, 2)
        # On a busy machine a scheduler that is there may be long in its answer.
        patient.setattr("roicli.pipeline.cluster.connection.CONNECT_S", PATIENCE)
        yield "--dask", processes.address
