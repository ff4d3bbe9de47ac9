"""What holds for every test: hypothesis's profile, compiled kernels, who shares a process.

A profile is reproducible and has no deadline, for the machine may be shared.
``HYPOTHESIS_PROFILE=full`` tries twenty times as many examples, as ``make test-all`` does;
``explore`` looks for new ones.
"""

import gc
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from roicli.core.system import usable_cores
from roicli.runtime.native.run import compile_functions
from roicli.runtime.native.signatures import SIGNATURES
from roicli.storage.formats.hdf5 import child

EXAMPLE_PACKAGE = Path(__file__).parent / "release" / "example_package"

settings.register_profile("ci", deadline=None, max_examples=25, derandomize=True)
settings.register_profile("full", deadline=None, max_examples=500, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


# Processes that tests start keep the bytecode of what they import; compiling the package anew is a
# third of what a small one takes.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

CLUSTER = "cluster"


@pytest.fixture(autouse=True)
def _hdf5_without_children(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """HDF5 is read as on a system that does not fork, but in ``contained`` tests and in test-all.

    To fork a process that has all libraries in it takes longer than most tests. Commands in
    processes of their own are as users have them.
    """
    is_quick = os.environ.get("HYPOTHESIS_PROFILE") != "full"
    if is_quick and request.node.get_closest_marker("contained") is None:
        monkeypatch.setattr(child, "CAN_FORK", False)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile the kernels once, which takes seconds, before the processes that run tests start."""
    is_worker = hasattr(session.config, "workerinput")
    if is_worker or session.config.option.collectonly or not find_spec("numba"):
        return
    from roicli.runtime.native.kernels import is_kept  # imports LLVM

    missing = [one for one in product(SIGNATURES, ("float32", "float64")) if not is_kept(*one)]
    if missing:
        with ProcessPoolExecutor(usable_cores(), get_context("spawn")) as processes:
            list(processes.map(compile_functions, [[one] for one in missing]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests on the cluster, which wait most, come first."""
    items.sort(key=lambda item: _group(item.nodeid) != CLUSTER)


def pytest_collection_finish() -> None:
    """What stands when all tests are imported stays: garbage is looked for in the rest alone, which
    takes milliseconds in place of half a second.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests run in one process, and so do all tests on the cluster."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    return Groups(config, log)


def _group(nodeid: str) -> str:
    file = nodeid.partition("::")[0]
    return CLUSTER if "/test_dask" in file else file


@pytest.fixture
def bring_package(tmp_path, monkeypatch):
    """Installs the example package beside the environment, with the entry points of a text."""

    def install(entry_points: str) -> None:
        information = tmp_path / "site" / "example-1.dist-info"
        information.mkdir(parents=True)
        for module in EXAMPLE_PACKAGE.glob("*.py"):
            shutil.copy(module, tmp_path / "site")
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 1\n")
        (information / "entry_points.txt").write_text(entry_points)
        monkeypatch.syspath_prepend(tmp_path / "site")

    yield install
    for module in EXAMPLE_PACKAGE.glob("*.py"):
        sys.modules.pop(module.stem, None)
