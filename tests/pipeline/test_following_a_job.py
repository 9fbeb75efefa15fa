"""What `submit` prints of a job that it follows, and the exit code; the job is made up."""

import io
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from ray.job_submission import JobStatus
from rich.console import Console

from tangentscope.pipeline.cluster import submit as submitting
from tangentscope.pipeline.study.spec import read_study
from tangentscope.pipeline.system.errors import UserError
from tangentscope.studies import shipped


class Client:
    """Gives the logs piece by piece, from the start for each connection; an exception among them breaks it."""

    def __init__(self, connections: list[list[Any]], *infos: Any) -> None:
        self.connections, self.infos, self.submitted = iter(connections), iter(infos), {}

    def submit_job(self, **job: Any) -> None:
        self.submitted = job

    async def tail_job_logs(self, name: str) -> AsyncIterator[str]:
        assert name == self.submitted["submission_id"]
        for piece in next(self.connections):
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    def get_job_info(self, name: str) -> Any:
        info = next(self.infos)
        if isinstance(info, Exception):
            raise info
        return info


def info(status: JobStatus, code: int | None = None, message: str | None = None) -> Any:
    return SimpleNamespace(status=status, driver_exit_code=code, message=message)


RUNNING = info(JobStatus.RUNNING)


@pytest.fixture
def submit(monkeypatch: pytest.MonkeyPatch):
    """Submit to a made-up client; the exit code and what was printed after the name and the commands."""

    async def at_once(seconds: float) -> None:
        pass

    def run(client: Client, wait: bool = True) -> tuple[int, str]:
        monkeypatch.setattr(submitting, "_client", lambda address: client)
        monkeypatch.setattr(submitting.asyncio, "sleep", at_once)
        console = Console(file=io.StringIO(), soft_wrap=True)
        study = read_study(shipped()["quickstart"])
        code = submitting.submit(console, study, "http://head:8265", "exec it", {"A": "b"}, wait)
        submitted, look, stop, printed = console.file.getvalue().split("\n", 3)
        name = client.submitted["submission_id"]
        assert submitted == f"submitted {name}"
        assert look.endswith(f"ray job logs {name} --address http://head:8265 --follow")
        assert stop.endswith(f"ray job stop {name} --address http://head:8265")
        return code, printed.replace(name, "NAME")

    return run


def test_to_the_end(submit):
    client = Client([["one\n", "[bold]two\n"]], info(JobStatus.SUCCEEDED, 0))
    assert submit(client) == (0, "one\n[bold]two\nNAME succeeded\n")
    assert client.submitted["entrypoint"] == "exec it"
    assert client.submitted["submission_id"].startswith("quickstart-")
    variables = {"A": "b", "RAY_JOB_STOP_WAIT_TIME_S": "120"}  # Ray's own 3 s are too few for a checkpoint
    assert client.submitted["runtime_env"]["env_vars"] == variables


def test_each_submission_has_a_name_of_its_own(submit):
    clients = [Client([], info(JobStatus.SUCCEEDED, 0)) for _ in range(3)]
    for client in clients:
        submit(client, wait=False)
    assert len({client.submitted["submission_id"] for client in clients}) == 3


def test_not_waited_for(submit):
    assert submit(Client([]), wait=False) == (0, "")


def test_failed(submit):
    failed = info(JobStatus.FAILED, 2, "Job entrypoint command failed, last logs: no such thing")
    assert submit(Client([["no such thing\n"]], failed)) == (1, "no such thing\nNAME failed\n")


def test_failed_before_it_started(submit):
    failed = info(JobStatus.FAILED, None, "no node has what it takes")
    assert submit(Client([[]], failed)) == (1, "no node has what it takes\nNAME failed\n")


def test_stopped(submit):
    assert submit(Client([["a\n"]], info(JobStatus.STOPPED, None, "stopped"))) == (1, "a\nNAME stopped\n")


def test_a_connection_that_breaks_is_taken_up_where_it_broke(submit):
    broken = RuntimeError("WebSocket connection closed unexpectedly")
    connections = [["one\n", "tw", broken], ["one", "\nt", broken], ["one\ntwo\nth", "ree\n"]]
    assert submit(Client(connections, RUNNING, RUNNING, info(JobStatus.SUCCEEDED, 0))) == (
        0,
        "one\ntwo\nthree\nNAME succeeded\n",
    )


def test_a_server_that_goes_away(submit):
    client = Client([["one\n"]], requests.ConnectionError("Max retries exceeded"))
    with pytest.raises(
        UserError, match=r"does not answer any more \(ConnectionError\), and quickstart-.* may go on; look"
    ):
        submit(client)


def test_interrupted(submit):
    code, printed = submit(Client([["one\n", KeyboardInterrupt()]]))
    assert code == 130
    assert printed.startswith("one\nNAME goes on without this command; to stop it:  RAY_AUTH_MODE=")
