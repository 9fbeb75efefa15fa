"""The server of deploy/mlflow for real: its options and variables, on PostgreSQL and an S3 server, with its login."""

import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import psutil
import psycopg
import pytest
import requests
from manifests import ROOT, compose, stages
from mlflow import MlflowClient
from moto.server import ThreadedMotoServer

from tangentscope.pipeline.tracking.study_report import REPORTS, TRAININGS

pytestmark = [pytest.mark.slow, pytest.mark.ray]

MLFLOW = ROOT / "deploy/mlflow"
SMALL = ("task.train_size=200", "task.test_size=100", "grid.model.width=[4, 8]", "train.epochs=2")
VARIABLES = ("MLFLOW_", "AWS_", "PG", "RAY_")


def until(condition: Callable[[], object], process: subprocess.Popen, log: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def surroundings(**changes: str) -> dict[str, str]:
    """This process's environment without what another server, store or cluster has left in it."""
    return {key: value for key, value in os.environ.items() if not key.startswith(VARIABLES)} | changes


@pytest.fixture(scope="module")
def password() -> dict[str, str]:
    """A value for each of compose's secrets."""
    names = set(re.findall(r"\$\{(\w+)", (MLFLOW / "compose.yaml").read_text()))
    return {name: secrets.token_hex(24) for name in names}


def binaries() -> Path:
    """Where initdb and postgres lie; Debian puts them on no PATH."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not places or not (places[-1] / "postgres").exists():
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    return places[-1]


@pytest.fixture(scope="module")
def database(password: dict[str, str]) -> Iterator[dict[str, str]]:
    """A PostgreSQL that lets the user mlflow in by password alone; its PG* variables."""
    programs = binaries()
    # It refuses to run as root, and pytest's own directories are its user's alone.
    account = (
        pwd.getpwnam("postgres" if _is_user("postgres") else "nobody")
        if os.getuid() == 0
        else pwd.getpwuid(os.getuid())
    )
    home = Path(tempfile.mkdtemp(prefix="tangentscope-postgres-"))
    (home / "password").write_text(password["POSTGRES_PASSWORD"])
    for path in (home, home / "password"):
        os.chown(path, account.pw_uid, account.pw_gid)
    become = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
    init = [programs / "initdb", "--pgdata", home / "data", "--username=mlflow", "--auth=scram-sha-256"]
    subprocess.run([*init, "--pwfile", home / "password"], check=True, capture_output=True, cwd=home, **become)
    port = free_port()
    options = [f"-cport={port}", "-clisten_addresses=127.0.0.1", f"-cunix_socket_directories={home}", "-cfsync=off"]
    with (home / "log").open("w") as log:
        command = [programs / "postgres", "-D", home / "data", *options]
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=home, **become)
    variables = {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "mlflow"}
    variables["PGPASSWORD"] = password["POSTGRES_PASSWORD"]
    try:
        until(lambda: _answers(variables), process, home / "log")
        with connected(variables, "postgres") as connection:
            connection.execute("CREATE DATABASE mlflow")
        yield variables
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(home)


def _is_user(name: str) -> bool:
    return any(entry.pw_name == name for entry in pwd.getpwall())


def connected(variables: dict[str, str], name: str = "mlflow") -> psycopg.Connection:
    return psycopg.connect(
        host=variables["PGHOST"],
        port=variables["PGPORT"],
        user=variables["PGUSER"],
        password=variables["PGPASSWORD"],
        dbname=name,
        autocommit=True,
    )


def _answers(variables: dict[str, str]) -> bool:
    try:
        connected(variables, "postgres").close()
    except psycopg.OperationalError:
        return False
    return True


@dataclass
class Server:
    """MLflow's server, and what it was started with."""

    uri: str
    process: subprocess.Popen
    environment: dict[str, str] = field(repr=False)

    def account(self, name: str) -> dict[str, str]:
        """Make an account as the README does; the variables that a study of its owner has."""
        user = {"username": name, "password": secrets.token_hex(8)}
        admin = ("admin", self.environment["MLFLOW_AUTH_ADMIN_PASSWORD"])
        requests.post(f"{self.uri}/api/2.0/mlflow/users/create", json=user, auth=admin, timeout=30).raise_for_status()
        credentials = {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": user["password"]}
        return {"MLFLOW_TRACKING_URI": self.uri, **credentials}

    def experiments(self, **how: object) -> requests.Response:
        url = f"{self.uri}/api/2.0/mlflow/experiments/search?max_results=10"
        return requests.get(url, timeout=30, **how)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def server(
    password: dict[str, str], database: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The image's command, with compose's variables; only addresses and ports are this machine's."""
    folder = tmp_path_factory.mktemp("mlflow")
    store = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    host, s3_port = store.get_host_and_port()
    service = compose(ROOT)["services"]["mlflow"]["environment"]
    variables = {key: re.sub(r"\$\{(\w+)[^}]*\}", lambda m: password[m[1]], value) for key, value in service.items()}
    image = (MLFLOW / "Containerfile").read_text()
    built_in = dict(re.findall(r"(MLFLOW_\w+)=(\S+)", image)) | {
        "MLFLOW_AUTH_CONFIG_PATH": str(MLFLOW / "basic_auth.ini")
    }
    here = database | {"AWS_ENDPOINT_URL_S3": f"http://{host}:{s3_port}"}
    environment = surroundings(**built_in, **{**variables, **here})
    for _ in range(2):  # it may be there already
        bucket = [sys.executable, str(MLFLOW / "bucket.py"), "mlflow"]
        subprocess.run(bucket, check=True, env=environment, timeout=60)
    command, port = list(stages(MLFLOW / "Containerfile")[-1].command), free_port()
    command[command.index("--host") + 1], command[command.index("--port") + 1] = "127.0.0.1", str(port)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], env=environment, cwd=folder, stdout=log, stderr=log
        )
    family = psutil.Process(process.pid)
    served = Server(f"http://127.0.0.1:{port}", process, environment)
    try:
        until(lambda: _healthy(served.uri), process, folder / "log")
        yield served
    finally:
        ended = [*family.children(recursive=True), family]
        for each in ended:
            each.terminate()
        psutil.wait_procs(ended, timeout=30)
        store.stop()


def _healthy(uri: str) -> bool:
    try:
        return requests.get(f"{uri}/health", timeout=5).ok
    except requests.ConnectionError:
        return False


def tangentscope(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tangentscope", *arguments]
    clean = surroundings(OMP_NUM_THREADS="1", **environment)
    return subprocess.run(command, env=clean, cwd=ROOT, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def ada(server: Server) -> dict[str, str]:
    return server.account("ada")


@pytest.fixture(scope="module")
def study(ada: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real study, whose tracker uploads with Ada's name and password while it runs."""
    out = tmp_path_factory.mktemp("results") / "quickstart"
    done = tangentscope("run", "quickstart", *SMALL, "--out", str(out), **ada)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_who_does_not_log_in_is_refused(server: Server):
    assert server.experiments().status_code == 401
    assert server.experiments(auth=("admin", "password1234")).status_code == 401
    assert server.experiments(auth=("admin", server.environment["MLFLOW_AUTH_ADMIN_PASSWORD"])).status_code == 200


def test_a_foreign_name_in_the_address_is_refused(server: Server):
    admin = ("admin", server.environment["MLFLOW_AUTH_ADMIN_PASSWORD"])
    assert server.experiments(auth=admin, headers={"Host": "mlflow.example.org"}).status_code == 403


def test_it_is_two_processes_and_shows_no_password_in_a_process_list(server: Server):
    family = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
    assert len(family) == 2
    words = [word for process in family for word in process.cmdline()]
    hidden = [value for key, value in server.environment.items() if re.search("PASSWORD|SECRET", key)]
    assert len(hidden) >= 4
    assert not [word for word in words for value in hidden if value in word]


def test_a_study_arrives_in_postgresql_and_in_the_bucket(
    study: Path, server: Server, ada: dict[str, str], database: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    for key, value in ada.items():
        monkeypatch.setenv(key, value)
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("quickstart")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], TRAININGS)
    assert sorted(run.data.params["model.width"] for run in runs) == ["4", "8"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    with connected(database) as connection:
        stored = connection.execute("SELECT count(*) FROM metrics WHERE key = 'test/entropy'").fetchone()
    history = [point for run in runs for point in client.get_metric_history(run.info.run_id, "test/entropy")]
    assert stored == (len(history),)
    assert len(history) > 4
    (there,) = client.search_runs([experiment.experiment_id], REPORTS)
    report = Path(client.download_artifacts(there.info.run_id, "report.html", str(study.parent)))
    assert report.read_bytes() == (study / "report.html").read_bytes()
    keys = {name: server.environment[name.upper()] for name in ("aws_access_key_id", "aws_secret_access_key")}
    s3 = boto3.client("s3", endpoint_url=server.environment["AWS_ENDPOINT_URL_S3"], region_name="us-east-1", **keys)
    held = [entry["Key"] for entry in s3.list_objects_v2(Bucket="mlflow")["Contents"]]
    assert sum(key.endswith("/report.html") for key in held) == 1


def test_sync_uploads_with_a_login_and_refuses_in_one_line_without(study: Path, server: Server, ada: dict[str, str]):
    again = tangentscope("sync", str(study), **ada)
    assert (again.returncode, again.stdout.count("is up to date")) == (0, 1), again.stderr
    refused = tangentscope("sync", str(study), MLFLOW_TRACKING_URI=server.uri)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert refused.stderr.startswith(f"error: MLflow at {server.uri}: ")


def test_another_account_reads_the_study_and_cannot_write_to_it(study: Path, server: Server):
    bob = server.account("bob")
    login = (bob["MLFLOW_TRACKING_USERNAME"], bob["MLFLOW_TRACKING_PASSWORD"])
    names = [each["name"] for each in server.experiments(auth=login).json()["experiments"]]
    assert "quickstart" in names
    other = tangentscope("sync", str(study), **bob)
    assert other.returncode == 2
    assert "mend it and sync again" in other.stderr
