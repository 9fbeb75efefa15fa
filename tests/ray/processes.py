"""Real servers and nodes for the tests of this folder: ready when their block begins, gone when it ends."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil

QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def end(process: subprocess.Popen) -> None:
    """Take down a process with all below it, as when its machine goes away."""
    try:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    except psutil.NoSuchProcess:
        family = []
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


def wait_for(ready: Callable[[], bool], process: subprocess.Popen) -> None:
    while not ready():
        assert process.poll() is None, "ended before it was ready"
        time.sleep(0.05)


def answers(url: str) -> bool:
    """Whether a server does, with anything but an error."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:
        return False
    return True


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[subprocess.Popen]:
    """A real server on SQLite below `folder`."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}", "--artifacts-destination", str(folder)]
    env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(command, env=env, start_new_session=True, **QUIET)

    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/health"), server)
        yield server
    finally:
        end(server)


@contextmanager
def s3_server(bucket: str) -> Iterator[tuple[str, dict[str, str]]]:
    """An S3 server with an empty bucket: the options for its URIs, and what must stand in the environment."""
    port = free_port()
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, start_new_session=True, **QUIET)
    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/moto-api/"), server)
        made = urllib.request.Request(f"http://127.0.0.1:{port}/{bucket}", method="PUT")
        urllib.request.urlopen(made, timeout=10).close()
        yield f"?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1", keys
    finally:
        end(server)


class Actor(NamedTuple):
    """An actor of a cluster: its class, its node's label `pool`, and whether that is the node of who started it."""

    cls: str
    pool: str | None
    with_owner: bool


class Cluster:
    """A Ray cluster of several raylets on this machine, with a token of its own, and a dashboard if asked for."""

    def __init__(self, dashboard: bool = False) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.dashboard = f"http://127.0.0.1:{free_port()}" if dashboard else None
        self.env = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16), "OMP_NUM_THREADS": "1"}
        # Jobs start the `python` that comes first.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.surroundings = {**os.environ, **self.env, "PATH": path}
        self.nodes: list[subprocess.Popen] = []
        # Of its logs, sockets and what jobs upload. A path for sockets may have 107 letters, and pytest's own are long.
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))

    def add(
        self, resources: Mapping[str, float] | None = None, cpus: int = 2, labels: str | None = None
    ) -> subprocess.Popen:
        """Start a node and wait until the cluster has it; the first one is the head."""
        words = ["start", "--block", f"--num-cpus={cpus}", "--object-store-memory=100000000", "--disable-usage-stats"]
        if self.nodes:
            words += [f"--address={self.address}"]
        else:
            port = self.address.rpartition(":")[2]
            words += ["--head", f"--port={port}", f"--temp-dir={self.folder}", *self._dashboard_words()]
        if resources:
            words += ["--resources=" + str(dict(resources)).replace("'", '"')]
        if labels:
            words += [f"--labels={labels}"]
        ray = Path(sys.executable).with_name("ray")
        node = subprocess.Popen([str(ray), *words], env=self.surroundings, start_new_session=True, **QUIET)
        self.nodes.append(node)
        wait_for(lambda: self.alive() >= len(self.nodes), node)
        if self.dashboard is not None:
            wait_for(lambda: answers(self.dashboard or ""), node)
        return node

    def close(self) -> None:
        """End every node; nothing of the cluster is left."""
        for node in reversed(self.nodes):
            end(node)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _dashboard_words(self) -> list[str]:
        if self.dashboard is None:
            return ["--include-dashboard=false"]
        port = self.dashboard.rpartition(":")[2]
        # The agent takes the jobs; its usual port may be another cluster's on this machine.
        agent = f"--dashboard-agent-listen-port={free_port()}"
        return ["--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}", agent]

    def alive(self) -> int:
        """How many nodes the cluster knows to be alive; 0 while it does not answer."""
        return self._ask("sum(node['Alive'] for node in ray.nodes())") or 0

    def actors(self) -> list[Actor]:
        """Every actor that the cluster has had, also those that have ended, as Ray itself has them on record."""
        what = "each['ActorClassName'], each['Address']['NodeID'], each['OwnerAddress']['NodeID']"
        records = self._ask(f"[({what}) for each in ray._private.state.actors().values()]")
        pools = self._ask("{node['NodeID']: node['Labels'].get('pool') for node in ray.nodes()}")
        return [Actor(cls, pools[node], node == owner) for cls, node, owner in records]

    def _ask(self, expression: str) -> Any:
        """The value of an expression of `ray`, connected to the cluster; None while it does not answer."""
        code = (
            f"import json, logging, ray; ray.init('{self.address}', logging_level=logging.CRITICAL); "
            f"print(json.dumps({expression}))"
        )
        asked = subprocess.run(
            [sys.executable, "-c", code], env=self.surroundings, capture_output=True, text=True, timeout=120
        )
        return json.loads(asked.stdout.splitlines()[-1]) if asked.returncode == 0 else None


@contextmanager
def cluster(nodes: int, dashboard: bool = False) -> Iterator[Cluster]:
    """A cluster of so many nodes."""
    started = Cluster(dashboard)
    try:
        for _ in range(nodes):
            started.add()
        yield started
    finally:
        started.close()
