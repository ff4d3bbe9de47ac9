"""A Dask cluster of real processes: a scheduler and workers that can be killed and started again.

With ``namespaces`` every worker has a network namespace and an address of its own, behind a bridge;
that needs the rights to make them.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATH = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
NETWORK = "10.213.77"
BRIDGE = "roicli-br"
# For what happens soon on a machine that is not busy.
PATIENCE = 180
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def free_port():
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def ip(*words, check=True):
    """One ip(8) command."""
    return subprocess.run(["ip", *words], check=check, capture_output=True, text=True)


class Namespaces:
    """A bridge, and behind it a network namespace for each worker."""

    def __init__(self, count):
        self.names = [f"roicli-{number}" for number in range(count)]
        self.remove()
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("addr", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        for number, name in enumerate(self.names):
            ip("netns", "add", name)
            ip("link", "add", f"rv{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", f"rv{number}", "master", BRIDGE, "up")
            for words in (
                ("addr", "add", f"{NETWORK}.{number + 2}/24", "dev", "eth0"),
                ("link", "set", "eth0", "up"),
                ("link", "set", "lo", "up"),
            ):
                ip("-n", name, *words)

    def remove(self):
        """Take all of it away again."""
        for number, name in enumerate(self.names):
            ip("link", "del", f"rv{number}", check=False)
            ip("netns", "del", name, check=False)
        ip("link", "del", BRIDGE, check=False)


class Processes:
    """A scheduler and ``count`` workers of one thread each."""

    def __init__(self, count, namespaces=False):
        self._spaces = Namespaces(count) if namespaces else None
        self._host = f"{NETWORK}.1" if namespaces else "127.0.0.1"
        self._port = free_port()
        self.address = f"tcp://{self._host}:{self._port}"
        # Below ``local://`` folders come into being as in a bucket.
        self._environment = {
            **os.environ, "PYTHONPATH": PATH, "FSSPEC_LOCAL_AUTO_MKDIR": "true",
            # They wait for a session's end, and need not look at themselves all the time meanwhile.
            "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
            "DASK_DISTRIBUTED__WORKER__MEMORY__MONITOR_INTERVAL": "5s",
            "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "5s",
            "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "5s",
        }  # fmt: skip
        self.kills = 0
        self.scheduler = self._start_scheduler()
        self.workers = [self._start_worker(number) for number in range(count)]

    def _run(self, words, space=None):
        prefix = [] if space is None else ["ip", "netns", "exec", space]
        return subprocess.Popen(
            [*prefix, sys.executable, "-m", *words], env=self._environment, **QUIET
        )

    def _start_scheduler(self):
        return self._run(
            ["distributed.cli.dask_scheduler", "--host", self._host, "--port", str(self._port),
             "--no-dashboard"]
        )  # fmt: skip

    def _start_worker(self, number):
        words = ["distributed.cli.dask_worker", self.address, "--nthreads", "1", "--no-nanny",
                 "--no-dashboard", "--death-timeout", str(PATIENCE)]  # fmt: skip
        if self._spaces is None:
            return self._run(words)
        host = ["--host", f"{NETWORK}.{number + 2}"]
        return self._run([*words, *host], self._spaces.names[number])

    def revive(self):
        """Start every worker that is not there, as whoever runs a cluster does."""
        for number, worker in enumerate(self.workers):
            if worker.poll() is not None:
                self.workers[number] = self._start_worker(number)

    def kill_worker(self, number):
        """End a worker without a word, and start another in its place."""
        self.workers[number].kill()
        self.workers[number].wait()
        self.kills += 1
        self.revive()

    def restart_scheduler(self):
        """End the scheduler without a word; its workers end by themselves and come again."""
        self.scheduler.kill()
        self.scheduler.wait()
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.scheduler = self._start_scheduler()
        self.revive()

    def close(self):
        """End everything."""
        for process in [*self.workers, self.scheduler]:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
        if self._spaces is not None:
            self._spaces.remove()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Killer(threading.Thread):
    """Kills a worker at random moments until it is told to stop, or has killed enough."""

    def __init__(self, processes, most, mean_s, seed):
        super().__init__(daemon=True)
        self._processes, self._most, self._mean_s = processes, most, mean_s
        self._random = random.Random(seed)
        self._stopped = threading.Event()
        self.failure = None

    def run(self):
        """Wait, kill, and again."""
        try:
            while self._processes.kills < self._most:
                if self._stopped.wait(self._random.expovariate(1 / self._mean_s)):
                    return
                self._processes.kill_worker(self._random.randrange(len(self._processes.workers)))
        except Exception as error:
            self.failure = error

    def stop(self):
        """Kill no more."""
        self._stopped.set()
        self.join()
        if self.failure is not None:
            raise self.failure


# A client that publishes nothing while the file ``held`` is in its folder: a run is not over before
# it is interrupted, whatever the machine.
HELD_ROICLI = """
import os, time
from roicli.__main__ import main
from roicli.pipeline.cluster.result import PartsResult

publish = PartsResult.publish

def wait_and_publish(*given):
    while os.path.exists("held"):
        time.sleep(0.01)
    publish(*given)

PartsResult.publish = wait_and_publish
main()
"""


def start_roicli(*words, program=("-m", "roicli"), **options):
    """A roicli process, heeding Ctrl-C as in a terminal."""
    return subprocess.Popen(
        [sys.executable, *program, *map(str, words)],
        env={**os.environ, "PYTHONPATH": PATH},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts its background jobs with SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        **options,
    )


def run_roicli(*words, **options):
    """Run roicli and insist on exit code 0; gives its stderr."""
    process = start_roicli(*words, **options)
    _, err = process.communicate(timeout=4 * PATIENCE)
    assert process.returncode == 0, err
    return err


def count_running(dask_worker):
    """The tasks that occupy a worker's thread, those that nobody waits for too."""
    return len(dask_worker.state.all_running_tasks)


def wait_for_workers(address, count):
    """Wait until ``count`` workers have come to the scheduler."""
    from distributed import Client

    with Client(address, timeout=PATIENCE) as client:
        client.wait_for_workers(count, timeout=PATIENCE)


def wait_until_idle(address):
    """Wait until tasks that ran when their run was interrupted have finished what they do."""
    from distributed import Client

    with Client(address, timeout=PATIENCE) as client:
        wait_until(lambda: not any(client.run(count_running).values()))


def set_pause(seconds):
    """How long the tasks of this worker wait before they try again what storage may mend."""
    from roicli.pipeline.cluster import tasks

    found, tasks.PAUSE_S = tasks.PAUSE_S, seconds
    return found


@contextmanager
def pausing(address, seconds):
    """Tasks of all workers wait so long meanwhile."""
    from distributed import Client

    with Client(address, timeout=PATIENCE) as client:
        (before,) = set(client.run(set_pause, seconds).values())
        yield
        client.run(set_pause, before)


def wait_until(found):
    """Wait until ``found()`` holds."""
    deadline = time.monotonic() + PATIENCE
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)
