"""A connection to a Dask scheduler, or a cluster of processes on this machine."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from typing import Any, NamedTuple, cast

import numpy as np

from roicli.core.exceptions import (
    ClusterError,
    MissingPackageError,
    ParameterError,
    ProviderError,
    RoicliError,
)
from roicli.core.system import signals_held_back, usable_cores
from roicli.core.version import __version__
from roicli.core.vocabulary import Provider
from roicli.runtime.providers import resolve_provider

# Before the path of a file that a scheduler wrote.
FILE = "file:"
INSTALL = "pip install 'roicli[dask]'"
TLS = (
    "set DASK_DISTRIBUTED__COMM__TLS__CA_FILE, DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT and "
    "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY, or the same in Dask's configuration"
)
CONNECT_S = 10.0
WORKERS_S = 60.0
# A cluster without workers is given up after so long; it is asked now and then.
LOST_S, ASKED_EVERY_S = 120.0, 2.0
POLL_S = 0.25
ASKED_AT_MOST = 20

logger = logging.getLogger("roicli")


class Cluster:
    """A cluster that answers, with at least one worker; every worker has our versions."""

    def __init__(self, address: str, client: Any) -> None:
        self.address, self.client = address, client
        self.versions = read_versions()
        self._wait_for_workers()
        self._asked = self._seen = time.monotonic()
        self._compare_versions()

    def threads(self) -> int:
        """How many tasks run at once now; 0 without workers or without a scheduler."""
        return sum(self._threads_of_worker().values())

    def threads_a_host(self) -> int:
        """How many tasks the busiest machine runs at once."""
        hosts: Counter[str] = Counter()
        for worker, threads in self._threads_of_worker().items():
            hosts[worker.rpartition(":")[0]] += threads
        return max(hosts.values(), default=1)

    def _threads_of_worker(self) -> dict[str, int]:
        with contextlib.suppress(OSError, ValueError, TimeoutError):
            return dict(self.client.nthreads())
        return {}

    def _wait_for_workers(self) -> None:
        deadline = time.monotonic() + WORKERS_S
        while not self.threads():
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"{self.address}: no worker came within {WORKERS_S:g} s",
                    f"start one: dask worker {self.address}",
                )
            time.sleep(POLL_S)

    def _compare_versions(self) -> None:
        """Raise ClusterError that names the first worker with other versions."""
        for worker, found in sorted(self._ask(read_versions).items()):
            if not isinstance(found, dict):
                raise ClusterError(
                    f"{worker}: roicli cannot be imported there: {found}",
                    f"install roicli {self.versions['roicli']} on every worker",
                )
            difference = describe_difference(self.versions, found)
            if difference:
                raise ClusterError(
                    f"{worker}: has other versions: {difference}",
                    "install the same on every worker: results would not be equal",
                )

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """What every worker answers, or the exception that it had.

        One that dies while it is asked does not count: whoever comes later is asked by its tasks.
        """
        for _ in range(ASKED_AT_MOST):
            answers: dict[str, Any] = {}
            with contextlib.suppress(OSError, TimeoutError):
                answers = self.client.run(function, *arguments, on_error="return")
            there = {k: v for k, v in answers.items() if not isinstance(v, OSError | TimeoutError)}
            if there:
                return there
            self._wait_for_workers()
            time.sleep(POLL_S)
        raise ClusterError(f"{self.address}: no worker answered {ASKED_AT_MOST} times")

    def choose_provider(self, asked: Provider, device_id: int) -> Provider:
        """What ``asked`` comes to on every worker. Raises ProviderError where they differ."""
        chosen: dict[str, str] = {}
        told: dict[str, None] = {}
        for worker, found in sorted(self._ask(probe_provider, asked, device_id).items()):
            if isinstance(found, Exception):
                raise ClusterError(f"{worker}: failed: {found!r}")
            provider, reason = found
            if provider is None:
                raise ProviderError(f"{worker}: {reason}")
            chosen.setdefault(provider, worker)
            if reason:
                told[reason] = None
        if len(chosen) > 1:
            shown = " and ".join(f"{name} on {where}" for name, where in chosen.items())
            raise ProviderError(
                f"--provider {asked} is {shown}: results would not be equal",
                "name a provider that every worker has",
            )
        for reason in told:
            logger.info(reason)
        return cast("Provider", next(iter(chosen)))

    def threads_a_task(self) -> int:
        """Threads of one task, so that a machine's tasks take its cores together."""
        cores = [found for found in self._ask(usable_cores).values() if isinstance(found, int)]
        return max(1, min(cores, default=1) // self.threads_a_host())

    def check_workers(self) -> None:
        """Raise ClusterError where no worker has been there for a while."""
        now = time.monotonic()
        if now - self._asked < ASKED_EVERY_S:
            return
        self._asked = now
        if self.threads():
            self._seen = now
        elif now - self._seen > LOST_S:
            raise ClusterError(f"{self.address}: no worker was seen for {now - self._seen:.0f} s")


@contextlib.contextmanager
def connect(address: str) -> Iterator[Cluster]:
    """The cluster at ``address``: a scheduler's, ``file:`` and the path of the file that it wrote,
    ``config`` for the one in Dask's configuration, or ``local[:N][,dashboard]`` for N processes on
    this machine.

    Whoever can connect to a scheduler can run code as its user. So a local one talks TLS with a
    certificate that is made for it and thrown away; ``tls://`` takes Dask's own settings.
    Raises ParameterError, ClusterError.
    """
    try:
        import distributed
    except ImportError:
        raise MissingPackageError("--dask needs dask and distributed", INSTALL) from None
    # What happens is told in roicli's own lines.
    theirs = logging.getLogger(distributed.__name__)
    level = theirs.level
    theirs.setLevel(logging.CRITICAL)
    local = client = None
    try:
        wanted = parse_local(address)
        if wanted is not None:
            local = _start_local(wanted)
        else:
            address = find_scheduler(address)
        client = _open_client(address if local is None else local)
        cluster = Cluster(address if local is None else local.scheduler_address, client)
        if wanted is None or wanted.dashboard:
            _tell_dashboard(client)
        yield cluster
    finally:
        _close(client, local)
        theirs.setLevel(level)


def _close(client: Any, local: Any) -> None:
    for closing in (client, local):
        if closing is not None:
            with contextlib.suppress(Exception):
                closing.close(timeout=5)


class Local(NamedTuple):
    """A cluster on this machine: so many processes, and whether it shows itself to a browser."""

    processes: int
    dashboard: bool


def parse_local(address: str) -> Local | None:
    """``local[:N][,dashboard]``, by default the usable cores; None for a scheduler's address."""
    if not isinstance(address, str) or not address.strip():
        raise ParameterError(f"dask is {address!r}, expected a scheduler's address, or local:N")
    found = re.fullmatch(r"local(?::([0-9]{1,4}))?(,dashboard)?", address)
    if found is None:
        return None
    count = int(found[1]) if found[1] else usable_cores()
    if count < 1:
        raise ParameterError(f"dask is {address!r}, expected at least one process")
    return Local(count, bool(found[2]))


def find_scheduler(given: str) -> str:
    """The address of a scheduler that is named by it, by its file or by Dask's configuration."""
    import dask

    path = given.removeprefix(FILE) if given.startswith(FILE) else None
    if given == "config":
        named, path = (
            dask.config.get(key, None) for key in ("scheduler-address", "scheduler-file")
        )
        if named:
            return str(named)
        if not path:
            raise ParameterError(
                "dask is 'config', and Dask's configuration names no scheduler",
                "set DASK_SCHEDULER_ADDRESS, or scheduler-address in its files",
            )
    return given if path is None else _read_scheduler_file(str(path))


def _read_scheduler_file(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return str(json.load(file)["address"])
    except OSError as error:
        raise ParameterError(
            f"dask: {path}: cannot be read: {error.strerror}",
            f"start a scheduler that writes it: dask scheduler --scheduler-file {path}",
        ) from None
    except (ValueError, TypeError, KeyError):
        raise ParameterError(
            f"dask: {path}: has no address, expected the JSON that dask scheduler "
            "--scheduler-file writes"
        ) from None


def _start_local(wanted: Local) -> Any:
    """Processes on this machine, each with one thread.

    A terminal's Ctrl-C goes to all of them; only this one heeds it, and ends them. Threads and
    processes that are started while a signal is blocked have it blocked as well. Python's resource
    tracker, which starts with the first process, would unblock it again.
    """
    from multiprocessing import resource_tracker

    import dask
    from distributed import LocalCluster
    from distributed.security import Security

    try:
        security = Security.temporary()
    except ImportError as error:  # which Dask does not require
        raise MissingPackageError("--dask local needs cryptography", INSTALL) from error
    # Dask starts a server for HTTP in each process; these have no pages.
    bare = ["worker"] if wanted.dashboard else ["worker", "scheduler"]
    pages: dict[str, list[str]] = {f"distributed.{role}.http.routes": [] for role in bare}
    resource_tracker.ensure_running()
    try:
        with signals_held_back(signal.SIGINT), dask.config.set(pages):
            return LocalCluster(
                n_workers=wanted.processes, threads_per_worker=1, processes=True,
                host="127.0.0.1", security=security, silence_logs=logging.CRITICAL,
                dashboard_address="127.0.0.1:0", scheduler_kwargs={"dashboard": wanted.dashboard},
            )  # fmt: skip
    except Exception as error:
        raise ClusterError(f"no local cluster could be started: {error}") from error


def _open_client(address: Any) -> Any:
    from distributed import Client
    from distributed.comm.addressing import get_address_host, normalize_address
    from distributed.versions import VersionMismatchWarning

    try:
        if isinstance(address, str):
            # A client that fails halfway through its start complains when it is collected.
            get_address_host(normalize_address(address))
            _check_settings(address)
        with warnings.catch_warnings():
            # Versions are compared here, worker by worker.
            warnings.simplefilter("ignore", VersionMismatchWarning)
            return Client(address, timeout=CONNECT_S, set_as_default=False, name="roicli")
    except ValueError as error:
        raise ParameterError(
            f"dask is {address!r}: {error}", "give an address like tls://host:8786, or local:N"
        ) from None
    except OSError as error:
        first = str(error).strip().splitlines() or [repr(error)]
        raise ClusterError(
            f"{address}: no Dask scheduler answers there: {first[0]}",
            "start one with: dask scheduler",
        ) from None


def _check_settings(address: str) -> None:
    """Raise ParameterError where Dask's settings for TLS do not go with the address."""
    from distributed.security import Security

    security = Security()
    if not address.startswith("tls://"):
        if security.require_encryption:
            raise ParameterError(
                f"dask is {address!r}, and Dask's settings require encryption", "use tls://"
            )
        return
    try:
        context = security.get_connection_args("client").get("ssl_context")
    except OSError as error:
        raise ParameterError(
            f"dask is {address!r}: a certificate cannot be read: {error}"
        ) from None
    if context is None:
        raise ParameterError(f"dask is {address!r}, and Dask's settings name no certificates", TLS)


def _tell_dashboard(client: Any) -> None:
    """Where the run can be watched."""
    with contextlib.suppress(KeyError, AttributeError, OSError, ValueError):
        link = client.dashboard_link
        if link:
            logger.info(f"dashboard: {link}")


# What workers are asked before they are given work, and what a task asks of its own worker.

_importing = threading.Lock()
# To look for a package's files takes half a millisecond, which every task would.
_installed = cache(version)


def read_versions() -> dict[str, str]:
    """Versions by name of what runs here and decides the numbers; Python's without its patch."""
    # Tasks of one worker ask at the same time, and a module that is half imported has no version.
    with _importing:
        from roicli.runtime.onnx_runtime import ort
    return {
        "roicli": __version__,
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "numpy": np.__version__,
        "onnxruntime": str(ort.__version__),
        "distributed": _installed("distributed"),
    }


def describe_difference(ours: dict[str, str], theirs: dict[str, str]) -> str | None:
    """The versions that differ, in words, or None."""
    different = [
        f"{name} {theirs.get(name, 'missing')} (here {version})"
        for name, version in ours.items()
        if theirs.get(name) != version
    ]
    return ", ".join(different) or None


def probe_provider(asked: Provider, device_id: int) -> tuple[str | None, str]:
    """(provider, reason): what ``asked`` comes to on this worker; None with a problem."""
    try:
        return resolve_provider(asked, device_id)
    except RoicliError as error:
        return None, str(error)


def name_of_worker() -> str:
    """The address of the worker that runs this task; the process number outside of one."""
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:
        return f"process {os.getpid()}"
