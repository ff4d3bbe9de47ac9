"""What holds for every test: hypothesis's profile, compiled kernels, who shares a process.

A profile is reproducible and has no deadline, for the machine may be shared.
``HYPOTHESIS_PROFILE=full`` tries ten times as many examples, as ``make test-all`` does;
``explore`` looks for new ones.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from itertools import product
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import settings

from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.runtime.native import run as native

settings.register_profile("ci", deadline=None, max_examples=50, derandomize=True)
settings.register_profile("full", deadline=None, max_examples=500, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


CLUSTER = "cluster"


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile the kernels once, which takes seconds, before the processes that run tests start."""
    is_worker = hasattr(session.config, "workerinput")
    if is_worker or session.config.option.collectonly or not find_spec("numba"):
        return
    kernels = product((AlignSpec(), PoolSpec()), (np.dtype(np.float32), np.dtype(np.float64)))
    missing = [kernel for kernel in kernels if not native.is_compiled(*kernel)]
    if missing:
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as processes:
            list(processes.map(native.prepare, *zip(*missing, strict=True)))


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests run in one process, and so do all tests on the cluster, before the others."""
    groups = {item: _group(item) for item in items}
    for item, group in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: groups[item] != CLUSTER)


def _group(item: pytest.Item) -> str:
    return CLUSTER if "dask" in getattr(item, "fixturenames", ()) else item.nodeid.partition("::")[0]
