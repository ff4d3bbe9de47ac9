"""Whoever reaches a scheduler can run code as its user: nobody reaches one that is not theirs."""

import asyncio
import logging
import socket
from pathlib import Path
from typing import Any

import dask
import distributed
import numpy as np
import psutil
import pytest

import roicli
from roicli.core.exceptions import ClusterError, ParameterError
from roicli.pipeline.cluster.connection import Local, connect, find_scheduler, parse_local
from tests.faults.cluster import PATIENCE

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
PAGES = ("/", "/status", "/health", "/info/main/workers.html", "/metrics", "/json/counts.json")


def reaches(address: str, security: Any, patience: float = 3) -> bool:
    """Whether a client with these certificates (None: with none) gets an answer."""

    async def try_it() -> None:
        given = security.get_connection_args("client") if security is not None else {}
        comm = await distributed.comm.connect(address, timeout=patience, **given)
        await comm.write({"op": "identity", "reply": True})
        await asyncio.wait_for(comm.read(), patience)
        await comm.close()

    try:
        asyncio.run(try_it())
    except (TimeoutError, OSError, TypeError, RuntimeError):
        return False
    return True


def listening() -> list[tuple[str, int]]:
    """Where this process and its children wait for connections."""
    here = psutil.Process()
    return [
        (found.laddr.ip, found.laddr.port)
        for process in (here, *here.children(recursive=True))
        for found in process.net_connections("inet")
        if found.status == psutil.CONN_LISTEN
    ]


def ask(place: tuple[str, int], page: str, patience: float = 3) -> bytes:
    """The first line that a plain request for a page gets."""
    try:
        with socket.create_connection(place, timeout=patience) as connection:
            connection.sendall(f"GET {page} HTTP/1.0\r\n\r\n".encode())
            return connection.recv(100).partition(b"\r\n")[0]
    except OSError:
        return b""


@pytest.mark.full
def test_another_client_cannot_connect_to_a_local_cluster() -> None:
    before = set(listening())
    with connect("local:1") as cluster:
        ours = cluster.client.security
        assert cluster.address.startswith("tls://")
        assert reaches(cluster.address, ours, PATIENCE)
        workers = list(cluster.client.scheduler_info()["workers"])
        for address in (cluster.address, *workers):
            plain = address.replace("tls://", "tcp://")
            for place in (address, plain):
                assert not reaches(place, None)
                assert not reaches(place, distributed.security.Security.temporary())
        opened = set(listening()) - before
        assert len(opened) >= 2
        for place in opened:
            assert place[0] == "127.0.0.1"
            for page in PAGES:
                assert ask(place, page) in (b"", b"HTTP/1.1 404 Not Found"), (place, page)


@pytest.mark.full
def test_a_dashboard_is_there_for_whoever_asked(caplog: pytest.LogCaptureFixture) -> None:
    assert parse_local("local:2") == Local(2, dashboard=False)
    assert parse_local("local:2,dashboard") == Local(2, dashboard=True)
    with caplog.at_level(logging.INFO, "roicli"), connect("local:1,dashboard") as cluster:
        (told,) = [record.getMessage() for record in caplog.records]
        assert told == f"dashboard: {cluster.client.dashboard_link}"
        port = int(told.rpartition(":")[2].partition("/")[0])
        assert ask(("127.0.0.1", port), "/status", PATIENCE) == b"HTTP/1.1 200 OK"


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("f.npy", rng.normal(size=(1, 3, 12, 16)).astype(np.float32))
    np.save("r.npy", np.array([[0, 0, 0, 20, 20], [0, 3, 4, 40, 30]], np.float32))
    return "f.npy", "r.npy"


def test_tls_takes_dasks_settings(inputs: tuple[str, str], tmp_path: Path) -> None:
    security = distributed.security.Security.temporary()
    role = security.get_tls_config_for_role("client")
    places = {}
    for name in ("ca_file", "cert", "key"):
        place = tmp_path / f"{name}.pem"
        place.write_text(role[name])
        places[name] = str(place)
    settings = {
        "distributed.comm.tls.ca-file": places["ca_file"],
        "distributed.comm.tls.client.cert": places["cert"],
        "distributed.comm.tls.client.key": places["key"],
    }
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tls://", security=security,
        dashboard_address="127.0.0.1:0",
    ) as cluster:  # fmt: skip
        address = cluster.scheduler_address
        with dask.config.set(settings):
            found = roicli.errors(*inputs, spatial_scale=0.25, dask=address)
        assert len(found.errors) == 2
        with pytest.raises(ParameterError, match="CLIENT__CERT"):
            roicli.errors(*inputs, spatial_scale=0.25, dask=address)
        missing = {**settings, "distributed.comm.tls.ca-file": "no.pem"}
        with dask.config.set(missing), pytest.raises(ParameterError, match="certificate"):
            roicli.errors(*inputs, spatial_scale=0.25, dask=address)
        required = {**settings, "distributed.comm.require-encryption": True}
        with dask.config.set(required), pytest.raises(ParameterError, match="use tls://"):
            roicli.errors(*inputs, spatial_scale=0.25, dask=address.replace("tls", "tcp"))
        with pytest.raises(ClusterError, match="no Dask scheduler answers"):
            roicli.errors(*inputs, spatial_scale=0.25, dask=address.replace("tls", "tcp"))


def test_a_scheduler_is_named_by_its_file_or_by_dasks_configuration(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    path.write_text('{"address": "tls://10.0.0.1:8786", "id": "Scheduler-1"}')
    assert find_scheduler("tcp://host:8786") == "tcp://host:8786"
    assert find_scheduler(f"file:{path}") == "tls://10.0.0.1:8786"
    with dask.config.set({"scheduler-file": str(path)}):
        assert find_scheduler("config") == "tls://10.0.0.1:8786"
    with dask.config.set({"scheduler-address": "tcp://other:1"}):
        assert find_scheduler("config") == "tcp://other:1"
    with pytest.raises(ParameterError, match="names no scheduler"):
        find_scheduler("config")
    with pytest.raises(ParameterError, match="No such file"):
        find_scheduler(f"file:{path}.not")
    path.write_text("[]")
    with pytest.raises(ParameterError, match="has no address"):
        find_scheduler(f"file:{path}")
